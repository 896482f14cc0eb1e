module @jit_tiny_bert attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<128xf32>, %arg1: tensor<128xf32>, %arg2: tensor<32x128xf32>, %arg3: tensor<1x128xf32>, %arg4: tensor<384x128xf32>, %arg5: tensor<128xf32>, %arg6: tensor<128xf32>, %arg7: tensor<128xf32>, %arg8: tensor<128x128xf32>, %arg9: tensor<128xf32>, %arg10: tensor<128x128xf32>, %arg11: tensor<128xf32>, %arg12: tensor<128x128xf32>, %arg13: tensor<128xf32>, %arg14: tensor<128x128xf32>, %arg15: tensor<128xf32>, %arg16: tensor<128x128xf32>, %arg17: tensor<128xf32>, %arg18: tensor<128xf32>, %arg19: tensor<128xf32>, %arg20: tensor<128x128xf32>, %arg21: tensor<128xf32>, %arg22: tensor<128xf32>, %arg23: tensor<128xf32>, %arg24: tensor<128x128xf32>, %arg25: tensor<128xf32>, %arg26: tensor<128x128xf32>, %arg27: tensor<128xf32>, %arg28: tensor<128x128xf32>, %arg29: tensor<128xf32>, %arg30: tensor<128x128xf32>, %arg31: tensor<128xf32>, %arg32: tensor<128x128xf32>, %arg33: tensor<128xf32>, %arg34: tensor<128xf32>, %arg35: tensor<128xf32>, %arg36: tensor<128x128xf32>, %arg37: tensor<1x32xi32>, %arg38: tensor<1x32xi32>) -> (tensor<1x128xf32> {jax.result_info = "result"}) {
    %0 = call @_take(%arg4, %arg37) : (tensor<384x128xf32>, tensor<1x32xi32>) -> tensor<1x32x128xf32>
    %1 = stablehlo.broadcast_in_dim %arg2, dims = [1, 2] : (tensor<32x128xf32>) -> tensor<1x32x128xf32>
    %2 = stablehlo.add %0, %1 : tensor<1x32x128xf32>
    %3 = stablehlo.reshape %arg3 : (tensor<1x128xf32>) -> tensor<128xf32>
    %4 = stablehlo.broadcast_in_dim %3, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %5 = stablehlo.broadcast_in_dim %4, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %6 = stablehlo.add %2, %5 : tensor<1x32x128xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %7 = stablehlo.reduce(%6 init: %cst) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %8 = stablehlo.broadcast_in_dim %7, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_0 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %9 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %10 = stablehlo.divide %8, %9 : tensor<1x32x1xf32>
    %11 = stablehlo.broadcast_in_dim %10, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %12 = stablehlo.subtract %6, %11 : tensor<1x32x128xf32>
    %13 = chlo.square %12 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %14 = stablehlo.reduce(%13 init: %cst_1) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %15 = stablehlo.broadcast_in_dim %14, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_2 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %16 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %17 = stablehlo.divide %15, %16 : tensor<1x32x1xf32>
    %18 = stablehlo.broadcast_in_dim %10, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %19 = stablehlo.subtract %6, %18 : tensor<1x32x128xf32>
    %cst_3 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %20 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %21 = stablehlo.add %17, %20 : tensor<1x32x1xf32>
    %22 = stablehlo.rsqrt %21 : tensor<1x32x1xf32>
    %23 = stablehlo.broadcast_in_dim %22, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %24 = stablehlo.multiply %19, %23 : tensor<1x32x128xf32>
    %25 = stablehlo.broadcast_in_dim %arg1, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %26 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %27 = stablehlo.multiply %24, %26 : tensor<1x32x128xf32>
    %28 = stablehlo.broadcast_in_dim %arg0, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %29 = stablehlo.broadcast_in_dim %28, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %30 = stablehlo.add %27, %29 : tensor<1x32x128xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %31 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<1x32xi32>
    %32 = stablehlo.compare NE, %arg38, %31, SIGNED : (tensor<1x32xi32>, tensor<1x32xi32>) -> tensor<1x32xi1>
    %33 = stablehlo.broadcast_in_dim %32, dims = [0, 3] : (tensor<1x32xi1>) -> tensor<1x1x1x32xi1>
    %34 = stablehlo.transpose %arg12, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %35 = stablehlo.dot_general %30, %34, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %36 = stablehlo.broadcast_in_dim %arg11, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %38 = stablehlo.add %35, %37 : tensor<1x32x128xf32>
    %39 = stablehlo.reshape %38 : (tensor<1x32x128xf32>) -> tensor<1x32x4x32xf32>
    %40 = stablehlo.transpose %39, dims = [0, 2, 1, 3] : (tensor<1x32x4x32xf32>) -> tensor<1x4x32x32xf32>
    %41 = stablehlo.transpose %arg10, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %42 = stablehlo.dot_general %30, %41, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %43 = stablehlo.broadcast_in_dim %arg9, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %44 = stablehlo.broadcast_in_dim %43, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %45 = stablehlo.add %42, %44 : tensor<1x32x128xf32>
    %46 = stablehlo.reshape %45 : (tensor<1x32x128xf32>) -> tensor<1x32x4x32xf32>
    %47 = stablehlo.transpose %46, dims = [0, 2, 1, 3] : (tensor<1x32x4x32xf32>) -> tensor<1x4x32x32xf32>
    %48 = stablehlo.transpose %arg14, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %49 = stablehlo.dot_general %30, %48, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %50 = stablehlo.broadcast_in_dim %arg13, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %51 = stablehlo.broadcast_in_dim %50, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %52 = stablehlo.add %49, %51 : tensor<1x32x128xf32>
    %53 = stablehlo.reshape %52 : (tensor<1x32x128xf32>) -> tensor<1x32x4x32xf32>
    %54 = stablehlo.transpose %53, dims = [0, 2, 1, 3] : (tensor<1x32x4x32xf32>) -> tensor<1x4x32x32xf32>
    %55 = stablehlo.transpose %47, dims = [0, 1, 3, 2] : (tensor<1x4x32x32xf32>) -> tensor<1x4x32x32xf32>
    %56 = stablehlo.reshape %40 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %57 = stablehlo.reshape %55 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %58 = stablehlo.dot_general %56, %57, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<4x32x32xf32>, tensor<4x32x32xf32>) -> tensor<4x32x32xf32>
    %59 = stablehlo.broadcast_in_dim %58, dims = [1, 2, 3] : (tensor<4x32x32xf32>) -> tensor<1x4x32x32xf32>
    %cst_4 = stablehlo.constant dense<0.176776692> : tensor<f32>
    %60 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<1x4x32x32xf32>
    %61 = stablehlo.multiply %59, %60 : tensor<1x4x32x32xf32>
    %cst_5 = stablehlo.constant dense<-3.40282347E+38> : tensor<f32>
    %62 = call @_where(%33, %61, %cst_5) : (tensor<1x1x1x32xi1>, tensor<1x4x32x32xf32>, tensor<f32>) -> tensor<1x4x32x32xf32>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %63 = stablehlo.reduce(%62 init: %cst_6) applies stablehlo.maximum across dimensions = [3] : (tensor<1x4x32x32xf32>, tensor<f32>) -> tensor<1x4x32xf32>
    %cst_7 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %64 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<1x4x32xf32>
    %65 = stablehlo.maximum %64, %63 : tensor<1x4x32xf32>
    %66 = stablehlo.broadcast_in_dim %65, dims = [0, 1, 2] : (tensor<1x4x32xf32>) -> tensor<1x4x32x1xf32>
    %67 = stablehlo.broadcast_in_dim %66, dims = [0, 1, 2, 3] : (tensor<1x4x32x1xf32>) -> tensor<1x4x32x32xf32>
    %68 = stablehlo.subtract %62, %67 : tensor<1x4x32x32xf32>
    %69 = stablehlo.exponential %68 : tensor<1x4x32x32xf32>
    %cst_8 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %70 = stablehlo.reduce(%69 init: %cst_8) applies stablehlo.add across dimensions = [3] : (tensor<1x4x32x32xf32>, tensor<f32>) -> tensor<1x4x32xf32>
    %71 = stablehlo.broadcast_in_dim %70, dims = [0, 1, 2] : (tensor<1x4x32xf32>) -> tensor<1x4x32x1xf32>
    %72 = stablehlo.broadcast_in_dim %71, dims = [0, 1, 2, 3] : (tensor<1x4x32x1xf32>) -> tensor<1x4x32x32xf32>
    %73 = stablehlo.divide %69, %72 : tensor<1x4x32x32xf32>
    %74 = stablehlo.reshape %73 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %75 = stablehlo.reshape %54 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %76 = stablehlo.dot_general %74, %75, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<4x32x32xf32>, tensor<4x32x32xf32>) -> tensor<4x32x32xf32>
    %77 = stablehlo.broadcast_in_dim %76, dims = [1, 2, 3] : (tensor<4x32x32xf32>) -> tensor<1x4x32x32xf32>
    %78 = stablehlo.transpose %77, dims = [0, 2, 1, 3] : (tensor<1x4x32x32xf32>) -> tensor<1x32x4x32xf32>
    %79 = stablehlo.reshape %78 : (tensor<1x32x4x32xf32>) -> tensor<1x32x128xf32>
    %80 = stablehlo.transpose %arg8, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %81 = stablehlo.dot_general %79, %80, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %82 = stablehlo.broadcast_in_dim %arg7, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %83 = stablehlo.broadcast_in_dim %82, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %84 = stablehlo.add %81, %83 : tensor<1x32x128xf32>
    %85 = stablehlo.add %30, %84 : tensor<1x32x128xf32>
    %cst_9 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %86 = stablehlo.reduce(%85 init: %cst_9) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %87 = stablehlo.broadcast_in_dim %86, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_10 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %88 = stablehlo.broadcast_in_dim %cst_10, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %89 = stablehlo.divide %87, %88 : tensor<1x32x1xf32>
    %90 = stablehlo.broadcast_in_dim %89, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %91 = stablehlo.subtract %85, %90 : tensor<1x32x128xf32>
    %92 = chlo.square %91 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %cst_11 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %93 = stablehlo.reduce(%92 init: %cst_11) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %94 = stablehlo.broadcast_in_dim %93, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_12 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %95 = stablehlo.broadcast_in_dim %cst_12, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %96 = stablehlo.divide %94, %95 : tensor<1x32x1xf32>
    %97 = stablehlo.broadcast_in_dim %89, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %98 = stablehlo.subtract %85, %97 : tensor<1x32x128xf32>
    %cst_13 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %99 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %100 = stablehlo.add %96, %99 : tensor<1x32x1xf32>
    %101 = stablehlo.rsqrt %100 : tensor<1x32x1xf32>
    %102 = stablehlo.broadcast_in_dim %101, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %103 = stablehlo.multiply %98, %102 : tensor<1x32x128xf32>
    %104 = stablehlo.broadcast_in_dim %arg6, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %105 = stablehlo.broadcast_in_dim %104, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %106 = stablehlo.multiply %103, %105 : tensor<1x32x128xf32>
    %107 = stablehlo.broadcast_in_dim %arg5, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %108 = stablehlo.broadcast_in_dim %107, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %109 = stablehlo.add %106, %108 : tensor<1x32x128xf32>
    %110 = stablehlo.transpose %arg16, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %111 = stablehlo.dot_general %109, %110, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %112 = stablehlo.broadcast_in_dim %arg15, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %113 = stablehlo.broadcast_in_dim %112, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %114 = stablehlo.add %111, %113 : tensor<1x32x128xf32>
    %cst_14 = stablehlo.constant dense<5.000000e-01> : tensor<f32>
    %115 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<1x32x128xf32>
    %116 = stablehlo.multiply %115, %114 : tensor<1x32x128xf32>
    %117 = stablehlo.negate %114 : tensor<1x32x128xf32>
    %cst_15 = stablehlo.constant dense<0.707106769> : tensor<f32>
    %118 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<1x32x128xf32>
    %119 = stablehlo.multiply %117, %118 : tensor<1x32x128xf32>
    %120 = chlo.erfc %119 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %121 = stablehlo.multiply %116, %120 : tensor<1x32x128xf32>
    %122 = stablehlo.transpose %arg20, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %123 = stablehlo.dot_general %121, %122, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %124 = stablehlo.broadcast_in_dim %arg19, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %125 = stablehlo.broadcast_in_dim %124, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %126 = stablehlo.add %123, %125 : tensor<1x32x128xf32>
    %127 = stablehlo.add %109, %126 : tensor<1x32x128xf32>
    %cst_16 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %128 = stablehlo.reduce(%127 init: %cst_16) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %129 = stablehlo.broadcast_in_dim %128, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_17 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %130 = stablehlo.broadcast_in_dim %cst_17, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %131 = stablehlo.divide %129, %130 : tensor<1x32x1xf32>
    %132 = stablehlo.broadcast_in_dim %131, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %133 = stablehlo.subtract %127, %132 : tensor<1x32x128xf32>
    %134 = chlo.square %133 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %cst_18 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %135 = stablehlo.reduce(%134 init: %cst_18) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %136 = stablehlo.broadcast_in_dim %135, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_19 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %137 = stablehlo.broadcast_in_dim %cst_19, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %138 = stablehlo.divide %136, %137 : tensor<1x32x1xf32>
    %139 = stablehlo.broadcast_in_dim %131, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %140 = stablehlo.subtract %127, %139 : tensor<1x32x128xf32>
    %cst_20 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %141 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %142 = stablehlo.add %138, %141 : tensor<1x32x1xf32>
    %143 = stablehlo.rsqrt %142 : tensor<1x32x1xf32>
    %144 = stablehlo.broadcast_in_dim %143, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %145 = stablehlo.multiply %140, %144 : tensor<1x32x128xf32>
    %146 = stablehlo.broadcast_in_dim %arg18, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %147 = stablehlo.broadcast_in_dim %146, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %148 = stablehlo.multiply %145, %147 : tensor<1x32x128xf32>
    %149 = stablehlo.broadcast_in_dim %arg17, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %150 = stablehlo.broadcast_in_dim %149, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %151 = stablehlo.add %148, %150 : tensor<1x32x128xf32>
    %152 = stablehlo.transpose %arg28, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %153 = stablehlo.dot_general %151, %152, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %154 = stablehlo.broadcast_in_dim %arg27, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %155 = stablehlo.broadcast_in_dim %154, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %156 = stablehlo.add %153, %155 : tensor<1x32x128xf32>
    %157 = stablehlo.reshape %156 : (tensor<1x32x128xf32>) -> tensor<1x32x4x32xf32>
    %158 = stablehlo.transpose %157, dims = [0, 2, 1, 3] : (tensor<1x32x4x32xf32>) -> tensor<1x4x32x32xf32>
    %159 = stablehlo.transpose %arg26, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %160 = stablehlo.dot_general %151, %159, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %161 = stablehlo.broadcast_in_dim %arg25, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %162 = stablehlo.broadcast_in_dim %161, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %163 = stablehlo.add %160, %162 : tensor<1x32x128xf32>
    %164 = stablehlo.reshape %163 : (tensor<1x32x128xf32>) -> tensor<1x32x4x32xf32>
    %165 = stablehlo.transpose %164, dims = [0, 2, 1, 3] : (tensor<1x32x4x32xf32>) -> tensor<1x4x32x32xf32>
    %166 = stablehlo.transpose %arg30, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %167 = stablehlo.dot_general %151, %166, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %168 = stablehlo.broadcast_in_dim %arg29, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %169 = stablehlo.broadcast_in_dim %168, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %170 = stablehlo.add %167, %169 : tensor<1x32x128xf32>
    %171 = stablehlo.reshape %170 : (tensor<1x32x128xf32>) -> tensor<1x32x4x32xf32>
    %172 = stablehlo.transpose %171, dims = [0, 2, 1, 3] : (tensor<1x32x4x32xf32>) -> tensor<1x4x32x32xf32>
    %173 = stablehlo.transpose %165, dims = [0, 1, 3, 2] : (tensor<1x4x32x32xf32>) -> tensor<1x4x32x32xf32>
    %174 = stablehlo.reshape %158 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %175 = stablehlo.reshape %173 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %176 = stablehlo.dot_general %174, %175, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<4x32x32xf32>, tensor<4x32x32xf32>) -> tensor<4x32x32xf32>
    %177 = stablehlo.broadcast_in_dim %176, dims = [1, 2, 3] : (tensor<4x32x32xf32>) -> tensor<1x4x32x32xf32>
    %cst_21 = stablehlo.constant dense<0.176776692> : tensor<f32>
    %178 = stablehlo.broadcast_in_dim %cst_21, dims = [] : (tensor<f32>) -> tensor<1x4x32x32xf32>
    %179 = stablehlo.multiply %177, %178 : tensor<1x4x32x32xf32>
    %cst_22 = stablehlo.constant dense<-3.40282347E+38> : tensor<f32>
    %180 = call @_where(%33, %179, %cst_22) : (tensor<1x1x1x32xi1>, tensor<1x4x32x32xf32>, tensor<f32>) -> tensor<1x4x32x32xf32>
    %cst_23 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %181 = stablehlo.reduce(%180 init: %cst_23) applies stablehlo.maximum across dimensions = [3] : (tensor<1x4x32x32xf32>, tensor<f32>) -> tensor<1x4x32xf32>
    %cst_24 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %182 = stablehlo.broadcast_in_dim %cst_24, dims = [] : (tensor<f32>) -> tensor<1x4x32xf32>
    %183 = stablehlo.maximum %182, %181 : tensor<1x4x32xf32>
    %184 = stablehlo.broadcast_in_dim %183, dims = [0, 1, 2] : (tensor<1x4x32xf32>) -> tensor<1x4x32x1xf32>
    %185 = stablehlo.broadcast_in_dim %184, dims = [0, 1, 2, 3] : (tensor<1x4x32x1xf32>) -> tensor<1x4x32x32xf32>
    %186 = stablehlo.subtract %180, %185 : tensor<1x4x32x32xf32>
    %187 = stablehlo.exponential %186 : tensor<1x4x32x32xf32>
    %cst_25 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %188 = stablehlo.reduce(%187 init: %cst_25) applies stablehlo.add across dimensions = [3] : (tensor<1x4x32x32xf32>, tensor<f32>) -> tensor<1x4x32xf32>
    %189 = stablehlo.broadcast_in_dim %188, dims = [0, 1, 2] : (tensor<1x4x32xf32>) -> tensor<1x4x32x1xf32>
    %190 = stablehlo.broadcast_in_dim %189, dims = [0, 1, 2, 3] : (tensor<1x4x32x1xf32>) -> tensor<1x4x32x32xf32>
    %191 = stablehlo.divide %187, %190 : tensor<1x4x32x32xf32>
    %192 = stablehlo.reshape %191 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %193 = stablehlo.reshape %172 : (tensor<1x4x32x32xf32>) -> tensor<4x32x32xf32>
    %194 = stablehlo.dot_general %192, %193, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<4x32x32xf32>, tensor<4x32x32xf32>) -> tensor<4x32x32xf32>
    %195 = stablehlo.broadcast_in_dim %194, dims = [1, 2, 3] : (tensor<4x32x32xf32>) -> tensor<1x4x32x32xf32>
    %196 = stablehlo.transpose %195, dims = [0, 2, 1, 3] : (tensor<1x4x32x32xf32>) -> tensor<1x32x4x32xf32>
    %197 = stablehlo.reshape %196 : (tensor<1x32x4x32xf32>) -> tensor<1x32x128xf32>
    %198 = stablehlo.transpose %arg24, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %199 = stablehlo.dot_general %197, %198, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %200 = stablehlo.broadcast_in_dim %arg23, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %201 = stablehlo.broadcast_in_dim %200, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %202 = stablehlo.add %199, %201 : tensor<1x32x128xf32>
    %203 = stablehlo.add %151, %202 : tensor<1x32x128xf32>
    %cst_26 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %204 = stablehlo.reduce(%203 init: %cst_26) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %205 = stablehlo.broadcast_in_dim %204, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_27 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %206 = stablehlo.broadcast_in_dim %cst_27, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %207 = stablehlo.divide %205, %206 : tensor<1x32x1xf32>
    %208 = stablehlo.broadcast_in_dim %207, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %209 = stablehlo.subtract %203, %208 : tensor<1x32x128xf32>
    %210 = chlo.square %209 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %cst_28 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %211 = stablehlo.reduce(%210 init: %cst_28) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %212 = stablehlo.broadcast_in_dim %211, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_29 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %213 = stablehlo.broadcast_in_dim %cst_29, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %214 = stablehlo.divide %212, %213 : tensor<1x32x1xf32>
    %215 = stablehlo.broadcast_in_dim %207, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %216 = stablehlo.subtract %203, %215 : tensor<1x32x128xf32>
    %cst_30 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %217 = stablehlo.broadcast_in_dim %cst_30, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %218 = stablehlo.add %214, %217 : tensor<1x32x1xf32>
    %219 = stablehlo.rsqrt %218 : tensor<1x32x1xf32>
    %220 = stablehlo.broadcast_in_dim %219, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %221 = stablehlo.multiply %216, %220 : tensor<1x32x128xf32>
    %222 = stablehlo.broadcast_in_dim %arg22, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %223 = stablehlo.broadcast_in_dim %222, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %224 = stablehlo.multiply %221, %223 : tensor<1x32x128xf32>
    %225 = stablehlo.broadcast_in_dim %arg21, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %226 = stablehlo.broadcast_in_dim %225, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %227 = stablehlo.add %224, %226 : tensor<1x32x128xf32>
    %228 = stablehlo.transpose %arg32, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %229 = stablehlo.dot_general %227, %228, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %230 = stablehlo.broadcast_in_dim %arg31, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %231 = stablehlo.broadcast_in_dim %230, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %232 = stablehlo.add %229, %231 : tensor<1x32x128xf32>
    %cst_31 = stablehlo.constant dense<5.000000e-01> : tensor<f32>
    %233 = stablehlo.broadcast_in_dim %cst_31, dims = [] : (tensor<f32>) -> tensor<1x32x128xf32>
    %234 = stablehlo.multiply %233, %232 : tensor<1x32x128xf32>
    %235 = stablehlo.negate %232 : tensor<1x32x128xf32>
    %cst_32 = stablehlo.constant dense<0.707106769> : tensor<f32>
    %236 = stablehlo.broadcast_in_dim %cst_32, dims = [] : (tensor<f32>) -> tensor<1x32x128xf32>
    %237 = stablehlo.multiply %235, %236 : tensor<1x32x128xf32>
    %238 = chlo.erfc %237 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %239 = stablehlo.multiply %234, %238 : tensor<1x32x128xf32>
    %240 = stablehlo.transpose %arg36, dims = [1, 0] : (tensor<128x128xf32>) -> tensor<128x128xf32>
    %241 = stablehlo.dot_general %239, %240, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<1x32x128xf32>, tensor<128x128xf32>) -> tensor<1x32x128xf32>
    %242 = stablehlo.broadcast_in_dim %arg35, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %243 = stablehlo.broadcast_in_dim %242, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %244 = stablehlo.add %241, %243 : tensor<1x32x128xf32>
    %245 = stablehlo.add %227, %244 : tensor<1x32x128xf32>
    %cst_33 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %246 = stablehlo.reduce(%245 init: %cst_33) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %247 = stablehlo.broadcast_in_dim %246, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_34 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %248 = stablehlo.broadcast_in_dim %cst_34, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %249 = stablehlo.divide %247, %248 : tensor<1x32x1xf32>
    %250 = stablehlo.broadcast_in_dim %249, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %251 = stablehlo.subtract %245, %250 : tensor<1x32x128xf32>
    %252 = chlo.square %251 : tensor<1x32x128xf32> -> tensor<1x32x128xf32>
    %cst_35 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %253 = stablehlo.reduce(%252 init: %cst_35) applies stablehlo.add across dimensions = [2] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x32xf32>
    %254 = stablehlo.broadcast_in_dim %253, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %cst_36 = stablehlo.constant dense<1.280000e+02> : tensor<f32>
    %255 = stablehlo.broadcast_in_dim %cst_36, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %256 = stablehlo.divide %254, %255 : tensor<1x32x1xf32>
    %257 = stablehlo.broadcast_in_dim %249, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %258 = stablehlo.subtract %245, %257 : tensor<1x32x128xf32>
    %cst_37 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %259 = stablehlo.broadcast_in_dim %cst_37, dims = [] : (tensor<f32>) -> tensor<1x32x1xf32>
    %260 = stablehlo.add %256, %259 : tensor<1x32x1xf32>
    %261 = stablehlo.rsqrt %260 : tensor<1x32x1xf32>
    %262 = stablehlo.broadcast_in_dim %261, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %263 = stablehlo.multiply %258, %262 : tensor<1x32x128xf32>
    %264 = stablehlo.broadcast_in_dim %arg34, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %265 = stablehlo.broadcast_in_dim %264, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %266 = stablehlo.multiply %263, %265 : tensor<1x32x128xf32>
    %267 = stablehlo.broadcast_in_dim %arg33, dims = [2] : (tensor<128xf32>) -> tensor<1x1x128xf32>
    %268 = stablehlo.broadcast_in_dim %267, dims = [0, 1, 2] : (tensor<1x1x128xf32>) -> tensor<1x32x128xf32>
    %269 = stablehlo.add %266, %268 : tensor<1x32x128xf32>
    %270 = stablehlo.convert %arg38 : (tensor<1x32xi32>) -> tensor<1x32xf32>
    %271 = stablehlo.broadcast_in_dim %270, dims = [0, 1] : (tensor<1x32xf32>) -> tensor<1x32x1xf32>
    %272 = stablehlo.broadcast_in_dim %271, dims = [0, 1, 2] : (tensor<1x32x1xf32>) -> tensor<1x32x128xf32>
    %273 = stablehlo.multiply %269, %272 : tensor<1x32x128xf32>
    %cst_38 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %274 = stablehlo.reduce(%273 init: %cst_38) applies stablehlo.add across dimensions = [1] : (tensor<1x32x128xf32>, tensor<f32>) -> tensor<1x128xf32>
    %cst_39 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %275 = stablehlo.reduce(%271 init: %cst_39) applies stablehlo.add across dimensions = [1] : (tensor<1x32x1xf32>, tensor<f32>) -> tensor<1x1xf32>
    %cst_40 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %276 = stablehlo.broadcast_in_dim %cst_40, dims = [] : (tensor<f32>) -> tensor<1x1xf32>
    %277 = stablehlo.maximum %275, %276 : tensor<1x1xf32>
    %278 = stablehlo.broadcast_in_dim %277, dims = [0, 1] : (tensor<1x1xf32>) -> tensor<1x128xf32>
    %279 = stablehlo.divide %274, %278 : tensor<1x128xf32>
    %280 = chlo.square %279 : tensor<1x128xf32> -> tensor<1x128xf32>
    %cst_41 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %281 = stablehlo.reduce(%280 init: %cst_41) applies stablehlo.add across dimensions = [1] : (tensor<1x128xf32>, tensor<f32>) -> tensor<1xf32>
    %282 = stablehlo.broadcast_in_dim %281, dims = [0] : (tensor<1xf32>) -> tensor<1x1xf32>
    %283 = stablehlo.sqrt %282 : tensor<1x1xf32>
    %cst_42 = stablehlo.constant dense<9.99999996E-13> : tensor<f32>
    %284 = stablehlo.broadcast_in_dim %cst_42, dims = [] : (tensor<f32>) -> tensor<1x1xf32>
    %285 = stablehlo.maximum %283, %284 : tensor<1x1xf32>
    %286 = stablehlo.broadcast_in_dim %285, dims = [0, 1] : (tensor<1x1xf32>) -> tensor<1x128xf32>
    %287 = stablehlo.divide %279, %286 : tensor<1x128xf32>
    return %287 : tensor<1x128xf32>
  }
  func.func private @_take(%arg0: tensor<384x128xf32>, %arg1: tensor<1x32xi32>) -> tensor<1x32x128xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [0, 1] : (tensor<1x32xi32>) -> tensor<1x32x1xi32>
    %1 = "stablehlo.gather"(%arg0, %0) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 128>}> : (tensor<384x128xf32>, tensor<1x32x1xi32>) -> tensor<1x32x128xf32>
    return %1 : tensor<1x32x128xf32>
  }
  func.func private @_where(%arg0: tensor<1x1x1x32xi1>, %arg1: tensor<1x4x32x32xf32>, %arg2: tensor<f32>) -> tensor<1x4x32x32xf32> {
    %0 = stablehlo.broadcast_in_dim %arg0, dims = [0, 1, 2, 3] : (tensor<1x1x1x32xi1>) -> tensor<1x4x32x32xi1>
    %1 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<1x4x32x32xf32>
    %2 = stablehlo.select %0, %arg1, %1 : tensor<1x4x32x32xi1>, tensor<1x4x32x32xf32>
    return %2 : tensor<1x4x32x32xf32>
  }
}
