// The dialects of this project, for a registry.
#include "Shim.h"

#include "mlir/Dialect/Quant/IR/Quant.h"
#include "mlir/IR/DialectRegistry.h"

#include "Check.h"
#include "Chlo.h"
#include "Icd.h"
#include "Stablehlo.h"

extern "C" void icdRegisterDialects(MlirDialectRegistry registry) {
  unwrap(registry)->insert<mlir::quant::QuantDialect, icd::stablehlo::StablehloDialect, icd::chlo::ChloDialect,
                           icd::check::CheckDialect, icd::interpreter::InterpreterDialect, icd::dialect::IcdDialect>();
}
