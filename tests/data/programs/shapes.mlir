module @jit_shapes attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<3x4x5xf32>) -> (tensor<5x3x4xf32> {jax.result_info = "result[0]"}, tensor<12x5xf32> {jax.result_info = "result[1]"}, tensor<3x4x3xf32> {jax.result_info = "result[2]"}, tensor<3x4x7xf32> {jax.result_info = "result[3]"}, tensor<7x1x5xf32> {jax.result_info = "result[4]"}, tensor<4x6x9xf32> {jax.result_info = "result[5]"}) {
    %0 = stablehlo.transpose %arg0, dims = [2, 0, 1] : (tensor<3x4x5xf32>) -> tensor<5x3x4xf32>
    %1 = stablehlo.reshape %arg0 : (tensor<3x4x5xf32>) -> tensor<12x5xf32>
    %2 = stablehlo.slice %arg0 [0:3, 0:4, 0:5:2] : (tensor<3x4x5xf32>) -> tensor<3x4x3xf32>
    %3 = stablehlo.reverse %2, dims = [0] : tensor<3x4x3xf32>
    %4 = stablehlo.slice %arg0 [0:3, 0:4, 0:2] : (tensor<3x4x5xf32>) -> tensor<3x4x2xf32>
    %5 = stablehlo.concatenate %arg0, %4, dim = 2 : (tensor<3x4x5xf32>, tensor<3x4x2xf32>) -> tensor<3x4x7xf32>
    %6 = stablehlo.slice %arg0 [0:1, 0:1, 0:5] : (tensor<3x4x5xf32>) -> tensor<1x1x5xf32>
    %7 = stablehlo.reshape %6 : (tensor<1x1x5xf32>) -> tensor<1x5xf32>
    %8 = stablehlo.broadcast_in_dim %7, dims = [1, 2] : (tensor<1x5xf32>) -> tensor<7x1x5xf32>
    %c = stablehlo.constant dense<0> : tensor<i32>
    %9 = call @_pad(%arg0, %c) : (tensor<3x4x5xf32>, tensor<i32>) -> tensor<4x6x9xf32>
    return %0, %1, %3, %5, %8, %9 : tensor<5x3x4xf32>, tensor<12x5xf32>, tensor<3x4x3xf32>, tensor<3x4x7xf32>, tensor<7x1x5xf32>, tensor<4x6x9xf32>
  }
  func.func private @_pad(%arg0: tensor<3x4x5xf32>, %arg1: tensor<i32>) -> tensor<4x6x9xf32> {
    %0 = stablehlo.convert %arg1 : (tensor<i32>) -> tensor<f32>
    %1 = stablehlo.pad %arg0, %0, low = [1, 0, 3], high = [0, 2, 1], interior = [0, 0, 0] : (tensor<3x4x5xf32>, tensor<f32>) -> tensor<4x6x9xf32>
    return %1 : tensor<4x6x9xf32>
  }
}
