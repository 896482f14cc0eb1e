// CHLO dialect: registration, syntax and checks.
#include "Chlo.h"

#include "mlir/CAPI/Registration.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace icd::chlo;

#include "ChloDialect.cpp.inc"
#include "ChloEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "ChloAttrs.cpp.inc"
#define GET_OP_CLASSES
#include "ChloOps.cpp.inc"

void ChloDialect::initialize() {
  allowUnknownOperations();
  addOperations<
#define GET_OP_LIST
#include "ChloOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "ChloAttrs.cpp.inc"
      >();
}

FailureOr<SmallVector<int64_t>> icd::chlo::parseDims(AsmParser &parser) {
  SmallVector<int64_t> dims;
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                     [&] { return parser.parseInteger(dims.emplace_back()); }))
    return failure();
  return dims;
}
void icd::chlo::printDims(AsmPrinter &os, ArrayRef<int64_t> dims) {
  os << '[';
  llvm::interleaveComma(dims, os);
  os << ']';
}

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

LogicalResult ConstantLikeOp::verify() {
  if (getValue().getType() != getElementTypeOrSelf(getResult().getType()))
    return emitOpError() << "value's type doesn't match element return type";
  return success();
}

LogicalResult MinimumBroadcastShapesOp::verify() {
  if (getShapes().size() < 2)
    return emitOpError() << "requires at least two operand shapes, but got " << getShapes().size();
  if (getShapes().size() != getResults().size())
    return emitOpError() << "number of operand shapes (" << getShapes().size() << ") does not match number of results ("
                         << getResults().size() << ")";
  return success();
}

LogicalResult TopKOp::verify() {
  auto operand = dyn_cast<RankedTensorType>(getOperand().getType());
  if (!operand)
    return success();
  if (operand.getRank() < 1)
    return emitOpError("operand's rank must be at least 1");
  int64_t last = operand.getShape().back();
  if (!ShapedType::isDynamic(last) && last < int64_t(getK()))
    return emitOpError() << "operand's last dimension must be at least " << getK();
  SmallVector<int64_t> shape(operand.getShape());
  shape.back() = getK();
  auto check = [&](Value result) {
    auto type = dyn_cast<RankedTensorType>(result.getType());
    return !type || stablehlo::shapesAgree(type.getShape(), shape);
  };
  if (!check(getValues()) || !check(getIndices()))
    return emitOpError() << "expects results of shape " << stablehlo::dimsText(shape);
  return success();
}

//===-- scan ----------------------------------------------------------------===//

// chlo.scan(%inputs) inits(%inits) dimension = d attributes {..} { body } : (..) -> (..)
void ScanOp::print(OpAsmPrinter &os) {
  os << '(' << getInputs() << ") inits (" << getInits() << ") dimension = " << getDimension();
  os.printOptionalAttrDictWithKeyword((*this)->getAttrs(),
                                      {"dimension", "operandSegmentSizes", "resultSegmentSizes"});
  os << ' ';
  os.printRegion(getBody());
  os << " : ";
  os.printFunctionalType(*this);
}

ParseResult ScanOp::parse(OpAsmParser &parser, OperationState &result) {
  SmallVector<OpAsmParser::UnresolvedOperand> operands, inits;
  int64_t dimension;
  FunctionType type;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseOperandList(operands, OpAsmParser::Delimiter::Paren) || parser.parseKeyword("inits") ||
      parser.parseOperandList(inits, OpAsmParser::Delimiter::Paren) || parser.parseKeyword("dimension") ||
      parser.parseEqual() || parser.parseInteger(dimension) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes) || parser.parseRegion(*result.addRegion()) ||
      parser.parseColonType(type))
    return failure();
  int32_t inputCount = operands.size(), initCount = inits.size(), resultCount = type.getNumResults();
  if (resultCount < initCount)
    return parser.emitError(loc) << "expects at least one result for each init, but got " << resultCount
                                 << " results for " << initCount << " inits";
  operands.append(inits);
  if (parser.resolveOperands(operands, type.getInputs(), loc, result.operands))
    return failure();
  Builder &builder = parser.getBuilder();
  result.addAttribute("dimension", builder.getI64IntegerAttr(dimension));
  result.addAttribute("operandSegmentSizes", builder.getDenseI32ArrayAttr({inputCount, initCount}));
  result.addAttribute("resultSegmentSizes", builder.getDenseI32ArrayAttr({resultCount - initCount, initCount}));
  result.addTypes(type.getResults());
  return success();
}

LogicalResult ScanOp::verify() {
  if (getInits().size() != getCarries().size())
    return emitOpError() << "expects as many carries as inits, but got " << getCarries().size() << " and "
                         << getInits().size();
  Block &body = getBody().front();
  if (body.getNumArguments() != getNumOperands())
    return emitOpError() << "expects a body argument for each operand, but got " << body.getNumArguments()
                         << " arguments for " << getNumOperands() << " operands";
  return success();
}

extern "C" {
MLIR_DECLARE_CAPI_DIALECT_REGISTRATION(Chlo, chlo);
}
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Chlo, chlo, icd::chlo::ChloDialect)
