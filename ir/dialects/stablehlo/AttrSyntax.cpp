// Text form of the attributes that describe dimensions: dot, gather, scatter, conv and the rest.
#include "AttrSyntax.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;

namespace icd::stablehlo {

namespace {
/// One `name = value` of a `<...>` struct whose fields come in any order.
struct Field {
  StringRef name;
  llvm::function_ref<ParseResult()> parse;
  bool seen = false;
};

/// Parses `<a = .., b = ..>` in any order, a trailing comma allowed.
ParseResult parseFields(AsmParser &parser, StringRef what, MutableArrayRef<Field> fields, bool needAll = false) {
  auto fail = [&] { return parser.emitError(parser.getNameLoc()) << "failed parsing " << what; };
  if (parser.parseLess())
    return fail();
  while (failed(parser.parseOptionalGreater())) {
    bool found = false;
    for (Field &field : fields) {
      if (failed(parser.parseOptionalKeyword(field.name)))
        continue;
      found = true;
      if (field.seen) {
        parser.emitError(parser.getCurrentLocation()) << "duplicated `" << field.name << "` entry";
        return fail();
      }
      field.seen = true;
      if (parser.parseEqual() || field.parse())
        return fail();
      break;
    }
    if (!found) {
      auto error = parser.emitError(parser.getCurrentLocation()) << "expected one of: ";
      llvm::interleaveComma(fields, error, [&](const Field &f) { error << '`' << f.name << '`'; });
      return fail();
    }
    if (succeeded(parser.parseOptionalComma()))
      continue;
    if (parser.parseGreater())
      return fail();
    break;
  }
  for (Field &field : fields)
    if (needAll && !field.seen) {
      parser.emitError(parser.getCurrentLocation()) << "expected `" << field.name << "`";
      return fail();
    }
  return success();
}

ParseResult parseDims(AsmParser &parser, SmallVectorImpl<int64_t> &dims) {
  dims.clear();
  return parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                        [&] { return parser.parseInteger(dims.emplace_back()); });
}

/// Prints `name = value` fields, leaving out empty lists.
class FieldPrinter {
public:
  explicit FieldPrinter(AsmPrinter &os) : os(os) { os << '<'; }
  ~FieldPrinter() { os << '>'; }
  void dims(StringRef name, ArrayRef<int64_t> values, bool always = false) {
    if (values.empty() && !always)
      return;
    next(name) << '[';
    llvm::interleaveComma(values, os);
    os << ']';
  }
  AsmPrinter &next(StringRef name) {
    if (!first)
      os << ", ";
    first = false;
    os << name << " = ";
    return os;
  }

private:
  AsmPrinter &os;
  bool first = true;
};
} // namespace

//===-- dot -----------------------------------------------------------------===//

Attribute DotDimensionNumbersAttr::parse(AsmParser &parser, Type) {
  SmallVector<int64_t> lb, rb, lc, rc;
  auto plb = [&] { return parseDims(parser, lb); };
  auto prb = [&] { return parseDims(parser, rb); };
  auto plc = [&] { return parseDims(parser, lc); };
  auto prc = [&] { return parseDims(parser, rc); };
  Field fields[] = {{"lhs_batching_dimensions", plb},
                    {"rhs_batching_dimensions", prb},
                    {"lhs_contracting_dimensions", plc},
                    {"rhs_contracting_dimensions", prc}};
  if (parseFields(parser, "dot dimension numbers", fields))
    return nullptr;
  return get(parser.getContext(), lb, rb, lc, rc);
}

void DotDimensionNumbersAttr::print(AsmPrinter &os) const {
  FieldPrinter fields(os);
  fields.dims("lhs_batching_dimensions", getLhsBatchingDimensions());
  fields.dims("rhs_batching_dimensions", getRhsBatchingDimensions());
  fields.dims("lhs_contracting_dimensions", getLhsContractingDimensions());
  fields.dims("rhs_contracting_dimensions", getRhsContractingDimensions());
}

//===-- gather and scatter --------------------------------------------------===//

Attribute GatherDimensionNumbersAttr::parse(AsmParser &parser, Type) {
  SmallVector<int64_t> offset, collapsed, operandBatch, indexBatch, map;
  int64_t vectorDim = 0;
  auto p0 = [&] { return parseDims(parser, offset); };
  auto p1 = [&] { return parseDims(parser, collapsed); };
  auto p2 = [&] { return parseDims(parser, operandBatch); };
  auto p3 = [&] { return parseDims(parser, indexBatch); };
  auto p4 = [&] { return parseDims(parser, map); };
  auto p5 = [&] { return parser.parseInteger(vectorDim); };
  Field fields[] = {{"offset_dims", p0},        {"collapsed_slice_dims", p1}, {"operand_batching_dims", p2},
                    {"start_indices_batching_dims", p3}, {"start_index_map", p4},  {"index_vector_dim", p5}};
  if (parseFields(parser, "gather dimension numbers", fields))
    return nullptr;
  return get(parser.getContext(), offset, collapsed, operandBatch, indexBatch, map, vectorDim);
}

void GatherDimensionNumbersAttr::print(AsmPrinter &os) const {
  FieldPrinter fields(os);
  fields.dims("offset_dims", getOffsetDims());
  fields.dims("collapsed_slice_dims", getCollapsedSliceDims());
  fields.dims("operand_batching_dims", getOperandBatchingDims());
  fields.dims("start_indices_batching_dims", getStartIndicesBatchingDims());
  fields.dims("start_index_map", getStartIndexMap());
  if (getIndexVectorDim() != 0)
    fields.next("index_vector_dim") << getIndexVectorDim();
}

Attribute ScatterDimensionNumbersAttr::parse(AsmParser &parser, Type) {
  SmallVector<int64_t> window, inserted, inputBatch, indexBatch, map;
  int64_t vectorDim = 0;
  auto p0 = [&] { return parseDims(parser, window); };
  auto p1 = [&] { return parseDims(parser, inserted); };
  auto p2 = [&] { return parseDims(parser, inputBatch); };
  auto p3 = [&] { return parseDims(parser, indexBatch); };
  auto p4 = [&] { return parseDims(parser, map); };
  auto p5 = [&] { return parser.parseInteger(vectorDim); };
  Field fields[] = {{"update_window_dims", p0},  {"inserted_window_dims", p1},
                    {"input_batching_dims", p2}, {"scatter_indices_batching_dims", p3},
                    {"scatter_dims_to_operand_dims", p4}, {"index_vector_dim", p5}};
  if (parseFields(parser, "scatter dimension numbers", fields))
    return nullptr;
  return get(parser.getContext(), window, inserted, inputBatch, indexBatch, map, vectorDim);
}

void ScatterDimensionNumbersAttr::print(AsmPrinter &os) const {
  FieldPrinter fields(os);
  fields.dims("update_window_dims", getUpdateWindowDims());
  fields.dims("inserted_window_dims", getInsertedWindowDims());
  fields.dims("input_batching_dims", getInputBatchingDims());
  fields.dims("scatter_indices_batching_dims", getScatterIndicesBatchingDims());
  fields.dims("scatter_dims_to_operand_dims", getScatterDimsToOperandDims());
  if (getIndexVectorDim() != 0)
    fields.next("index_vector_dim") << getIndexVectorDim();
}

//===-- dot algorithm, aliases, accuracy ------------------------------------===//

Attribute DotAlgorithmAttr::parse(AsmParser &parser, Type) {
  Type lhs, rhs, acc;
  int64_t lhsCount = 0, rhsCount = 0, operations = 0;
  bool imprecise = false;
  auto p0 = [&] { return parser.parseType(lhs); };
  auto p1 = [&] { return parser.parseType(rhs); };
  auto p2 = [&] { return parser.parseType(acc); };
  auto p3 = [&] { return parser.parseInteger(lhsCount); };
  auto p4 = [&] { return parser.parseInteger(rhsCount); };
  auto p5 = [&] { return parser.parseInteger(operations); };
  auto p6 = [&]() -> ParseResult {
    StringRef word;
    if (parser.parseKeyword(&word))
      return failure();
    imprecise = word == "true";
    return success(word == "true" || word == "false");
  };
  Field fields[] = {{"lhs_precision_type", p0},       {"rhs_precision_type", p1},  {"accumulation_type", p2},
                    {"lhs_component_count", p3},      {"rhs_component_count", p4}, {"num_primitive_operations", p5},
                    {"allow_imprecise_accumulation", p6}};
  SMLoc loc = parser.getCurrentLocation();
  if (parseFields(parser, "dot algorithm", fields, /*needAll=*/true))
    return nullptr;
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(), lhs, rhs, acc, lhsCount, rhsCount,
                    operations, imprecise);
}

void DotAlgorithmAttr::print(AsmPrinter &os) const {
  FieldPrinter fields(os);
  fields.next("lhs_precision_type") << getLhsPrecisionType();
  fields.next("rhs_precision_type") << getRhsPrecisionType();
  fields.next("accumulation_type") << getAccumulationType();
  fields.next("lhs_component_count") << getLhsComponentCount();
  fields.next("rhs_component_count") << getRhsComponentCount();
  fields.next("num_primitive_operations") << getNumPrimitiveOperations();
  fields.next("allow_imprecise_accumulation") << (getAllowImpreciseAccumulation() ? "true" : "false");
}

Attribute OutputOperandAliasAttr::parse(AsmParser &parser, Type) {
  SmallVector<int64_t> output, operand;
  int64_t index = 0;
  auto p0 = [&] { return parseDims(parser, output); };
  auto p1 = [&] { return parser.parseInteger(index); };
  auto p2 = [&] { return parseDims(parser, operand); };
  Field fields[] = {{"output_tuple_indices", p0}, {"operand_index", p1}, {"operand_tuple_indices", p2}};
  if (parseFields(parser, "output operand alias", fields, /*needAll=*/true))
    return nullptr;
  return get(parser.getContext(), output, index, operand);
}

void OutputOperandAliasAttr::print(AsmPrinter &os) const {
  FieldPrinter fields(os);
  fields.dims("output_tuple_indices", getOutputTupleIndices(), true);
  fields.next("operand_index") << getOperandIndex();
  fields.dims("operand_tuple_indices", getOperandTupleIndices(), true);
}

Attribute ResultAccuracyAttr::parse(AsmParser &parser, Type) {
  double atol = 0, rtol = 0;
  int64_t ulps = 0;
  ResultAccuracyModeAttr mode;
  auto p0 = [&] { return parser.parseFloat(atol); };
  auto p1 = [&] { return parser.parseFloat(rtol); };
  auto p2 = [&] { return parser.parseInteger(ulps); };
  auto p3 = [&] { return parser.parseAttribute(mode); };
  Field fields[] = {{"atol", p0}, {"rtol", p1}, {"ulps", p2}, {"mode", p3}};
  SMLoc loc = parser.getCurrentLocation();
  if (parseFields(parser, "result accuracy", fields))
    return nullptr;
  if (!mode) {
    parser.emitError(loc) << "expected `mode`";
    return nullptr;
  }
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(), APFloat(atol), APFloat(rtol), ulps, mode);
}

void ResultAccuracyAttr::print(AsmPrinter &os) const {
  FieldPrinter fields(os);
  if (!getAtol().isZero())
    fields.next("atol").printFloat(getAtol());
  if (!getRtol().isZero())
    fields.next("rtol").printFloat(getRtol());
  if (getUlps())
    fields.next("ulps") << getUlps();
  fields.next("mode").printAttribute(getMode());
}

ResultAccuracyAttr defaultAccuracy(MLIRContext *context) {
  APFloat zero(0.0);
  return ResultAccuracyAttr::get(context, zero, zero, 0,
                                 ResultAccuracyModeAttr::get(context, ResultAccuracyMode::DEFAULT));
}

LogicalResult ResultAccuracyAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError, APFloat atol, APFloat rtol,
                                         int64_t ulps, ResultAccuracyModeAttr mode) {
  bool zero = atol.isZero() && rtol.isZero() && ulps == 0;
  if (mode.getValue() != ResultAccuracyMode::TOLERANCE && !zero)
    return emitError() << "Invalid tolerances for ResultAccuracyAttr with mode "
                       << stringifyResultAccuracyMode(mode.getValue()) << ", must be all zero.";
  if (ulps < 0)
    return emitError() << "Invalid ulps tolerance " << ulps << ", must be non-negative.";
  return success();
}

//===-- convolution ---------------------------------------------------------===//

static void printConvSide(AsmPrinter &os, std::pair<int64_t, char> first, std::pair<int64_t, char> second,
                          ArrayRef<int64_t> spatial) {
  int64_t rank = int64_t(spatial.size()) + 2;
  os << '[';
  for (int64_t axis = 0; axis < rank; ++axis) {
    if (axis)
      os << ", ";
    if (axis == first.first) {
      os << first.second;
    } else if (axis == second.first) {
      os << second.second;
    } else {
      auto at = llvm::find(spatial, axis);
      at == spatial.end() ? os << '?' : os << (at - spatial.begin());
    }
  }
  os << ']';
}

/// Whether the letters cover each of the rank + 2 axes once, so that the short form says it all.
static bool isShortForm(int64_t a, int64_t b, ArrayRef<int64_t> spatial) {
  SmallVector<int64_t> all(spatial);
  all.push_back(a);
  all.push_back(b);
  llvm::sort(all);
  return llvm::equal(all, llvm::seq<int64_t>(0, all.size()));
}

void printConvDims(AsmPrinter &os, ConvDimensionNumbersAttr dims) {
  printConvSide(os, {dims.getInputBatchDimension(), 'b'}, {dims.getInputFeatureDimension(), 'f'},
                dims.getInputSpatialDimensions());
  os << 'x';
  printConvSide(os, {dims.getKernelInputFeatureDimension(), 'i'}, {dims.getKernelOutputFeatureDimension(), 'o'},
                dims.getKernelSpatialDimensions());
  os << "->";
  printConvSide(os, {dims.getOutputBatchDimension(), 'b'}, {dims.getOutputFeatureDimension(), 'f'},
                dims.getOutputSpatialDimensions());
}

static ParseResult parseConvSide(AsmParser &parser, StringRef letters, int64_t &first, int64_t &second,
                                 SmallVectorImpl<int64_t> &spatial) {
  first = second = -1;
  SmallVector<std::pair<int64_t, int64_t>> places;
  int64_t axis = 0;
  auto wanted = [&] {
    std::string rest;
    for (auto [letter, at] : {std::pair{letters[0], first}, std::pair{letters[1], second}})
      if (at < 0)
        rest += (rest.empty() ? "" : ", ") + std::string(1, letter);
    return rest;
  };
  auto element = [&]() -> ParseResult {
    SMLoc loc = parser.getCurrentLocation();
    int64_t number;
    OptionalParseResult isNumber = parser.parseOptionalInteger(number);
    if (isNumber.has_value()) {
      if (failed(*isNumber))
        return failure();
      if (number < 0)
        return parser.emitError(loc) << "Unexpected dimension " << number;
      for (auto [seen, _] : places)
        if (seen == number)
          return parser.emitError(loc) << "Duplicate entries for spatial dimension " << number;
      places.push_back({number, axis++});
      return success();
    }
    if (succeeded(parser.parseOptionalQuestion())) {
      ++axis;
      return success();
    }
    StringRef letter;
    if (parser.parseKeyword(&letter))
      return failure();
    std::string rest = wanted();
    if (letter.size() == 1 && letter[0] == letters[0] && first < 0)
      first = axis++;
    else if (letter.size() == 1 && letter[0] == letters[1] && second < 0)
      second = axis++;
    else if (rest.empty())
      return parser.emitError(loc) << "Unexpected keyword " << letter;
    else
      return parser.emitError(loc) << "Unexpected dimension " << letter << ", expecting " << rest;
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, element))
    return failure();
  SMLoc loc = parser.getCurrentLocation();
  if (std::string rest = wanted(); !rest.empty())
    return parser.emitError(loc) << "Expected dimensions " << rest << " not specified";
  llvm::sort(places);
  for (auto [expected, place] : llvm::enumerate(places)) {
    if (place.first != int64_t(expected))
      return parser.emitError(loc) << "Expected spatial dimensions " << expected << " not specified";
    spatial.push_back(place.second);
  }
  return success();
}

ParseResult parseConvDims(AsmParser &parser, ConvDimensionNumbersAttr &dims) {
  int64_t ib, inf, ki, ko, ob, of;
  SmallVector<int64_t> is, ks, os;
  if (parseConvSide(parser, "bf", ib, inf, is) || parser.parseKeyword("x") ||
      parseConvSide(parser, "io", ki, ko, ks) || parser.parseArrow() || parseConvSide(parser, "bf", ob, of, os))
    return failure();
  dims = ConvDimensionNumbersAttr::get(parser.getContext(), ib, inf, is, ki, ko, ks, ob, of, os);
  return success();
}

void ConvDimensionNumbersAttr::print(AsmPrinter &os) const {
  bool isShort = isShortForm(getInputBatchDimension(), getInputFeatureDimension(), getInputSpatialDimensions()) &&
                 isShortForm(getKernelInputFeatureDimension(), getKernelOutputFeatureDimension(),
                             getKernelSpatialDimensions()) &&
                 isShortForm(getOutputBatchDimension(), getOutputFeatureDimension(), getOutputSpatialDimensions());
  if (isShort) {
    os << '<';
    printConvDims(os, *this);
    os << '>';
    return;
  }
  os << "<raw ";
  bool first = true;
  auto next = [&](StringRef name) -> AsmPrinter & {
    os << (first ? "" : ", ") << name << " = ";
    first = false;
    return os;
  };
  auto dims = [&](StringRef name, ArrayRef<int64_t> values) {
    next(name) << '[';
    llvm::interleaveComma(values, os);
    os << ']';
  };
  next("input_batch_dimension") << getInputBatchDimension();
  next("input_feature_dimension") << getInputFeatureDimension();
  dims("input_spatial_dimensions", getInputSpatialDimensions());
  next("kernel_input_feature_dimension") << getKernelInputFeatureDimension();
  next("kernel_output_feature_dimension") << getKernelOutputFeatureDimension();
  dims("kernel_spatial_dimensions", getKernelSpatialDimensions());
  next("output_batch_dimension") << getOutputBatchDimension();
  next("output_feature_dimension") << getOutputFeatureDimension();
  dims("output_spatial_dimensions", getOutputSpatialDimensions());
  os << '>';
}

static Attribute parseRawConvDims(AsmParser &parser) {
  int64_t ints[6] = {0, 0, 0, 0, 0, 0};
  SmallVector<int64_t> spatial[3];
  static const StringRef names[] = {"input_batch_dimension", "input_feature_dimension",
                                    "kernel_input_feature_dimension", "kernel_output_feature_dimension",
                                    "output_batch_dimension", "output_feature_dimension"};
  static const StringRef listNames[] = {"input_spatial_dimensions", "kernel_spatial_dimensions",
                                        "output_spatial_dimensions"};
  while (failed(parser.parseOptionalGreater())) {
    StringRef word;
    SMLoc loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&word) || parser.parseEqual())
      return nullptr;
    if (auto *at = llvm::find(names, word); at != std::end(names)) {
      if (parser.parseInteger(ints[at - names]))
        return nullptr;
    } else if (auto *list = llvm::find(listNames, word); list != std::end(listNames)) {
      if (parseDims(parser, spatial[list - listNames]))
        return nullptr;
    } else {
      parser.emitError(loc) << "unknown convolution dimension field `" << word << "`";
      return nullptr;
    }
    if (failed(parser.parseOptionalComma())) {
      if (parser.parseGreater())
        return nullptr;
      break;
    }
  }
  return ConvDimensionNumbersAttr::get(parser.getContext(), ints[0], ints[1], spatial[0], ints[2], ints[3], spatial[1],
                                       ints[4], ints[5], spatial[2]);
}

Attribute ConvDimensionNumbersAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess())
    return nullptr;
  if (succeeded(parser.parseOptionalKeyword("raw")))
    return parseRawConvDims(parser);
  ConvDimensionNumbersAttr dims;
  if (parseConvDims(parser, dims) || parser.parseGreater())
    return nullptr;
  return dims;
}

} // namespace icd::stablehlo
