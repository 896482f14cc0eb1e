module @jit_arithmetic_u8 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<33xui8>, %arg1: tensor<33xui8>) -> (tensor<33xui8> {jax.result_info = "result[0]"}, tensor<33xui8> {jax.result_info = "result[1]"}, tensor<33xui8> {jax.result_info = "result[2]"}, tensor<33xui8> {jax.result_info = "result[3]"}, tensor<33xui8> {jax.result_info = "result[4]"}, tensor<33xui8> {jax.result_info = "result[5]"}, tensor<33xf32> {jax.result_info = "result[6]"}, tensor<33xi1> {jax.result_info = "result[7]"}) {
    %0 = stablehlo.add %arg0, %arg1 : tensor<33xui8>
    %1 = stablehlo.multiply %arg0, %arg1 : tensor<33xui8>
    %c = stablehlo.constant dense<7> : tensor<ui8>
    %2 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<ui8>) -> tensor<33xui8>
    %3 = stablehlo.and %arg1, %2 : tensor<33xui8>
    %4 = stablehlo.shift_right_logical %arg0, %3 : tensor<33xui8>
    %5 = stablehlo.popcnt %arg0 : tensor<33xui8>
    %6 = stablehlo.count_leading_zeros %arg0 : tensor<33xui8>
    %7 = stablehlo.maximum %arg0, %arg1 : tensor<33xui8>
    %8 = stablehlo.convert %arg0 : (tensor<33xui8>) -> tensor<33xf32>
    %9 = stablehlo.compare LT, %arg0, %arg1, UNSIGNED : (tensor<33xui8>, tensor<33xui8>) -> tensor<33xi1>
    return %0, %1, %4, %5, %6, %7, %8, %9 : tensor<33xui8>, tensor<33xui8>, tensor<33xui8>, tensor<33xui8>, tensor<33xui8>, tensor<33xui8>, tensor<33xf32>, tensor<33xi1>
  }
}
