// Rules of operations that reshape, broadcast or reinterpret data, with static and dynamic shapes.
#include "VerifyRules.h"

#include "mlir/Dialect/Quant/IR/QuantTypes.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;

namespace icd::stablehlo {

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

Type permutedElementType(Type type, ArrayRef<int64_t> permutation) {
  auto tensor = cast<RankedTensorType>(type);
  auto q = dyn_cast<quant::UniformQuantizedPerAxisType>(tensor.getElementType());
  if (!q)
    return type;
  auto at = llvm::find(permutation, int64_t(q.getQuantizedDimension()));
  int32_t axis = at == permutation.end() ? q.getQuantizedDimension() : int32_t(at - permutation.begin());
  Type element = quant::UniformQuantizedPerAxisType::get(q.getFlags(), q.getStorageType(), q.getExpressedType(),
                                                         q.getScales(), q.getZeroPoints(), axis, q.getStorageTypeMin(),
                                                         q.getStorageTypeMax());
  return RankedTensorType::get(tensor.getShape(), element, tensor.getEncoding());
}

/// Values of a constant operand.
static std::optional<SmallVector<int64_t>> constantInts(Value value) {
  DenseIntElementsAttr attr;
  if (!matchPattern(value, m_Constant(&attr)))
    return std::nullopt;
  SmallVector<int64_t> values;
  for (APInt v : attr.getValues<APInt>())
    values.push_back(v.getSExtValue());
  return values;
}

/// Checks a result against a shape that is an operand.
static LogicalResult verifyOutputShape(Operation *op, Value shape, RankedTensorType result) {
  std::optional<SmallVector<int64_t>> known = constantInts(shape);
  if (!known)
    return success();
  if (known->size() != size_t(result.getRank()))
    return op->emitOpError() << "result should have a rank equal to the number of elements in output_shape";
  for (auto [size, given] : llvm::zip(result.getShape(), *known))
    if (given < 0 || !sizesAgree(size, given))
      return op->emitOpError() << "output shape [" << listText(*known)
                               << "] is incompatible with return type of operation " << result;
  return success();
}

LogicalResult IotaOp::verify() {
  if (int64_t(getIotaDimension()) >= tensorOf(getOutput()).getRank())
    return tensorOf(getOutput()).getRank() == 0 ? emitOpError("does not support scalars")
                                                : emitOpError("iota dimension cannot go beyond the output rank");
  return success();
}

LogicalResult DynamicIotaOp::verify() {
  if (int64_t(getIotaDimension()) >= tensorOf(getResult()).getRank())
    return emitOpError("iota dimension cannot go beyond the output rank");
  return verifyOutputShape(*this, getOutputShape(), tensorOf(getResult()));
}

LogicalResult ReshapeOp::verify() {
  RankedTensorType from = tensorOf(getOperand()), to = tensorOf(getResult());
  if (!elementTypesAgree(from, to) && !isa<quant::UniformQuantizedPerAxisType>(from.getElementType()))
    return emitOpError() << "expects operand and result to have compatible element type";
  if (from.hasStaticShape() && to.hasStaticShape() && from.getNumElements() != to.getNumElements())
    return emitOpError() << "number of output elements (" << to.getNumElements()
                         << ") doesn't match expected number of elements (" << from.getNumElements() << ")";
  return success();
}

LogicalResult DynamicReshapeOp::verify() {
  RankedTensorType from = tensorOf(getOperand()), to = tensorOf(getResult());
  if (!elementTypesAgree(from, to))
    return emitOpError() << "expects operand and result to have compatible element type";
  if (std::optional<SmallVector<int64_t>> shape = constantInts(getOutputShape()); shape && from.hasStaticShape()) {
    int64_t count = 1;
    bool overflow = false;
    for (int64_t size : *shape)
      overflow |= size < 0 || llvm::MulOverflow(count, size, count);
    if (!overflow && count != from.getNumElements())
      return emitOpError() << "output_shape is incompatible with input type of operation: input has "
                           << from.getNumElements() << " elements, but output_shape has " << count;
  }
  if (!ShapedType::isDynamic(tensorOf(getOutputShape()).getDimSize(0)) &&
      tensorOf(getOutputShape()).getDimSize(0) != to.getRank())
    return emitOpError() << "result should have a rank equal to the number of elements in output_shape";
  return verifyOutputShape(*this, getOutputShape(), to);
}

LogicalResult BitcastConvertOp::verify() {
  RankedTensorType from = tensorOf(getOperand()), to = tensorOf(getResult());
  auto isComplex = [](RankedTensorType t) { return isa<ComplexType>(t.getElementType()); };
  if (isComplex(from) != isComplex(to))
    return emitOpError() << "cannot convert between real and complex types";
  auto bits = [](RankedTensorType t) -> int64_t {
    Type element = t.getElementType();
    if (auto c = dyn_cast<ComplexType>(element))
      return 2 * c.getElementType().getIntOrFloatBitWidth();
    if (auto q = dyn_cast<quant::QuantizedType>(element))
      return q.getStorageTypeIntegralWidth();
    return element.getIntOrFloatBitWidth();
  };
  int64_t fromBits = bits(from), toBits = bits(to);
  RankedTensorType wide = fromBits > toBits ? from : to, narrow = fromBits > toBits ? to : from;
  int64_t wideBits = std::max(fromBits, toBits), narrowBits = std::min(fromBits, toBits);
  ArrayRef<int64_t> prefix = narrow.getShape();
  if (wideBits != narrowBits) {
    if (narrow.getRank() != wide.getRank() + 1)
      return emitOpError() << "rank of smaller element type (" << narrow.getRank()
                           << ") should be 1 more than rank of larger element type (" << wide.getRank() << "), but "
                           << narrow.getRank() << " != " << wide.getRank() << " + 1.";
    prefix = prefix.drop_back();
  } else if (narrow.getRank() != wide.getRank()) {
    return emitOpError() << "rank of operand (" << from.getRank() << ") and result (" << to.getRank() << ") must be equal.";
  }
  if (!shapesAgree(prefix, wide.getShape()))
    return emitOpError() << "operand and result shapes must match except for the innermost dimension of the shape with "
                            "the smaller element type. Got: "
                         << from << " and " << to << ".";
  if (wideBits != narrowBits) {
    int64_t count = narrow.getShape().back();
    if (!ShapedType::isDynamic(count) && count * narrowBits != wideBits)
      return emitOpError() << "requires compatible bit widths. Got: " << from << " and " << to << ", but " << narrowBits
                           << " * " << count << " != " << wideBits << ".";
  }
  return success();
}

LogicalResult ReverseOp::verify() {
  int64_t rank = tensorOf(getOperand()).getRank();
  if (firstDuplicate(getDimensions()))
    return emitOpError() << "dimensions should be unique. Got: " << listText(getDimensions());
  for (int64_t dim : getDimensions()) {
    if (dim < 0)
      return emitOpError() << "all dimensions should be non-negative. Got dimension: " << dim << ".";
    if (dim >= rank)
      return emitOpError() << "all dimensions should be between [0, " << rank << "). Got dimension: " << dim << ".";
  }
  return success();
}

static LogicalResult verifyBroadcast(Operation *op, RankedTensorType operand, RankedTensorType result,
                                     ArrayRef<int64_t> dims) {
  if (!elementTypesAgree(operand, result) && !isa<quant::QuantizedType>(operand.getElementType()))
    return op->emitOpError() << "expects operand and result to have compatible element type";
  if (int64_t(dims.size()) != operand.getRank())
    return op->emitOpError() << "broadcast_dimensions size (" << dims.size() << ") does not match operand rank ("
                             << operand.getRank() << ")";
  if (firstDuplicate(dims))
    return op->emitOpError() << "broadcast_dimensions should not have duplicates";
  for (auto [axis, dim] : llvm::enumerate(dims)) {
    if (dim < 0 || dim >= result.getRank())
      return op->emitOpError() << "broadcast_dimensions contains invalid value " << dim << " for result with rank "
                               << result.getRank();
  }
  return success();
}

LogicalResult BroadcastInDimOp::verify() {
  RankedTensorType operand = tensorOf(getOperand()), result = tensorOf(getResult());
  if (failed(verifyBroadcast(*this, operand, result, getBroadcastDimensions())))
    return failure();
  for (auto [axis, dim] : llvm::enumerate(getBroadcastDimensions())) {
    int64_t size = operand.getDimSize(axis);
    if (!ShapedType::isDynamic(size) && size != 1 && !sizesAgree(size, result.getDimSize(dim)))
      return emitOpError() << "size of operand dimension " << axis << " (" << size
                           << ") is not equal to 1 or size of result dimension " << dim << " (" << result.getDimSize(dim)
                           << ")";
  }
  return success();
}

LogicalResult DynamicBroadcastInDimOp::verify() {
  RankedTensorType operand = tensorOf(getOperand()), result = tensorOf(getResult()),
                   shape = tensorOf(getOutputDimensions());
  ArrayRef<int64_t> dims = getBroadcastDimensions();
  if (!sizesAgree(shape.getDimSize(0), result.getRank()))
    return emitOpError() << "result rank (" << result.getRank() << ") is not equal to number of output dimensions ("
                         << shape.getDimSize(0) << ")";
  if (failed(verifyBroadcast(*this, operand, result, dims)))
    return failure();
  for (auto [axis, dim] : llvm::enumerate(dims)) {
    int64_t size = operand.getDimSize(axis);
    if (!ShapedType::isDynamic(size) && size != 1 && !sizesAgree(size, result.getDimSize(dim)))
      return emitOpError() << "size of operand dimension " << axis << " (" << size
                           << ") is not compatible with size of result dimension " << dim << " ("
                           << result.getDimSize(dim) << ")";
  }
  SmallVector<int64_t> hints(getKnownExpandingDimensions().value_or(ArrayRef<int64_t>()));
  llvm::append_range(hints, getKnownNonexpandingDimensions().value_or(ArrayRef<int64_t>()));
  if (firstDuplicate(hints))
    return emitOpError() << "duplicate expansion hint for at least one operand dimension";
  for (int64_t hint : hints)
    if (hint < 0 || hint >= operand.getRank())
      return emitOpError() << "hint for expanding dimension " << hint << " does not refer to a valid operand dimension";
  if (std::optional<SmallVector<int64_t>> known = constantInts(getOutputDimensions()))
    for (auto [axis, dim] : llvm::enumerate(dims)) {
      int64_t size = operand.getDimSize(axis);
      if (!ShapedType::isDynamic(size) && size != 1 && size_t(dim) < known->size() && size != (*known)[dim])
        return emitOpError() << "size of operand dimension " << axis << " (" << size
                             << ") is not equal to 1 or value of shape at index " << dim << " (" << (*known)[dim] << ")";
    }
  return verifyOutputShape(*this, getOutputDimensions(), result);
}

LogicalResult DynamicPadOp::verify() {
  RankedTensorType operand = tensorOf(getOperand()), result = tensorOf(getResult());
  int64_t rank = operand.getRank();
  if (tensorOf(getPaddingValue()).getRank() != 0)
    return emitOpError() << "padding value type should be a rank-0";
  for (Value list : {getEdgePaddingLow(), getEdgePaddingHigh(), getInteriorPadding()})
    if (!sizesAgree(tensorOf(list).getDimSize(0), rank))
      return emitOpError() << "padding operands size (" << tensorOf(list).getDimSize(0) << ") must match operand rank ("
                           << rank << ")";
  if (result.getRank() != rank)
    return emitOpError() << "operand rank(" << rank << ") must match result(" << result.getRank() << ")";
  auto low = constantInts(getEdgePaddingLow()), high = constantInts(getEdgePaddingHigh()),
       interior = constantInts(getInteriorPadding());
  if (interior)
    for (int64_t value : *interior)
      if (value < 0)
        return emitOpError() << "interior_padding must be non-negative, but got " << value;
  if (!low || !high || !interior)
    return success();
  for (int64_t axis = 0; axis < rank; ++axis) {
    if (operand.isDynamicDim(axis) || result.isDynamicDim(axis))
      continue;
    int64_t size = operand.getDimSize(axis);
    int64_t wanted = size + (*low)[axis] + (*high)[axis] + std::max<int64_t>(size - 1, 0) * (*interior)[axis];
    if (wanted != result.getDimSize(axis))
      return emitOpError() << "expected output dimension at index " << axis << " to equal " << wanted << ", but got "
                           << result.getDimSize(axis);
  }
  return success();
}

LogicalResult RealDynamicSliceOp::verify() {
  int64_t rank = tensorOf(getOperand()).getRank();
  for (auto [name, list] : {std::pair<StringRef, Value>{"start_indices", getStartIndices()},
                            {"limit_indices", getLimitIndices()},
                            {"strides", getStrides()}})
    if (!sizesAgree(tensorOf(list).getDimSize(0), rank))
      return emitOpError() << "has mismatched number of operand rank (" << rank << ") and " << name << " size ("
                           << tensorOf(list).getDimSize(0) << ")";
  if (tensorOf(getResult()).getRank() != rank)
    return emitOpError() << "operand and result must have the same rank";
  return success();
}

LogicalResult CompareOp::verify() {
  if (!getCompareType())
    return success();
  Type element = getElementTypeOrSelf(getLhs().getType());
  ComparisonType type = *getCompareType();
  bool isFloat = isa<FloatType, ComplexType, quant::QuantizedType>(element);
  bool floatCompare = type == ComparisonType::FLOAT || type == ComparisonType::TOTALORDER;
  bool intCompare = type == ComparisonType::SIGNED || type == ComparisonType::UNSIGNED;
  if ((floatCompare && !isFloat) || (intCompare && isa<FloatType, ComplexType>(element)))
    return emitOpError() << "compare_type " << stringifyComparisonType(type) << " does not suit elements of type " << element;
  return success();
}

LogicalResult RngBitGeneratorOp::verify() {
  Type state = getInitialState().getType(), output = getOutputState().getType();
  if (!typesAgree(state, output))
    return emitOpError() << "output state shape must be compatible with initial state shape. Got: " << state << " and "
                         << output;
  return success();
}

} // namespace icd::stablehlo
