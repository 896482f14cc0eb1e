// Small things that MLIR's C interface has no function for.
#include "Shim.h"

#include "mlir/CAPI/IR.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/DialectResourceBlobManager.h"

extern "C" bool icdDenseResourceData(MlirAttribute attr, const void **data, size_t *length) {
  auto resource = llvm::dyn_cast<mlir::DenseResourceElementsAttr>(unwrap(attr));
  if (!resource)
    return false;
  mlir::AsmResourceBlob *blob = resource.getRawHandle().getBlob();
  if (!blob)
    return false;
  *data = blob->getData().data();
  *length = blob->getData().size();
  return true;
}

extern "C" void icdEmitRemark(MlirLocation location, const char *text) { mlir::emitRemark(unwrap(location)) << text; }
