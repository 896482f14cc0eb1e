// RUN: %icd-opt %s --split-input-file --verify-diagnostics

func.func @add(%a: tensor<2xf32>, %b: tensor<3xf32>) {
  // expected-error @+1 {{all non-scalar operands/results must have the same shape and base type}}
  %0 = "stablehlo.add"(%a, %b) : (tensor<2xf32>, tensor<3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @dot(%a: tensor<2x3xf32>, %b: tensor<4x5xf32>) {
  // expected-error @+1 {{contracting dimension sizes must match for lhs/rhs}}
  %0 = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0] : (tensor<2x3xf32>, tensor<4x5xf32>) -> tensor<2x5xf32>
  return
}

// -----

func.func @dot_result(%a: tensor<2x3xf32>, %b: tensor<3x5xf32>) {
  // expected-error @+1 {{inferred shape '[2, 5]' is incompatible with return type of operation 'tensor<2x6xf32>'}}
  %0 = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0] : (tensor<2x3xf32>, tensor<3x5xf32>) -> tensor<2x6xf32>
  return
}

// -----

func.func @reshape(%a: tensor<2x3xf32>) {
  // expected-error @+1 {{number of output elements (8) doesn't match expected number of elements (6)}}
  %0 = stablehlo.reshape %a : (tensor<2x3xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @transpose(%a: tensor<2x3xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{attribute permutation must be a permutation of [0, 1] but got 0, 0}}
  %0 = stablehlo.transpose %a, dims = [0, 0] : (tensor<2x3xf32>) -> tensor<2x2xf32>
  return
}

// -----

func.func @reduce(%a: tensor<2x3xf32>, %z: tensor<i32>) {
  // expected-error @+1 {{The element-type of reduction-region's result type at index 0 is expected to be promotable}}
  %0 = stablehlo.reduce(%a init: %z) applies stablehlo.add across dimensions = [1] : (tensor<2x3xf32>, tensor<i32>) -> tensor<2xf32>
  return
}

// -----

func.func @slice_overflow(%a: tensor<2xf32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{limit index 9223372036854775807 is larger than dimension size 2 in dimension 0}}
  %0 = stablehlo.slice %a [0:9223372036854775807] : (tensor<2xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @pad_overflow(%a: tensor<2xf32>, %z: tensor<f32>) {
  // expected-error @+2 {{failed to infer returned types}}
  // expected-error @+1 {{Padding result is too large in dimension 0}}
  %0 = stablehlo.pad %a, %z, low = [9223372036854775807], high = [1], interior = [0] : (tensor<2xf32>, tensor<f32>) -> tensor<1xf32>
  return
}

// -----

func.func @quantized_dot(%x: tensor<4x64xf32>, %c: tensor<64x8xi4>, %s: tensor<1x8xf32>) {
  // expected-error @+1 {{scales must be 2x8 floats for groups of 32 rows, but are 'tensor<1x8xf32>'}}
  %0 = icd.quantized_dot %x, %c, %s {bits = 4 : i64, group_size = 32 : i64} : (tensor<4x64xf32>, tensor<64x8xi4>, tensor<1x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @channel_map(%x: tensor<4x3xf32>) {
  // expected-error @+1 {{'permutation' must hold each of 0..3 once}}
  %0 = icd.channel_map %x {axis = 1 : i64, kind = "permutation", permutation = array<i64: 0, 1, 1>} : tensor<4x3xf32>
  return
}
