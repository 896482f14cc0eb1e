// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w8a8 group=0 min-elems=1})' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w8a8 group=0 min-elems=1},icd-pack)' | FileCheck %s --check-prefix=PACK
// RUN: not %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w8a8 min-elems=1})' 2>&1 | FileCheck %s --check-prefix=GROUP
// RUN: not %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w4a16 preprocess=smoothquant})' 2>&1 | FileCheck %s --check-prefix=KEPT
// RUN: not %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w4a8 preprocess=smoothquant min-elems=1})' 2>&1 | FileCheck %s --check-prefix=UNSEEN

// GROUP: option 'group' of pass 'icd-quantize': '128' is not 0, which scheme=w8a8 needs
// KEPT: option 'preprocess' of pass 'icd-quantize': 'smoothquant' is not none
// UNSEEN: smoothquant needs calibration: there are no statistics of its activations; run icd-calibrate before

// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w8a8 group=0 min-elems=8})' 2>&1 | FileCheck %s --check-prefix=WIDE

// WIDE: stays as it is: a sum of 131073 products of 8-bit integers may exceed 32 bits

// CHECK-LABEL: @main
// CHECK: stablehlo.reduce
// CHECK: %[[R:.*]] = stablehlo.round_nearest_even
// CHECK: %[[Q:.*]] = stablehlo.convert %[[R]] : (tensor<3x2xf32>) -> tensor<3x2xi8>
// CHECK: %[[Y:.*]] = icd.quantized_dot %[[Q]], {{.*}} {bits = 8 : i64, group_size = 2 : i64} : (tensor<3x2xi8>, tensor<2x2xi8>, tensor<1x2xf16>) -> tensor<3x2xf32>
// CHECK: %[[S:.*]] = stablehlo.broadcast_in_dim {{.*}} : (tensor<3xf32>) -> tensor<3x2xf32>
// CHECK: stablehlo.multiply %[[Y]], %[[S]]

// PACK: %[[Y:.*]] = icd.packed_dot
// PACK: %[[C:.*]] = stablehlo.broadcast_in_dim {{.*}} : (tensor<2xf32>) -> tensor<3x2xf32>
// PACK: %[[Z:.*]] = stablehlo.multiply %[[Y]], %[[C]]
// PACK: %[[S:.*]] = stablehlo.broadcast_in_dim {{.*}} : (tensor<3xf32>) -> tensor<3x2xf32>
// PACK: stablehlo.multiply %[[Z]], %[[S]]
func.func @main(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = stablehlo.constant dense<[[15.0, 1.0], [-15.0, 3.75]]> : tensor<2x2xf32>
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<3x2xf32>, tensor<2x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

func.func private @wide(%x: tensor<1x131073xf32>) -> tensor<1x1xf32> {
  %w = stablehlo.constant dense<1.0> : tensor<131073x1xf32>
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<1x131073xf32>, tensor<131073x1xf32>) -> tensor<1x1xf32>
  return %0 : tensor<1x1xf32>
}
