// The project's own dialect: generated classes.
#ifndef ICD_DIALECT_H
#define ICD_DIALECT_H

#include "mlir/Interfaces/ControlFlowInterfaces.h"

#include "Stablehlo.h"

#include "IcdDialect.h.inc"
#define GET_OP_CLASSES
#include "IcdOps.h.inc"

#endif
