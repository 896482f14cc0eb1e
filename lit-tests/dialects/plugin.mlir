// Dialects and passes in a stock mlir-opt, and options that are wrong.
// RUN: %mlir-opt --load-dialect-plugin=%plugin --load-pass-plugin=%plugin --pass-pipeline='builtin.module(icd-simplify,cse)' %s | FileCheck %s
// RUN: not %mlir-opt --load-dialect-plugin=%plugin --load-pass-plugin=%plugin --pass-pipeline='builtin.module(icd-quantize{group=x})' %s 2>&1 | FileCheck %s --check-prefix=BAD

// CHECK: stablehlo.add %arg0, %arg0 : tensor<2xf32>
// BAD: icd-quantize: option 'group' of pass 'icd-quantize': 'x' is not an unsigned integer
func.func @main(%a: tensor<2xf32>) -> tensor<2xf32> {
  %0 = stablehlo.transpose %a, dims = [0] : (tensor<2xf32>) -> tensor<2xf32>
  %1 = stablehlo.add %0, %a : tensor<2xf32>
  return %1 : tensor<2xf32>
}
