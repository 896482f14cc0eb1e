// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-permute{objective=two-four})' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-permute{objective=none})' | FileCheck %s --check-prefix=NONE
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-permute{objective=random seed=1 scope=all})' | FileCheck %s --check-prefix=ALL
// RUN: not %icd-opt %s --pass-pipeline='builtin.module(icd-permute{objective=best})' 2>&1 | FileCheck %s --check-prefix=BAD

// BAD: two-four|group|random|none

// 2:4 keeps all four large rows only if two of them lie in each group of four: columns of the first weight move with rows of the second.
// CHECK-LABEL: @hidden
// CHECK-NOT: [9.000000e+00], [9.000000e+00], [9.000000e+00]
// CHECK: stablehlo.dot_general
// CHECK: stablehlo.tanh
// CHECK: stablehlo.dot_general
// NONE-LABEL: @hidden
// NONE: [9.000000e+00], [9.000000e+00], [9.000000e+00], [9.000000e+00]
func.func @hidden(%x: tensor<3x2xf32>) -> tensor<3x1xf32> {
  %w1 = stablehlo.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]> : tensor<2x8xf32>
  %w2 = stablehlo.constant dense<[[9.0], [9.0], [9.0], [9.0], [1.0], [1.0], [1.0], [1.0]]> : tensor<8x1xf32>
  %h = stablehlo.dot_general %x, %w1, contracting_dims = [1] x [0] : (tensor<3x2xf32>, tensor<2x8xf32>) -> tensor<3x8xf32>
  %g = stablehlo.tanh %h : tensor<3x8xf32>
  %y = stablehlo.dot_general %g, %w2, contracting_dims = [1] x [0] : (tensor<3x8xf32>, tensor<8x1xf32>) -> tensor<3x1xf32>
  return %y : tensor<3x1xf32>
}

// The parameter pins its channels; scope=all moves them behind an explicit map.
// CHECK-LABEL: @pinned
// CHECK-NOT: icd.channel_map
// CHECK: return
// ALL-LABEL: @pinned
// ALL: %[[X:.*]] = icd.channel_map %arg0
// ALL: stablehlo.dot_general %[[X]]
func.func @pinned(%x: tensor<3x8xf32>) -> tensor<3x2xf32> {
  %w = stablehlo.constant dense<[[9.0, 1.0], [9.0, 2.0], [9.0, 3.0], [9.0, 4.0], [1.0, 5.0], [1.0, 6.0], [1.0, 7.0], [1.0, 8.0]]> : tensor<8x2xf32>
  %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<3x8xf32>, tensor<8x2xf32>) -> tensor<3x2xf32>
  return %y : tensor<3x2xf32>
}
