// Checks that several operations of the dialect share.
#ifndef ICD_STABLEHLO_VERIFY_RULES_H
#define ICD_STABLEHLO_VERIFY_RULES_H

#include "Stablehlo.h"

namespace icd::stablehlo {

/// `tensor` with a per-axis quantized element type moved to where `permutation`
/// (result axis -> operand axis) puts its axis.
Type permutedElementType(Type tensor, ArrayRef<int64_t> permutation);

/// The result type of a gather; sizes that are not known are dynamic.
LogicalResult inferGather(std::optional<mlir::Location> loc, RankedTensorType operand, RankedTensorType indices,
                          GatherDimensionNumbersAttr dims, ArrayRef<int64_t> sliceSizes,
                          mlir::SmallVectorImpl<Type> &types);

/// The first value that occurs twice.
std::optional<int64_t> firstDuplicate(ArrayRef<int64_t> values);

/// One spatial window, as reduce_window, select_and_scatter and convolution use it.
struct Window {
  int64_t size, stride = 1, low = 0, high = 0, windowDilation = 1, baseDilation = 1;
};

/// Reads and checks window attributes; absent lists mean their defaults.
mlir::FailureOr<SmallVector<Window>> makeWindow(std::optional<mlir::Location> loc, ArrayRef<int64_t> sizes,
                                                std::optional<ArrayRef<int64_t>> strides,
                                                mlir::DenseIntElementsAttr padding,
                                                std::optional<ArrayRef<int64_t>> baseDilations,
                                                std::optional<ArrayRef<int64_t>> windowDilations,
                                                std::optional<ArrayRef<bool>> reversal = std::nullopt);

/// Sizes after sliding `windows` over `base`.
SmallVector<int64_t> windowedSizes(ArrayRef<int64_t> base, ArrayRef<Window> windows);

/// The rules of a reduction body: `inputs` and `inits` are what it reduces,
/// `allowedDims` the dimensions that its arguments may keep.
LogicalResult verifyReducer(std::optional<mlir::Location> loc, mlir::Block &body, ArrayRef<RankedTensorType> inputs,
                            ArrayRef<RankedTensorType> inits, ArrayRef<int64_t> allowedDims);

/// Tensor types of the values that a reduction body returns.
SmallVector<RankedTensorType> reducerResults(mlir::Block &body);

/// Replica groups: rank 2, each id once. `expectedGroupSize` is checked where given.
/// `allIds`: the groups must hold each id from 0 on.
LogicalResult verifyReplicaGroups(Operation *op, Attribute groups, bool allowPadding,
                                  std::optional<int64_t> expectedGroupSize = std::nullopt, bool allIds = true);

/// The channel of a collective with global device ids must be positive.
LogicalResult verifyGlobalIds(Operation *op, bool useGlobalIds, ChannelHandleAttr channel);

} // namespace icd::stablehlo
#endif
