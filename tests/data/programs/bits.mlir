module @jit_bits attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<11xf32>, %arg1: tensor<11xi32>) -> (tensor<11xi32> {jax.result_info = "result[0]"}, tensor<11x4xui8> {jax.result_info = "result[1]"}, tensor<11xf32> {jax.result_info = "result[2]"}) {
    %0 = stablehlo.bitcast_convert %arg0 : (tensor<11xf32>) -> tensor<11xi32>
    %1 = stablehlo.bitcast_convert %arg1 : (tensor<11xi32>) -> tensor<11x4xui8>
    %2 = stablehlo.reduce_precision %arg0, format = e5m10 : tensor<11xf32>
    return %0, %1, %2 : tensor<11xi32>, tensor<11x4xui8>, tensor<11xf32>
  }
}
