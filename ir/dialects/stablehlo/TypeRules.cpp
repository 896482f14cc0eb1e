// What the type constraints of the dialect mean, and when two types agree.
#include "Stablehlo.h"

#include "mlir/Dialect/Quant/IR/QuantTypes.h"

using namespace mlir;

namespace icd::stablehlo {

static char kindOf(Type element) {
  if (auto i = dyn_cast<IntegerType>(element)) {
    if (i.getWidth() == 1)
      return i.isSignless() ? 'p' : 0;
    switch (i.getWidth()) {
    case 2: case 4: case 8: case 16: case 32: case 64:
      return i.isSigned() ? 0 : 'i';
    default:
      return 0;
    }
  }
  if (isa<IndexType>(element))
    return 'x';
  if (auto f = dyn_cast<FloatType>(element))
    return f.getWidth() <= 64 ? 'f' : 0;
  if (auto c = dyn_cast<ComplexType>(element))
    return c.getElementType().isF32() || c.getElementType().isF64() ? 'c' : 0;
  if (isa<quant::UniformQuantizedType>(element))
    return 'q';
  if (isa<quant::UniformQuantizedPerAxisType>(element))
    return 'a';
  return 0;
}

static bool perAxisFits(RankedTensorType tensor) {
  auto q = dyn_cast<quant::UniformQuantizedPerAxisType>(tensor.getElementType());
  if (!q)
    return true;
  int64_t axis = q.getQuantizedDimension();
  if (axis < 0 || axis >= tensor.getRank())
    return false;
  return tensor.isDynamicDim(axis) || tensor.getDimSize(axis) == int64_t(q.getScales().size());
}

static bool zeroPointsFit(Type element) {
  auto fits = [](quant::QuantizedType q, int64_t zero) {
    return zero >= q.getStorageTypeMin() && zero <= q.getStorageTypeMax();
  };
  if (auto q = dyn_cast<quant::UniformQuantizedType>(element))
    return fits(q, q.getZeroPoint());
  if (auto q = dyn_cast<quant::UniformQuantizedPerAxisType>(element))
    return llvm::all_of(q.getZeroPoints(), [&](int64_t z) { return fits(q, z); });
  return true;
}

bool isTensorOf(Type type, StringRef kinds) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return false;
  char kind = kindOf(tensor.getElementType());
  return kind && kinds.contains(kind) && perAxisFits(tensor) && zeroPointsFit(tensor.getElementType());
}
bool isScalarTensorOf(Type type, StringRef kinds) {
  return isTensorOf(type, kinds) && cast<RankedTensorType>(type).getRank() == 0;
}
bool isVectorTensorOf(Type type, StringRef kinds) {
  return isTensorOf(type, kinds) && cast<RankedTensorType>(type).getRank() == 1;
}
bool isStaticTensorOf(Type type, StringRef kinds) {
  return isTensorOf(type, kinds) && cast<RankedTensorType>(type).hasStaticShape();
}
bool isStaticVectorOf(Type type, StringRef kinds) {
  return isVectorTensorOf(type, kinds) && cast<RankedTensorType>(type).hasStaticShape();
}
bool isTensorOfWidth(Type type, unsigned bits) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  auto f = tensor ? dyn_cast<FloatType>(tensor.getElementType()) : FloatType();
  return f && f.getWidth() == bits;
}
bool isStaticOrBoundedTensor(Type type) {
  if (!isTensorOf(type, "pifcqa"))
    return false;
  auto tensor = cast<RankedTensorType>(type);
  if (tensor.hasStaticShape())
    return true;
  ArrayRef<int64_t> bounds = boundsOf(tensor);
  int64_t dynamic = 0, bounded = 0;
  for (auto [axis, size] : llvm::enumerate(tensor.getShape())) {
    if (!ShapedType::isDynamic(size))
      continue;
    ++dynamic;
    if (axis < bounds.size() && !ShapedType::isDynamic(bounds[axis]))
      ++bounded;
  }
  return dynamic == 1 && bounded == 1;
}
bool isLayoutAttr(Attribute attr) {
  auto elements = dyn_cast<DenseIntElementsAttr>(attr);
  return elements && elements.getType().getRank() == 1 && isa<IndexType>(elements.getElementType());
}

ArrayRef<int64_t> boundsOf(RankedTensorType type) {
  auto extensions = dyn_cast_or_null<TypeExtensionsAttr>(type.getEncoding());
  return extensions ? extensions.getBounds() : ArrayRef<int64_t>();
}

Attribute boundsEncoding(MLIRContext *context, ArrayRef<int64_t> bounds, Attribute like) {
  if (llvm::all_of(bounds, ShapedType::isDynamic))
    return like && !isa<TypeExtensionsAttr>(like) ? like : Attribute();
  return TypeExtensionsAttr::get(context, bounds);
}

bool sizesAgree(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}
bool shapesAgree(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  return a.size() == b.size() && llvm::all_of_zip(a, b, sizesAgree);
}

static bool boundsHold(RankedTensorType bounded, RankedTensorType other) {
  for (auto [bound, size] : llvm::zip(boundsOf(bounded), other.getShape()))
    if (!ShapedType::isDynamic(bound) && !ShapedType::isDynamic(size) && size > bound)
      return false;
  return true;
}

bool elementTypesAgree(Type a, Type b) {
  a = getElementTypeOrSelf(a);
  b = getElementTypeOrSelf(b);
  auto qa = dyn_cast<quant::QuantizedType>(a), qb = dyn_cast<quant::QuantizedType>(b);
  if (!qa || !qb)
    return a == b;
  if (qa.getStorageType() != qb.getStorageType() || qa.isSigned() != qb.isSigned() ||
      qa.getStorageTypeMin() != qb.getStorageTypeMin() || qa.getStorageTypeMax() != qb.getStorageTypeMax() ||
      qa.getExpressedType() != qb.getExpressedType())
    return false;
  auto pa = dyn_cast<quant::UniformQuantizedPerAxisType>(a), pb = dyn_cast<quant::UniformQuantizedPerAxisType>(b);
  return !pa || !pb || pa.getQuantizedDimension() == pb.getQuantizedDimension();
}

bool typesAgree(Type a, Type b) {
  if (a == b)
    return true;
  auto ta = dyn_cast<RankedTensorType>(a), tb = dyn_cast<RankedTensorType>(b);
  if (ta && tb)
    return elementTypesAgree(a, b) && shapesAgree(ta.getShape(), tb.getShape()) && boundsHold(ta, tb) &&
           boundsHold(tb, ta);
  auto ua = dyn_cast<TupleType>(a), ub = dyn_cast<TupleType>(b);
  return ua && ub && typesAgree(ua.getTypes(), ub.getTypes());
}
bool typesAgree(TypeRange a, TypeRange b) {
  return a.size() == b.size() && llvm::all_of_zip(a, b, [](Type x, Type y) { return typesAgree(x, y); });
}

FailureOr<Type> mostSpecific(std::optional<Location> loc, TypeRange types) {
  auto first = dyn_cast<RankedTensorType>(types.front());
  if (!first)
    return types.front();
  SmallVector<int64_t> shape(first.getShape());
  SmallVector<int64_t> bounds(shape.size(), ShapedType::kDynamic);
  for (Type type : types) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor || tensor.getRank() != first.getRank())
      return LogicalResult(failAt(loc, "Mismatched ranks of types ", first, " and ", type));
    for (auto [axis, size] : llvm::enumerate(tensor.getShape())) {
      if (!sizesAgree(size, shape[axis]))
        return LogicalResult(
            failAt(loc, "Mismatched dimension sizes ", shape[axis], " and ", size, " in dimension ", axis));
      if (!ShapedType::isDynamic(size))
        shape[axis] = size;
    }
    for (auto [axis, bound] : llvm::enumerate(boundsOf(tensor)))
      if (!ShapedType::isDynamic(bound))
        bounds[axis] = ShapedType::isDynamic(bounds[axis]) ? bound : std::min(bounds[axis], bound);
  }
  for (auto [axis, size] : llvm::enumerate(shape)) {
    if (ShapedType::isDynamic(size) || ShapedType::isDynamic(bounds[axis]))
      continue;
    if (size > bounds[axis])
      return LogicalResult(
          failAt(loc, "Mismatched dimension size ", size, " and bound ", bounds[axis], " in dimension ", axis));
    bounds[axis] = ShapedType::kDynamic;
  }
  return Type(RankedTensorType::get(shape, first.getElementType(),
                                    boundsEncoding(first.getContext(), bounds, first.getEncoding())));
}

bool isPromotable(Type from, Type to) {
  from = getElementTypeOrSelf(from);
  to = getElementTypeOrSelf(to);
  if (from == to)
    return true;
  if (auto qf = dyn_cast<quant::QuantizedType>(from)) {
    auto qt = dyn_cast<quant::QuantizedType>(to);
    return qt && qf.getExpressedType() == qt.getExpressedType() &&
           qf.getStorageTypeIntegralWidth() <= qt.getStorageTypeIntegralWidth();
  }
  if (auto cf = dyn_cast<ComplexType>(from)) {
    auto ct = dyn_cast<ComplexType>(to);
    return ct && cf.getElementType().getIntOrFloatBitWidth() <= ct.getElementType().getIntOrFloatBitWidth();
  }
  bool floats = isa<FloatType>(from) && isa<FloatType>(to);
  auto fi = dyn_cast<IntegerType>(from), ti = dyn_cast<IntegerType>(to);
  bool integers = fi && ti && fi.isUnsigned() == ti.isUnsigned() && (fi.getWidth() == 1) == (ti.getWidth() == 1);
  return (floats || integers) && from.getIntOrFloatBitWidth() <= to.getIntOrFloatBitWidth();
}

Type realPartType(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  if (auto complex = dyn_cast<ComplexType>(tensor.getElementType()))
    return tensor.clone(complex.getElementType());
  return tensor;
}

std::string listText(ArrayRef<int64_t> values) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(values, os);
  return text;
}

std::string dimsText(ArrayRef<int64_t> dims) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '[';
  llvm::interleaveComma(dims, os, [&](int64_t d) { ShapedType::isDynamic(d) ? os << '?' : os << d; });
  os << ']';
  return text;
}

LogicalResult verifySameTypes(Operation *op) {
  if (op->getNumOperands() == 0 || op->getNumResults() == 0)
    return op->emitOpError("requires at least one operand and one result");
  Type first = op->getResult(0).getType();
  for (Type type : op->getOperandTypes())
    if (!typesAgree(first, type) && !isa<quant::QuantizedType>(getElementTypeOrSelf(type)))
      return op->emitOpError("requires compatible types for all operands and results");
  for (Type type : op->getResultTypes())
    if (!typesAgree(first, type))
      return op->emitOpError("requires compatible types for all operands and results");
  return success();
}

LogicalResult inferFromOperands(std::optional<Location> loc, ValueRange operands, SmallVectorImpl<Type> &types) {
  if (operands.empty())
    return emitOptionalError(loc, "Expected non-empty operands for type inference");
  FailureOr<Type> type = mostSpecific(loc, operands.getTypes());
  if (failed(type))
    return failure();
  types.push_back(*type);
  return success();
}

} // namespace icd::stablehlo
