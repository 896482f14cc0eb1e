module @jit_functions_special attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<77xf32>, %arg1: tensor<77xf32>) -> (tensor<77xf32> {jax.result_info = "result[0]"}, tensor<77xf32> {jax.result_info = "result[1]"}, tensor<77xf32> {jax.result_info = "result[2]"}, tensor<77xf32> {jax.result_info = "result[3]"}, tensor<77xf32> {jax.result_info = "result[4]"}, tensor<77xf32> {jax.result_info = "result[5]"}, tensor<77xf32> {jax.result_info = "result[6]"}, tensor<77xf32> {jax.result_info = "result[7]"}, tensor<77xf32> {jax.result_info = "result[8]"}, tensor<77xf32> {jax.result_info = "result[9]"}) {
    %0 = chlo.erf %arg1 : tensor<77xf32> -> tensor<77xf32>
    %1 = chlo.erfc %arg1 : tensor<77xf32> -> tensor<77xf32>
    %2 = chlo.erf_inv %arg0 : tensor<77xf32> -> tensor<77xf32>
    %3 = chlo.atanh %arg0 : tensor<77xf32> -> tensor<77xf32>
    %4 = chlo.asin %arg0 : tensor<77xf32> -> tensor<77xf32>
    %5 = chlo.acos %arg0 : tensor<77xf32> -> tensor<77xf32>
    %6 = chlo.sinh %arg1 : tensor<77xf32> -> tensor<77xf32>
    %7 = chlo.cosh %arg1 : tensor<77xf32> -> tensor<77xf32>
    %8 = chlo.asinh %arg1 : tensor<77xf32> -> tensor<77xf32>
    %9 = chlo.square %arg1 : tensor<77xf32> -> tensor<77xf32>
    return %0, %1, %2, %3, %4, %5, %6, %7, %8, %9 : tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>, tensor<77xf32>
  }
}
