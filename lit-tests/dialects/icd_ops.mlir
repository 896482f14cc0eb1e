// RUN: %icd-opt %s | FileCheck %s
// RUN: %icd-opt --mlir-print-op-generic %s | %icd-opt | FileCheck %s

// CHECK-LABEL: @ops
func.func @ops(%x: tensor<4x64xf32>) -> tensor<4x8xf32> {
  // CHECK: %[[C:.*]] = icd.weight "codes" : tensor<64x8xi4>
  %c = icd.weight "codes" : tensor<64x8xi4>
  %s = icd.weight "scales" : tensor<2x8xf32>
  // CHECK: icd.channel_map %arg0 {axis = 1 : i64, block = 16 : i64, kind = "hadamard", seed = 7 : i64} : tensor<4x64xf32>
  %h = icd.channel_map %x {axis = 1 : i64, kind = "hadamard", block = 16 : i64, seed = 7 : i64} : tensor<4x64xf32>
  %u = icd.channel_unmap %h {axis = 1 : i64, kind = "hadamard", block = 16 : i64, seed = 7 : i64} : tensor<4x64xf32>
  // CHECK: icd.fusion "dot" (%[[A:.*]] = %{{.*}} : tensor<4x64xf32>, %{{.*}} = %[[C]] : tensor<64x8xi4>, %{{.*}} = %{{.*}} : tensor<2x8xf32>) -> tensor<4x8xf32> {
  %r = icd.fusion "dot" (%a = %u : tensor<4x64xf32>, %b = %c : tensor<64x8xi4>, %d = %s : tensor<2x8xf32>) -> tensor<4x8xf32> {
    // CHECK: icd.quantized_dot %[[A]], {{.*}} {bits = 4 : i64, group_size = 32 : i64} : (tensor<4x64xf32>, tensor<64x8xi4>, tensor<2x8xf32>) -> tensor<4x8xf32>
    %q = icd.quantized_dot %a, %b, %d {bits = 4 : i64, group_size = 32 : i64} : (tensor<4x64xf32>, tensor<64x8xi4>, tensor<2x8xf32>) -> tensor<4x8xf32>
    // CHECK: icd.yield %{{.*}} : tensor<4x8xf32>
    icd.yield %q : tensor<4x8xf32>
  }
  return %r : tensor<4x8xf32>
}
