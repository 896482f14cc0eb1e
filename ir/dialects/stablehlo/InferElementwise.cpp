// Result types of elementwise operations whose result type is not an operand's.
#include "Stablehlo.h"

#include "mlir/Dialect/Quant/IR/QuantTypes.h"
#include "mlir/IR/Builders.h"

using namespace mlir;

namespace icd::stablehlo {

using Types = SmallVectorImpl<Type>;
using Loc = std::optional<Location>;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

static Type withElement(RankedTensorType tensor, Type element) {
  return RankedTensorType::get(tensor.getShape(), element, tensor.getEncoding());
}

LogicalResult AbsOp::inferReturnTypes(MLIRContext *, Loc, Adaptor adaptor, Types &types) {
  types.push_back(realPartType(adaptor.getOperand().getType()));
  return success();
}
LogicalResult RealOp::inferReturnTypes(MLIRContext *, Loc, Adaptor adaptor, Types &types) {
  types.push_back(realPartType(adaptor.getOperand().getType()));
  return success();
}
LogicalResult ImagOp::inferReturnTypes(MLIRContext *, Loc, Adaptor adaptor, Types &types) {
  types.push_back(realPartType(adaptor.getOperand().getType()));
  return success();
}

LogicalResult IsFiniteOp::inferReturnTypes(MLIRContext *context, Loc, Adaptor adaptor, Types &types) {
  types.push_back(withElement(tensorOf(adaptor.getX()), IntegerType::get(context, 1)));
  return success();
}

LogicalResult UniformDequantizeOp::inferReturnTypes(MLIRContext *, Loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  types.push_back(withElement(operand, cast<quant::QuantizedType>(operand.getElementType()).getExpressedType()));
  return success();
}

LogicalResult ComplexOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  FailureOr<Type> part = mostSpecific(loc, adaptor.getOperands().getTypes());
  if (failed(part))
    return failure();
  auto tensor = cast<RankedTensorType>(*part);
  types.push_back(withElement(tensor, ComplexType::get(tensor.getElementType())));
  return success();
}

LogicalResult CompareOp::inferReturnTypes(MLIRContext *context, Loc loc, Adaptor adaptor, Types &types) {
  Type lhs = adaptor.getLhs().getType(), rhs = adaptor.getRhs().getType();
  if (!elementTypesAgree(lhs, rhs))
    return failAt(loc, "expects lhs and rhs to have compatible element type. Got: ", getElementTypeOrSelf(lhs), " and ",
                  getElementTypeOrSelf(rhs));
  FailureOr<Type> type = mostSpecific(loc, {lhs, rhs});
  if (failed(type))
    return failure();
  types.push_back(withElement(cast<RankedTensorType>(*type), IntegerType::get(context, 1)));
  return success();
}

LogicalResult ClampOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType operand = tensorOf(adaptor.getOperand());
  auto check = [&](StringRef name, RankedTensorType limit) -> LogicalResult {
    if (!elementTypesAgree(limit, operand))
      return failAt(loc, name, " and operand must have the same element type, but got ", limit, " and ", operand);
    if (limit.getRank() != 0 && !shapesAgree(limit.getShape(), operand.getShape()))
      return failAt(loc, name, " shape ", dimsText(limit.getShape()),
                    " is not scalar and is not compatible to operand shape ", dimsText(operand.getShape()));
    return success();
  };
  if (failed(check("min", tensorOf(adaptor.getMin()))) || failed(check("max", tensorOf(adaptor.getMax()))))
    return failure();
  types.push_back(operand);
  return success();
}

LogicalResult SelectOp::inferReturnTypes(MLIRContext *, Loc loc, Adaptor adaptor, Types &types) {
  RankedTensorType onTrue = tensorOf(adaptor.getOnTrue()), onFalse = tensorOf(adaptor.getOnFalse());
  if (!typesAgree(onTrue, onFalse))
    return failAt(loc, "requires compatible types for non-predicate operands");
  RankedTensorType pred = tensorOf(adaptor.getPred());
  if (pred.getRank() != 0 && !shapesAgree(pred.getShape(), onTrue.getShape()))
    return failAt(loc, "requires the same shape for all operands");
  FailureOr<Type> type = mostSpecific(loc, {onTrue, onFalse});
  if (failed(type))
    return failure();
  types.push_back(*type);
  return success();
}

} // namespace icd::stablehlo
