module @jit_arithmetic_f16 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<5x9xf16>, %arg1: tensor<5x9xf16>) -> (tensor<5x9xf16> {jax.result_info = "result[0]"}, tensor<5x9xf16> {jax.result_info = "result[1]"}, tensor<5x9xf16> {jax.result_info = "result[2]"}, tensor<5x9xf16> {jax.result_info = "result[3]"}, tensor<5x9xf32> {jax.result_info = "result[4]"}, tensor<5x9xi1> {jax.result_info = "result[5]"}) {
    %0 = stablehlo.add %arg0, %arg1 : tensor<5x9xf16>
    %1 = stablehlo.multiply %arg0, %arg1 : tensor<5x9xf16>
    %2 = stablehlo.subtract %arg0, %arg1 : tensor<5x9xf16>
    %3 = stablehlo.minimum %arg0, %arg1 : tensor<5x9xf16>
    %4 = stablehlo.convert %arg0 : (tensor<5x9xf16>) -> tensor<5x9xf32>
    %5 = stablehlo.compare GT, %arg0, %arg1, FLOAT : (tensor<5x9xf16>, tensor<5x9xf16>) -> tensor<5x9xi1>
    return %0, %1, %2, %3, %4, %5 : tensor<5x9xf16>, tensor<5x9xf16>, tensor<5x9xf16>, tensor<5x9xf16>, tensor<5x9xf32>, tensor<5x9xi1>
  }
}
