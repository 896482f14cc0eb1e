// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-convert{to=f16})' | FileCheck %s

// CHECK-LABEL: @products_read_halves
// CHECK-DAG: %[[W:.+]] = stablehlo.constant {{.*}} : tensor<2x2xf16>
// CHECK-DAG: %[[H:.+]] = stablehlo.convert %arg0 : (tensor<3x2xf32>) -> tensor<3x2xf16>
// CHECK: stablehlo.dot_general %[[H]], %[[W]]{{.*}} -> tensor<3x2xf32>
func.func @products_read_halves(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = stablehlo.constant dense<[[15.0, 1.0], [-15.0, 3.75]]> : tensor<2x2xf32>
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<3x2xf32>, tensor<2x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}
