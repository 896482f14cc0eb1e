// VHLO dialect: operations of portable artifacts.
#ifndef ICD_VHLO_H
#define ICD_VHLO_H

#include "Stablehlo.h"

#include "VhloDialect.h.inc"
#define GET_OP_CLASSES
#include "VhloOps.h.inc"

namespace icd::vhlo {
/// Registers the pass `icd-legalize-vhlo`, once.
void registerLegalizePass();
} // namespace icd::vhlo

#endif
