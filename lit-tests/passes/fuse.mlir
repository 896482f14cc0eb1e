// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-fuse)' | FileCheck %s

// CHECK-LABEL: @product_bias_activation
// CHECK-NOT: stablehlo
// CHECK: icd.fusion
// CHECK: stablehlo.dot_general
// CHECK: stablehlo.broadcast_in_dim
// CHECK: stablehlo.add
// CHECK: stablehlo.tanh
// CHECK: return
func.func @product_bias_activation(%x: tensor<4x2xf32>, %w: tensor<2x3xf32>, %b: tensor<3xf32>) -> tensor<4x3xf32> {
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<4x2xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  %1 = stablehlo.broadcast_in_dim %b, dims = [1] : (tensor<3xf32>) -> tensor<4x3xf32>
  %2 = stablehlo.add %0, %1 : tensor<4x3xf32>
  %3 = stablehlo.tanh %2 : tensor<4x3xf32>
  return %3 : tensor<4x3xf32>
}

// CHECK-LABEL: @a_lone_operation_stays
// CHECK-NOT: icd.fusion
// CHECK: stablehlo.tanh
func.func @a_lone_operation_stays(%x: tensor<4x2xf32>) -> tensor<4x2xf32> {
  %0 = stablehlo.tanh %x : tensor<4x2xf32>
  return %0 : tensor<4x2xf32>
}
