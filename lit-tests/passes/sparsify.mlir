// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-sparsify{min-elems=1})' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-sparsify{min-elems=1 pattern=1:4})' | FileCheck %s --check-prefix=ONE
// RUN: not %icd-opt %s --pass-pipeline='builtin.module(icd-sparsify{min-elems=1 method=wanda})' 2>&1 | FileCheck %s --check-prefix=WANDA

// WANDA: wanda needs calibration

// Two of four rows stay in every column.
// CHECK-LABEL: @weights
// CHECK: dense<{{\[\[}}4.000000e+00, 0.000000e+00], [0.000000e+00, 2.000000e+00], [-3.000000e+00, 0.000000e+00], [0.000000e+00, -5.000000e+00]]>
// ONE-LABEL: @weights
// ONE: dense<{{\[\[}}4.000000e+00, 0.000000e+00], [0.000000e+00, 0.000000e+00], [0.000000e+00, 0.000000e+00], [0.000000e+00, -5.000000e+00]]>
func.func @weights(%x: tensor<3x4xf32>) -> tensor<3x2xf32> {
  %w = stablehlo.constant dense<[[4.0, 0.5], [1.0, 2.0], [-3.0, -1.0], [2.0, -5.0]]> : tensor<4x2xf32>
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: @activations_stay
// CHECK: stablehlo.dot_general %arg0, %arg1
func.func @activations_stay(%x: tensor<3x4xf32>, %y: tensor<4x2xf32>) -> tensor<3x2xf32> {
  %0 = stablehlo.dot_general %x, %y, contracting_dims = [1] x [0] : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}
