// Attribute syntax that the operations' own syntax also uses.
#ifndef ICD_STABLEHLO_ATTR_SYNTAX_H
#define ICD_STABLEHLO_ATTR_SYNTAX_H

#include "Stablehlo.h"

namespace icd::stablehlo {

/// `[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]`
void printConvDims(mlir::AsmPrinter &os, ConvDimensionNumbersAttr dims);
mlir::ParseResult parseConvDims(mlir::AsmParser &parser, ConvDimensionNumbersAttr &dims);

} // namespace icd::stablehlo
#endif
