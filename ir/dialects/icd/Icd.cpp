// The project's own dialect: registration, syntax and checks.
#include "Icd.h"

#include "mlir/CAPI/Registration.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Transforms/InliningUtils.h"

using namespace mlir;
using namespace icd::dialect;

#include "IcdDialect.cpp.inc"
#define GET_OP_CLASSES
#include "IcdOps.cpp.inc"

namespace {
struct IcdInliner : public DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final { return true; }
};
} // namespace

void IcdDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "IcdOps.cpp.inc"
      >();
  addInterfaces<IcdInliner>();
}

//===-- weight --------------------------------------------------------------===//

void WeightOp::getAsmResultNames(llvm::function_ref<void(Value, StringRef)> setName) { setName(getResult(), "w"); }

LogicalResult WeightOp::verify() {
  if (getName().empty())
    return emitOpError("needs a name: it says which tensor of the weight files is meant");
  return success();
}

//===-- channel maps --------------------------------------------------------===//

static LogicalResult verifyMap(Operation *op, RankedTensorType type, int64_t axis, StringRef kind,
                               std::optional<ArrayRef<int64_t>> permutation, ElementsAttr scale,
                               std::optional<int64_t> block) {
  if (axis >= type.getRank())
    return op->emitOpError() << "axis " << axis << " is outside the operand's rank " << type.getRank();
  int64_t size = type.getDimSize(axis);
  if (ShapedType::isDynamic(size))
    return op->emitOpError() << "the size of dimension " << axis << " must be known";
  if (kind == "permutation") {
    if (!permutation)
      return op->emitOpError("kind \"permutation\" needs the attribute 'permutation'");
    SmallVector<int64_t> sorted(*permutation);
    llvm::sort(sorted);
    if (!llvm::equal(sorted, llvm::seq<int64_t>(0, size)))
      return op->emitOpError() << "'permutation' must hold each of 0.." << size << " once, but has "
                               << permutation->size() << " entries or repeats";
    return success();
  }
  if (kind == "scale") {
    if (!scale)
      return op->emitOpError("kind \"scale\" needs the attribute 'scale'");
    auto scaleType = cast<ShapedType>(scale.getType());
    if (scaleType.getRank() != 1 || scaleType.getDimSize(0) != size || !isa<FloatType>(scaleType.getElementType()))
      return op->emitOpError() << "'scale' must be " << size << " floats, but is " << scaleType;
    return success();
  }
  if (kind == "hadamard") {
    if (!block)
      return op->emitOpError("kind \"hadamard\" needs the attribute 'block'");
    if (!llvm::isPowerOf2_64(*block) || size % *block != 0)
      return op->emitOpError() << "'block' must be a power of two that divides " << size << ", but is " << *block;
    return success();
  }
  return op->emitOpError() << "unknown kind \"" << kind << "\"; kinds: permutation, scale, hadamard";
}

LogicalResult ChannelMapOp::verify() {
  return verifyMap(*this, cast<RankedTensorType>(getOperand().getType()), getAxis(), getKind(), getPermutation(),
                   getScaleAttr(), getBlock());
}
LogicalResult ChannelUnmapOp::verify() {
  return verifyMap(*this, cast<RankedTensorType>(getOperand().getType()), getAxis(), getKind(), getPermutation(),
                   getScaleAttr(), getBlock());
}

//===-- products ------------------------------------------------------------===//

/// Checks that `result` is `x` with its last size replaced by `n`.
static LogicalResult verifyProduct(Operation *op, RankedTensorType x, RankedTensorType result,
                                   std::optional<int64_t> n) {
  if (x.getRank() < 1 || result.getRank() != x.getRank() ||
      !icd::stablehlo::shapesAgree(x.getShape().drop_back(), result.getShape().drop_back()))
    return op->emitOpError() << "the result must have the shape of x but for the last dimension; x is " << x
                             << ", the result is " << result;
  if (n && !icd::stablehlo::sizesAgree(*n, result.getShape().back()))
    return op->emitOpError() << "the result's last dimension must be " << *n << ", but the result is " << result;
  return success();
}

LogicalResult QuantizedDotOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType()), codes = cast<RankedTensorType>(getCodes().getType()),
       scales = cast<RankedTensorType>(getScales().getType()), result = cast<RankedTensorType>(getType());
  if (codes.getRank() != 2 || !codes.hasStaticShape() || !isa<IntegerType>(codes.getElementType()))
    return emitOpError() << "codes must be a matrix of integers of known size, but are " << codes;
  int64_t k = codes.getDimSize(0), n = codes.getDimSize(1), group = getGroupSize();
  if (int64_t(codes.getElementType().getIntOrFloatBitWidth()) < int64_t(getBits()))
    return emitOpError() << getBits() << " bits do not fit the codes' element type " << codes.getElementType();
  if (x.getRank() < 1 || !icd::stablehlo::sizesAgree(x.getShape().back(), k))
    return emitOpError() << "the last dimension of x must be " << k << " as in the codes, but x is " << x;
  int64_t wanted[] = {int64_t(llvm::divideCeil(uint64_t(k), uint64_t(group))), n};
  auto fits = [&](RankedTensorType type) {
    return type.getShape() == ArrayRef<int64_t>(wanted);
  };
  if (!fits(scales) || !isa<FloatType>(scales.getElementType()))
    return emitOpError() << "scales must be " << wanted[0] << 'x' << wanted[1] << " floats for groups of " << group
                         << " rows, but are " << scales;
  if (bool(getZeroPoints()) != getZeros())
    return emitOpError("has the operand zero_points if and only if 'zeros' is true");
  if (getZeroPoints() && !fits(cast<RankedTensorType>(getZeroPoints().getType())))
    return emitOpError() << "zero points must have the shape of the scales, but are " << getZeroPoints().getType();
  return verifyProduct(*this, x, result, n);
}

LogicalResult PackedDotOp::verify() {
  if (cast<RankedTensorType>(getPacked().getType()).getRank() < 1)
    return emitOpError("packed bytes must be a vector");
  return verifyProduct(*this, cast<RankedTensorType>(getX().getType()), cast<RankedTensorType>(getType()), std::nullopt);
}

//===-- fusion --------------------------------------------------------------===//

// icd.fusion "dot" (%a = %x : T, ..) -> U { body }
void FusionOp::print(OpAsmPrinter &os) {
  os << ' ';
  os.printAttributeWithoutType(getKindAttr());
  os << " (";
  llvm::interleaveComma(llvm::zip(getBody().getArguments(), getInputs()), os, [&](auto pair) {
    os << std::get<0>(pair) << " = " << std::get<1>(pair) << " : " << std::get<1>(pair).getType();
  });
  os << ')';
  os.printArrowTypeList(getResultTypes());
  os.printOptionalAttrDictWithKeyword((*this)->getAttrs(), {"kind"});
  os << ' ';
  os.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

ParseResult FusionOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr kind;
  SmallVector<OpAsmParser::Argument> arguments;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
  SmallVector<Type> types;
  SMLoc loc = parser.getCurrentLocation();
  auto input = [&]() -> ParseResult {
    OpAsmParser::Argument &argument = arguments.emplace_back();
    if (parser.parseArgument(argument) || parser.parseEqual() || parser.parseOperand(operands.emplace_back()) ||
        parser.parseColonType(argument.type))
      return failure();
    types.push_back(argument.type);
    return success();
  };
  if (parser.parseAttribute(kind, parser.getBuilder().getNoneType(), "kind", result.attributes) ||
      parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, input) ||
      parser.parseOptionalArrowTypeList(result.types) || parser.parseOptionalAttrDictWithKeyword(result.attributes) ||
      parser.resolveOperands(operands, types, loc, result.operands))
    return failure();
  return parser.parseRegion(*result.addRegion(), arguments);
}

LogicalResult FusionOp::verify() {
  Block &body = getBody().front();
  if (!llvm::equal(body.getArgumentTypes(), getInputs().getTypes()))
    return emitOpError() << "the block arguments must have the types of the operands, but are "
                         << body.getArgumentTypes() << " for " << getInputs().getTypes();
  auto yield = cast<YieldOp>(body.getTerminator());
  if (!llvm::equal(yield.getValues().getTypes(), getResultTypes()))
    return emitOpError() << "yields " << yield.getValues().getTypes() << " but has results " << getResultTypes();
  return success();
}

extern "C" {
MLIR_DECLARE_CAPI_DIALECT_REGISTRATION(Icd, icd);
}
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Icd, icd, icd::dialect::IcdDialect)
