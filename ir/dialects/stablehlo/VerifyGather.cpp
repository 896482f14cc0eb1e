// Rules of gather and scatter.
#include "VerifyRules.h"

#include <set>

using namespace mlir;

namespace icd::stablehlo {

using Loc = std::optional<Location>;

std::optional<int64_t> firstDuplicate(ArrayRef<int64_t> values) {
  std::set<int64_t> seen;
  for (int64_t value : values)
    if (!seen.insert(value).second)
      return value;
  return std::nullopt;
}

namespace {

LogicalResult inRange(Loc loc, StringRef name, ArrayRef<int64_t> dims, StringRef rankName, int64_t rank) {
  for (int64_t dim : dims)
    if (dim < 0 || dim >= rank)
      return failAt(loc, "Expects each element of ", name, " to be in range [0, ", rankName, ") i.e. [0, ", rank,
                    "). got: ", dim, ".");
  return success();
}

LogicalResult sortedUnique(Loc loc, StringRef name, ArrayRef<int64_t> dims, StringRef expects, StringRef separator,
                           StringRef end, bool sorted = true) {
  if (sorted && !llvm::is_sorted(dims))
    return failAt(loc, expects, " ", name, " to be sorted", separator, " got: [", listText(dims), "]", end);
  if (firstDuplicate(dims))
    return failAt(loc, expects, " ", name, " to not repeat", separator, " got: [", listText(dims), "]", end);
  return success();
}

LogicalResult disjoint(Loc loc, StringRef a, StringRef b, ArrayRef<int64_t> x, ArrayRef<int64_t> y) {
  SmallVector<int64_t> both(x);
  llvm::append_range(both, y);
  if (std::optional<int64_t> twice = firstDuplicate(both))
    return failAt(loc, "has duplicated dimension from ", a, " and ", b, ": ", *twice);
  return success();
}
} // namespace

LogicalResult inferGather(Loc loc, RankedTensorType operand, RankedTensorType indices, GatherDimensionNumbersAttr dims,
                          ArrayRef<int64_t> sizes, SmallVectorImpl<Type> &types) {
  ArrayRef<int64_t> offset = dims.getOffsetDims(), collapsed = dims.getCollapsedSliceDims(),
                    operandBatch = dims.getOperandBatchingDims(), indexBatch = dims.getStartIndicesBatchingDims(),
                    map = dims.getStartIndexMap();
  int64_t vectorDim = dims.getIndexVectorDim(), operandRank = operand.getRank(), indexRank = indices.getRank();

  if (vectorDim < 0 || vectorDim > indexRank)
    return failAt(loc, "Expects index_vector_dim to be in range [0, rank-of('start_indices')] i.e. [0, ", indexRank,
                  "]. got: ", vectorDim, ".");
  if (operandRank != int64_t(offset.size() + collapsed.size() + operandBatch.size()))
    return failAt(loc, "offset_dims size (", offset.size(), ") plus collapse_slice_dims size (", collapsed.size(),
                  ") plus operand_batching_dims size (", operandBatch.size(), ") is not equal to operand rank (",
                  operandRank, ")");
  int64_t vectorSize = vectorDim < indexRank ? indices.getDimSize(vectorDim) : 1;
  if (!sizesAgree(vectorSize, map.size()))
    return failAt(loc, "start_index_map size (", map.size(), ") is not equal to size of index dimension (", vectorDim,
                  ") of start_indices (", vectorSize, ")");
  if (failed(sortedUnique(loc, "offset_dims", offset, "expects", ",", "")) ||
      failed(sortedUnique(loc, "collapsed_slice_dims", collapsed, "expects", ",", "")) ||
      failed(sortedUnique(loc, "operand_batching_dims", operandBatch, "expects", ",", "")) ||
      failed(sortedUnique(loc, "start_indices_batching_dims", indexBatch, "expects", ",", "", /*sorted=*/false)) ||
      failed(disjoint(loc, "collapsed_slice_dims", "operand_batching_dims", collapsed, operandBatch)) ||
      failed(disjoint(loc, "start_index_map", "operand_batching_dims", map, operandBatch)))
    return failure();
  int64_t resultRank = int64_t(offset.size()) + (vectorDim == indexRank ? indexRank : indexRank - 1);
  if (failed(inRange(loc, "offset_dims", offset, "implied-result-rank", resultRank)) ||
      failed(inRange(loc, "collapsed_slice_dims", collapsed, "rank-of('operand')", operandRank)) ||
      failed(inRange(loc, "operand_batching_dims", operandBatch, "rank-of('operand')", operandRank)) ||
      failed(inRange(loc, "start_indices_batching_dims", indexBatch, "rank-of('start_indices')", indexRank)) ||
      failed(inRange(loc, "start_index_map", map, "rank-of('operand')", operandRank)))
    return failure();
  if (llvm::is_contained(indexBatch, vectorDim))
    return failAt(loc, "expects start_indices_batching_dims not to include index_vector_dim ", vectorDim);
  if (operandBatch.size() != indexBatch.size())
    return failAt(loc, "operand_batching_dims and start_indices_batching_dims should have the same size");
  for (auto [i, pair] : llvm::enumerate(llvm::zip_equal(operandBatch, indexBatch))) {
    int64_t a = operand.getDimSize(std::get<0>(pair)), b = indices.getDimSize(std::get<1>(pair));
    if (!sizesAgree(a, b))
      return failAt(loc, "operand_batching_dims[", i, "] and start_indices_batching_dims[", i,
                    "] must have compatible sizes, but got ", a, " and ", b);
  }
  if (int64_t(sizes.size()) != operandRank)
    return failAt(loc, "slice_sizes size (", sizes.size(), ") not equal to operand rank (", operandRank, ")");
  for (auto [axis, size] : llvm::enumerate(sizes)) {
    if (ShapedType::isDynamic(size))
      continue;
    int64_t limit = operand.getDimSize(axis);
    if (size < 0 || (!ShapedType::isDynamic(limit) && size > limit))
      return failAt(loc, "slice size (", size, ") is out of bounds for operand dimension (", limit, ") at index ", axis);
  }
  for (auto [name, list] : {std::pair<StringRef, ArrayRef<int64_t>>{"collapsed_slice_dims", collapsed},
                            {"operand_batching_dims", operandBatch}})
    for (int64_t dim : list)
      if (!ShapedType::isDynamic(sizes[dim]) && sizes[dim] > 1)
        return failAt(loc, "Expects that for each dim in ", name, ", slice_sizes[dim] should be <= 1, but got ", sizes[dim]);

  SmallVector<int64_t> sliceShape, batchShape, batchBounds, shape, bounds;
  for (int64_t axis = 0; axis < operandRank; ++axis)
    if (!llvm::is_contained(collapsed, axis) && !llvm::is_contained(operandBatch, axis))
      sliceShape.push_back(sizes[axis]);
  ArrayRef<int64_t> from = boundsOf(indices);
  for (int64_t axis = 0; axis < indexRank; ++axis)
    if (axis != vectorDim) {
      batchShape.push_back(indices.getDimSize(axis));
      batchBounds.push_back(axis < int64_t(from.size()) ? from[axis] : ShapedType::kDynamic);
    }
  size_t slice = 0, batch = 0;
  for (int64_t axis = 0; axis < resultRank; ++axis) {
    if (llvm::is_contained(offset, axis)) {
      shape.push_back(sliceShape[slice++]);
      bounds.push_back(ShapedType::kDynamic);
    } else {
      shape.push_back(batchShape[batch]);
      bounds.push_back(batchBounds[batch++]);
    }
  }
  types.push_back(RankedTensorType::get(shape, operand.getElementType(), boundsEncoding(operand.getContext(), bounds)));
  return success();
}

LogicalResult ScatterOp::verify() {
  Loc loc = getLoc();
  if (getInputs().empty())
    return emitOpError("expects at least one input");
  auto dims = getScatterDimensionNumbers();
  ArrayRef<int64_t> window = dims.getUpdateWindowDims(), inserted = dims.getInsertedWindowDims(),
                    inputBatch = dims.getInputBatchingDims(), indexBatch = dims.getScatterIndicesBatchingDims(),
                    map = dims.getScatterDimsToOperandDims();
  SmallVector<RankedTensorType> inputs, updates, scalars;
  for (Value v : getInputs())
    inputs.push_back(cast<RankedTensorType>(v.getType()));
  for (Value v : getUpdates())
    updates.push_back(cast<RankedTensorType>(v.getType()));
  RankedTensorType input = inputs.front(), update = updates.front();
  auto indices = cast<RankedTensorType>(getScatterIndices().getType());
  for (RankedTensorType type : inputs)
    if (!shapesAgree(type.getShape(), input.getShape()))
      return failAt(loc, "Not all inputs have compatible shapes.");
  for (RankedTensorType type : updates)
    if (!shapesAgree(type.getShape(), update.getShape()))
      return failAt(loc, "Not all updates have compatible shapes.");
  int64_t rank = input.getRank(), indexRank = indices.getRank(), updateRank = update.getRank();
  if (rank != int64_t(window.size() + inserted.size() + inputBatch.size()))
    return failAt(loc, "Expects rank-of operand to match size-of('update_window_dims') + size-of('inserted_window_dims') + "
                       "size-of('input_batching_dims') i.e. ",
                  window.size() + inserted.size() + inputBatch.size(), " but got ", rank, ".");
  if (failed(sortedUnique(loc, "update_window_dims", window, "Expects", ";", ".")) ||
      failed(inRange(loc, "update_window_dims", window, "rank-of('updates')", updateRank)) ||
      failed(sortedUnique(loc, "inserted_window_dims", inserted, "Expects", ";", ".")) ||
      failed(inRange(loc, "inserted_window_dims", inserted, "rank-of('operand')", rank)) ||
      failed(sortedUnique(loc, "input_batching_dims", inputBatch, "Expects", ";", ".")) ||
      failed(disjoint(loc, "inserted_window_dims", "input_batching_dims", inserted, inputBatch)) ||
      failed(disjoint(loc, "scatter_dims_to_operand_dims", "input_batching_dims", map, inputBatch)) ||
      failed(inRange(loc, "input_batching_dims", inputBatch, "rank-of('operand')", rank)) ||
      failed(sortedUnique(loc, "scatter_indices_batching_dims", indexBatch, "Expects", ";", ".", /*sorted=*/false)) ||
      failed(inRange(loc, "scatter_indices_batching_dims", indexBatch, "rank-of('scatter_indices')", indexRank)))
    return failure();
  int64_t vectorDim = dims.getIndexVectorDim();
  if (vectorDim < 0 || vectorDim > indexRank)
    return failAt(loc, "Expects index_vector_dim to be in range [0, rank-of('scatter_indices')] i.e. [0, ", indexRank,
                  "]. got: ", vectorDim, ".");
  if (llvm::is_contained(indexBatch, vectorDim))
    return failAt(loc, "expects scatter_indices_batching_dims not to include index_vector_dim ", vectorDim, ".");
  if (inputBatch.size() != indexBatch.size())
    return failAt(loc, "input_batching_dims and scatter_indices_batching_dims should have the same size.");
  for (auto [i, pair] : llvm::enumerate(llvm::zip_equal(inputBatch, indexBatch))) {
    int64_t a = input.getDimSize(std::get<0>(pair)), b = indices.getDimSize(std::get<1>(pair));
    if (!sizesAgree(a, b))
      return failAt(loc, "input_batching_dims[", i, "] and scatter_indices_batching_dims[", i,
                    "] must have compatible sizes, but got ", a, " and ", b, ".");
  }
  int64_t vectorSize = vectorDim < indexRank ? indices.getDimSize(vectorDim) : 1;
  if (!sizesAgree(vectorSize, map.size()))
    return failAt(loc, "Scatter op has ", map.size(),
                  " elements in scatter_dims_to_operand_dims and the bound of dimension index_vector_dim=", vectorDim,
                  " of scatter_indices is ", vectorSize, ". These two numbers must be equal.");
  if (failed(inRange(loc, "scatter_dims_to_operand_dims", map, "rank-of('operand')", rank)))
    return failure();
  if (firstDuplicate(map))
    return failAt(loc, "Expects scatter_dims_to_operand_dims to not repeat; got: [", listText(map), "].");

  SmallVector<int64_t> batchShape;
  for (int64_t axis = 0; axis < indexRank; ++axis)
    if (axis != vectorDim)
      batchShape.push_back(indices.getDimSize(axis));
  int64_t wantedRank = batchShape.size() + window.size();
  if (updateRank != wantedRank)
    return failAt(loc, "expects updates tensor must be of rank ", wantedRank,
                  " ( == rank-of('scatter_indices') - 1 + size-of('update_window_dims'), where 'scatter_indices' is "
                  "expanded by a trailing 1 dimension if 'index_vector_dim' == rank-of('scatter_indices')), but got ",
                  updateRank, ".");
  SmallVector<int64_t> windowShape;
  for (int64_t axis = 0; axis < rank; ++axis)
    if (!llvm::is_contained(inserted, axis) && !llvm::is_contained(inputBatch, axis))
      windowShape.push_back(input.getDimSize(axis));
  for (auto [dim, limit] : llvm::zip_equal(window, windowShape)) {
    int64_t size = update.getDimSize(dim);
    if (!ShapedType::isDynamic(size) && !ShapedType::isDynamic(limit) && size > limit)
      return failAt(loc, "expects bounds of the window dimensions of updates to not exceed the bounds of the corresponding "
                         "dimensions of operand. For dimension ", dim, ", updates bound is ", size, ", operand bound is ",
                    limit, ".");
  }
  size_t batch = 0;
  for (int64_t axis = 0; axis < updateRank; ++axis) {
    if (llvm::is_contained(window, axis))
      continue;
    if (!sizesAgree(update.getDimSize(axis), batchShape[batch]))
      return failAt(loc, "expects bounds of the scatter dimensions of updates to be same as the bounds of the corresponding "
                         "dimensions of scatter indices. For scatter dimension ", axis, ", updates bound is ",
                    update.getDimSize(axis), " , scatter_indices bound is ", batchShape[batch], ".");
    ++batch;
  }
  for (RankedTensorType type : inputs)
    scalars.push_back(RankedTensorType::get({}, type.getElementType()));
  Block &body = getUpdateComputation().front();
  if (failed(verifyReducer(loc, body, inputs, scalars, {})))
    return failure();
  SmallVector<RankedTensorType> returned = reducerResults(body);
  if (getNumResults() != inputs.size())
    return emitOpError() << "expects " << inputs.size() << " results, but got " << getNumResults();
  for (auto [result, type, value] : llvm::zip_equal(getResultTypes(), inputs, returned)) {
    Type inferred = RankedTensorType::get(type.getShape(), value.getElementType(), type.getEncoding());
    if (!typesAgree(inferred, result))
      return emitOpError() << "inferred type(s) " << inferred << " are incompatible with return type(s) of operation "
                           << result;
  }
  return success();
}

} // namespace icd::stablehlo
