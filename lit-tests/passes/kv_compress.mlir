// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-kv-compress{min-elems=1 group=4})' | FileCheck %s
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-kv-compress{min-elems=1 group=4 scheme=int4})' | FileCheck %s --check-prefix=FOUR
// RUN: %icd-opt %s --pass-pipeline='builtin.module(icd-kv-compress{min-elems=1 group=4 scheme=fp8})' | FileCheck %s --check-prefix=FLOAT

// Codes, scales and least values are carried; of keys also the group that is being filled and its number.
// CHECK-LABEL: @keys
// CHECK: stablehlo.while({{.*}}) : tensor<i32>, tensor<2x8x4xui8>, tensor<2x2x4xf16>, tensor<2x2x4xf16>, tensor<2x4x4xf16>, tensor<i32>, tensor<2x8xf16>
// CHECK: stablehlo.dynamic_update_slice {{.*}} : (tensor<2x8x4xui8>, tensor<2x4x4xui8>
// FOUR-LABEL: @keys
// FOUR: stablehlo.while({{.*}}) : tensor<i32>, tensor<2x8x2xui8>, tensor<2x2x4xf16>, tensor<2x2x4xf16>, tensor<2x4x4xf16>, tensor<i32>, tensor<2x8xf16>
// FLOAT-LABEL: @keys
// FLOAT: stablehlo.while({{.*}}) : tensor<i32>, tensor<2x8x4xui8>, tensor<2x2x4xf16>, tensor<2x4x4xf16>, tensor<i32>, tensor<2x8xf16>
func.func @keys(%cache: tensor<2x8x4xf16>, %key: tensor<2x1x4xf16>, %query: tensor<2x4xf16>, %out: tensor<2x8xf16>) -> tensor<2x8xf16> {
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %count = stablehlo.constant dense<5> : tensor<i32>
  %0:3 = stablehlo.while(%t = %zero, %c = %cache, %o = %out) : tensor<i32>, tensor<2x8x4xf16>, tensor<2x8xf16>
  cond {
    %1 = stablehlo.compare LT, %t, %count, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %1 : tensor<i1>
  } do {
    %1 = stablehlo.dynamic_update_slice %c, %key, %zero, %t, %zero : (tensor<2x8x4xf16>, tensor<2x1x4xf16>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<2x8x4xf16>
    %2 = stablehlo.dot_general %query, %1, batching_dims = [0] x [0], contracting_dims = [1] x [2] : (tensor<2x4xf16>, tensor<2x8x4xf16>) -> tensor<2x8xf16>
    %3 = stablehlo.add %t, %one : tensor<i32>
    stablehlo.return %3, %1, %2 : tensor<i32>, tensor<2x8x4xf16>, tensor<2x8xf16>
  }
  return %0#2 : tensor<2x8xf16>
}

// What no product reads is no cache.
// CHECK-LABEL: @written_only
// CHECK: stablehlo.while({{.*}}) : tensor<i32>, tensor<8x4xf32>
func.func @written_only(%cache: tensor<8x4xf32>, %row: tensor<1x4xf32>) -> tensor<8x4xf32> {
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %count = stablehlo.constant dense<5> : tensor<i32>
  %0:2 = stablehlo.while(%t = %zero, %c = %cache) : tensor<i32>, tensor<8x4xf32>
  cond {
    %1 = stablehlo.compare LT, %t, %count, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %1 : tensor<i1>
  } do {
    %1 = stablehlo.dynamic_update_slice %c, %row, %t, %zero : (tensor<8x4xf32>, tensor<1x4xf32>, tensor<i32>, tensor<i32>) -> tensor<8x4xf32>
    %2 = stablehlo.add %t, %one : tensor<i32>
    stablehlo.return %2, %1 : tensor<i32>, tensor<8x4xf32>
  }
  return %0#1 : tensor<8x4xf32>
}

// Heads that share values are told apart by a broadcast and a reshape.
// CHECK-LABEL: @shared_values
// CHECK: stablehlo.while({{.*}}) : tensor<i32>, tensor<2x8x4xui8>, tensor<2x8x1xf32>, tensor<2x8x1xf32>, tensor<6x4xf32>
func.func @shared_values(%cache: tensor<2x8x4xf32>, %value: tensor<2x1x4xf32>, %p: tensor<6x8xf32>, %out: tensor<6x4xf32>) -> tensor<6x4xf32> {
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %count = stablehlo.constant dense<5> : tensor<i32>
  %0:3 = stablehlo.while(%t = %zero, %c = %cache, %o = %out) : tensor<i32>, tensor<2x8x4xf32>, tensor<6x4xf32>
  cond {
    %1 = stablehlo.compare LT, %t, %count, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %1 : tensor<i1>
  } do {
    %1 = stablehlo.dynamic_update_slice %c, %value, %zero, %t, %zero : (tensor<2x8x4xf32>, tensor<2x1x4xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<2x8x4xf32>
    %2 = stablehlo.broadcast_in_dim %1, dims = [0, 2, 3] : (tensor<2x8x4xf32>) -> tensor<2x3x8x4xf32>
    %3 = stablehlo.reshape %2 : (tensor<2x3x8x4xf32>) -> tensor<6x8x4xf32>
    %4 = stablehlo.dot_general %p, %3, batching_dims = [0] x [0], contracting_dims = [1] x [1] : (tensor<6x8xf32>, tensor<6x8x4xf32>) -> tensor<6x4xf32>
    %5 = stablehlo.add %t, %one : tensor<i32>
    stablehlo.return %5, %1, %4 : tensor<i32>, tensor<2x8x4xf32>, tensor<6x4xf32>
  }
  return %0#2 : tensor<6x4xf32>
}
