module @jit_functions_f32 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<2x67xf32>, %arg1: tensor<2x67xf32>, %arg2: tensor<2x67xf32>) -> (tensor<2x67xf32> {jax.result_info = "result[0]"}, tensor<2x67xf32> {jax.result_info = "result[1]"}, tensor<2x67xf32> {jax.result_info = "result[2]"}, tensor<2x67xf32> {jax.result_info = "result[3]"}, tensor<2x67xf32> {jax.result_info = "result[4]"}, tensor<2x67xf32> {jax.result_info = "result[5]"}, tensor<2x67xf32> {jax.result_info = "result[6]"}, tensor<2x67xf32> {jax.result_info = "result[7]"}, tensor<2x67xf32> {jax.result_info = "result[8]"}, tensor<2x67xf32> {jax.result_info = "result[9]"}, tensor<2x67xf32> {jax.result_info = "result[10]"}, tensor<2x67xf32> {jax.result_info = "result[11]"}, tensor<2x67xf32> {jax.result_info = "result[12]"}, tensor<2x67xf32> {jax.result_info = "result[13]"}, tensor<2x67xf32> {jax.result_info = "result[14]"}, tensor<2x67xf32> {jax.result_info = "result[15]"}, tensor<2x67xf32> {jax.result_info = "result[16]"}, tensor<2x67xf32> {jax.result_info = "result[17]"}) {
    %0 = stablehlo.exponential %arg2 : tensor<2x67xf32>
    %1 = stablehlo.exponential_minus_one %arg0 : tensor<2x67xf32>
    %2 = stablehlo.log %arg1 : tensor<2x67xf32>
    %3 = stablehlo.log_plus_one %arg1 : tensor<2x67xf32>
    %4 = stablehlo.sqrt %arg1 : tensor<2x67xf32>
    %5 = stablehlo.rsqrt %arg1 : tensor<2x67xf32>
    %6 = stablehlo.cbrt %arg1 : tensor<2x67xf32>
    %7 = stablehlo.tanh %arg2 : tensor<2x67xf32>
    %8 = stablehlo.negate %arg2 : tensor<2x67xf32>
    %9 = stablehlo.exponential %8 : tensor<2x67xf32>
    %cst = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<2x67xf32>
    %11 = stablehlo.add %10, %9 : tensor<2x67xf32>
    %cst_0 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<2x67xf32>
    %13 = stablehlo.divide %12, %11 : tensor<2x67xf32>
    %14 = stablehlo.sine %arg2 : tensor<2x67xf32>
    %15 = stablehlo.cosine %arg2 : tensor<2x67xf32>
    %16 = stablehlo.tan %arg0 : tensor<2x67xf32>
    %17 = stablehlo.atan2 %arg2, %arg1 : tensor<2x67xf32>
    %18 = stablehlo.power %arg1, %arg2 : tensor<2x67xf32>
    %19 = stablehlo.floor %arg2 : tensor<2x67xf32>
    %20 = stablehlo.ceil %arg2 : tensor<2x67xf32>
    %21 = stablehlo.round_nearest_afz %arg2 : tensor<2x67xf32>
    %22 = stablehlo.round_nearest_even %arg2 : tensor<2x67xf32>
    return %0, %1, %2, %3, %4, %5, %6, %7, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22 : tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>, tensor<2x67xf32>
  }
}
