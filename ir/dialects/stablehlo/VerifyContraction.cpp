// Rules of matrix products, convolutions and solvers.
#include "VerifyRules.h"

#include "mlir/Dialect/Quant/IR/QuantTypes.h"

using namespace mlir;

namespace icd::stablehlo {

using Loc = std::optional<Location>;
static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

LogicalResult DotAlgorithmAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError, Type lhs, Type rhs, Type acc,
                                       int64_t lhsCount, int64_t rhsCount, int64_t operations, bool imprecise) {
  if (lhsCount < 1)
    return emitError() << "lhs component count must be positive";
  if (rhsCount < 1)
    return emitError() << "rhs component count must be positive";
  if (operations < 1)
    return emitError() << "num primitive operations must be positive";
  auto isF8 = [](Type t) {
    auto f = dyn_cast<FloatType>(t);
    return f && f.getWidth() == 8;
  };
  bool single = lhsCount == 1 && rhsCount == 1 && operations == 1;
  bool ones = lhsCount == 1 && rhsCount == 1 && !imprecise;
  bool known = (isF8(lhs) && isF8(rhs) && isa<FloatType>(acc) && single) ||
               (lhs == rhs && ones &&
                ((lhs.isF16() && (acc.isF16() || acc.isF32()) && operations == 1) ||
                 (lhs.isBF16() && acc.isBF16() && operations == 1) ||
                 (lhs.isBF16() && acc.isF32() && llvm::is_contained({1, 3, 6, 9}, operations)) ||
                 (isa<FloatTF32Type>(lhs) && acc.isF32() && llvm::is_contained({1, 3}, operations)) ||
                 (lhs.isF32() && acc.isF32() && operations == 1) || (lhs.isF64() && acc.isF64() && operations == 1)));
  if (known)
    return success();
  return emitError() << "dot algorithm not known to be supported on any hardware: {lhs:" << lhs << ", rhs:" << rhs
                     << ", accum:" << acc << ", lhs_components:" << lhsCount << ", rhs_components:" << rhsCount
                     << ", primitive_ops:" << operations << ", imprecise:" << int(imprecise) << "}";
}

static LogicalResult verifyPrecision(Operation *op, std::optional<ArrayAttr> config) {
  if (config && config->size() > 2)
    return op->emitOpError() << "expects precision config to be empty or have <= 2 elements";
  return success();
}

/// Checks the written result of a product against its shape. Element types are the program's choice.
static LogicalResult verifyShape(Operation *op, ArrayRef<int64_t> shape, RankedTensorType result) {
  if (shapesAgree(shape, result.getShape()))
    return success();
  return op->emitOpError() << "inferred shape '" << dimsText(shape) << "' is incompatible with return type of operation "
                           << result;
}

LogicalResult DotOp::verify() {
  if (failed(verifyPrecision(*this, getPrecisionConfig())))
    return failure();
  RankedTensorType lhs = tensorOf(getLhs()), rhs = tensorOf(getRhs());
  int64_t m = lhs.getRank(), n = rhs.getRank();
  if (m < 1 || m > 2 || n < 1 || n > 2)
    return emitOpError() << "expected both lhs/rhs ranks to be either 1 or 2";
  if (!sizesAgree(lhs.getShape().back(), rhs.getShape().front()))
    return emitOpError() << "contracting dimension sizes must match for lhs/rhs";
  SmallVector<int64_t> shape(lhs.getShape().drop_back());
  llvm::append_range(shape, rhs.getShape().drop_front());
  return verifyShape(*this, shape, tensorOf(getResult()));
}

LogicalResult DotGeneralOp::verify() {
  Loc loc = getLoc();
  if (failed(verifyPrecision(*this, getPrecisionConfig())))
    return failure();
  if (getAlgorithm() && getPrecisionConfig())
    for (Attribute precision : getPrecisionConfigAttr())
      if (cast<PrecisionAttr>(precision).getValue() != Precision::DEFAULT)
        return emitOpError() << "must specify DEFAULT precision config when algorithm is set";
  RankedTensorType lhs = tensorOf(getLhs()), rhs = tensorOf(getRhs()), result = tensorOf(getResult());
  auto dims = getDotDimensionNumbers();
  ArrayRef<int64_t> lb = dims.getLhsBatchingDimensions(), rb = dims.getRhsBatchingDimensions(),
                    lc = dims.getLhsContractingDimensions(), rc = dims.getRhsContractingDimensions();
  if (lb.size() != rb.size())
    return failAt(loc, "lhs and rhs should have the same number of batching dimensions");
  if (lc.size() != rc.size())
    return failAt(loc, "lhs and rhs should have the same number of contracting dimensions");
  auto distinct = [&](StringRef side, ArrayRef<int64_t> batch, ArrayRef<int64_t> contract) -> LogicalResult {
    SmallVector<int64_t> all(batch);
    llvm::append_range(all, contract);
    if (std::optional<int64_t> twice = firstDuplicate(all))
      return failAt(loc, "has duplicated dimension from ", side, "_batching_dimensions and ", side,
                    "_contracting_dimensions: ", *twice);
    return success();
  };
  auto inRange = [&](StringRef name, ArrayRef<int64_t> list, int64_t rank) -> LogicalResult {
    for (int64_t dim : list)
      if (dim < 0 || dim >= rank)
        return failAt(loc, name, " value: ", dim, " is out of range: [0, ", rank, ")");
    return success();
  };
  if (failed(distinct("lhs", lb, lc)) || failed(distinct("rhs", rb, rc)) ||
      failed(inRange("lhs_batching_dimensions", lb, lhs.getRank())) ||
      failed(inRange("lhs_contracting_dimensions", lc, lhs.getRank())) ||
      failed(inRange("rhs_batching_dimensions", rb, rhs.getRank())) ||
      failed(inRange("rhs_contracting_dimensions", rc, rhs.getRank())))
    return failure();
  for (auto [l, r] : llvm::zip_equal(lb, rb))
    if (!sizesAgree(lhs.getDimSize(l), rhs.getDimSize(r)))
      return failAt(loc, "batching dimension sizes must match for lhs/rhs");
  for (auto [l, r] : llvm::zip_equal(lc, rc))
    if (!sizesAgree(lhs.getDimSize(l), rhs.getDimSize(r)))
      return failAt(loc, "contracting dimension sizes must match for lhs/rhs");
  SmallVector<int64_t> shape;
  for (int64_t dim : lb)
    shape.push_back(lhs.getDimSize(dim));
  for (int64_t axis = 0; axis < lhs.getRank(); ++axis)
    if (!llvm::is_contained(lb, axis) && !llvm::is_contained(lc, axis))
      shape.push_back(lhs.getDimSize(axis));
  for (int64_t axis = 0; axis < rhs.getRank(); ++axis)
    if (!llvm::is_contained(rb, axis) && !llvm::is_contained(rc, axis))
      shape.push_back(rhs.getDimSize(axis));
  return verifyShape(*this, shape, result);
}

//===-- convolution ---------------------------------------------------------===//

namespace {
struct ConvWindow {
  std::optional<ArrayRef<int64_t>> strides, lhsDilation, rhsDilation;
  std::optional<ArrayRef<bool>> reversal;
  DenseIntElementsAttr padding;
};
} // namespace

/// The result's shape; sizes that padding operands decide are dynamic.
static FailureOr<SmallVector<int64_t>> inferConvolution(Operation *op, RankedTensorType lhs, RankedTensorType rhs,
                                                        ConvDimensionNumbersAttr dims, int64_t featureGroups,
                                                        int64_t batchGroups, const ConvWindow &window,
                                                        bool dynamicPadding) {
  Loc loc = op->getLoc();
  auto fail = [&](auto &&...text) -> LogicalResult { return failAt(loc, text...); };
  int64_t rank = lhs.getRank();
  if (rank != rhs.getRank())
    return fail("expects convolution arguments to have same number of dimensions. Got: ", lhs, " and ", rhs, ".");
  if (rank < 2)
    return fail("expects convolution arguments to have >= 2 dimensions. Got: ", lhs, " and ", rhs, ".");
  ArrayRef<int64_t> is = dims.getInputSpatialDimensions(), ks = dims.getKernelSpatialDimensions(),
                    os = dims.getOutputSpatialDimensions();
  if (is.size() != ks.size() || ks.size() != os.size())
    return fail("expects the same size for input, kernel and output spatial-dimensions, but got ", is.size(), ", ",
                ks.size(), ", and ", os.size(), " resp.");
  if (int64_t(is.size()) + 2 != rank)
    return fail("expects convolution arguments to have ", is.size() + 2, " dimensions. Got: ", rank);
  SmallVector<int64_t> input{dims.getInputBatchDimension(), dims.getInputFeatureDimension()},
      kernel{dims.getKernelInputFeatureDimension(), dims.getKernelOutputFeatureDimension()},
      output{dims.getOutputBatchDimension(), dims.getOutputFeatureDimension()};
  llvm::append_range(input, is);
  llvm::append_range(kernel, ks);
  llvm::append_range(output, os);
  for (ArrayRef<int64_t> list : {ArrayRef(input), ArrayRef(kernel), ArrayRef(output)})
    for (int64_t dim : list)
      if (dim < 0 || dim >= rank)
        return fail("expects input, kernel, and output dimension-numbers to be in-range [0, ", rank, ").");
  for (auto [name, list] : {std::pair<StringRef, ArrayRef<int64_t>>{"input", input}, {"kernel", kernel}, {"output", output}})
    if (firstDuplicate(list))
      return fail("expects ", name, " dimension-numbers to be unique, got {", listText(list), "}.");
  if (featureGroups > 1 && batchGroups > 1)
    return fail("expects batch_group_count and feature_group_count not to be both greater than 1. Got ", batchGroups,
                " and ", featureGroups, " resp.");
  int64_t batch = lhs.getDimSize(input[0]), features = lhs.getDimSize(input[1]), kernelIn = rhs.getDimSize(kernel[0]),
          kernelOut = rhs.getDimSize(kernel[1]);
  auto known = [](int64_t size) { return !ShapedType::isDynamic(size); };
  if (known(batch) && batch % batchGroups)
    return fail("expects input batch dimension (", batch, ") to be divisible by batch_group_count. Got batch_group_count = ",
                batchGroups, ".");
  if (known(features)) {
    if (features % featureGroups)
      return fail("expects input feature dimension (", features,
                  ") to be a multiple of feature_group_count. Got feature_group_count = ", featureGroups, ".");
    if (known(kernelIn) && features / featureGroups != kernelIn)
      return fail("expects input feature dimension (", features,
                  ") / feature_group_count = kernel input feature dimension (", kernelIn, "). Got feature_group_count = ",
                  featureGroups, ".");
  }
  if (known(kernelOut)) {
    if (kernelOut % batchGroups)
      return fail("expects output feature dimension size (", kernelOut,
                  ") to be a multiple of batch_group_count. Got batch_group_count = ", batchGroups, ".");
    if (kernelOut % featureGroups)
      return fail("expects kernel output feature dimension (", kernelOut,
                  ") to be divisible by feature_group_count. For feature_group_count = ", featureGroups, ".");
  }
  SmallVector<int64_t> sizes, bases, shape(rank, ShapedType::kDynamic);
  for (auto [i, k] : llvm::zip_equal(is, ks)) {
    bases.push_back(lhs.getDimSize(i));
    sizes.push_back(rhs.getDimSize(k));
  }
  shape[output[0]] = known(batch) ? batch / batchGroups : batch;
  shape[output[1]] = kernelOut;
  if (dynamicPadding)
    return shape;
  FailureOr<SmallVector<Window>> windows = makeWindow(loc, sizes, window.strides, window.padding, window.lhsDilation,
                                                      window.rhsDilation, window.reversal);
  if (failed(windows))
    return failure();
  for (auto [dim, size] : llvm::zip_equal(os, windowedSizes(bases, *windows)))
    shape[dim] = size;
  return shape;
}

LogicalResult ConvolutionOp::verify() {
  if (failed(verifyPrecision(*this, getPrecisionConfig())))
    return failure();
  ConvWindow window{getWindowStrides(), getLhsDilation(), getRhsDilation(), getWindowReversal(), getPaddingAttr()};
  FailureOr<SmallVector<int64_t>> shape =
      inferConvolution(*this, tensorOf(getLhs()), tensorOf(getRhs()), getDimensionNumbers(), getFeatureGroupCount(),
                       getBatchGroupCount(), window, /*dynamicPadding=*/false);
  if (failed(shape))
    return failure();
  return verifyShape(*this, *shape, tensorOf(getResult()));
}

LogicalResult DynamicConvOp::verify() {
  if (failed(verifyPrecision(*this, getPrecisionConfig())))
    return failure();
  RankedTensorType padding = tensorOf(getPadding());
  int64_t spatial = getDimensionNumbers().getInputSpatialDimensions().size();
  if (padding.getRank() != 2 || !sizesAgree(padding.getDimSize(0), spatial) || !sizesAgree(padding.getDimSize(1), 2))
    return emitOpError() << "expects padding to be of shape [" << spatial << ", 2], but got " << padding;
  ConvWindow window{getWindowStrides(), getLhsDilation(), getRhsDilation(), getWindowReversal(), {}};
  FailureOr<SmallVector<int64_t>> shape =
      inferConvolution(*this, tensorOf(getLhs()), tensorOf(getRhs()), getDimensionNumbers(), getFeatureGroupCount(),
                       getBatchGroupCount(), window, /*dynamicPadding=*/true);
  if (failed(shape))
    return failure();
  return verifyShape(*this, *shape, tensorOf(getResult()));
}

//===-- solvers -------------------------------------------------------------===//

LogicalResult CholeskyOp::verify() {
  RankedTensorType a = tensorOf(getA());
  if (a.getRank() < 2)
    return emitOpError() << "argument 'a' must have rank >= 2, got shape " << listText(a.getShape());
  auto last = a.getShape().take_back(2);
  if (!sizesAgree(last[0], last[1]))
    return emitOpError() << "minor dimensions of 'a' must have equal size, got shape " << listText(a.getShape());
  return success();
}

LogicalResult TriangularSolveOp::verify() {
  RankedTensorType a = tensorOf(getA()), b = tensorOf(getB());
  if (a.getRank() < 2)
    return emitOpError() << "operand 'a' must have rank >= 2, but got " << a;
  if (a.getRank() != b.getRank())
    return emitOpError() << "operands must have equal rank, but got " << a << " and " << b;
  auto square = a.getShape().take_back(2);
  if (!sizesAgree(square[0], square[1]))
    return emitOpError() << "two minor dimensions of operand 'a' must be compatible, but got " << a;
  int64_t shared = b.getShape().take_back(2)[getLeftSide() ? 0 : 1];
  if (!sizesAgree(square[1], shared))
    return emitOpError() << "shared dimension of operands 'a' and 'b' must be compatible, but got " << a << " and " << b;
  if (!shapesAgree(a.getShape().drop_back(2), b.getShape().drop_back(2)))
    return emitOpError() << "batch dimensions of the operands must be compatible, but got " << a << " and " << b;
  if (getTransposeA() == Transpose::TRANSPOSE_INVALID)
    return emitOpError() << "Invalid transpose option value for triangular solve";
  if (!typesAgree(b, getType()))
    return emitOpError() << "inferred type(s) " << b << " are incompatible with return type(s) of operation " << getType();
  return success();
}

} // namespace icd::stablehlo
