// CHLO dialect: generated classes.
#ifndef ICD_CHLO_H
#define ICD_CHLO_H

#include "Stablehlo.h"

namespace icd::chlo {
using mlir::ArrayRef;

/// `[0, 1]`
mlir::FailureOr<mlir::SmallVector<int64_t>> parseDims(mlir::AsmParser &parser);
void printDims(mlir::AsmPrinter &os, ArrayRef<int64_t> dims);
} // namespace icd::chlo

#include "ChloDialect.h.inc"
#include "ChloEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "ChloAttrs.h.inc"
#define GET_OP_CLASSES
#include "ChloOps.h.inc"

#endif
