// Dialects of test programs: check and interpreter.
#ifndef ICD_CHECK_H
#define ICD_CHECK_H

#include "Stablehlo.h"

#include "CheckDialect.h.inc"
#include "InterpreterDialect.h.inc"
#define GET_OP_CLASSES
#include "CheckOps.h.inc"
#define GET_OP_CLASSES
#include "InterpreterOps.h.inc"

#endif
