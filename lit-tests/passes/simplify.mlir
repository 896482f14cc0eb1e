// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-simplify)' | FileCheck %s

// CHECK-LABEL: func.func public @inlines_and_folds
// CHECK-NOT: call
// CHECK: %[[C:.+]] = stablehlo.constant dense<6.000000e+00> : tensor<4xf32>
// CHECK: %[[M:.+]] = stablehlo.multiply %arg0, %[[C]]
// CHECK: return %[[M]]
func.func public @inlines_and_folds(%x: tensor<4xf32>) -> tensor<4xf32> {
  %two = stablehlo.constant dense<2.0> : tensor<f32>
  %three = stablehlo.constant dense<3.0> : tensor<f32>
  %six = stablehlo.multiply %two, %three : tensor<f32>
  %0 = call @scale(%x, %six) : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// CHECK-NOT: @scale
func.func private @scale(%x: tensor<4xf32>, %s: tensor<f32>) -> tensor<4xf32> {
  %0 = stablehlo.broadcast_in_dim %s, dims = [] : (tensor<f32>) -> tensor<4xf32>
  %1 = stablehlo.multiply %x, %0 : tensor<4xf32>
  return %1 : tensor<4xf32>
}

// CHECK-LABEL: func.func public @transposes_cancel
// CHECK-NEXT: return %arg0
func.func public @transposes_cancel(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %0 = stablehlo.transpose %x, dims = [2, 0, 1] : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
  %1 = stablehlo.transpose %0, dims = [1, 2, 0] : (tensor<4x2x3xf32>) -> tensor<2x3x4xf32>
  return %1 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func public @a_product_absorbs_the_transpose
// CHECK-NOT: transpose
// CHECK: stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [1]
func.func public @a_product_absorbs_the_transpose(%x: tensor<2x3xf32>, %w: tensor<5x3xf32>) -> tensor<2x5xf32> {
  %0 = stablehlo.transpose %w, dims = [1, 0] : (tensor<5x3xf32>) -> tensor<3x5xf32>
  %1 = stablehlo.dot_general %x, %0, contracting_dims = [1] x [0] : (tensor<2x3xf32>, tensor<3x5xf32>) -> tensor<2x5xf32>
  return %1 : tensor<2x5xf32>
}

// x + 0 turns -0 into +0, so it stays; x - 0 does not.
// CHECK-LABEL: func.func public @only_exact_identities
// CHECK: %[[S:.+]] = stablehlo.add
// CHECK-NEXT: return %[[S]]
func.func public @only_exact_identities(%x: tensor<4xf32>) -> tensor<4xf32> {
  %zero = stablehlo.constant dense<0.0> : tensor<4xf32>
  %0 = stablehlo.subtract %x, %zero : tensor<4xf32>
  %1 = stablehlo.add %0, %zero : tensor<4xf32>
  return %1 : tensor<4xf32>
}

// CHECK-LABEL: func.func public @equal_operations_merge
// CHECK: %[[T:.+]] = stablehlo.tanh %arg0
// CHECK-NEXT: %[[A:.+]] = stablehlo.add %[[T]], %[[T]]
// CHECK-NEXT: return %[[A]]
func.func public @equal_operations_merge(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = stablehlo.tanh %x : tensor<4xf32>
  %1 = stablehlo.tanh %x : tensor<4xf32>
  %dead = stablehlo.sine %x : tensor<4xf32>
  %2 = stablehlo.add %0, %1 : tensor<4xf32>
  return %2 : tensor<4xf32>
}
