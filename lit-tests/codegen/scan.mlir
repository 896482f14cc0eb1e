// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-simplify,icd-fuse)' --emit=ptx --targets=sm_90a -o - | FileCheck %s

// A loop whose channels never read each other is one kernel: no predicate is computed, and no other kernel is left.
// CHECK-COUNT-1: .entry
// CHECK-SAME: scan_20x64
// CHECK-NOT: .entry
module {
  func.func public @main(%x: tensor<20x64xf32>, %decay: tensor<64x4xf32>) -> tensor<20x64xf32> {
    %zero = stablehlo.constant dense<0> : tensor<i32>
    %state = stablehlo.constant dense<0.0> : tensor<64x4xf32>
    %rows = stablehlo.constant dense<0.0> : tensor<20x64xf32>
    %r:3 = stablehlo.while(%t = %zero, %h = %state, %y = %rows) : tensor<i32>, tensor<64x4xf32>, tensor<20x64xf32>
    cond {
      %last = stablehlo.constant dense<20> : tensor<i32>
      %more = stablehlo.compare LT, %t, %last, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %more : tensor<i1>
    } do {
      %row = stablehlo.dynamic_slice %x, %t, %zero, sizes = [1, 64] : (tensor<20x64xf32>, tensor<i32>, tensor<i32>) -> tensor<1x64xf32>
      %in = stablehlo.reshape %row : (tensor<1x64xf32>) -> tensor<64xf32>
      %wide = stablehlo.broadcast_in_dim %in, dims = [0] : (tensor<64xf32>) -> tensor<64x4xf32>
      %kept = stablehlo.multiply %h, %decay : tensor<64x4xf32>
      %next = stablehlo.add %kept, %wide : tensor<64x4xf32>
      %init = stablehlo.constant dense<0.0> : tensor<f32>
      %sum = stablehlo.reduce(%next init: %init) applies stablehlo.add across dimensions = [1] : (tensor<64x4xf32>, tensor<f32>) -> tensor<64xf32>
      %out = stablehlo.reshape %sum : (tensor<64xf32>) -> tensor<1x64xf32>
      %written = stablehlo.dynamic_update_slice %y, %out, %t, %zero : (tensor<20x64xf32>, tensor<1x64xf32>, tensor<i32>, tensor<i32>) -> tensor<20x64xf32>
      %one = stablehlo.constant dense<1> : tensor<i32>
      %count = stablehlo.add %t, %one : tensor<i32>
      stablehlo.return %count, %next, %written : tensor<i32>, tensor<64x4xf32>, tensor<20x64xf32>
    }
    return %r#2 : tensor<20x64xf32>
  }
}
