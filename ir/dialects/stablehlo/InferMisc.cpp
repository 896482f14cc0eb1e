// Result types of tokens, tuples, random numbers, Fourier transforms and batch normalization.
#include "Stablehlo.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;

namespace icd::stablehlo {

using Types = SmallVectorImpl<Type>;
using Loc = std::optional<Location>;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static Type idType(MLIRContext *context) {
  return RankedTensorType::get({}, IntegerType::get(context, 32, IntegerType::Unsigned));
}

LogicalResult ReplicaIdOp::inferReturnTypes(MLIRContext *context, Loc, Adaptor, Types &types) {
  types.push_back(idType(context));
  return success();
}
LogicalResult PartitionIdOp::inferReturnTypes(MLIRContext *context, Loc, Adaptor, Types &types) {
  types.push_back(idType(context));
  return success();
}
LogicalResult CreateTokenOp::inferReturnTypes(MLIRContext *context, Loc, Adaptor, Types &types) {
  types.push_back(TokenType::get(context));
  return success();
}
LogicalResult AfterAllOp::inferReturnTypes(MLIRContext *context, Loc, Adaptor, Types &types) {
  types.push_back(TokenType::get(context));
  return success();
}
LogicalResult TupleOp::inferReturnTypes(MLIRContext *context, Loc, Adaptor adaptor, Types &types) {
  types.push_back(TupleType::get(context, adaptor.getVal().getTypes()));
  return success();
}
LogicalResult GetTupleElementOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  auto tuple = cast<TupleType>(adaptor.getOperand().getType());
  int64_t index = int32_t(adaptor.getIndex());
  if (index < 0 || index >= int64_t(tuple.size()))
    return failAt(loc, "index ", index, " is out of bounds of operand with size ", tuple.size());
  types.push_back(tuple.getType(index));
  return success();
}

LogicalResult RngOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType a = tensorOf(adaptor.getA()), shapeType = tensorOf(adaptor.getShape());
  const Value limits[] = {adaptor.getA(), adaptor.getB()};
  for (auto [index, limit] : llvm::enumerate(limits))
    if (!isScalarTensorOf(limit.getType(), "pif"))
      return failAt(loc, "#", index, " must be 0D tensor of pred or integer or floating-point values, but got ",
                    limit.getType());
  if (shapeType.getRank() != 1)
    return failAt(loc, "#2 must be 1D tensor of index or integer values, but got ", shapeType);
  SmallVector<int64_t> shape(std::max<int64_t>(shapeType.getDimSize(0), 0), ShapedType::kDynamic);
  DenseIntElementsAttr known;
  if (matchPattern(adaptor.getShape(), m_Constant(&known)) && known.getNumElements() == int64_t(shape.size()))
    for (auto [size, value] : llvm::zip(shape, known.getValues<APInt>()))
      size = value.getSExtValue();
  types.push_back(RankedTensorType::get(shape, a.getElementType()));
  return success();
}

LogicalResult FftOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  ArrayRef<int64_t> length = adaptor.getFftLength();
  FftType kind = adaptor.getFftType();
  int64_t fftRank = length.size();
  if (fftRank < 1 || fftRank > 3)
    return failAt(loc, "rank must be between 1 and 3, but got ", fftRank, ".");
  Type element = operand.getElementType();
  bool real = kind == FftType::RFFT;
  if (real && !element.isF32() && !element.isF64())
    return failAt(loc, "RFFT requires f32 or f64 input type, but is given ", element, ".");
  if (!real && !isa<ComplexType>(element))
    return failAt(loc, "FFT/IFFT/IRFFT take a complex tensor as input, but is given ", operand, ".");
  if (operand.getRank() < fftRank)
    return failAt(loc, "operand rank must not be less than fft rank of ", fftRank, " for operand of type ", operand, ".");

  SmallVector<int64_t> shape(operand.getShape());
  auto inner = ArrayRef(shape).take_back(fftRank);
  if (real) {
    if (!shapesAgree(inner, length))
      return failAt(loc, "RFFT requires innermost dimensions to be compatible with fft_length. Got: ",
                    listText(operand.getShape()), " but wanted ", listText(length), ".");
    if (length.back() != 0)
      shape.back() = length.back() / 2 + 1;
    element = ComplexType::get(element);
  } else if (kind == FftType::IRFFT) {
    if (!shapesAgree(inner.drop_back(), length.drop_back()))
      return failAt(loc, "IRFFT requires non-final dimensions to be compatible with fft_length. Got: ",
                    listText(operand.getShape()), " but wanted ", listText(length), ", and ",
                    listText(inner.drop_back()), " != ", listText(length.drop_back()), ".");
    if ((inner.back() != 0 || length.back() != 0) && !sizesAgree(inner.back(), length.back() / 2 + 1))
      return failAt(loc, "IRFFT requires innermost dimension to be compatible with fft_length[-1]/2+1. Got: ",
                    inner.back(), " but fft_length is ", listText(length), ".");
    shape.back() = length.back();
    element = cast<ComplexType>(element).getElementType();
  }
  types.push_back(RankedTensorType::get(shape, element, operand.getEncoding()));
  return success();
}

/// Checks a batch normalization; returns the type of its per-feature vectors.
static FailureOr<Type> batchNorm(Loc loc, ArrayRef<Value> wide, ValueRange features, int64_t index) {
  RankedTensorType operand = tensorOf(wide.front());
  for (Value other : wide)
    if (!shapesAgree(operand.getShape(), tensorOf(other).getShape()))
      return LogicalResult(failAt(loc, "expects multi-dimensional operands to have compatible shapes"));
  RankedTensorType first = tensorOf(features.front());
  for (Value feature : features) {
    if (tensorOf(feature).getRank() != 1)
      return LogicalResult(failAt(loc, "expects single-dimensional operands to be of rank 1, but got ", feature.getType()));
    if (!shapesAgree(first.getShape(), tensorOf(feature).getShape()))
      return LogicalResult(failAt(loc, "expects single-dimensional operands to have compatible shapes"));
  }
  if (index >= operand.getRank())
    return LogicalResult(failAt(loc, "expects featureIndex to be smaller than the rank of multi-dimensional operands; got featureIndex ",
                  index, ", and rank ", operand.getRank(), "."));
  if (index < 0)
    return LogicalResult(failAt(loc, "expects featureIndex to be a non-negative number, got ", index, "."));
  int64_t count = operand.getDimSize(index);
  if (!sizesAgree(count, first.getDimSize(0)))
    return LogicalResult(failAt(loc, "expects the size of single-dimensional operands to be compatible with feature count, but the size of "
                  "single-dimensional operands is ", first.getDimSize(0), " and the feature count is ", count, "."));
  Attribute encoding;
  ArrayRef<int64_t> bounds = boundsOf(operand);
  if (index < int64_t(bounds.size()))
    encoding = boundsEncoding(operand.getContext(), {bounds[index]});
  return Type(RankedTensorType::get({count}, operand.getElementType(), encoding));
}

LogicalResult BatchNormInferenceOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor op, Types &types) {
  if (failed(batchNorm(loc, {op.getOperand()}, {op.getScale(), op.getOffset(), op.getMean(), op.getVariance()},
                       op.getFeatureIndex())))
    return failure();
  types.push_back(op.getOperand().getType());
  return success();
}

LogicalResult BatchNormTrainingOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor op, Types &types) {
  FailureOr<Type> feature = batchNorm(loc, {op.getOperand()}, {op.getScale(), op.getOffset()}, op.getFeatureIndex());
  if (failed(feature))
    return failure();
  types.append({op.getOperand().getType(), *feature, *feature});
  return success();
}

LogicalResult BatchNormGradOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor op, Types &types) {
  FailureOr<Type> feature = batchNorm(loc, {op.getOperand(), op.getGradOutput()},
                                      {op.getScale(), op.getMean(), op.getVariance()}, op.getFeatureIndex());
  if (failed(feature))
    return failure();
  types.append({op.getOperand().getType(), *feature, *feature});
  return success();
}

} // namespace icd::stablehlo
