// Syntax of constant, reduce, while and composite, and the folder of constant.
#include "Assembly.h"

#include "mlir/Dialect/Quant/IR/QuantTypes.h"
#include "mlir/IR/Builders.h"

using namespace mlir;

namespace icd::stablehlo {

//===-- constant ------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

void ConstantOp::getAsmResultNames(llvm::function_ref<void(Value, StringRef)> setName) {
  setName(getResult(), isa<IntegerType>(getType().getElementType()) ? "c" : "cst");
}

// `stablehlo.constant dense<..> : T`; the generic form within the short name where
// the value's type is not the result's (quantized results).
void ConstantOp::print(OpAsmPrinter &os) {
  if (getValue().getType() != getType()) {
    os << "() <{value = " << getValue() << "}>";
    os.printOptionalAttrDict((*this)->getAttrs(), {"value"});
    os << " : ";
    os.printFunctionalType(*this);
    return;
  }
  os.printOptionalAttrDict((*this)->getAttrs(), {"value"});
  os << ' ';
  os.printAttribute(getValue());
}

ParseResult ConstantOp::parse(OpAsmParser &parser, OperationState &result) {
  if (succeeded(parser.parseOptionalLParen())) {
    FunctionType type;
    if (parser.parseRParen())
      return failure();
    if (succeeded(parser.parseOptionalLess())) {
      NamedAttrList properties;
      if (parser.parseOptionalAttrDict(properties) || parser.parseGreater())
        return failure();
      result.attributes.append(properties);
    }
    if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(type))
      return failure();
    result.addTypes(type.getResults());
    return success();
  }
  ElementsAttr value;
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseAttribute(value, "value", result.attributes))
    return failure();
  result.addTypes(value.getType());
  return success();
}

LogicalResult ConstantOp::inferReturnTypes(MLIRContext *, std::optional<Location>, Adaptor adaptor,
                                           SmallVectorImpl<Type> &types) {
  types.push_back(adaptor.getValue().getType());
  return success();
}

bool ConstantOp::isCompatibleReturnTypes(TypeRange l, TypeRange r) {
  if (l.size() != r.size() || l.size() != 1)
    return false;
  auto value = dyn_cast<RankedTensorType>(l.front()), result = dyn_cast<RankedTensorType>(r.front());
  if (!value || !result)
    return false;
  if (auto q = dyn_cast<quant::QuantizedType>(result.getElementType()))
    return value.getShape() == result.getShape() &&
           (value.getElementType() == q.getStorageType() || value.getElementType() == result.getElementType());
  return value == result;
}

//===-- reduce --------------------------------------------------------------===//

/// The one commutative operation that the body applies to its arguments in order,
/// where its types follow from the first operand; else null.
static Operation *compactBody(ReduceOp op) {
  if (op.getInputs().size() != 1 || !op.getBody().hasOneBlock())
    return nullptr;
  Block &block = op.getBody().front();
  if (block.getNumArguments() != 2 || !llvm::hasNItems(block, 2))
    return nullptr;
  Operation &inner = block.front();
  Operation &end = block.back();
  if (!isa<ReturnOp>(end) || end.getNumOperands() != 1)
    return nullptr;
  if (inner.getName().getDialectNamespace() != StablehloDialect::getDialectNamespace() ||
      !inner.hasTrait<OpTrait::IsCommutative>() || inner.getNumOperands() != 2 || inner.getNumResults() != 1 ||
      inner.getNumRegions() != 0 || !inner.getAttrs().empty())
    return nullptr;
  if (inner.getOperand(0) != block.getArgument(0) || inner.getOperand(1) != block.getArgument(1) ||
      end.getOperand(0) != inner.getResult(0))
    return nullptr;
  Type element = RankedTensorType::get({}, getElementTypeOrSelf(op.getInputs().front().getType()));
  auto plain = [&](Type t) { return t == element; };
  if (!llvm::all_of(inner.getOperandTypes(), plain) || !plain(inner.getResult(0).getType()))
    return nullptr;
  return &inner;
}

void ReduceOp::print(OpAsmPrinter &os) {
  llvm::interleaveComma(llvm::zip(getInputs(), getInitValues()), os, [&](auto pair) {
    os << '(' << std::get<0>(pair) << " init: " << std::get<1>(pair) << ')';
  });
  Operation *inner = compactBody(*this);
  if (inner)
    os << " applies " << inner->getName().getStringRef();
  os << " across dimensions = [" << listText(getDimensions()) << ']';
  os.printOptionalAttrDict((*this)->getAttrs(), {"dimensions"});
  os << " : ";
  os.printFunctionalType(*this);
  if (inner)
    return;
  os.printNewline();
  os << " reducer";
  Block &block = getBody().front();
  size_t count = block.getNumArguments() / 2;
  for (size_t i = 0; i < count; ++i) {
    os << '(';
    os.printRegionArgument(block.getArgument(i));
    os << ", ";
    os.printRegionArgument(block.getArgument(i + count));
    os << ") ";
  }
  os << ' ';
  os.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

static ParseResult parseCompactBody(OpAsmParser &parser, StringRef name, SMLoc loc, FunctionType type, Location opLoc,
                                    Region &body) {
  auto info = RegisteredOperationName::lookup(name, parser.getContext());
  bool good = info && info->getDialectNamespace() == StablehloDialect::getDialectNamespace() &&
              info->hasTrait<OpTrait::IsCommutative>() && info->hasTrait<OpTrait::NOperands<2>::Impl>() &&
              info->hasTrait<OpTrait::OneResult>() && info->hasTrait<OpTrait::ZeroRegions>();
  if (!good)
    return parser.emitError(loc, "expected the inner-op to be a commutative binary-op from the stablehlo dialect, with "
                                 "zero region, producing single result");
  if (type.getNumInputs() == 0)
    return parser.emitError(loc, "expected a reduction of at least one operand");
  auto first = dyn_cast<ShapedType>(type.getInput(0));
  if (!first)
    return parser.emitError(loc, "expected the first reduced operand to be a tensor");
  Type element = RankedTensorType::get({}, first.getElementType());
  Block *block = &body.emplaceBlock();
  Value lhs = block->addArgument(element, opLoc), rhs = block->addArgument(element, opLoc);
  OpBuilder builder(parser.getContext());
  builder.setInsertionPointToEnd(block);
  OperationState inner(opLoc, *info);
  inner.addOperands({lhs, rhs});
  inner.addTypes(element);
  Operation *applied = builder.create(inner);
  ReturnOp::create(builder, opLoc, applied->getResults());
  return success();
}

ParseResult ReduceOp::parse(OpAsmParser &parser, OperationState &result) {
  SMLoc startLoc = parser.getCurrentLocation();
  SmallVector<Unresolved> operands, inits;
  auto pair = [&] {
    return failure(parser.parseLParen() || parser.parseOperand(operands.emplace_back()) ||
                   parser.parseKeyword("init") || parser.parseColon() || parser.parseOperand(inits.emplace_back()) ||
                   parser.parseRParen());
  };
  if (parser.parseCommaSeparatedList(pair))
    return failure();
  operands.append(inits);

  StringRef innerName;
  SMLoc innerLoc;
  bool compact = succeeded(parser.parseOptionalKeyword("applies"));
  if (compact) {
    innerLoc = parser.getCurrentLocation();
    FailureOr<OperationName> name = parser.parseCustomOperationName();
    if (failed(name))
      return failure();
    innerName = name->getStringRef();
  }
  SmallVector<int64_t> dims;
  FunctionType type;
  if (parser.parseKeyword("across") || parser.parseKeyword("dimensions") || parser.parseEqual() ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                     [&] { return parser.parseInteger(dims.emplace_back()); }) ||
      parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(type) ||
      parser.resolveOperands(operands, type.getInputs(), startLoc, result.operands))
    return failure();
  result.addAttribute("dimensions", parser.getBuilder().getDenseI64ArrayAttr(dims));
  result.addTypes(type.getResults());
  Region *body = result.addRegion();

  if (compact) {
    std::optional<Location> loc;
    if (parser.parseOptionalLocationSpecifier(loc))
      return failure();
    if (loc)
      result.location = *loc;
    return parseCompactBody(parser, innerName, innerLoc, type, result.location, *body);
  }

  SmallVector<OpAsmParser::Argument> accumulators, elements;
  if (parser.parseKeyword("reducer"))
    return failure();
  while (succeeded(parser.parseOptionalLParen())) {
    if (parser.parseArgument(accumulators.emplace_back(), /*allowType=*/true) || parser.parseComma() ||
        parser.parseArgument(elements.emplace_back(), /*allowType=*/true) || parser.parseRParen())
      return failure();
  }
  accumulators.append(elements);
  return parser.parseRegion(*body, accumulators);
}

//===-- while ---------------------------------------------------------------===//

void WhileOp::getAsmBlockArgumentNames(Region &region, OpAsmSetValueNameFn setName) {
  for (BlockArgument argument : region.getArguments())
    setName(argument, "iterArg");
}

void WhileOp::print(OpAsmPrinter &os) {
  os << '(';
  llvm::interleaveComma(llvm::zip(getCond().getArguments(), getOperands()), os,
                        [&](auto pair) { os << std::get<0>(pair) << " = " << std::get<1>(pair); });
  os << ')';
  if (getNumOperands()) {
    os << " : ";
    llvm::interleaveComma(getOperandTypes(), os);
  }
  os.printOptionalAttrDictWithKeyword((*this)->getAttrs());
  os.printNewline();
  os << "cond ";
  os.printRegion(getCond(), /*printEntryBlockArgs=*/false);
  os << " do ";
  os.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

ParseResult WhileOp::parse(OpAsmParser &parser, OperationState &result) {
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<Unresolved> operands;
  SmallVector<OpAsmParser::Argument> arguments;
  auto pair = [&] {
    return failure(parser.parseArgument(arguments.emplace_back()) || parser.parseEqual() ||
                   parser.parseOperand(operands.emplace_back()));
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, pair))
    return failure();
  if (!operands.empty() && (parser.parseColon() || parser.parseTypeList(result.types)))
    return failure();
  if (parser.resolveOperands(operands, result.types, loc, result.operands) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes))
    return failure();
  for (auto [argument, type] : llvm::zip(arguments, result.types))
    argument.type = type;
  Region *cond = result.addRegion();
  Region *body = result.addRegion();
  return failure(parser.parseKeyword("cond") || parser.parseRegion(*cond, arguments) || parser.parseKeyword("do") ||
                 parser.parseRegion(*body, arguments));
}

//===-- composite -----------------------------------------------------------===//

void CompositeOp::print(OpAsmPrinter &os) {
  os << ' ';
  os.printAttributeWithoutType(getNameAttr());
  if (!getInputs().empty())
    os << ' ' << getInputs();
  SmallVector<StringRef> elided{"name"};
  if (auto attrs = getCompositeAttributesAttr(); attrs && attrs.empty())
    elided.push_back("composite_attributes");
  if (auto version = getVersionAttr(); version && version.getInt() == 0)
    elided.push_back("version");
  os.printOptionalAttrDict((*this)->getAttrs(), elided);
  if (!getCompositeRegions().empty()) {
    os << " (";
    llvm::interleaveComma(getCompositeRegions(), os, [&](Region &region) { os.printRegion(region); });
    os << ')';
  }
  os << " : ";
  os.printFunctionalType(*this);
}

ParseResult CompositeOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr name;
  SmallVector<Unresolved> operands;
  FunctionType type;
  if (parser.parseAttribute(name, parser.getBuilder().getNoneType(), "name", result.attributes))
    return failure();
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseOperandList(operands) || parser.parseOptionalAttrDict(result.attributes))
    return failure();
  if (succeeded(parser.parseOptionalLParen())) {
    auto one = [&] { return parser.parseRegion(*result.addRegion()); };
    if (parser.parseCommaSeparatedList(one) || parser.parseRParen())
      return failure();
  }
  if (parser.parseColonType(type) || parser.resolveOperands(operands, type.getInputs(), loc, result.operands))
    return failure();
  result.addTypes(type.getResults());
  return success();
}

} // namespace icd::stablehlo
