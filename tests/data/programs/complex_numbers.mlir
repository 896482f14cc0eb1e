module @jit_complex_numbers attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<3x8xcomplex<f32>>, %arg1: tensor<3x8xf32>) -> (tensor<3x8xcomplex<f32>> {jax.result_info = "result[0]"}, tensor<3x8xcomplex<f32>> {jax.result_info = "result[1]"}, tensor<3x8xf32> {jax.result_info = "result[2]"}, tensor<3x8xf32> {jax.result_info = "result[3]"}, tensor<3x8xcomplex<f32>> {jax.result_info = "result[4]"}, tensor<3x8xcomplex<f32>> {jax.result_info = "result[5]"}) {
    %0 = stablehlo.multiply %arg0, %arg0 : tensor<3x8xcomplex<f32>>
    %1 = stablehlo.real %arg0 : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xf32>
    %2 = stablehlo.imag %arg0 : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xf32>
    %3 = stablehlo.negate %2 : tensor<3x8xf32>
    %4 = stablehlo.complex %1, %3 : tensor<3x8xcomplex<f32>>
    %5 = stablehlo.real %arg0 : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xf32>
    %6 = stablehlo.imag %arg0 : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xf32>
    %7 = stablehlo.add %5, %6 : tensor<3x8xf32>
    %8 = stablehlo.abs %arg0 : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xf32>
    %9 = stablehlo.negate %arg1 : tensor<3x8xf32>
    %10 = stablehlo.complex %arg1, %9 : tensor<3x8xcomplex<f32>>
    %11 = stablehlo.exponential %arg0 : tensor<3x8xcomplex<f32>>
    return %0, %4, %7, %8, %10, %11 : tensor<3x8xcomplex<f32>>, tensor<3x8xcomplex<f32>>, tensor<3x8xf32>, tensor<3x8xf32>, tensor<3x8xcomplex<f32>>, tensor<3x8xcomplex<f32>>
  }
}
