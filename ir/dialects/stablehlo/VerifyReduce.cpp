// Rules of reductions, windows, sort and map, and of the bodies they call.
#include "VerifyRules.h"

using namespace mlir;

namespace icd::stablehlo {

using Loc = std::optional<Location>;

static SmallVector<RankedTensorType> tensorTypes(ValueRange values) {
  return llvm::map_to_vector(values, [](Value v) { return cast<RankedTensorType>(v.getType()); });
}

static LogicalResult checkResults(Operation *op, ArrayRef<Type> inferred) {
  TypeRange results = op->getResultTypes();
  if (typesAgree(TypeRange(inferred), results))
    return success();
  return op->emitOpError() << "inferred type(s) " << TypeRange(inferred)
                           << " are incompatible with return type(s) of operation " << results;
}

//===-- reduction bodies ----------------------------------------------------===//

SmallVector<RankedTensorType> reducerResults(Block &body) {
  SmallVector<RankedTensorType> types;
  for (Type type : body.getTerminator()->getOperandTypes())
    if (auto tensor = dyn_cast<RankedTensorType>(type))
      types.push_back(tensor);
  return types;
}

LogicalResult verifyReducer(Loc loc, Block &body, ArrayRef<RankedTensorType> inputs, ArrayRef<RankedTensorType> inits,
                            ArrayRef<int64_t> allowedDims) {
  size_t count = inputs.size();
  if (body.getNumArguments() != 2 * count)
    return failAt(loc, "Reduction-region must take ", 2 * count, " parameters, but takes ", body.getNumArguments(),
                  " parameter(s)");
  Operation *end = body.empty() ? nullptr : &body.back();
  if (!end || !end->hasTrait<OpTrait::IsTerminator>() || end->getNumOperands() == 0)
    return failAt(loc, "The reduction-region expected to return some value(s)");
  if (end->getNumOperands() != count)
    return failAt(loc, "Reduction-region here must produce ", count, " tensors, but produces ", end->getNumOperands(),
                  " instead");
  SmallVector<RankedTensorType> results;
  for (Type type : end->getOperandTypes()) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor)
      return failAt(loc, "Reduction-region here must produce tensor-typed result(s), but produces ", type, " instead");
    results.push_back(tensor);
  }
  for (size_t i = 0; i < 2 * count; ++i)
    if (Type type = body.getArgument(i).getType(); !typesAgree(results[i % count], type))
      return failAt(loc, "The type of reduction-region's parameter at index ", i,
                    " is different than the corresponding result type: ", type, " vs ", Type(results[i % count]));
  for (size_t i = 0; i < count; ++i) {
    if (!shapesAgree(results[i].getShape(), inits[i].getShape()))
      return failAt(loc, "The shape of reduction-region's result type at index ", i,
                    " differs from the op's corresponding init-value type: ", results[i], " vs ", inits[i]);
    if (!isPromotable(inits[i], results[i]))
      return failAt(loc, "The element-type of reduction-region's result type at index ", i,
                    " is expected to be promotable from the op's corresponding init-value element-type: ", results[i],
                    " vs ", inits[i]);
    auto argument = cast<RankedTensorType>(body.getArgument(count + i).getType());
    if (!isPromotable(inputs[i], argument))
      return failAt(loc, "The element-type of reduction-region's argument at index ", count + i,
                    " is expected to be promotable from ", inputs[i].getElementType(), ", but got ",
                    argument.getElementType());
    if (argument.getRank() > int64_t(allowedDims.size()))
      return failAt(loc, "The rank of reduction-region's argument at index ", count + i,
                    " is expected to be <= ", allowedDims.size(), ", got ", argument.getRank());
    size_t kept = 0;
    for (int64_t size : allowedDims)
      if (kept < argument.getShape().size() && sizesAgree(size, argument.getShape()[kept]))
        ++kept;
    if (kept != argument.getShape().size())
      return failAt(loc, "The shape of reduction-region's argument at index ", count + i,
                    " is not compatible with that of reduce-op's input-parameter at index ", i);
  }
  return success();
}

static LogicalResult sameShapes(Loc loc, ArrayRef<RankedTensorType> inputs) {
  for (auto [index, type] : llvm::enumerate(inputs))
    if (!shapesAgree(type.getShape(), inputs.front().getShape()))
      return failAt(loc, "expects all inputs to have compatible shapes. Shape at input-index ", index,
                    " is not compatible with shape at input-index 0");
  return success();
}

//===-- reduce --------------------------------------------------------------===//

LogicalResult ReduceOp::verify() {
  Loc loc = getLoc();
  SmallVector<RankedTensorType> inputs = tensorTypes(getInputs()), inits = tensorTypes(getInitValues());
  if (inputs.empty())
    return emitOpError("expects at least one input");
  if (failed(sameShapes(loc, inputs)))
    return failure();
  RankedTensorType first = inputs.front();
  int64_t rank = first.getRank();
  for (int64_t dim : getDimensions())
    if (dim < 0 || dim >= rank)
      return failAt(loc, "Out-of-bounds dimension ", dim, ", expected to be in range [0, ", rank, ")");
  if (std::optional<int64_t> twice = firstDuplicate(getDimensions()))
    return failAt(loc, "Duplicate reduction dimension: ", *twice);
  ArrayRef<int64_t> bounds = boundsOf(first);
  SmallVector<int64_t> kept, keptBounds;
  for (int64_t axis = 0; axis < rank; ++axis)
    if (!llvm::is_contained(getDimensions(), axis)) {
      kept.push_back(first.getDimSize(axis));
      if (!bounds.empty())
        keptBounds.push_back(bounds[axis]);
    }
  Block &body = getBody().front();
  if (failed(verifyReducer(loc, body, inputs, inits, kept)))
    return failure();
  SmallVector<Type> inferred;
  for (RankedTensorType value : reducerResults(body))
    inferred.push_back(RankedTensorType::get(kept, value.getElementType(), boundsEncoding(getContext(), keptBounds)));
  return checkResults(*this, inferred);
}

//===-- windows -------------------------------------------------------------===//

FailureOr<SmallVector<Window>> makeWindow(Loc loc, ArrayRef<int64_t> sizes, std::optional<ArrayRef<int64_t>> strides,
                                          DenseIntElementsAttr padding, std::optional<ArrayRef<int64_t>> baseDilations,
                                          std::optional<ArrayRef<int64_t>> windowDilations,
                                          std::optional<ArrayRef<bool>> reversal) {
  auto fits = [&](StringRef what, size_t count) -> LogicalResult {
    if (count == 0 || count == sizes.size())
      return success();
    return failAt(loc, "expects ", what, " to have same dimension-size as size of window dimensions (", sizes.size(),
                  "), but got: ", count, ".");
  };
  auto count = [](auto &list) { return list ? list->size() : size_t(0); };
  if (failed(fits("window-strides", count(strides))) || failed(fits("base-dilation factors", count(baseDilations))) ||
      failed(fits("window-dilation factors", count(windowDilations))) || failed(fits("window-reversal", count(reversal))))
    return failure();
  SmallVector<int64_t> pads;
  if (padding) {
    ArrayRef<int64_t> shape = padding.getType().getShape();
    if (shape.size() != 2 || shape[1] != 2)
      return LogicalResult(failAt(loc, "expects the shape of padding-attribute to be {N, 2}, but got {", listText(shape), "}."));
    if (failed(fits("padding-entries", shape[0])))
      return failure();
    llvm::append_range(pads, padding.getValues<int64_t>());
  }
  SmallVector<Window> windows;
  for (auto [axis, size] : llvm::enumerate(sizes)) {
    Window window{size};
    auto at = [index = axis](auto &list, int64_t &field) {
      if (list && !list->empty())
        field = (*list)[index];
    };
    at(strides, window.stride);
    at(baseDilations, window.baseDilation);
    at(windowDilations, window.windowDilation);
    if (!pads.empty()) {
      window.low = pads[2 * axis];
      window.high = pads[2 * axis + 1];
    }
    for (auto [what, value] : {std::pair<StringRef, int64_t>{"value for ", window.size},
                               {"stride for ", window.stride},
                               {"base dilation factor for ", window.baseDilation},
                               {"window dilation factor for ", window.windowDilation}})
      if (value <= 0 && !ShapedType::isDynamic(value))
        return LogicalResult(failAt(loc, "expects window to have positive ", what, axis, "-th window dimension, but got ", value, "."));
    windows.push_back(window);
  }
  return windows;
}

static int64_t dilated(int64_t size, int64_t dilation) { return size == 0 ? 0 : (size - 1) * dilation + 1; }

SmallVector<int64_t> windowedSizes(ArrayRef<int64_t> base, ArrayRef<Window> windows) {
  SmallVector<int64_t> sizes;
  for (auto [size, window] : llvm::zip_equal(base, windows)) {
    if (ShapedType::isDynamic(size) || ShapedType::isDynamic(window.size)) {
      sizes.push_back(ShapedType::kDynamic);
      continue;
    }
    int64_t padded = window.low + dilated(size, window.baseDilation) + window.high;
    int64_t extent = dilated(window.size, window.windowDilation);
    sizes.push_back(padded <= 0 || extent > padded ? 0 : (padded - extent) / window.stride + 1);
  }
  return sizes;
}

LogicalResult ReduceWindowOp::verify() {
  Loc loc = getLoc();
  SmallVector<RankedTensorType> inputs = tensorTypes(getInputs()), inits = tensorTypes(getInitValues());
  if (inputs.empty())
    return failAt(loc, "expects at least one input");
  if (failed(sameShapes(loc, inputs)))
    return failure();
  ArrayRef<int64_t> sizes = getWindowDimensions();
  for (RankedTensorType input : inputs)
    if (input.getRank() != int64_t(sizes.size()))
      return failAt(loc, "expects window-dimensions size == input rank, but got window-dimensions size: ", sizes.size(),
                    " and input: ", input, " with rank = ", input.getRank(), ".");
  FailureOr<SmallVector<Window>> windows =
      makeWindow(loc, sizes, getWindowStrides(), getPaddingAttr(), getBaseDilations(), getWindowDilations());
  if (failed(windows))
    return failure();
  Block &body = getBody().front();
  if (failed(verifyReducer(loc, body, inputs, inits, sizes)))
    return failure();
  SmallVector<Type> inferred;
  for (auto [input, value] : llvm::zip_equal(inputs, reducerResults(body)))
    inferred.push_back(RankedTensorType::get(windowedSizes(input.getShape(), *windows), value.getElementType()));
  return checkResults(*this, inferred);
}

LogicalResult SelectAndScatterOp::verify() {
  Loc loc = getLoc();
  auto operand = cast<RankedTensorType>(getOperand().getType()), source = cast<RankedTensorType>(getSource().getType()),
       init = cast<RankedTensorType>(getInitValue().getType());
  Block &select = getSelect().front();
  if (select.getNumArguments() != 2)
    return failAt(loc, "expects the select-region to take 2 parameters, but takes ", select.getNumArguments());
  Type scalar = RankedTensorType::get({}, operand.getElementType());
  for (auto [index, type] : llvm::enumerate(select.getArgumentTypes()))
    if (!typesAgree(scalar, type))
      return failAt(loc, "expects the type of select-region's parameter at index ", index, " to be ", scalar, ", but got ", type);
  Operation *end = select.empty() ? nullptr : &select.back();
  if (!end || end->getNumOperands() != 1)
    return failAt(loc, "expects select-region to return single value, but got: ", end ? end->getNumOperands() : 0);
  auto chosen = dyn_cast<RankedTensorType>(end->getOperand(0).getType());
  if (!chosen || chosen.getRank() != 0 || !chosen.getElementType().isInteger(1))
    return failAt(loc, "expects the return-type of select-region to be tensor<i1>, but got: ", end->getOperand(0).getType());
  Block &scatter = getScatter().front();
  if (failed(verifyReducer(loc, scatter, {source}, {init}, {})))
    return failure();
  std::optional<ArrayRef<int64_t>> given = getWindowDimensions();
  if (given && int64_t(given->size()) != operand.getRank())
    return failAt(loc, "expects window-dimensions size == operand rank, but got window-dimensions size: ", given->size(),
                  " and operand-type: ", operand, " with rank = ", operand.getRank(), ".");
  SmallVector<int64_t> ones(operand.getRank(), 1);
  FailureOr<SmallVector<Window>> windows =
      makeWindow(loc, given.value_or(ones), getWindowStrides(), getPaddingAttr(), std::nullopt, std::nullopt);
  if (failed(windows))
    return failure();
  SmallVector<int64_t> slid = windowedSizes(operand.getShape(), *windows);
  if (!shapesAgree(slid, source.getShape()))
    return failAt(loc, "expects source-type to be ", RankedTensorType::get(slid, source.getElementType()), ", but got ", source);
  SmallVector<RankedTensorType> returned = reducerResults(scatter);
  return checkResults(*this, {RankedTensorType::get(operand.getShape(), returned.front().getElementType(), operand.getEncoding())});
}

//===-- sort and map --------------------------------------------------------===//

LogicalResult SortOp::verify() {
  Loc loc = getLoc();
  if (getInputs().empty())
    return failAt(loc, "requires at least one input");
  auto first = cast<RankedTensorType>(getInputs().front().getType());
  int64_t rank = first.getRank(), dim = getDimension();
  if (dim < -rank || dim >= std::max<int64_t>(rank, 1))
    return failAt(loc, "dimension attribute value must be in range [-", rank, ", ", rank, "), but found ", dim);
  Block &body = getComparator().front();
  size_t wanted = 2 * getInputs().size();
  if (body.getNumArguments() != wanted)
    return failAt(loc, "comparator block should have ", wanted, " arguments");
  for (auto [index, input] : llvm::enumerate(getInputs())) {
    Type scalar = RankedTensorType::get({}, getElementTypeOrSelf(input.getType()));
    for (size_t at : {2 * index, 2 * index + 1})
      if (Type type = body.getArgument(at).getType(); type != scalar)
        return failAt(loc, "comparator block argument #", at, " should be of type ", scalar, " but got ", type);
  }
  Operation *end = body.empty() ? nullptr : &body.back();
  if (!end || end->getNumOperands() != 1)
    return failAt(loc, "comparator must return single output but got ", end ? end->getNumOperands() : 0);
  auto result = dyn_cast<RankedTensorType>(end->getOperand(0).getType());
  if (!result || result.getRank() != 0 || !result.getElementType().isInteger(1))
    return failAt(loc, "comparator must return tensor<i1> but got ", end->getOperand(0).getType());
  return checkResults(*this, llvm::to_vector(getInputs().getTypes()));
}

LogicalResult MapOp::verify() {
  Loc loc = getLoc();
  Block &body = getComputation().front();
  if (body.getNumArguments() != getInputs().size())
    return failAt(loc, "expects number of operands to match the arity of map computation, but got: ", getInputs().size(),
                  " and ", body.getNumArguments());
  for (auto [index, argument] : llvm::enumerate(body.getArguments())) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type || type.getRank() != 0)
      return failAt(loc, "computation arguments must be 0-rank tensor, but got: arg #", index, " of type ", argument.getType());
    Type operand = getElementTypeOrSelf(getInputs()[index].getType());
    if (type.getElementType() != operand)
      return failAt(loc, "element type of operands and computation arguments must match, but got: ", operand, " and ",
                    type.getElementType());
  }
  Operation *end = body.empty() ? nullptr : &body.back();
  if (!end || end->getNumOperands() != 1)
    return failAt(loc, "computation must return single output, but got: ", end ? end->getNumOperands() : 0);
  auto output = dyn_cast<RankedTensorType>(end->getOperand(0).getType());
  if (!output || output.getRank() != 0)
    return failAt(loc, "computation must return 0-rank tensor, but got: ", end->getOperand(0).getType());
  for (auto [index, dim] : llvm::enumerate(getDimensions()))
    if (dim != int64_t(index))
      return failAt(loc, "requires monotonically increasing dimension numbers, but got: ", listText(getDimensions()));
  for (Value input : getInputs())
    if (auto type = cast<RankedTensorType>(input.getType()); type.getRank() != int64_t(getDimensions().size()))
      return failAt(loc, "applied to a subset of dimensions currently not supported: operand dimensions = ", type.getRank(),
                    ", requested map dimensions size = ", getDimensions().size());
  auto like = getInputs().empty() ? cast<RankedTensorType>(getType()) : cast<RankedTensorType>(getInputs().front().getType());
  return checkResults(*this, {RankedTensorType::get(like.getShape(), output.getElementType())});
}

} // namespace icd::stablehlo
