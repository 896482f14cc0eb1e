// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w4a16 group=2 min-elems=1})' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w8a16 group=0 asym=true min-elems=1})' | FileCheck %s --check-prefix=ASYM
// RUN: not %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w5a16})' 2>&1 | FileCheck %s --check-prefix=BAD

// BAD: w4a16|w8a16

// The largest magnitude of a group of two rows is 7.5 steps; codes are clamped to 7.
// CHECK-LABEL: @weights
// CHECK-DAG: dense<{{\[\[}}7, 2], [-8, 7]]> : tensor<2x2xi4>
// CHECK-DAG: tensor<1x2xf16>
// CHECK: icd.quantized_dot
// CHECK-NOT: stablehlo.dot_general
// ASYM-LABEL: @weights
// ASYM-DAG: tensor<2x2xui8>
// ASYM: icd.quantized_dot
func.func @weights(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = stablehlo.constant dense<[[15.0, 1.0], [-15.0, 3.75]]> : tensor<2x2xf32>
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<3x2xf32>, tensor<2x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: @activations_stay
// CHECK: stablehlo.dot_general %arg0, %arg1
func.func @activations_stay(%x: tensor<3x2xf32>, %y: tensor<2x2xf32>) -> tensor<3x2xf32> {
  %0 = stablehlo.dot_general %x, %y, contracting_dims = [1] x [0] : (tensor<3x2xf32>, tensor<2x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}
