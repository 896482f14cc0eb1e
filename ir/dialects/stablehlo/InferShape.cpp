// Result types of operations that move data: transpose, slice, pad, gather and the like.
#include "Stablehlo.h"
#include "VerifyRules.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;

namespace icd::stablehlo {

using Types = SmallVectorImpl<Type>;
using Loc = std::optional<Location>;
static constexpr int64_t kDynamic = ShapedType::kDynamic;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

/// The bound of each axis, dynamic where there is none.
static SmallVector<int64_t> fullBounds(RankedTensorType type) {
  SmallVector<int64_t> bounds(boundsOf(type));
  bounds.resize(type.getRank(), kDynamic);
  return bounds;
}

static Type makeTensor(ArrayRef<int64_t> shape, ArrayRef<int64_t> bounds, RankedTensorType like) {
  return RankedTensorType::get(shape, like.getElementType(),
                               boundsEncoding(like.getContext(), bounds));
}

LogicalResult TransposeOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  ArrayRef<int64_t> permutation = adaptor.getPermutation();
  int64_t rank = operand.getRank();
  if (int64_t(permutation.size()) != rank)
    return failAt(loc, "TransposeOp operand rank ", rank, " does not match permutation size ", permutation.size());
  SmallVector<int64_t> sorted(permutation);
  llvm::sort(sorted);
  if (!llvm::equal(sorted, llvm::seq<int64_t>(0, rank)))
    return failAt(loc, "attribute permutation must be a permutation of [", listText(llvm::to_vector(llvm::seq<int64_t>(0, rank))),
                  "] but got ", listText(permutation));
  SmallVector<int64_t> shape, bounds, from = fullBounds(operand);
  for (int64_t axis : permutation) {
    shape.push_back(operand.getDimSize(axis));
    bounds.push_back(from[axis]);
  }
  types.push_back(permutedElementType(makeTensor(shape, bounds, operand), permutation));
  return success();
}

LogicalResult BroadcastOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  SmallVector<int64_t> shape(adaptor.getBroadcastSizes());
  for (int64_t size : shape)
    if (size < 0)
      return failAt(loc, "Broadcast with negative dimension size ", size);
  llvm::append_range(shape, operand.getShape());
  types.push_back(RankedTensorType::get(shape, operand.getElementType()));
  return success();
}

LogicalResult ConcatenateOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  if (adaptor.getInputs().empty())
    return failAt(loc, "expected 1 or more operands, but found 0");
  RankedTensorType first = tensorOf(adaptor.getInputs().front());
  int64_t dim = adaptor.getDimension();
  if (dim < 0)
    return failAt(loc, "dimension ", dim, " is negative");
  for (auto [index, input] : llvm::enumerate(adaptor.getInputs())) {
    RankedTensorType type = tensorOf(input);
    if (type.getRank() == 0)
      return failAt(loc, "rank-0 values cannot be concatenated");
    if (dim >= type.getRank())
      return failAt(loc, "dimension ", dim, " is out-of-bounds for input rank ", type.getRank());
    if (type.getRank() != first.getRank())
      return failAt(loc, "operands (0) and (", index, ") do not match rank");
    for (int64_t axis = 0; axis < type.getRank(); ++axis)
      if (axis != dim && !sizesAgree(type.getDimSize(axis), first.getDimSize(axis)))
        return failAt(loc, "shapes of operand (0) and (", index, ") are not compatible at non-concat index ", axis, ": (",
                      listText(first.getShape()), ") != (", listText(type.getShape()), ")");
    if (!elementTypesAgree(type, first))
      return failAt(loc, "operands (0) and (", index, ") do not match element type");
  }
  SmallVector<int64_t> shape(first.getShape()), bounds(fullBounds(first));
  for (Value input : adaptor.getInputs().drop_front()) {
    RankedTensorType type = tensorOf(input);
    SmallVector<int64_t> other = fullBounds(type);
    for (int64_t axis = 0; axis < type.getRank(); ++axis) {
      int64_t size = type.getDimSize(axis);
      if (axis == dim) {
        int64_t a = ShapedType::isDynamic(shape[axis]) ? bounds[axis] : shape[axis];
        int64_t b = ShapedType::isDynamic(size) ? other[axis] : size;
        bool isStatic = !ShapedType::isDynamic(shape[axis]) && !ShapedType::isDynamic(size);
        int64_t total = 0;
        bool known = !ShapedType::isDynamic(a) && !ShapedType::isDynamic(b);
        if (known && llvm::AddOverflow(a, b, total))
          return failAt(loc, "size of dimension ", dim, " of the result is too large");
        bounds[axis] = !isStatic && known ? total : kDynamic;
        shape[axis] = isStatic ? total : kDynamic;
        continue;
      }
      if (ShapedType::isDynamic(shape[axis]) && !ShapedType::isDynamic(size)) {
        shape[axis] = size;
        bounds[axis] = kDynamic;
      } else if (ShapedType::isDynamic(shape[axis]) && !ShapedType::isDynamic(other[axis])) {
        bounds[axis] = ShapedType::isDynamic(bounds[axis]) ? other[axis] : std::min(bounds[axis], other[axis]);
      }
    }
  }
  types.push_back(makeTensor(shape, bounds, first));
  return success();
}

LogicalResult SliceOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  ArrayRef<int64_t> start = adaptor.getStartIndices(), limit = adaptor.getLimitIndices(), strides = adaptor.getStrides();
  int64_t rank = operand.getRank();
  if (int64_t(start.size()) != rank)
    return failAt(loc, "the number of elements in start_indices (", start.size(), ") does not match the rank of the operand (",
                  rank, ")");
  if (int64_t(limit.size()) != rank || int64_t(strides.size()) != rank)
    return failAt(loc, "start_indices, limit_indices and strides must have the same size, but got ", start.size(), ", ",
                  limit.size(), " and ", strides.size());
  SmallVector<int64_t> shape, bounds = fullBounds(operand);
  for (int64_t axis = 0; axis < rank; ++axis) {
    if (start[axis] < 0)
      return failAt(loc, "negative start index ", start[axis], " in dimension ", axis);
    bool dynamic = operand.isDynamicDim(axis);
    int64_t size = dynamic ? bounds[axis] : operand.getDimSize(axis);
    if (!ShapedType::isDynamic(size) && limit[axis] > size)
      return failAt(loc, "limit index ", limit[axis], " is larger than dimension ", dynamic ? "bound " : "size ", size,
                    " in dimension ", axis);
    if (start[axis] > limit[axis])
      return failAt(loc, "start index ", start[axis], " is larger than limit index ", limit[axis], " in dimension ", axis);
    if (strides[axis] <= 0)
      return failAt(loc, "stride must be positive but got ", strides[axis], " in dimension ", axis);
    shape.push_back(llvm::divideCeil(uint64_t(limit[axis] - start[axis]), uint64_t(strides[axis])));
  }
  types.push_back(RankedTensorType::get(shape, operand.getElementType()));
  return success();
}

LogicalResult DynamicSliceOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  ArrayRef<int64_t> sizes = adaptor.getSliceSizes();
  size_t starts = adaptor.getStartIndices().size();
  if (sizes.size() != starts)
    return failAt(loc, "has mismatched number of slice sizes (", sizes.size(), ") and number of start indices (", starts, ")");
  if (int64_t(starts) != operand.getRank())
    return failAt(loc, "has mismatched number of start indices (", starts, ") and the rank of operand (", operand.getRank(), ")");
  if (!llvm::all_equal(adaptor.getStartIndices().getTypes()))
    return failAt(loc, "start indices must have same element type");
  for (auto [axis, size] : llvm::enumerate(sizes)) {
    if (size < 0)
      return failAt(loc, "has negative size index to dynamic slice: ", size);
    if (!operand.isDynamicDim(axis) && size > operand.getDimSize(axis))
      return failAt(loc, "has slice size ", size, " greater than dimension size ", operand.getDimSize(axis), " in dimension ",
                    axis, " of operand");
  }
  types.push_back(RankedTensorType::get(sizes, operand.getElementType()));
  return success();
}

LogicalResult DynamicUpdateSliceOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand()), update = tensorOf(adaptor.getUpdate());
  if (update.getRank() != operand.getRank())
    return failAt(loc, "update rank does not match operand rank: ", update.getRank(), " vs ", operand.getRank(), ".");
  if (int64_t(adaptor.getStartIndices().size()) != operand.getRank())
    return failAt(loc, "expects number of start_indices to match operand rank: ", adaptor.getStartIndices().size(), " vs ",
                  operand.getRank(), ".");
  if (!llvm::all_equal(adaptor.getStartIndices().getTypes()))
    return failAt(loc, "start indices must have same element type");
  if (!elementTypesAgree(operand, update))
    return failAt(loc, "update and operand must have the same element type, but got ", update, " and ", operand);
  for (int64_t axis = 0; axis < operand.getRank(); ++axis) {
    if (operand.isDynamicDim(axis) || update.isDynamicDim(axis))
      continue;
    if (update.getDimSize(axis) > operand.getDimSize(axis))
      return failAt(loc, "expects size at dimension ", axis, " of update to be in range [0, ", operand.getDimSize(axis),
                    "]. Got: ", update.getDimSize(axis), ".");
  }
  types.push_back(operand);
  return success();
}

LogicalResult PadOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand()), value = tensorOf(adaptor.getPaddingValue());
  ArrayRef<int64_t> low = adaptor.getEdgePaddingLow(), high = adaptor.getEdgePaddingHigh(),
                    interior = adaptor.getInteriorPadding();
  int64_t rank = operand.getRank();
  if (value.getRank() != 0)
    return failAt(loc, "padding value type should be a rank-0 tensor, is rank ", value.getRank());
  if (!elementTypesAgree(operand, value))
    return failAt(loc, "padding value and operand must have the same element type, but got ", value, " and ", operand);
  if (int64_t(low.size()) != rank)
    return failAt(loc, "edge_padding_low length (", low.size(), ") must match operand rank (", rank, ")");
  if (int64_t(high.size()) != rank || int64_t(interior.size()) != rank)
    return failAt(loc, "edge_padding_low, edge_padding_high and interior_padding must have the same length");
  SmallVector<int64_t> shape(rank, kDynamic), bounds(rank, kDynamic), from = fullBounds(operand);
  for (int64_t axis = 0; axis < rank; ++axis) {
    if (interior[axis] < 0)
      return failAt(loc, "Interior padding cannot be negative: ", interior[axis]);
    bool dynamic = operand.isDynamicDim(axis);
    int64_t size = dynamic ? from[axis] : operand.getDimSize(axis);
    if (ShapedType::isDynamic(size))
      continue;
    int64_t gaps = 0, total = 0;
    if (llvm::MulOverflow(std::max<int64_t>(size - 1, 0), interior[axis], gaps) || llvm::AddOverflow(size, gaps, total) ||
        llvm::AddOverflow(total, low[axis], total) || llvm::AddOverflow(total, high[axis], total))
      return failAt(loc, "Padding result is too large in dimension ", axis);
    if (total < 0)
      return failAt(loc, "Padding result in negative ", dynamic ? "bound" : "size", " for dimension ", axis);
    (dynamic ? bounds : shape)[axis] = total;
  }
  types.push_back(makeTensor(shape, bounds, operand));
  return success();
}

LogicalResult GatherOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  SmallVector<int64_t> sizes(adaptor.getSliceSizes());
  return inferGather(loc, tensorOf(adaptor.getOperand()), tensorOf(adaptor.getStartIndices()), adaptor.getDimensionNumbers(),
                     sizes, types);
}

LogicalResult DynamicGatherOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand()), sizeType = tensorOf(adaptor.getSliceSizes());
  SmallVector<int64_t> sizes(sizeType.getDimSize(0), kDynamic);
  DenseIntElementsAttr known;
  if (matchPattern(adaptor.getSliceSizes(), m_Constant(&known)) && known.getNumElements() == int64_t(sizes.size()))
    for (auto [size, value] : llvm::zip(sizes, known.getValues<APInt>()))
      size = value.getSExtValue();
  return inferGather(loc, operand, tensorOf(adaptor.getStartIndices()), adaptor.getDimensionNumbers(), sizes, types);
}

LogicalResult GetDimensionSizeOp::inferReturnTypes(MLIRContext *context, Loc loc, Adaptor adaptor, Types &types) {
  int64_t rank = tensorOf(adaptor.getOperand()).getRank(), dim = adaptor.getDimension();
  if (dim < 0 || dim >= rank)
    return failAt(loc, "requires dimension attribute in range [0, ", rank, "); found (", dim, ")");
  types.push_back(RankedTensorType::get({}, IntegerType::get(context, 32)));
  return success();
}

LogicalResult SetDimensionSizeOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  if (tensorOf(adaptor.getSize()).getRank() != 0)
    return failAt(loc, "size operand should be of rank-0");
  int64_t rank = operand.getRank(), dim = adaptor.getDimension();
  if (dim < 0 || dim >= rank)
    return failAt(loc, "requires dimension attribute in range [0, ", rank, "); found (", dim, ")");
  SmallVector<int64_t> shape(operand.getShape()), bounds = fullBounds(operand);
  if (!ShapedType::isDynamic(shape[dim]))
    bounds[dim] = shape[dim];
  shape[dim] = kDynamic;
  DenseIntElementsAttr size;
  if (matchPattern(adaptor.getSize(), m_Constant(&size)) && size.getNumElements() == 1) {
    shape[dim] = size.getSplatValue<APInt>().getSExtValue();
    bounds[dim] = kDynamic;
  }
  types.push_back(makeTensor(shape, bounds, operand));
  return success();
}

} // namespace icd::stablehlo
