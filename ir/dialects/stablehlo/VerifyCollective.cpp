// Rules of collective operations.
#include "VerifyRules.h"

#include <set>

using namespace mlir;

namespace icd::stablehlo {

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static RankedTensorType tensorOf(Type type) { return cast<RankedTensorType>(type); }

LogicalResult verifyReplicaGroups(Operation *op, Attribute groups, bool allowPadding, std::optional<int64_t> groupSize,
                                  bool allIds) {
  auto dense = dyn_cast<DenseIntElementsAttr>(groups);
  if (!dense)
    return success();
  auto type = cast<RankedTensorType>(dense.getType());
  if (type.getRank() != 2)
    return op->emitOpError() << "replica groups should be a rank 2 tensor";
  if (type.getNumElements() == 0 && groupSize)
    return op->emitOpError() << "replica groups cannot be empty";
  std::set<int64_t> seen;
  for (APInt value : dense.getValues<APInt>()) {
    int64_t id = value.getSExtValue();
    if (id == -1 && allowPadding)
      continue;
    if (id < 0)
      return op->emitOpError() << "Invalid replica id " << id;
    if (!seen.insert(id).second)
      return op->emitOpError() << "replica id #" << id << " seen more than once";
  }
  for (int64_t id = 0; allIds && id < int64_t(seen.size()); ++id)
    if (!seen.count(id))
      return op->emitOpError() << "replica id #" << id << " not seen in replica groups";
  if (groupSize && type.getDimSize(1) != *groupSize)
    return op->emitOpError() << "group size of replica_groups must be " << *groupSize;
  return success();
}

LogicalResult verifyGlobalIds(Operation *op, bool useGlobalIds, ChannelHandleAttr channel) {
  if (!useGlobalIds)
    return success();
  if (!channel)
    return op->emitOpError() << "channel_id must be positive when useGlobalDeviceIds is set but got: 0";
  if (channel.getHandle() <= 0)
    return op->emitOpError() << "channel_id must be positive when useGlobalDeviceIds is set but got: "
                             << channel.getHandle();
  return success();
}

/// One operand reduces to one result: the body's rules, and the result's element type.
static LogicalResult verifyReduction(Operation *op, Block &body, TypeRange operands, TypeRange results) {
  if (operands.size() != results.size())
    return op->emitOpError() << "requires the same number of operands and results";
  for (auto [operand, result] : llvm::zip_equal(operands, results)) {
    RankedTensorType scalar = RankedTensorType::get({}, getElementTypeOrSelf(operand));
    if (failed(verifyReducer(op->getLoc(), body, {scalar}, {scalar}, {})))
      return failure();
    Type element = reducerResults(body).front().getElementType();
    if (!elementTypesAgree(element, result))
      return op->emitOpError() << "result element-type is expected to be " << element << ", but got "
                               << getElementTypeOrSelf(result);
  }
  return success();
}

LogicalResult AllGatherOp::verify() {
  if (failed(verifyReplicaGroups(*this, getReplicaGroups(), /*allowPadding=*/true)) ||
      failed(verifyGlobalIds(*this, getUseGlobalDeviceIds(), getChannelHandleAttr())))
    return failure();
  if (getNumOperands() != getNumResults())
    return emitOpError() << "requires the same number of operands and results";
  int64_t dim = getAllGatherDim();
  for (auto [index, pair] : llvm::enumerate(llvm::zip_equal(getOperandTypes(), getResultTypes()))) {
    RankedTensorType operand = tensorOf(std::get<0>(pair)), result = tensorOf(std::get<1>(pair));
    if (!elementTypesAgree(operand, result))
      return emitOpError() << "requires the same element type for operand and result at index " << index;
    if (dim >= operand.getRank())
      return emitOpError() << "all_gather_dim must be a valid index of operand";
    if (operand.getRank() != result.getRank())
      return emitOpError() << "operand and result must have the same rank";
    for (int64_t axis = 0; axis < operand.getRank(); ++axis)
      if (axis != dim && !sizesAgree(operand.getDimSize(axis), result.getDimSize(axis)))
        return emitOpError() << "operand and result should have the same shape except for the dimension size at "
                                "'all_gather_dim'";
    int64_t from = operand.getDimSize(dim), to = result.getDimSize(dim);
    if (from == 0)
      return emitOpError() << "dimension size of operand at 'all_gather_dim' cannot be zero";
    if (!ShapedType::isDynamic(from) && !ShapedType::isDynamic(to) && to % from)
      return emitOpError() << "result gather dimension has size " << to
                           << ", expected to be a multiple of operand gather dimension size " << from;
  }
  return success();
}

LogicalResult AllReduceOp::verify() {
  if (failed(verifyReplicaGroups(*this, getReplicaGroups(), /*allowPadding=*/true)) ||
      failed(verifyGlobalIds(*this, getUseGlobalDeviceIds(), getChannelHandleAttr())))
    return failure();
  return verifyReduction(*this, getComputation().front(), getOperandTypes(), getResultTypes());
}

LogicalResult AllToAllOp::verify() {
  int64_t split = getSplitDimension(), concat = getConcatDimension(), count = getSplitCount();
  if (failed(verifyReplicaGroups(*this, getReplicaGroups(), /*allowPadding=*/false, count)))
    return failure();
  if (getNumOperands() != getNumResults())
    return emitOpError() << "requires the same number of operands and results";
  for (auto [input, output] : llvm::zip_equal(getOperandTypes(), getResultTypes())) {
    RankedTensorType operand = tensorOf(input);
    if (split >= operand.getRank())
      return emitOpError() << "AllToAll split_dimension " << split << " is out-of-bounds for input rank " << operand.getRank();
    if (concat >= operand.getRank())
      return emitOpError() << "AllToAll concat_dimension " << concat << " is out-of-bounds for input rank "
                           << operand.getRank();
    SmallVector<int64_t> shape(operand.getShape());
    if (!ShapedType::isDynamic(shape[split])) {
      if (shape[split] % count)
        return emitOpError() << "split dimension has size " << shape[split] << ", expected to be a multiple of split_count "
                             << count;
      shape[split] /= count;
    }
    if (!ShapedType::isDynamic(shape[concat]))
      shape[concat] *= count;
    Type inferred = RankedTensorType::get(shape, operand.getElementType());
    if (!typesAgree(inferred, output))
      return emitOpError() << "inferred type(s) " << inferred << " are incompatible with return type(s) of operation "
                           << output;
  }
  return success();
}

/// With a dynamic root, the last operand tells the root of each datum.
static LogicalResult verifyRoot(Operation *op, StringRef name, bool dynamicRoot, size_t &dataCount) {
  dataCount = op->getNumOperands();
  if (!dynamicRoot)
    return dataCount ? success() : LogicalResult(op->emitOpError() << name << " requires at least one data operand");
  if (dataCount < 2)
    return op->emitOpError() << name << " with has_dynamic_root=true requires at least two operands (data + root)";
  --dataCount;
  RankedTensorType root = tensorOf(op->getOperand(dataCount));
  if (root.getRank() != 1 || !root.getElementType().isSignlessInteger(32))
    return op->emitOpError() << "last operand of " << name << " with has_dynamic_root=true must be a rank-1 i32 tensor";
  if (!sizesAgree(root.getDimSize(0), dataCount))
    return op->emitOpError() << "last operand of " << name
                             << " with has_dynamic_root=true must have the same number of elements as data operands ("
                             << dataCount << "), but got " << root.getDimSize(0);
  return success();
}

LogicalResult CollectiveBroadcastOp::verify() {
  size_t count;
  if (failed(verifyReplicaGroups(*this, getReplicaGroups(), /*allowPadding=*/false, std::nullopt, /*allIds=*/false)) ||
      failed(verifyRoot(*this, "collective_broadcast", getHasDynamicRoot(), count)))
    return failure();
  TypeRange data = TypeRange(getOperandTypes()).take_front(count);
  if (data.size() != getNumResults())
    return emitOpError() << "requires the same number of operands and results";
  if (!typesAgree(data, getResultTypes()))
    return emitOpError() << "inferred type(s) " << data << " are incompatible with return type(s) of operation "
                         << getResultTypes();
  return success();
}

LogicalResult CollectiveReduceOp::verify() {
  size_t count;
  if (failed(verifyReplicaGroups(*this, getReplicaGroups(), /*allowPadding=*/true)) ||
      failed(verifyGlobalIds(*this, getUseGlobalDeviceIds(), getChannelHandleAttr())) ||
      failed(verifyRoot(*this, "collective_reduce", getHasDynamicRoot(), count)))
    return failure();
  return verifyReduction(*this, getComputation().front(), TypeRange(getOperandTypes()).take_front(count), getResultTypes());
}

LogicalResult CollectivePermuteOp::verify() {
  auto type = cast<RankedTensorType>(getSourceTargetPairs().getType());
  if (type.getRank() != 2)
    return emitOpError() << "expect source_target_pairs attribute to be of rank 2, but got rank " << type.getRank();
  if (type.getDimSize(1) != 2)
    return emitOpError() << "expect source_target_pairs attribute of shape (N, 2), but got (" << listText(type.getShape())
                         << ")";
  std::set<int64_t> sources, targets;
  bool isSource = true;
  for (int64_t id : getSourceTargetPairs().getValues<int64_t>()) {
    if (id < 0)
      return emitOpError() << "replica ids in source_target_pairs must be >= 0";
    if (!(isSource ? sources : targets).insert(id).second)
      return emitOpError() << "duplicate " << (isSource ? "sources" : "targets") << " not allowed";
    isSource = !isSource;
  }
  return success();
}

LogicalResult ReduceScatterOp::verify() {
  if (failed(verifyReplicaGroups(*this, getReplicaGroups(), /*allowPadding=*/true)) ||
      failed(verifyGlobalIds(*this, getUseGlobalDeviceIds(), getChannelHandleAttr())))
    return failure();
  RankedTensorType operand = tensorOf(getOperand()), result = tensorOf(getResult());
  if (operand.getRank() != result.getRank())
    return emitOpError() << "operand and result should have same rank";
  int64_t dim = getScatterDimension();
  if (dim >= operand.getRank())
    return emitOpError() << "scatter dim should be less than operand/result rank";
  int64_t from = operand.getDimSize(dim), to = result.getDimSize(dim);
  if (from == 0)
    return emitOpError() << "operand dimension size at scatter_dimension cannot be zero";
  if (to == 0)
    return emitOpError() << "result dimension size at scatter_dimension cannot be zero";
  if (!ShapedType::isDynamic(from) && !ShapedType::isDynamic(to) && from % to)
    return emitOpError() << "operand scatter dimension has size " << from
                         << ", expected to be a multiple of result scatter dimension size " << to;
  for (int64_t axis = 0; axis < operand.getRank(); ++axis)
    if (axis != dim && !sizesAgree(operand.getDimSize(axis), result.getDimSize(axis)))
      return emitOpError() << "non scatter dimensions should be same for operand (" << operand.getDimSize(axis)
                           << ") and result (" << result.getDimSize(axis) << ")";
  return verifyReduction(*this, getComputation().front(), {operand}, {result});
}

LogicalResult AsyncStartOp::verify() {
  Block &body = getBody().front();
  if (!typesAgree(body.getArgumentTypes(), getOperandTypes()))
    return emitOpError() << "body arguments " << body.getArgumentTypes() << " must have the types of the operands "
                         << getOperandTypes();
  TypeRange returned = body.getTerminator()->getOperandTypes();
  if (!typesAgree(returned, cast<FutureType>(getType()).getTypes()))
    return emitOpError() << "the future must hold " << returned << ", but is " << getType();
  return success();
}

LogicalResult AsyncDoneOp::verify() {
  TypeRange held = cast<FutureType>(getFuture().getType()).getTypes();
  if (!typesAgree(held, getResultTypes()))
    return emitOpError() << "inferred type(s) " << held << " are incompatible with return type(s) of operation "
                         << getResultTypes();
  return success();
}

} // namespace icd::stablehlo
