module @jit_arithmetic_hostile attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<12x12xf32>, %arg1: tensor<12x12xf32>) -> (tensor<12x12xf32> {jax.result_info = "result[0]"}, tensor<12x12xf32> {jax.result_info = "result[1]"}, tensor<12x12xf32> {jax.result_info = "result[2]"}, tensor<12x12xf32> {jax.result_info = "result[3]"}, tensor<12x12xf32> {jax.result_info = "result[4]"}, tensor<12x12xi1> {jax.result_info = "result[5]"}, tensor<12x12xi1> {jax.result_info = "result[6]"}, tensor<12x12xi1> {jax.result_info = "result[7]"}, tensor<12x12xf32> {jax.result_info = "result[8]"}, tensor<12x12xf32> {jax.result_info = "result[9]"}, tensor<12x12xi1> {jax.result_info = "result[10]"}) {
    %0 = stablehlo.add %arg0, %arg1 : tensor<12x12xf32>
    %1 = stablehlo.multiply %arg0, %arg1 : tensor<12x12xf32>
    %2 = stablehlo.divide %arg0, %arg1 : tensor<12x12xf32>
    %3 = stablehlo.maximum %arg0, %arg1 : tensor<12x12xf32>
    %4 = stablehlo.minimum %arg0, %arg1 : tensor<12x12xf32>
    %5 = stablehlo.compare LT, %arg0, %arg1, FLOAT : (tensor<12x12xf32>, tensor<12x12xf32>) -> tensor<12x12xi1>
    %6 = stablehlo.compare EQ, %arg0, %arg1, FLOAT : (tensor<12x12xf32>, tensor<12x12xf32>) -> tensor<12x12xi1>
    %7 = stablehlo.compare NE, %arg0, %arg1, FLOAT : (tensor<12x12xf32>, tensor<12x12xf32>) -> tensor<12x12xi1>
    %8 = stablehlo.sign %arg0 : tensor<12x12xf32>
    %9 = stablehlo.floor %arg0 : tensor<12x12xf32>
    %10 = stablehlo.is_finite %arg0 : (tensor<12x12xf32>) -> tensor<12x12xi1>
    return %0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10 : tensor<12x12xf32>, tensor<12x12xf32>, tensor<12x12xf32>, tensor<12x12xf32>, tensor<12x12xf32>, tensor<12x12xi1>, tensor<12x12xi1>, tensor<12x12xi1>, tensor<12x12xf32>, tensor<12x12xf32>, tensor<12x12xi1>
  }
}
