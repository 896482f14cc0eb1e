// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-egraph)' | FileCheck %s

// CHECK-LABEL: @parallel_products_merge
// CHECK: %[[M:.+]] = stablehlo.dot_general {{.*}} -> tensor<4x5xf32>
// CHECK-NOT: stablehlo.dot_general
// CHECK-DAG: stablehlo.slice %[[M]] [0:4, 0:2]
// CHECK-DAG: stablehlo.slice %[[M]] [0:4, 2:5]
func.func @parallel_products_merge(%x: tensor<4x2xf32>) -> (tensor<4x2xf32>, tensor<4x3xf32>) {
  %a = stablehlo.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %b = stablehlo.constant dense<[[5.0, 6.0, 7.0], [8.0, 9.0, 1.0]]> : tensor<2x3xf32>
  %0 = stablehlo.dot_general %x, %a, contracting_dims = [1] x [0] : (tensor<4x2xf32>, tensor<2x2xf32>) -> tensor<4x2xf32>
  %1 = stablehlo.dot_general %x, %b, contracting_dims = [1] x [0] : (tensor<4x2xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  return %0, %1 : tensor<4x2xf32>, tensor<4x3xf32>
}

// CHECK-LABEL: @transposes_meet_through_arithmetic
// CHECK-NOT: transpose
// CHECK: return
func.func @transposes_meet_through_arithmetic(%x: tensor<32x64xf32>, %b: tensor<32xf32>) -> tensor<32x64xf32> {
  %0 = stablehlo.transpose %x, dims = [1, 0] : (tensor<32x64xf32>) -> tensor<64x32xf32>
  %1 = stablehlo.tanh %0 : tensor<64x32xf32>
  %2 = stablehlo.broadcast_in_dim %b, dims = [1] : (tensor<32xf32>) -> tensor<64x32xf32>
  %3 = stablehlo.add %1, %2 : tensor<64x32xf32>
  %4 = stablehlo.transpose %3, dims = [1, 0] : (tensor<64x32xf32>) -> tensor<32x64xf32>
  return %4 : tensor<32x64xf32>
}
