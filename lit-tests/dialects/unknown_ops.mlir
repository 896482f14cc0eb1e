// Operations of dialects that nobody registered, and what upstream passes know of ours.
// RUN: %icd-opt %s --cse --canonicalize | FileCheck %s

// CHECK-LABEL: @unknown
func.func @unknown(%a: tensor<2xf32>) -> tensor<2xf32> {
  // CHECK: "foo.bar"(%arg0) {sdy.sharding = "x"} : (tensor<2xf32>) -> tensor<2xf32>
  %0 = "foo.bar"(%a) {sdy.sharding = "x"} : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// CHECK-LABEL: @pure
func.func @pure(%a: tensor<2xf32>) -> tensor<2xf32> {
  // CHECK-COUNT-1: stablehlo.tanh
  // CHECK-NOT: stablehlo.tanh
  %0 = stablehlo.tanh %a : tensor<2xf32>
  %1 = stablehlo.tanh %a : tensor<2xf32>
  %dead = stablehlo.sine %a : tensor<2xf32>
  // CHECK-NOT: stablehlo.sine
  %2 = stablehlo.add %0, %1 : tensor<2xf32>
  return %2 : tensor<2xf32>
}

// CHECK-LABEL: @effect
func.func @effect(%a: tensor<2xf32>) {
  // CHECK-NOT: @forgotten
  %0 = stablehlo.custom_call @forgotten(%a) : (tensor<2xf32>) -> tensor<2xf32>
  // CHECK: stablehlo.custom_call @kept
  %1 = stablehlo.custom_call @kept(%a) {has_side_effect = true} : (tensor<2xf32>) -> tensor<2xf32>
  return
}
