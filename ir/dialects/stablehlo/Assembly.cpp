// Custom directives of the operations' assembly formats.
#include "Assembly.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/Regex.h"

using namespace mlir;

namespace icd::stablehlo {

//===-- types ---------------------------------------------------------------===//

static ParseResult spread(OpAsmParser &parser, SMLoc loc, FunctionType fn, ArrayRef<Type *> operands, Type &result) {
  if (fn.getNumInputs() != operands.size())
    return parser.emitError(loc) << operands.size() << " operands present, but expected " << fn.getNumInputs();
  if (fn.getNumResults() != 1)
    return parser.emitError(loc, "expected single output");
  for (auto [operand, type] : llvm::zip_equal(operands, fn.getInputs()))
    *operand = type;
  result = fn.getResult(0);
  return success();
}

void printSameTypes(OpAsmPrinter &os, Operation *op, TypeRange operands, Type result) {
  if (llvm::all_of(operands, [&](Type t) { return t == result; }))
    os.printType(result);
  else
    os.printFunctionalType(op);
}

ParseResult parseSameTypes(OpAsmParser &parser, ArrayRef<Type *> operands, Type &result) {
  SMLoc loc = parser.getCurrentLocation();
  Type type;
  if (parser.parseType(type))
    return failure();
  if (auto fn = dyn_cast<FunctionType>(type))
    return spread(parser, loc, fn, operands, result);
  for (Type *operand : operands)
    *operand = type;
  result = type;
  return success();
}

void printVariadicSameOperandsAndResultType(OpAsmPrinter &os, Operation *op, OperandRange, TypeRange types,
                                            Type result) {
  printSameTypes(os, op, types, result);
}

ParseResult parseVariadicSameOperandsAndResultType(OpAsmParser &parser, SmallVector<Unresolved, 4> &operands,
                                                   SmallVector<Type, 1> &types, Type &result) {
  types.resize(operands.size());
  SmallVector<Type *> pointers = llvm::map_to_vector(types, [](Type &t) { return &t; });
  return parseSameTypes(parser, pointers, result);
}

void printTupleOpType(OpAsmPrinter &os, Operation *, TypeRange, Type result) { os.printType(result); }

ParseResult parseTupleOpType(OpAsmParser &parser, SmallVectorImpl<Type> &operands, Type &result) {
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseType(result))
    return failure();
  auto tuple = dyn_cast<TupleType>(result);
  if (!tuple)
    return parser.emitError(loc, "expected tuple type");
  llvm::append_range(operands, tuple.getTypes());
  return success();
}

void printPairwiseOpType(OpAsmPrinter &os, Operation *, TypeRange operands, TypeRange) {
  llvm::interleaveComma(operands, os);
}

ParseResult parsePairwiseOpType(OpAsmParser &parser, SmallVectorImpl<Type> &operands, SmallVectorImpl<Type> &results) {
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseTypeList(operands))
    return parser.emitError(loc, "expected type list");
  results.assign(operands.begin(), operands.end());
  return success();
}

void printComplexOpType(OpAsmPrinter &os, Operation *op, Type lhs, Type rhs, Type result) {
  Type part = realPartType(result);
  if (lhs == part && rhs == part)
    os.printType(result);
  else
    os.printFunctionalType(op);
}

ParseResult parseComplexOpType(OpAsmParser &parser, Type &lhs, Type &rhs, Type &result) {
  SMLoc loc = parser.getCurrentLocation();
  Type type;
  if (parser.parseType(type))
    return failure();
  if (auto fn = dyn_cast<FunctionType>(type))
    return spread(parser, loc, fn, {&lhs, &rhs}, result);
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || !isa<ComplexType>(tensor.getElementType()))
    return parser.emitError(loc, "expected tensor with complex element type");
  lhs = rhs = realPartType(type);
  result = type;
  return success();
}

void printSelectOpType(OpAsmPrinter &os, Operation *op, Type pred, Type onTrue, Type onFalse, Type result) {
  if (onTrue == result && onFalse == result)
    os << pred << ", " << result;
  else
    os.printFunctionalType(op);
}

ParseResult parseSelectOpType(OpAsmParser &parser, Type &pred, Type &onTrue, Type &onFalse, Type &result) {
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<Type> types;
  if (parser.parseTypeList(types))
    return failure();
  if (types.size() == 2) {
    pred = types[0];
    onTrue = onFalse = result = types[1];
    return success();
  }
  auto fn = types.size() == 1 ? dyn_cast<FunctionType>(types[0]) : FunctionType();
  if (!fn)
    return parser.emitError(loc, "expected functional type or list of two types");
  return spread(parser, loc, fn, {&pred, &onTrue, &onFalse}, result);
}

//===-- operands ------------------------------------------------------------===//

void printVariadicOperandWithAttribute(OpAsmPrinter &os, Operation *, OperandRange operands) {
  llvm::interleaveComma(operands, os);
  os << ',';
}

ParseResult parseVariadicOperandWithAttribute(OpAsmParser &parser, SmallVectorImpl<Unresolved> &operands) {
  while (true) {
    Unresolved operand;
    OptionalParseResult parsed = parser.parseOptionalOperand(operand);
    if (!parsed.has_value())
      return success();
    if (failed(*parsed) || parser.parseComma())
      return failure();
    operands.push_back(operand);
  }
}

//===-- attributes ----------------------------------------------------------===//

void printExponentMantissa(OpAsmPrinter &os, Operation *, IntegerAttr exponent, IntegerAttr mantissa) {
  os << 'e' << exponent.getInt() << 'm' << mantissa.getInt();
}

ParseResult parseExponentMantissa(OpAsmParser &parser, IntegerAttr &exponent, IntegerAttr &mantissa) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  static const llvm::Regex format("^e([0-9]+)m([0-9]+)$");
  SmallVector<StringRef> parts;
  if (!format.match(word, &parts))
    return parser.emitError(loc, "expected exponent mantissa in format e#m#, saw ") << word;
  int32_t bits[2];
  static constexpr StringRef names[] = {"exponent", "mantissa"};
  for (auto [index, name] : llvm::enumerate(names))
    if (parts[index + 1].getAsInteger(10, bits[index]))
      return parser.emitError(loc) << "unable to parse " << name << " '" << parts[index + 1] << "'";
  exponent = parser.getBuilder().getI32IntegerAttr(bits[0]);
  mantissa = parser.getBuilder().getI32IntegerAttr(bits[1]);
  return success();
}

void printSliceRanges(OpAsmPrinter &os, Operation *, DenseI64ArrayAttr start, DenseI64ArrayAttr limit,
                      DenseI64ArrayAttr strides) {
  os << '[';
  size_t count = std::min({start.size(), limit.size(), strides.size()});
  for (size_t axis = 0; axis < count; ++axis) {
    os << (axis ? ", " : "") << start[axis] << ':' << limit[axis];
    if (strides[axis] != 1)
      os << ':' << strides[axis];
  }
  os << ']';
}

ParseResult parseSliceRanges(OpAsmParser &parser, DenseI64ArrayAttr &start, DenseI64ArrayAttr &limit,
                             DenseI64ArrayAttr &strides) {
  SmallVector<int64_t> begin, end, step;
  auto range = [&]() -> ParseResult {
    step.push_back(1);
    if (parser.parseInteger(begin.emplace_back()) || parser.parseColon() || parser.parseInteger(end.emplace_back()))
      return failure();
    if (succeeded(parser.parseOptionalColon()))
      return parser.parseInteger(step.back());
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, range))
    return failure();
  start = parser.getBuilder().getDenseI64ArrayAttr(begin);
  limit = parser.getBuilder().getDenseI64ArrayAttr(end);
  strides = parser.getBuilder().getDenseI64ArrayAttr(step);
  return success();
}

static void printPrecisions(OpAsmPrinter &os, ArrayAttr config) {
  os << "precision = [";
  llvm::interleaveComma(config, os, [&](Attribute a) { os << stringifyPrecision(cast<PrecisionAttr>(a).getValue()); });
  os << ']';
}

static ParseResult parsePrecisions(OpAsmParser &parser, ArrayAttr &config) {
  SmallVector<Attribute> precisions;
  auto one = [&]() -> ParseResult {
    SMLoc loc = parser.getCurrentLocation();
    StringRef word;
    if (parser.parseKeyword(&word))
      return failure();
    std::optional<Precision> precision = symbolizePrecision(word);
    if (!precision)
      return parser.emitError(loc) << "expected precision to be one of: DEFAULT, HIGH, HIGHEST";
    precisions.push_back(PrecisionAttr::get(parser.getContext(), *precision));
    return success();
  };
  if (parser.parseEqual() || parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, one))
    return failure();
  config = parser.getBuilder().getArrayAttr(precisions);
  return success();
}

void printPrecisionConfig(OpAsmPrinter &os, Operation *, ArrayAttr config) {
  if (!config)
    return;
  os << ", ";
  printPrecisions(os, config);
}

ParseResult parsePrecisionConfig(OpAsmParser &parser, ArrayAttr &config) {
  if (failed(parser.parseOptionalComma()))
    return success();
  return failure(parser.parseKeyword("precision") || parsePrecisions(parser, config));
}

void printPrecisionConfigAndAlgorithm(OpAsmPrinter &os, Operation *op, ArrayAttr config, DotAlgorithmAttr algorithm) {
  printPrecisionConfig(os, op, config);
  if (!algorithm)
    return;
  os << ", algorithm = ";
  os.printStrippedAttrOrType(algorithm);
}

ParseResult parsePrecisionConfigAndAlgorithm(OpAsmParser &parser, ArrayAttr &config, DotAlgorithmAttr &algorithm) {
  if (failed(parser.parseOptionalComma()))
    return success();
  if (succeeded(parser.parseOptionalKeyword("precision"))) {
    if (parsePrecisions(parser, config))
      return failure();
    if (failed(parser.parseOptionalComma()))
      return success();
  }
  if (parser.parseKeyword("algorithm") || parser.parseEqual())
    return failure();
  Attribute parsed;
  if (parser.parseCustomAttributeWithFallback(parsed, Type(), [&](Attribute &result, Type type) -> ParseResult {
        result = DotAlgorithmAttr::parse(parser, type);
        return success(bool(result));
      }))
    return failure();
  algorithm = dyn_cast<DotAlgorithmAttr>(parsed);
  return success(bool(algorithm));
}

void printDotDimensionNumbers(OpAsmPrinter &os, Operation *, DotDimensionNumbersAttr dims) {
  auto pair = [&](StringRef name, ArrayRef<int64_t> lhs, ArrayRef<int64_t> rhs) {
    os << name << " = [" << listText(lhs) << "] x [" << listText(rhs) << ']';
  };
  if (!dims.getLhsBatchingDimensions().empty() || !dims.getRhsBatchingDimensions().empty()) {
    pair("batching_dims", dims.getLhsBatchingDimensions(), dims.getRhsBatchingDimensions());
    os << ", ";
  }
  pair("contracting_dims", dims.getLhsContractingDimensions(), dims.getRhsContractingDimensions());
}

ParseResult parseDotDimensionNumbers(OpAsmParser &parser, DotDimensionNumbersAttr &dims) {
  SmallVector<int64_t> lb, rb, lc, rc;
  auto list = [&](SmallVector<int64_t> &out) {
    return parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                          [&] { return parser.parseInteger(out.emplace_back()); });
  };
  auto pair = [&](SmallVector<int64_t> &lhs, SmallVector<int64_t> &rhs) -> ParseResult {
    return failure(parser.parseEqual() || list(lhs) || parser.parseKeyword("x") || list(rhs));
  };
  if (succeeded(parser.parseOptionalKeyword("batching_dims")) && (pair(lb, rb) || parser.parseComma()))
    return failure();
  if (parser.parseKeyword("contracting_dims") || pair(lc, rc))
    return failure();
  dims = DotDimensionNumbersAttr::get(parser.getContext(), lb, rb, lc, rc);
  return success();
}

void printConvolutionDimensions(OpAsmPrinter &os, Operation *, ConvDimensionNumbersAttr dims) {
  printConvDims(os, dims);
}
ParseResult parseConvolutionDimensions(OpAsmParser &parser, ConvDimensionNumbersAttr &dims) {
  return parseConvDims(parser, dims);
}

void printWindowAttributes(OpAsmPrinter &os, Operation *, DenseI64ArrayAttr strides, DenseIntElementsAttr padding,
                           DenseI64ArrayAttr lhsDilation, DenseI64ArrayAttr rhsDilation, DenseBoolArrayAttr reversal) {
  bool first = true;
  auto next = [&](StringRef name) -> OpAsmPrinter & {
    os << (first ? "" : ", ") << name << " = ";
    first = false;
    return os;
  };
  auto list = [&](StringRef name, DenseI64ArrayAttr values) {
    if (values)
      next(name) << '[' << listText(values) << ']';
  };
  list("stride", strides);
  if (padding) {
    next("pad") << '[';
    SmallVector<int64_t> flat(padding.getValues<int64_t>());
    for (size_t i = 0; i + 1 < flat.size(); i += 2)
      os << (i ? ", " : "") << '[' << flat[i] << ", " << flat[i + 1] << ']';
    os << ']';
  }
  list("lhs_dilate", lhsDilation);
  list("rhs_dilate", rhsDilation);
  if (reversal) {
    next("reverse") << '[';
    llvm::interleaveComma(reversal.asArrayRef(), os, [&](bool b) { os << (b ? "true" : "false"); });
    os << ']';
  }
}

ParseResult parseWindowAttributes(OpAsmParser &parser, DenseI64ArrayAttr &strides, DenseIntElementsAttr &padding,
                                  DenseI64ArrayAttr &lhsDilation, DenseI64ArrayAttr &rhsDilation,
                                  DenseBoolArrayAttr &reversal) {
  auto ints = [&](DenseI64ArrayAttr &out) -> ParseResult {
    SmallVector<int64_t> values;
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                       [&] { return parser.parseInteger(values.emplace_back()); }))
      return failure();
    out = parser.getBuilder().getDenseI64ArrayAttr(values);
    return success();
  };
  auto bools = [&]() -> ParseResult {
    SmallVector<bool> values;
    auto one = [&]() -> ParseResult {
      int64_t number;
      OptionalParseResult isNumber = parser.parseOptionalInteger(number);
      if (isNumber.has_value()) {
        values.push_back(number != 0);
        return *isNumber;
      }
      bool yes = succeeded(parser.parseOptionalKeyword("true"));
      values.push_back(yes);
      return yes ? ParseResult(success()) : parser.parseKeyword("false");
    };
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, one))
      return failure();
    reversal = parser.getBuilder().getDenseBoolArrayAttr(values);
    return success();
  };
  auto pairs = [&]() -> ParseResult {
    SmallVector<int64_t> flat;
    auto one = [&]() -> ParseResult {
      SMLoc loc = parser.getCurrentLocation();
      size_t before = flat.size();
      if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                         [&] { return parser.parseInteger(flat.emplace_back()); }))
        return failure();
      if (flat.size() - before != 2)
        return parser.emitError(loc) << "Expected array with 2 elements, got " << flat.size() - before
                                     << " elements instead";
      return success();
    };
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, one))
      return failure();
    auto type = RankedTensorType::get({int64_t(flat.size()) / 2, 2}, parser.getBuilder().getI64Type());
    padding = DenseIntElementsAttr::get(type, flat);
    return success();
  };
  llvm::SmallDenseSet<StringRef> seen;
  while (true) {
    SMLoc loc = parser.getCurrentLocation();
    StringRef word;
    if (failed(parser.parseOptionalKeyword(&word)))
      return success();
    if (!seen.insert(word).second || !llvm::is_contained({"stride", "pad", "lhs_dilate", "rhs_dilate", "reverse"}, word))
      return parser.emitError(loc) << "Unexpected keyword " << word;
    if (parser.parseEqual())
      return failure();
    ParseResult parsed = word == "stride"       ? ints(strides)
                         : word == "lhs_dilate" ? ints(lhsDilation)
                         : word == "rhs_dilate" ? ints(rhsDilation)
                         : word == "pad"        ? pairs()
                                                : bools();
    if (failed(parsed))
      return failure();
    if (failed(parser.parseOptionalComma()))
      return success();
  }
}

void printCustomCallTarget(OpAsmPrinter &os, Operation *, StringAttr target) { os.printSymbolName(target); }

ParseResult parseCustomCallTarget(OpAsmParser &parser, StringAttr &target) { return parser.parseSymbolName(target); }

} // namespace icd::stablehlo
