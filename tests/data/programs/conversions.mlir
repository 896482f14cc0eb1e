module @jit_conversions attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<13xf32>, %arg1: tensor<13xi32>, %arg2: tensor<12x12xf16>) -> (tensor<13xi32> {jax.result_info = "result[0]"}, tensor<13xi8> {jax.result_info = "result[1]"}, tensor<13xf16> {jax.result_info = "result[2]"}, tensor<13xf16> {jax.result_info = "result[3]"}, tensor<13xbf16> {jax.result_info = "result[4]"}, tensor<12x12xbf16> {jax.result_info = "result[5]"}, tensor<12x12xf32> {jax.result_info = "result[6]"}) {
    %0 = stablehlo.convert %arg0 : (tensor<13xf32>) -> tensor<13xi32>
    %1 = stablehlo.convert %arg1 : (tensor<13xi32>) -> tensor<13xi8>
    %2 = stablehlo.convert %arg1 : (tensor<13xi32>) -> tensor<13xf16>
    %3 = stablehlo.convert %arg0 : (tensor<13xf32>) -> tensor<13xf16>
    %4 = stablehlo.convert %arg0 : (tensor<13xf32>) -> tensor<13xbf16>
    %5 = stablehlo.convert %arg2 : (tensor<12x12xf16>) -> tensor<12x12xbf16>
    %6 = stablehlo.convert %arg2 : (tensor<12x12xf16>) -> tensor<12x12xf32>
    return %0, %1, %2, %3, %4, %5, %6 : tensor<13xi32>, tensor<13xi8>, tensor<13xf16>, tensor<13xf16>, tensor<13xbf16>, tensor<12x12xbf16>, tensor<12x12xf32>
  }
}
