// The dialects of this project, for a registry.
#include "Shim.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Quant/IR/Quant.h"
#include "mlir/IR/DialectRegistry.h"

#include "Check.h"
#include "Chlo.h"
#include "Icd.h"
#include "Stablehlo.h"
#include "Vhlo.h"

extern "C" void icdRegisterDialects(MlirDialectRegistry registry) {
  unwrap(registry)->insert<mlir::func::FuncDialect, mlir::quant::QuantDialect, icd::stablehlo::StablehloDialect, icd::chlo::ChloDialect,
                           icd::check::CheckDialect, icd::interpreter::InterpreterDialect, icd::dialect::IcdDialect,
                           icd::vhlo::VhloDialect>();
}

extern "C" void icdRegisterDialectPasses() { icd::vhlo::registerLegalizePass(); }
