// The generated operation classes.
#include "Assembly.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

#define GET_OP_CLASSES
#include "StablehloOps.cpp.inc"
