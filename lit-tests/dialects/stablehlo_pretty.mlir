// The short form of every family of operations, as StableHLO prints it, and that the generic form says the same.
// RUN: %icd-opt %s | FileCheck %s
// RUN: %icd-opt --mlir-print-op-generic %s | %icd-opt | FileCheck %s
// RUN: %icd-opt --emit-bytecode %s | %icd-opt | FileCheck %s

// CHECK-LABEL: @elementwise
func.func @elementwise(%a: tensor<2x3xf32>, %b: tensor<2x?xf32>, %c: tensor<2x3xcomplex<f32>>, %p: tensor<2x3xi1>) {
  // CHECK: stablehlo.add %arg0, %arg0 : tensor<2x3xf32>
  %0 = "stablehlo.add"(%a, %a) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: stablehlo.add %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x?xf32>) -> tensor<2x3xf32>
  %1 = stablehlo.add %a, %b : (tensor<2x3xf32>, tensor<2x?xf32>) -> tensor<2x3xf32>
  // CHECK: stablehlo.abs %arg2 : (tensor<2x3xcomplex<f32>>) -> tensor<2x3xf32>
  %2 = stablehlo.abs %c : (tensor<2x3xcomplex<f32>>) -> tensor<2x3xf32>
  // CHECK: stablehlo.complex %arg0, %arg0 : tensor<2x3xcomplex<f32>>
  %3 = stablehlo.complex %a, %a : tensor<2x3xcomplex<f32>>
  // CHECK: stablehlo.compare LT, %arg0, %arg0, TOTALORDER : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %4 = stablehlo.compare LT, %a, %a, TOTALORDER : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: stablehlo.select %arg3, %arg0, %arg0 : tensor<2x3xi1>, tensor<2x3xf32>
  %5 = stablehlo.select %p, %a, %a : tensor<2x3xi1>, tensor<2x3xf32>
  // CHECK: stablehlo.reduce_precision %arg0, format = e8m10 : tensor<2x3xf32>
  %6 = stablehlo.reduce_precision %a, format = e8m10 : tensor<2x3xf32>
  // CHECK: stablehlo.exponential %arg0 {result_accuracy = #stablehlo.result_accuracy<atol = 1.000000e-05, ulps = 2, mode = #stablehlo.result_accuracy_mode<TOLERANCE>>} : tensor<2x3xf32>
  %7 = stablehlo.exponential %a {result_accuracy = #stablehlo.result_accuracy<atol = 1.0e-5, rtol = 0.0, ulps = 2, mode = #stablehlo.result_accuracy_mode<TOLERANCE>>} : tensor<2x3xf32>
  return
}

// CHECK-LABEL: @shapes
func.func @shapes(%a: tensor<3x8xf32>, %i: tensor<i32>, %z: tensor<f32>) {
  // CHECK: stablehlo.slice %arg0 [1:3, 4:8:2] : (tensor<3x8xf32>) -> tensor<2x2xf32>
  %0 = stablehlo.slice %a [1:3:1, 4:8:2] : (tensor<3x8xf32>) -> tensor<2x2xf32>
  // CHECK: stablehlo.concatenate %arg0, %arg0, dim = 0 : (tensor<3x8xf32>, tensor<3x8xf32>) -> tensor<6x8xf32>
  %1 = stablehlo.concatenate %a, %a, dim = 0 : (tensor<3x8xf32>, tensor<3x8xf32>) -> tensor<6x8xf32>
  // CHECK: stablehlo.dynamic_slice %arg0, %arg1, %arg1, sizes = [1, 4] : (tensor<3x8xf32>, tensor<i32>, tensor<i32>) -> tensor<1x4xf32>
  %2 = stablehlo.dynamic_slice %a, %i, %i, sizes = [1, 4] : (tensor<3x8xf32>, tensor<i32>, tensor<i32>) -> tensor<1x4xf32>
  // CHECK: stablehlo.pad %arg0, %arg2, low = [0, 1], high = [0, -1], interior = [1, 0] : (tensor<3x8xf32>, tensor<f32>) -> tensor<5x8xf32>
  %3 = stablehlo.pad %a, %z, low = [0, 1], high = [0, -1], interior = [1, 0] : (tensor<3x8xf32>, tensor<f32>) -> tensor<5x8xf32>
  // CHECK: stablehlo.iota dim = 1 : tensor<3x8xi64>
  %4 = stablehlo.iota dim = 1 : tensor<3x8xi64>
  // CHECK: stablehlo.constant {note = "kept"} dense<1.000000e+00> : tensor<2xf32>
  %5 = stablehlo.constant {note = "kept"} dense<1.0> : tensor<2xf32>
  // CHECK: stablehlo.constant() <{value = dense<3> : tensor<1xi8>}> : () -> tensor<1x!quant.uniform<i8:f32, 2.000000e+00:15>>
  %6 = stablehlo.constant() <{value = dense<3> : tensor<1xi8>}> : () -> tensor<1x!quant.uniform<i8:f32, 2.0:15>>
  return
}

// CHECK-LABEL: @products
func.func @products(%a: tensor<2x3x4xf32>, %b: tensor<2x4x5xf32>, %x: tensor<1x8x8x3xf32>, %k: tensor<3x3x3x16xf32>) {
  // CHECK: stablehlo.dot_general %arg0, %arg1, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [HIGHEST, DEFAULT] : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
  %0 = stablehlo.dot_general %a, %b, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [HIGHEST, DEFAULT] : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
  // CHECK: algorithm = <lhs_precision_type = tf32, rhs_precision_type = tf32, accumulation_type = f32, lhs_component_count = 1, rhs_component_count = 1, num_primitive_operations = 1, allow_imprecise_accumulation = false>
  %1 = stablehlo.dot_general %a, %b, batching_dims = [0] x [0], contracting_dims = [2] x [1], algorithm = <lhs_precision_type = tf32, rhs_precision_type = tf32, accumulation_type = f32, lhs_component_count = 1, rhs_component_count = 1, num_primitive_operations = 1, allow_imprecise_accumulation = false> : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
  // CHECK: stablehlo.convolution(%arg2, %arg3) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = {stride = [2, 1], pad = {{\[\[}}0, 1], [1, 1]], reverse = [true, false]} {batch_group_count = 1 : i64, feature_group_count = 1 : i64} : (tensor<1x8x8x3xf32>, tensor<3x3x3x16xf32>) -> tensor<1x4x8x16xf32>
  %2 = stablehlo.convolution(%x, %k) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = {stride = [2, 1], pad = [[0, 1], [1, 1]], reverse = [true, false]} {batch_group_count = 1 : i64, feature_group_count = 1 : i64} : (tensor<1x8x8x3xf32>, tensor<3x3x3x16xf32>) -> tensor<1x4x8x16xf32>
  return
}

// CHECK-LABEL: @regions
func.func @regions(%a: tensor<2x3xf32>, %i: tensor<2x3xi32>, %z: tensor<f32>, %j: tensor<i32>) {
  // CHECK: stablehlo.reduce(%arg0 init: %arg2) applies stablehlo.maximum across dimensions = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
  %0 = stablehlo.reduce(%a init: %z) applies stablehlo.maximum across dimensions = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
  // CHECK: stablehlo.reduce(%arg0 init: %arg2), (%arg1 init: %arg3) across dimensions = [1]
  // CHECK-NEXT: reducer(%arg4: tensor<f32>, %arg6: tensor<f32>) (%arg5: tensor<i32>, %arg7: tensor<i32>) {
  %1:2 = stablehlo.reduce(%a init: %z), (%i init: %j) across dimensions = [1] : (tensor<2x3xf32>, tensor<2x3xi32>, tensor<f32>, tensor<i32>) -> (tensor<2xf32>, tensor<2xi32>)
   reducer(%e: tensor<f32>, %g: tensor<f32>) (%f: tensor<i32>, %h: tensor<i32>) {
    stablehlo.return %g, %f : tensor<f32>, tensor<i32>
  }
  // CHECK: stablehlo.while(%iterArg = %arg3) : tensor<i32>
  // CHECK-NEXT: cond {
  // CHECK: } do {
  %2 = stablehlo.while(%iterArg = %j) : tensor<i32>
  cond {
    %t = stablehlo.compare LT, %iterArg, %j, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %t : tensor<i1>
  } do {
    stablehlo.return %iterArg : tensor<i32>
  }
  return
}

// CHECK-LABEL: @calls
func.func @calls(%a: tensor<?x4xf32, #stablehlo.bounds<16, ?>>, %t: !stablehlo.token) attributes {mhlo.kept = 1 : i32} {
  // CHECK: stablehlo.custom_call @"not-a-word"(%arg0) {backend_config = "bar", has_side_effect = true} : (tensor<?x4xf32, #stablehlo.bounds<16, ?>>) -> tensor<f32>
  %0 = stablehlo.custom_call @"not-a-word"(%a) {backend_config = "bar", has_side_effect = true} : (tensor<?x4xf32, #stablehlo.type_extensions<bounds = [16, ?]>>) -> tensor<f32>
  // CHECK: stablehlo.after_all %arg1, %arg1 : !stablehlo.token
  %1 = stablehlo.after_all %t, %t : !stablehlo.token
  // CHECK: stablehlo.optimization_barrier %0, %1 : tensor<f32>, !stablehlo.token
  %2:2 = stablehlo.optimization_barrier %0, %1 : tensor<f32>, !stablehlo.token
  return
}
