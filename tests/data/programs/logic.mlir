module @jit_logic attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<3x5xi1>, %arg1: tensor<3x5xi1>) -> (tensor<3x5xi1> {jax.result_info = "result[0]"}, tensor<3x5xi1> {jax.result_info = "result[1]"}, tensor<3x5xi1> {jax.result_info = "result[2]"}, tensor<3x5xi1> {jax.result_info = "result[3]"}, tensor<3x5xi32> {jax.result_info = "result[4]"}) {
    %0 = stablehlo.and %arg0, %arg1 : tensor<3x5xi1>
    %1 = stablehlo.or %arg0, %arg1 : tensor<3x5xi1>
    %2 = stablehlo.xor %arg0, %arg1 : tensor<3x5xi1>
    %3 = stablehlo.not %arg0 : tensor<3x5xi1>
    %4 = stablehlo.convert %arg0 : (tensor<3x5xi1>) -> tensor<3x5xi32>
    return %0, %1, %2, %3, %4 : tensor<3x5xi1>, tensor<3x5xi1>, tensor<3x5xi1>, tensor<3x5xi1>, tensor<3x5xi32>
  }
}
