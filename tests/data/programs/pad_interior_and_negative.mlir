module @jit_pad_interior_and_negative attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<4x5xf32>) -> (tensor<10x10xf32> {jax.result_info = "result"}) {
    %cst = stablehlo.constant dense<-1.000000e+00> : tensor<f32>
    %0 = stablehlo.pad %arg0, %cst, low = [1, -2], high = [-1, 3], interior = [2, 1] : (tensor<4x5xf32>, tensor<f32>) -> tensor<10x10xf32>
    return %0 : tensor<10x10xf32>
  }
}
