module @jit_arithmetic_i32 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<4x7xi32>, %arg1: tensor<4x7xi32>) -> (tensor<4x7xi32> {jax.result_info = "result[0]"}, tensor<4x7xi32> {jax.result_info = "result[1]"}, tensor<4x7xi32> {jax.result_info = "result[2]"}, tensor<4x7xi32> {jax.result_info = "result[3]"}, tensor<4x7xi32> {jax.result_info = "result[4]"}, tensor<4x7xi32> {jax.result_info = "result[5]"}, tensor<4x7xi32> {jax.result_info = "result[6]"}, tensor<4x7xi32> {jax.result_info = "result[7]"}, tensor<4x7xi32> {jax.result_info = "result[8]"}, tensor<4x7xi32> {jax.result_info = "result[9]"}) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i32>) -> tensor<4x7xi32>
    %1 = stablehlo.compare EQ, %arg1, %0, SIGNED : (tensor<4x7xi32>, tensor<4x7xi32>) -> tensor<4x7xi1>
    %c_0 = stablehlo.constant dense<1> : tensor<i32>
    %2 = call @_where(%1, %c_0, %arg1) : (tensor<4x7xi1>, tensor<i32>, tensor<4x7xi32>) -> tensor<4x7xi32>
    %3 = stablehlo.add %arg0, %arg1 : tensor<4x7xi32>
    %4 = stablehlo.multiply %arg0, %arg1 : tensor<4x7xi32>
    %5 = stablehlo.divide %arg0, %2 : tensor<4x7xi32>
    %6 = stablehlo.remainder %arg0, %2 : tensor<4x7xi32>
    %7 = stablehlo.and %arg0, %arg1 : tensor<4x7xi32>
    %8 = stablehlo.or %arg0, %arg1 : tensor<4x7xi32>
    %9 = stablehlo.xor %arg0, %arg1 : tensor<4x7xi32>
    %10 = stablehlo.not %arg0 : tensor<4x7xi32>
    %c_1 = stablehlo.constant dense<7> : tensor<i32>
    %11 = stablehlo.broadcast_in_dim %c_1, dims = [] : (tensor<i32>) -> tensor<4x7xi32>
    %12 = stablehlo.and %arg1, %11 : tensor<4x7xi32>
    %13 = stablehlo.shift_left %arg0, %12 : tensor<4x7xi32>
    %c_2 = stablehlo.constant dense<7> : tensor<i32>
    %14 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i32>) -> tensor<4x7xi32>
    %15 = stablehlo.and %arg1, %14 : tensor<4x7xi32>
    %16 = stablehlo.shift_right_arithmetic %arg0, %15 : tensor<4x7xi32>
    return %3, %4, %5, %6, %7, %8, %9, %10, %13, %16 : tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>, tensor<4x7xi32>
  }
  func.func private @_where(%arg0: tensor<4x7xi1>, %arg1: tensor<i32>, %arg2: tensor<4x7xi32>) -> tensor<4x7xi32> {
    %0 = stablehlo.convert %arg1 : tensor<i32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<i32>) -> tensor<4x7xi32>
    %2 = stablehlo.select %arg0, %1, %arg2 : tensor<4x7xi1>, tensor<4x7xi32>
    return %2 : tensor<4x7xi32>
  }
}
