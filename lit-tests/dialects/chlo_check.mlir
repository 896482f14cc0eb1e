// RUN: %icd-opt %s | FileCheck %s
// RUN: %icd-opt --mlir-print-op-generic %s | %icd-opt | FileCheck %s

// CHECK-LABEL: @chlo
func.func @chlo(%a: tensor<4x8xf32>) {
  // CHECK: chlo.erfc %arg0 : tensor<4x8xf32> -> tensor<4x8xf32>
  %0 = chlo.erfc %a : tensor<4x8xf32> -> tensor<4x8xf32>
  // CHECK: chlo.top_k(%arg0, k = 2) : tensor<4x8xf32> -> (tensor<4x2xf32>, tensor<4x2xi32>)
  %1:2 = chlo.top_k(%a, k = 2) : tensor<4x8xf32> -> (tensor<4x2xf32>, tensor<4x2xi32>)
  // CHECK: chlo.broadcast_add %arg0, %arg0 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %2 = chlo.broadcast_add %a, %a : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// CHECK-LABEL: @check
func.func @check(%a: tensor<2xf64>) {
  // CHECK: check.expect_almost_eq %arg0, %arg0, tolerance = 1.000000e-01 : tensor<2xf64>
  check.expect_almost_eq %a, %a, tolerance = 0.1 : tensor<2xf64>
  // CHECK: check.expect_eq_const %arg0, dense<1.000000e+00> : tensor<2xf64>
  check.expect_eq_const %a, dense<1.0> : tensor<2xf64>
  // CHECK: check.expect_close %arg0, %arg0, max_ulp_difference = 5 : tensor<2xf64>, tensor<2xf64>
  check.expect_close %a, %a, max_ulp_difference = 5 : tensor<2xf64>, tensor<2xf64>
  // CHECK: interpreter.probe %arg0, probe_id = "p" : tensor<2xf64>
  %0 = interpreter.probe %a, probe_id = "p" : tensor<2xf64>
  // CHECK: check.expect_serialized_eq %arg0, probe_id = "p", iter = 1 : tensor<2xf64>
  check.expect_serialized_eq %a, probe_id = "p", iter = 1 : tensor<2xf64>
  return
}
