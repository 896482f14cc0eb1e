// The optimizer's command line: upstream's, with our dialects and passes.
#include "Shim.h"

#include "mlir/CAPI/IR.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

extern "C" void icdRegisterUpstreamDialects(MlirDialectRegistry registry) {
  mlir::registerAllDialects(*unwrap(registry));
  mlir::registerAllExtensions(*unwrap(registry));
}

extern "C" void icdRegisterUpstreamPasses() { mlir::registerAllPasses(); }

extern "C" int icdOptMain(int argc, char **argv, MlirDialectRegistry registry, const char *toolName) {
  return mlir::failed(mlir::MlirOptMain(argc, argv, toolName, *unwrap(registry))) ? 1 : 0;
}
