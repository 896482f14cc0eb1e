module @jit_dot_bf16 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<33x65xbf16>, %arg1: tensor<65x17xbf16>) -> (tensor<33x17xf32> {jax.result_info = "result"}) {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0], precision = [DEFAULT, DEFAULT] : (tensor<33x65xbf16>, tensor<65x17xbf16>) -> tensor<33x17xf32>
    return %0 : tensor<33x17xf32>
  }
}
