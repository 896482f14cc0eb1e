// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-repermute)' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-sparsify{min-elems=1},icd-repermute{objective=two-four})' | FileCheck %s --check-prefix=AGAIN
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-repermute{objective=channels})' | FileCheck %s --check-prefix=DROP

// The producer's columns take the gather up.
// CHECK-LABEL: @folds
// CHECK: dense<{{\[\[}}3.000000e+00, 1.000000e+00, 4.000000e+00, 2.000000e+00]]>
// CHECK-NOT: icd.channel_map
// CHECK: return
func.func @folds(%x: tensor<3x1xf32>, %w: tensor<4x2xf32>) -> tensor<3x2xf32> {
  %up = stablehlo.constant dense<[[1.0, 2.0, 3.0, 4.0]]> : tensor<1x4xf32>
  %codes = stablehlo.constant dense<1> : tensor<4x2xi4>
  %scales = stablehlo.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf16>
  %h = stablehlo.dot_general %x, %up, contracting_dims = [1] x [0] : (tensor<3x1xf32>, tensor<1x4xf32>) -> tensor<3x4xf32>
  %g = stablehlo.tanh %h : tensor<3x4xf32>
  %p = icd.channel_map %g {axis = 1 : i64, kind = "permutation", permutation = array<i64: 2, 0, 3, 1>} : tensor<3x4xf32>
  %y = icd.quantized_dot %p, %codes, %scales {bits = 4 : i64, group_size = 2 : i64} : (tensor<3x4xf32>, tensor<4x2xi4>, tensor<2x2xf16>) -> tensor<3x2xf32>
  return %y : tensor<3x2xf32>
}

// A parameter pins its channels: the gather stays.
// CHECK-LABEL: @stays
// CHECK: icd.channel_map %arg0
func.func @stays(%x: tensor<3x4xf32>) -> tensor<3x2xf32> {
  %codes = stablehlo.constant dense<1> : tensor<4x2xi4>
  %scales = stablehlo.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf16>
  %p = icd.channel_map %x {axis = 1 : i64, kind = "permutation", permutation = array<i64: 2, 0, 3, 1>} : tensor<3x4xf32>
  %y = icd.quantized_dot %p, %codes, %scales {bits = 4 : i64, group_size = 2 : i64} : (tensor<3x4xf32>, tensor<4x2xi4>, tensor<2x2xf16>) -> tensor<3x2xf32>
  return %y : tensor<3x2xf32>
}

// Pruned as it lies the second weight keeps two of the four large rows; pruned again in a better order it keeps all.
// AGAIN-LABEL: @pruned
// AGAIN-COUNT-4: [9.000000e+00]
func.func @pruned(%x: tensor<3x1xf32>) -> tensor<3x1xf32> {
  %w1 = stablehlo.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]> : tensor<1x8xf32>
  %w2 = stablehlo.constant dense<[[9.0], [9.0], [9.0], [9.0], [1.0], [1.0], [1.0], [1.0]]> : tensor<8x1xf32>
  %h = stablehlo.dot_general %x, %w1, contracting_dims = [1] x [0] : (tensor<3x1xf32>, tensor<1x8xf32>) -> tensor<3x8xf32>
  %g = stablehlo.tanh %h : tensor<3x8xf32>
  %y = stablehlo.dot_general %g, %w2, contracting_dims = [1] x [0] : (tensor<3x8xf32>, tensor<8x1xf32>) -> tensor<3x1xf32>
  return %y : tensor<3x1xf32>
}

// Every other hidden channel is multiplied by 0 only: they leave.
// DROP-LABEL: @silent
// DROP: tensor<1x16xf32>
// DROP: tensor<16x1xf32>
// DROP: stablehlo.tanh {{.*}} : tensor<3x16xf32>
func.func @silent(%x: tensor<3x1xf32>) -> tensor<3x1xf32> {
  %w1 = stablehlo.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0, 31.0, 32.0]]> : tensor<1x32xf32>
  %w2 = stablehlo.constant dense<[[1.0], [0.0], [3.0], [0.0], [5.0], [0.0], [7.0], [0.0], [9.0], [0.0], [11.0], [0.0], [13.0], [0.0], [15.0], [0.0], [17.0], [0.0], [19.0], [0.0], [21.0], [0.0], [23.0], [0.0], [25.0], [0.0], [27.0], [0.0], [29.0], [0.0], [31.0], [0.0]]> : tensor<32x1xf32>
  %h = stablehlo.dot_general %x, %w1, contracting_dims = [1] x [0] : (tensor<3x1xf32>, tensor<1x32xf32>) -> tensor<3x32xf32>
  %g = stablehlo.tanh %h : tensor<3x32xf32>
  %y = stablehlo.dot_general %g, %w2, contracting_dims = [1] x [0] : (tensor<3x32xf32>, tensor<32x1xf32>) -> tensor<3x1xf32>
  return %y : tensor<3x1xf32>
}

// The hidden layer is a result too: its channels stay.
// DROP-LABEL: @seen
// DROP: stablehlo.tanh {{.*}} : tensor<3x32xf32>
func.func @seen(%x: tensor<3x1xf32>) -> (tensor<3x1xf32>, tensor<3x32xf32>) {
  %w1 = stablehlo.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0, 31.0, 32.0]]> : tensor<1x32xf32>
  %w2 = stablehlo.constant dense<[[1.0], [0.0], [3.0], [0.0], [5.0], [0.0], [7.0], [0.0], [9.0], [0.0], [11.0], [0.0], [13.0], [0.0], [15.0], [0.0], [17.0], [0.0], [19.0], [0.0], [21.0], [0.0], [23.0], [0.0], [25.0], [0.0], [27.0], [0.0], [29.0], [0.0], [31.0], [0.0]]> : tensor<32x1xf32>
  %h = stablehlo.dot_general %x, %w1, contracting_dims = [1] x [0] : (tensor<3x1xf32>, tensor<1x32xf32>) -> tensor<3x32xf32>
  %g = stablehlo.tanh %h : tensor<3x32xf32>
  %y = stablehlo.dot_general %g, %w2, contracting_dims = [1] x [0] : (tensor<3x32xf32>, tensor<32x1xf32>) -> tensor<3x1xf32>
  return %y, %g : tensor<3x1xf32>, tensor<3x32xf32>
}
