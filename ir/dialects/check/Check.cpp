// Dialects of test programs: check and interpreter.
#include "Check.h"

#include "mlir/CAPI/Registration.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;

#include "CheckDialect.cpp.inc"
#include "InterpreterDialect.cpp.inc"
#define GET_OP_CLASSES
#include "CheckOps.cpp.inc"
#define GET_OP_CLASSES
#include "InterpreterOps.cpp.inc"

void icd::check::CheckDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "CheckOps.cpp.inc"
      >();
}
void icd::interpreter::InterpreterDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "InterpreterOps.cpp.inc"
      >();
}

// check.expect_serialized_eq %expected, probe_id = "name", iter = 1 : T
void icd::check::ExpectSerializedEqOp::print(OpAsmPrinter &os) {
  os << ' ' << getExpected() << ", probe_id = ";
  os.printAttributeWithoutType(getProbeIdAttr());
  if (IntegerAttr iteration = getIterationAttr())
    os << ", iter = " << iteration.getUInt();
  os.printOptionalAttrDict((*this)->getAttrs(), {"probe_id", "iteration"});
  os << " : " << getExpected().getType();
}

ParseResult icd::check::ExpectSerializedEqOp::parse(OpAsmParser &parser, OperationState &result) {
  OpAsmParser::UnresolvedOperand expected;
  StringAttr probe;
  Type type;
  if (parser.parseOperand(expected) || parser.parseComma() || parser.parseKeyword("probe_id") || parser.parseEqual() ||
      parser.parseAttribute(probe, parser.getBuilder().getNoneType(), "probe_id", result.attributes))
    return failure();
  if (succeeded(parser.parseOptionalComma())) {
    uint32_t iteration;
    if (parser.parseKeyword("iter") || parser.parseEqual() || parser.parseInteger(iteration))
      return failure();
    Type unsignedInt = parser.getBuilder().getIntegerType(32, /*isSigned=*/false);
    result.addAttribute("iteration", IntegerAttr::get(unsignedInt, iteration));
  }
  return failure(parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(type) ||
                 parser.resolveOperand(expected, type, result.operands));
}

extern "C" {
MLIR_DECLARE_CAPI_DIALECT_REGISTRATION(Check, check);
MLIR_DECLARE_CAPI_DIALECT_REGISTRATION(Interpreter, interpreter);
}
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Check, check, icd::check::CheckDialect)
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Interpreter, interpreter, icd::interpreter::InterpreterDialect)
