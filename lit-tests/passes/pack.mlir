// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w4a16 group=32 min-elems=1},icd-pack{arch=sm_90a})' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-quantize{scheme=w8a16 group=0 asym=true min-elems=1},icd-pack{arch=sm_90a})' 2>&1 | FileCheck %s --check-prefix=LEFT

// One tile of 16 columns by 128 rows holds the whole matrix.
// CHECK: icd.packed_dot
// CHECK-NOT: icd.quantized_dot
// LEFT: not packed: 8 bits; the packed format has 4, or 8 with one scale a column and no zero points
// LEFT: icd.quantized_dot
func.func @main(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = stablehlo.constant dense<[[15.0, 1.0], [-15.0, 3.75]]> : tensor<2x2xf32>
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (tensor<3x2xf32>, tensor<2x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}
