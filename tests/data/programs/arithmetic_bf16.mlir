module @jit_arithmetic_bf16 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<5x9xbf16>, %arg1: tensor<5x9xbf16>) -> (tensor<5x9xbf16> {jax.result_info = "result[0]"}, tensor<5x9xbf16> {jax.result_info = "result[1]"}, tensor<5x9xbf16> {jax.result_info = "result[2]"}, tensor<5x9xbf16> {jax.result_info = "result[3]"}, tensor<5x9xf32> {jax.result_info = "result[4]"}, tensor<5x9xbf16> {jax.result_info = "result[5]"}) {
    %0 = stablehlo.add %arg0, %arg1 : tensor<5x9xbf16>
    %1 = stablehlo.multiply %arg0, %arg1 : tensor<5x9xbf16>
    %2 = stablehlo.divide %arg0, %arg1 : tensor<5x9xbf16>
    %3 = stablehlo.maximum %arg0, %arg1 : tensor<5x9xbf16>
    %4 = stablehlo.convert %arg0 : (tensor<5x9xbf16>) -> tensor<5x9xf32>
    %5 = stablehlo.convert %arg0 : (tensor<5x9xbf16>) -> tensor<5x9xf32>
    %cst = stablehlo.constant dense<3.000000e+00> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<5x9xf32>
    %7 = stablehlo.multiply %5, %6 : tensor<5x9xf32>
    %8 = stablehlo.convert %7 : (tensor<5x9xf32>) -> tensor<5x9xbf16>
    return %0, %1, %2, %3, %4, %8 : tensor<5x9xbf16>, tensor<5x9xbf16>, tensor<5x9xbf16>, tensor<5x9xbf16>, tensor<5x9xf32>, tensor<5x9xbf16>
  }
}
