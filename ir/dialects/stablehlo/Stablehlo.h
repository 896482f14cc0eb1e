// StableHLO dialect: generated classes and the type rules shared by its files.
#ifndef ICD_STABLEHLO_H
#define ICD_STABLEHLO_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace icd::stablehlo {

using mlir::ArrayRef;
using mlir::Attribute;
using mlir::LogicalResult;
using mlir::Operation;
using mlir::RankedTensorType;
using mlir::SmallVector;
using mlir::StringRef;
using mlir::Type;
using mlir::TypeRange;

//===-- element kinds, named by the letters of Base.td ----------------------===//

bool isTensorOf(Type type, StringRef kinds);
bool isScalarTensorOf(Type type, StringRef kinds);
bool isVectorTensorOf(Type type, StringRef kinds);
bool isStaticTensorOf(Type type, StringRef kinds);
bool isStaticVectorOf(Type type, StringRef kinds);
bool isTensorOfWidth(Type type, unsigned bits);
bool isStaticOrBoundedTensor(Type type);
bool isLayoutAttr(Attribute attr);

//===-- shapes and bounds ---------------------------------------------------===//

/// Upper bounds of the dynamic dimensions in a tensor's encoding, or empty.
ArrayRef<int64_t> boundsOf(RankedTensorType type);

/// The encoding that gives `bounds`, or null where no dimension has one. `like`
/// is the encoding to keep where it is not about bounds.
Attribute boundsEncoding(mlir::MLIRContext *context, ArrayRef<int64_t> bounds, Attribute like = {});

/// Whether two sizes can be equal at run time.
bool sizesAgree(int64_t a, int64_t b);
bool shapesAgree(ArrayRef<int64_t> a, ArrayRef<int64_t> b);

/// Whether both types can describe the same value: element types equal (or alike
/// quantized), shapes and bounds without contradiction.
bool typesAgree(Type a, Type b);
bool typesAgree(TypeRange a, TypeRange b);
bool elementTypesAgree(Type a, Type b);

/// The type that says all that the given agreeing types say.
mlir::FailureOr<Type> mostSpecific(std::optional<mlir::Location> loc, TypeRange types);

/// Whether a reduction may carry a value of `from` in the wider type `to`.
bool isPromotable(Type from, Type to);

/// The type of the real and imaginary part of a complex tensor.
Type realPartType(Type complexTensor);

/// Reports at `loc`, if there is one, and fails.
template <typename... Ts>
LogicalResult failAt(std::optional<mlir::Location> loc, Ts &&...text) {
  return mlir::emitOptionalError(loc, std::forward<Ts>(text)...);
}

/// "[1, 2]" with "?" for a dynamic size.
std::string dimsText(ArrayRef<int64_t> dims);
/// "1, 2".
std::string listText(ArrayRef<int64_t> values);

} // namespace icd::stablehlo


namespace icd::stablehlo {
LogicalResult verifySameTypes(Operation *op);
LogicalResult inferFromOperands(std::optional<mlir::Location> loc, mlir::ValueRange operands,
                                mlir::SmallVectorImpl<Type> &types);

/// Operands and results describe the same type, up to what is known statically.
template <typename ConcreteOp>
class CompatibleOperandsAndResultType
    : public mlir::OpTrait::TraitBase<ConcreteOp, CompatibleOperandsAndResultType> {
public:
  static LogicalResult verifyTrait(Operation *op) { return verifySameTypes(op); }
  static LogicalResult inferReturnTypes(mlir::MLIRContext *, std::optional<mlir::Location> loc,
                                        mlir::ValueRange operands, mlir::DictionaryAttr,
                                        mlir::OpaqueProperties, mlir::RegionRange,
                                        mlir::SmallVectorImpl<Type> &types) {
    return inferFromOperands(loc, operands, types);
  }
  static bool isCompatibleReturnTypes(TypeRange a, TypeRange b) { return typesAgree(a, b); }
};
} // namespace icd::stablehlo

#include "StablehloDialect.h.inc"
#include "StablehloEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "StablehloAttrs.h.inc"

namespace icd::stablehlo {
/// The accuracy that an operation has when none is asked for.
ResultAccuracyAttr defaultAccuracy(mlir::MLIRContext *context);
} // namespace icd::stablehlo

#define GET_TYPEDEF_CLASSES
#include "StablehloTypes.h.inc"
#define GET_OP_CLASSES
#include "StablehloOps.h.inc"

#endif
