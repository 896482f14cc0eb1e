module @jit_decode_loop attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<11x3x8xf32>, %arg1: tensor<11x3x8xf32>, %arg2: tensor<11x3x8xf32>, %arg3: tensor<3x24x8xf16>, %arg4: tensor<3x24x8xf16>, %arg5: tensor<i32>) -> (tensor<11x2x3x8xf32> {jax.result_info = "result[0]"}, tensor<3x24x8xf16> {jax.result_info = "result[1]"}, tensor<24x3x8xf32> {jax.result_info = "result[2]"}) {
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %0 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<24x3x8xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<11x2x3x8xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<0> : tensor<i32>
    %2:11 = stablehlo.while(%iterArg = %arg1, %iterArg_2 = %arg2, %iterArg_3 = %arg5, %iterArg_4 = %arg0, %iterArg_5 = %c_1, %iterArg_6 = %c, %iterArg_7 = %arg3, %iterArg_8 = %arg4, %iterArg_9 = %0, %iterArg_10 = %0, %iterArg_11 = %1) : tensor<11x3x8xf32>, tensor<11x3x8xf32>, tensor<i32>, tensor<11x3x8xf32>, tensor<i32>, tensor<i32>, tensor<3x24x8xf16>, tensor<3x24x8xf16>, tensor<24x3x8xf32>, tensor<24x3x8xf32>, tensor<11x2x3x8xf32>
    cond {
      %c_12 = stablehlo.constant dense<11> : tensor<i32>
      %3 = stablehlo.compare LT, %iterArg_5, %c_12, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %3 : tensor<i1>
    } do {
      %3:6 = func.call @closed_call(%iterArg, %iterArg_2, %iterArg_3, %iterArg_4, %iterArg_6, %iterArg_7, %iterArg_8, %iterArg_9, %iterArg_10, %iterArg_11) : (tensor<11x3x8xf32>, tensor<11x3x8xf32>, tensor<i32>, tensor<11x3x8xf32>, tensor<i32>, tensor<3x24x8xf16>, tensor<3x24x8xf16>, tensor<24x3x8xf32>, tensor<24x3x8xf32>, tensor<11x2x3x8xf32>) -> (tensor<i32>, tensor<3x24x8xf16>, tensor<3x24x8xf16>, tensor<24x3x8xf32>, tensor<24x3x8xf32>, tensor<11x2x3x8xf32>)
      %c_12 = stablehlo.constant dense<1> : tensor<i32>
      %4 = stablehlo.add %iterArg_5, %c_12 : tensor<i32>
      stablehlo.return %iterArg, %iterArg_2, %iterArg_3, %iterArg_4, %4, %3#0, %3#1, %3#2, %3#3, %3#4, %3#5 : tensor<11x3x8xf32>, tensor<11x3x8xf32>, tensor<i32>, tensor<11x3x8xf32>, tensor<i32>, tensor<i32>, tensor<3x24x8xf16>, tensor<3x24x8xf16>, tensor<24x3x8xf32>, tensor<24x3x8xf32>, tensor<11x2x3x8xf32>
    }
    return %2#10, %2#6, %2#9 : tensor<11x2x3x8xf32>, tensor<3x24x8xf16>, tensor<24x3x8xf32>
  }
  func.func private @closed_call(%arg0: tensor<11x3x8xf32>, %arg1: tensor<11x3x8xf32>, %arg2: tensor<i32>, %arg3: tensor<11x3x8xf32>, %arg4: tensor<i32>, %arg5: tensor<3x24x8xf16>, %arg6: tensor<3x24x8xf16>, %arg7: tensor<24x3x8xf32>, %arg8: tensor<24x3x8xf32>, %arg9: tensor<11x2x3x8xf32>) -> (tensor<i32>, tensor<3x24x8xf16>, tensor<3x24x8xf16>, tensor<24x3x8xf32>, tensor<24x3x8xf32>, tensor<11x2x3x8xf32>) {
    %c = stablehlo.constant dense<1> : tensor<i32>
    %0 = stablehlo.add %arg4, %c : tensor<i32>
    %1 = stablehlo.convert %arg4 : tensor<i32>
    %c_0 = stablehlo.constant dense<0> : tensor<i32>
    %2 = stablehlo.compare LT, %1, %c_0, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_1 = stablehlo.constant dense<11> : tensor<i32>
    %3 = stablehlo.add %1, %c_1 : tensor<i32>
    %4 = stablehlo.select %2, %3, %1 : tensor<i1>, tensor<i32>
    %c_2 = stablehlo.constant dense<0> : tensor<i32>
    %c_3 = stablehlo.constant dense<0> : tensor<i32>
    %5 = stablehlo.compare LT, %c_2, %c_3, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_4 = stablehlo.constant dense<0> : tensor<i32>
    %c_5 = stablehlo.constant dense<3> : tensor<i32>
    %6 = stablehlo.add %c_4, %c_5 : tensor<i32>
    %c_6 = stablehlo.constant dense<0> : tensor<i32>
    %7 = stablehlo.select %5, %6, %c_6 : tensor<i1>, tensor<i32>
    %c_7 = stablehlo.constant dense<0> : tensor<i32>
    %c_8 = stablehlo.constant dense<0> : tensor<i32>
    %8 = stablehlo.compare LT, %c_7, %c_8, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_9 = stablehlo.constant dense<0> : tensor<i32>
    %c_10 = stablehlo.constant dense<8> : tensor<i32>
    %9 = stablehlo.add %c_9, %c_10 : tensor<i32>
    %c_11 = stablehlo.constant dense<0> : tensor<i32>
    %10 = stablehlo.select %8, %9, %c_11 : tensor<i1>, tensor<i32>
    %11 = stablehlo.dynamic_slice %arg0, %4, %7, %10, sizes = [1, 3, 8] : (tensor<11x3x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x3x8xf32>
    %12 = stablehlo.reshape %11 : (tensor<1x3x8xf32>) -> tensor<3x8xf32>
    %13 = stablehlo.convert %arg4 : tensor<i32>
    %c_12 = stablehlo.constant dense<0> : tensor<i32>
    %14 = stablehlo.compare LT, %13, %c_12, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_13 = stablehlo.constant dense<11> : tensor<i32>
    %15 = stablehlo.add %13, %c_13 : tensor<i32>
    %16 = stablehlo.select %14, %15, %13 : tensor<i1>, tensor<i32>
    %c_14 = stablehlo.constant dense<0> : tensor<i32>
    %c_15 = stablehlo.constant dense<0> : tensor<i32>
    %17 = stablehlo.compare LT, %c_14, %c_15, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_16 = stablehlo.constant dense<0> : tensor<i32>
    %c_17 = stablehlo.constant dense<3> : tensor<i32>
    %18 = stablehlo.add %c_16, %c_17 : tensor<i32>
    %c_18 = stablehlo.constant dense<0> : tensor<i32>
    %19 = stablehlo.select %17, %18, %c_18 : tensor<i1>, tensor<i32>
    %c_19 = stablehlo.constant dense<0> : tensor<i32>
    %c_20 = stablehlo.constant dense<0> : tensor<i32>
    %20 = stablehlo.compare LT, %c_19, %c_20, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_21 = stablehlo.constant dense<0> : tensor<i32>
    %c_22 = stablehlo.constant dense<8> : tensor<i32>
    %21 = stablehlo.add %c_21, %c_22 : tensor<i32>
    %c_23 = stablehlo.constant dense<0> : tensor<i32>
    %22 = stablehlo.select %20, %21, %c_23 : tensor<i1>, tensor<i32>
    %23 = stablehlo.dynamic_slice %arg1, %16, %19, %22, sizes = [1, 3, 8] : (tensor<11x3x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x3x8xf32>
    %24 = stablehlo.reshape %23 : (tensor<1x3x8xf32>) -> tensor<3x8xf32>
    %25 = stablehlo.iota dim = 0 : tensor<24xi32>
    %26 = stablehlo.broadcast_in_dim %12, dims = [0, 2] : (tensor<3x8xf32>) -> tensor<3x1x8xf32>
    %27 = stablehlo.convert %26 : (tensor<3x1x8xf32>) -> tensor<3x1x8xf16>
    %28 = stablehlo.convert %arg4 : tensor<i32>
    %29 = stablehlo.add %arg2, %28 : tensor<i32>
    %c_24 = stablehlo.constant dense<0> : tensor<i32>
    %30 = stablehlo.compare LT, %29, %c_24, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_25 = stablehlo.constant dense<24> : tensor<i32>
    %31 = stablehlo.add %29, %c_25 : tensor<i32>
    %32 = stablehlo.select %30, %31, %29 : tensor<i1>, tensor<i32>
    %c_26 = stablehlo.constant dense<0> : tensor<i32>
    %c_27 = stablehlo.constant dense<0> : tensor<i32>
    %33 = stablehlo.dynamic_update_slice %arg5, %27, %c_26, %32, %c_27 : (tensor<3x24x8xf16>, tensor<3x1x8xf16>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<3x24x8xf16>
    %34 = stablehlo.broadcast_in_dim %24, dims = [0, 2] : (tensor<3x8xf32>) -> tensor<3x1x8xf32>
    %35 = stablehlo.convert %34 : (tensor<3x1x8xf32>) -> tensor<3x1x8xf16>
    %36 = stablehlo.convert %arg4 : tensor<i32>
    %37 = stablehlo.add %arg2, %36 : tensor<i32>
    %c_28 = stablehlo.constant dense<0> : tensor<i32>
    %38 = stablehlo.compare LT, %37, %c_28, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_29 = stablehlo.constant dense<24> : tensor<i32>
    %39 = stablehlo.add %37, %c_29 : tensor<i32>
    %40 = stablehlo.select %38, %39, %37 : tensor<i1>, tensor<i32>
    %c_30 = stablehlo.constant dense<0> : tensor<i32>
    %c_31 = stablehlo.constant dense<0> : tensor<i32>
    %41 = stablehlo.dynamic_update_slice %arg6, %35, %c_30, %40, %c_31 : (tensor<3x24x8xf16>, tensor<3x1x8xf16>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<3x24x8xf16>
    %42 = stablehlo.broadcast_in_dim %12, dims = [1, 2] : (tensor<3x8xf32>) -> tensor<1x3x8xf32>
    %c_32 = stablehlo.constant dense<0> : tensor<i32>
    %43 = stablehlo.compare LT, %arg4, %c_32, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %44 = stablehlo.convert %arg4 : tensor<i32>
    %c_33 = stablehlo.constant dense<24> : tensor<i32>
    %45 = stablehlo.add %44, %c_33 : tensor<i32>
    %46 = stablehlo.select %43, %45, %arg4 : tensor<i1>, tensor<i32>
    %c_34 = stablehlo.constant dense<0> : tensor<i32>
    %c_35 = stablehlo.constant dense<0> : tensor<i32>
    %47 = stablehlo.dynamic_update_slice %arg7, %42, %46, %c_34, %c_35 : (tensor<24x3x8xf32>, tensor<1x3x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<24x3x8xf32>
    %48 = stablehlo.broadcast_in_dim %24, dims = [1, 2] : (tensor<3x8xf32>) -> tensor<1x3x8xf32>
    %c_36 = stablehlo.constant dense<0> : tensor<i32>
    %49 = stablehlo.compare LT, %arg4, %c_36, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %50 = stablehlo.convert %arg4 : tensor<i32>
    %c_37 = stablehlo.constant dense<24> : tensor<i32>
    %51 = stablehlo.add %50, %c_37 : tensor<i32>
    %52 = stablehlo.select %49, %51, %arg4 : tensor<i1>, tensor<i32>
    %c_38 = stablehlo.constant dense<0> : tensor<i32>
    %c_39 = stablehlo.constant dense<0> : tensor<i32>
    %53 = stablehlo.dynamic_update_slice %arg8, %48, %52, %c_38, %c_39 : (tensor<24x3x8xf32>, tensor<1x3x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<24x3x8xf32>
    %54 = stablehlo.convert %arg4 : tensor<i32>
    %c_40 = stablehlo.constant dense<0> : tensor<i32>
    %55 = stablehlo.compare LT, %54, %c_40, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_41 = stablehlo.constant dense<11> : tensor<i32>
    %56 = stablehlo.add %54, %c_41 : tensor<i32>
    %57 = stablehlo.select %55, %56, %54 : tensor<i1>, tensor<i32>
    %c_42 = stablehlo.constant dense<0> : tensor<i32>
    %c_43 = stablehlo.constant dense<0> : tensor<i32>
    %58 = stablehlo.compare LT, %c_42, %c_43, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_44 = stablehlo.constant dense<0> : tensor<i32>
    %c_45 = stablehlo.constant dense<3> : tensor<i32>
    %59 = stablehlo.add %c_44, %c_45 : tensor<i32>
    %c_46 = stablehlo.constant dense<0> : tensor<i32>
    %60 = stablehlo.select %58, %59, %c_46 : tensor<i1>, tensor<i32>
    %c_47 = stablehlo.constant dense<0> : tensor<i32>
    %c_48 = stablehlo.constant dense<0> : tensor<i32>
    %61 = stablehlo.compare LT, %c_47, %c_48, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_49 = stablehlo.constant dense<0> : tensor<i32>
    %c_50 = stablehlo.constant dense<8> : tensor<i32>
    %62 = stablehlo.add %c_49, %c_50 : tensor<i32>
    %c_51 = stablehlo.constant dense<0> : tensor<i32>
    %63 = stablehlo.select %61, %62, %c_51 : tensor<i1>, tensor<i32>
    %64 = stablehlo.dynamic_slice %arg3, %57, %60, %63, sizes = [1, 3, 8] : (tensor<11x3x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x3x8xf32>
    %65 = stablehlo.reshape %64 : (tensor<1x3x8xf32>) -> tensor<3x8xf32>
    %66 = stablehlo.convert %arg4 : tensor<i32>
    %67 = stablehlo.add %arg2, %66 : tensor<i32>
    %68 = stablehlo.broadcast_in_dim %67, dims = [] : (tensor<i32>) -> tensor<24xi32>
    %69 = stablehlo.compare LE, %25, %68, SIGNED : (tensor<24xi32>, tensor<24xi32>) -> tensor<24xi1>
    %70 = stablehlo.convert %33 : (tensor<3x24x8xf16>) -> tensor<3x24x8xf32>
    %71 = stablehlo.dot_general %65, %70, batching_dims = [0] x [0], contracting_dims = [1] x [2], precision = [DEFAULT, DEFAULT] : (tensor<3x8xf32>, tensor<3x24x8xf32>) -> tensor<3x24xf32>
    %cst = stablehlo.constant dense<2.82842708> : tensor<f32>
    %72 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<3x24xf32>
    %73 = stablehlo.divide %71, %72 : tensor<3x24xf32>
    %cst_52 = stablehlo.constant dense<-1.000000e+30> : tensor<f32>
    %74 = call @_where(%69, %73, %cst_52) : (tensor<24xi1>, tensor<3x24xf32>, tensor<f32>) -> tensor<3x24xf32>
    %cst_53 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %75 = stablehlo.reduce(%74 init: %cst_53) applies stablehlo.maximum across dimensions = [1] : (tensor<3x24xf32>, tensor<f32>) -> tensor<3xf32>
    %cst_54 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %76 = stablehlo.broadcast_in_dim %cst_54, dims = [] : (tensor<f32>) -> tensor<3xf32>
    %77 = stablehlo.maximum %76, %75 : tensor<3xf32>
    %78 = stablehlo.broadcast_in_dim %77, dims = [0] : (tensor<3xf32>) -> tensor<3x1xf32>
    %79 = stablehlo.broadcast_in_dim %78, dims = [0, 1] : (tensor<3x1xf32>) -> tensor<3x24xf32>
    %80 = stablehlo.subtract %74, %79 : tensor<3x24xf32>
    %81 = stablehlo.exponential %80 : tensor<3x24xf32>
    %cst_55 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %82 = stablehlo.reduce(%81 init: %cst_55) applies stablehlo.add across dimensions = [1] : (tensor<3x24xf32>, tensor<f32>) -> tensor<3xf32>
    %83 = stablehlo.broadcast_in_dim %82, dims = [0] : (tensor<3xf32>) -> tensor<3x1xf32>
    %84 = stablehlo.broadcast_in_dim %83, dims = [0, 1] : (tensor<3x1xf32>) -> tensor<3x24xf32>
    %85 = stablehlo.divide %81, %84 : tensor<3x24xf32>
    %86 = stablehlo.convert %41 : (tensor<3x24x8xf16>) -> tensor<3x24x8xf32>
    %87 = stablehlo.dot_general %85, %86, batching_dims = [0] x [0], contracting_dims = [1] x [1], precision = [DEFAULT, DEFAULT] : (tensor<3x24xf32>, tensor<3x24x8xf32>) -> tensor<3x8xf32>
    %88 = stablehlo.convert %arg4 : tensor<i32>
    %c_56 = stablehlo.constant dense<0> : tensor<i32>
    %89 = stablehlo.compare LT, %88, %c_56, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_57 = stablehlo.constant dense<11> : tensor<i32>
    %90 = stablehlo.add %88, %c_57 : tensor<i32>
    %91 = stablehlo.select %89, %90, %88 : tensor<i1>, tensor<i32>
    %c_58 = stablehlo.constant dense<0> : tensor<i32>
    %c_59 = stablehlo.constant dense<0> : tensor<i32>
    %92 = stablehlo.compare LT, %c_58, %c_59, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_60 = stablehlo.constant dense<0> : tensor<i32>
    %c_61 = stablehlo.constant dense<3> : tensor<i32>
    %93 = stablehlo.add %c_60, %c_61 : tensor<i32>
    %c_62 = stablehlo.constant dense<0> : tensor<i32>
    %94 = stablehlo.select %92, %93, %c_62 : tensor<i1>, tensor<i32>
    %c_63 = stablehlo.constant dense<0> : tensor<i32>
    %c_64 = stablehlo.constant dense<0> : tensor<i32>
    %95 = stablehlo.compare LT, %c_63, %c_64, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_65 = stablehlo.constant dense<0> : tensor<i32>
    %c_66 = stablehlo.constant dense<8> : tensor<i32>
    %96 = stablehlo.add %c_65, %c_66 : tensor<i32>
    %c_67 = stablehlo.constant dense<0> : tensor<i32>
    %97 = stablehlo.select %95, %96, %c_67 : tensor<i1>, tensor<i32>
    %98 = stablehlo.dynamic_slice %arg3, %91, %94, %97, sizes = [1, 3, 8] : (tensor<11x3x8xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<1x3x8xf32>
    %99 = stablehlo.reshape %98 : (tensor<1x3x8xf32>) -> tensor<3x8xf32>
    %100 = stablehlo.convert %arg4 : tensor<i32>
    %101 = stablehlo.broadcast_in_dim %100, dims = [] : (tensor<i32>) -> tensor<24xi32>
    %102 = stablehlo.compare LE, %25, %101, SIGNED : (tensor<24xi32>, tensor<24xi32>) -> tensor<24xi1>
    %103 = stablehlo.dot_general %99, %47, batching_dims = [0] x [1], contracting_dims = [1] x [2], precision = [DEFAULT, DEFAULT] : (tensor<3x8xf32>, tensor<24x3x8xf32>) -> tensor<3x24xf32>
    %cst_68 = stablehlo.constant dense<2.82842708> : tensor<f32>
    %104 = stablehlo.broadcast_in_dim %cst_68, dims = [] : (tensor<f32>) -> tensor<3x24xf32>
    %105 = stablehlo.divide %103, %104 : tensor<3x24xf32>
    %cst_69 = stablehlo.constant dense<-1.000000e+30> : tensor<f32>
    %106 = call @_where(%102, %105, %cst_69) : (tensor<24xi1>, tensor<3x24xf32>, tensor<f32>) -> tensor<3x24xf32>
    %cst_70 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %107 = stablehlo.reduce(%106 init: %cst_70) applies stablehlo.maximum across dimensions = [1] : (tensor<3x24xf32>, tensor<f32>) -> tensor<3xf32>
    %cst_71 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %108 = stablehlo.broadcast_in_dim %cst_71, dims = [] : (tensor<f32>) -> tensor<3xf32>
    %109 = stablehlo.maximum %108, %107 : tensor<3xf32>
    %110 = stablehlo.broadcast_in_dim %109, dims = [0] : (tensor<3xf32>) -> tensor<3x1xf32>
    %111 = stablehlo.broadcast_in_dim %110, dims = [0, 1] : (tensor<3x1xf32>) -> tensor<3x24xf32>
    %112 = stablehlo.subtract %106, %111 : tensor<3x24xf32>
    %113 = stablehlo.exponential %112 : tensor<3x24xf32>
    %cst_72 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %114 = stablehlo.reduce(%113 init: %cst_72) applies stablehlo.add across dimensions = [1] : (tensor<3x24xf32>, tensor<f32>) -> tensor<3xf32>
    %115 = stablehlo.broadcast_in_dim %114, dims = [0] : (tensor<3xf32>) -> tensor<3x1xf32>
    %116 = stablehlo.broadcast_in_dim %115, dims = [0, 1] : (tensor<3x1xf32>) -> tensor<3x24xf32>
    %117 = stablehlo.divide %113, %116 : tensor<3x24xf32>
    %118 = stablehlo.dot_general %117, %53, batching_dims = [0] x [1], contracting_dims = [1] x [0], precision = [DEFAULT, DEFAULT] : (tensor<3x24xf32>, tensor<24x3x8xf32>) -> tensor<3x8xf32>
    %119 = stablehlo.broadcast_in_dim %87, dims = [1, 2] : (tensor<3x8xf32>) -> tensor<1x3x8xf32>
    %120 = stablehlo.broadcast_in_dim %118, dims = [1, 2] : (tensor<3x8xf32>) -> tensor<1x3x8xf32>
    %121 = stablehlo.concatenate %119, %120, dim = 0 : (tensor<1x3x8xf32>, tensor<1x3x8xf32>) -> tensor<2x3x8xf32>
    %c_73 = stablehlo.constant dense<0> : tensor<i32>
    %122 = stablehlo.compare LT, %arg4, %c_73, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %c_74 = stablehlo.constant dense<11> : tensor<i32>
    %123 = stablehlo.add %arg4, %c_74 : tensor<i32>
    %124 = stablehlo.select %122, %123, %arg4 : tensor<i1>, tensor<i32>
    %125 = stablehlo.convert %124 : tensor<i32>
    %126 = stablehlo.broadcast_in_dim %125, dims = [] : (tensor<i32>) -> tensor<1xi32>
    %127 = "stablehlo.scatter"(%arg9, %126, %121) <{indices_are_sorted = true, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [0, 1, 2], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0]>, unique_indices = true}> ({
    ^bb0(%arg10: tensor<f32>, %arg11: tensor<f32>):
      stablehlo.return %arg11 : tensor<f32>
    }) : (tensor<11x2x3x8xf32>, tensor<1xi32>, tensor<2x3x8xf32>) -> tensor<11x2x3x8xf32>
    return %0, %33, %41, %47, %53, %127 : tensor<i32>, tensor<3x24x8xf16>, tensor<3x24x8xf16>, tensor<24x3x8xf32>, tensor<24x3x8xf32>, tensor<11x2x3x8xf32>
  }
  func.func private @_where(%arg0: tensor<24xi1>, %arg1: tensor<3x24xf32>, %arg2: tensor<f32>) -> tensor<3x24xf32> {
    %0 = stablehlo.broadcast_in_dim %arg0, dims = [1] : (tensor<24xi1>) -> tensor<3x24xi1>
    %1 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<3x24xf32>
    %2 = stablehlo.select %0, %arg1, %1 : tensor<3x24xi1>, tensor<3x24xf32>
    return %2 : tensor<3x24xf32>
  }
}
