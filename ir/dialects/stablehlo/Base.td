#ifndef ICD_STABLEHLO_BASE_TD
#define ICD_STABLEHLO_BASE_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Stablehlo_Dialect : Dialect {
  let name = "stablehlo";
  let cppNamespace = "::icd::stablehlo";
  let summary = "StableHLO operations, declared for import, rewriting and export";
  let useDefaultAttributePrinterParser = 0;
  let useDefaultTypePrinterParser = 0;
  let hasConstantMaterializer = 1;
  let dependentDialects = ["::mlir::quant::QuantDialect"];
  let extraClassDeclaration = [{
    ::mlir::Attribute parseAttribute(::mlir::DialectAsmParser &parser, ::mlir::Type type) const override;
    void printAttribute(::mlir::Attribute attr, ::mlir::DialectAsmPrinter &os) const override;
    ::mlir::Type parseType(::mlir::DialectAsmParser &parser) const override;
    void printType(::mlir::Type type, ::mlir::DialectAsmPrinter &os) const override;
  }];
}

//===-- types ---------------------------------------------------------------===//

def Stablehlo_Token : TypeDef<Stablehlo_Dialect, "Token"> {
  let mnemonic = "token";
  let summary = "orders operations that have side effects";
}

def Stablehlo_Future : TypeDef<Stablehlo_Dialect, "Future"> {
  let mnemonic = "future";
  let summary = "the values that an asynchronous operation will produce";
  let parameters = (ins ArrayRefParameter<"::mlir::Type">:$types);
  let assemblyFormat = "`<` $types `>`";
}

//===-- type constraints ----------------------------------------------------===//
// Element kinds are letters: p predicate, i integer, x index, f float,
// c complex, q per-tensor quantized, a per-axis quantized.

class HloTensor<string kinds, string what>
    : Type<CPred<"::icd::stablehlo::isTensorOf($_self, \"" # kinds # "\")">,
           "ranked tensor of " # what # " values", "::mlir::RankedTensorType">;

class HloScalar<string kinds, string what>
    : Type<CPred<"::icd::stablehlo::isScalarTensorOf($_self, \"" # kinds # "\")">,
           "0D tensor of " # what # " values", "::mlir::RankedTensorType">;

class HloVector<string kinds, string what>
    : Type<CPred<"::icd::stablehlo::isVectorTensorOf($_self, \"" # kinds # "\")">,
           "1D tensor of " # what # " values", "::mlir::RankedTensorType">;

def HLO_Tensor : HloTensor<"pifcq",
    "pred (AKA boolean or 1-bit integer) or 2/4/8/16/32/64-bit integer or float or complex or per-tensor quantized">;
def HLO_AnyTensor : HloTensor<"pifcqa",
    "pred (AKA boolean or 1-bit integer) or 2/4/8/16/32/64-bit integer or float or complex or quantized">;
def HLO_PlainTensor : HloTensor<"pifc",
    "pred (AKA boolean or 1-bit integer) or 2/4/8/16/32/64-bit integer or float or complex">;
def HLO_IntTensor : HloTensor<"i", "2/4/8/16/32/64-bit integer">;
def HLO_FpTensor : HloTensor<"f", "floating-point">;
def HLO_FpOrQuantTensor : HloTensor<"fq", "floating-point or per-tensor quantized">;
def HLO_FpOrComplexTensor : HloTensor<"fc", "floating-point or complex">;
def HLO_FpComplexOrQuantTensor : HloTensor<"fcq", "floating-point or complex or per-tensor quantized">;
def HLO_PredTensor : HloTensor<"p", "pred (AKA boolean or 1-bit integer)">;
def HLO_PredOrIntTensor : HloTensor<"pi", "pred (AKA boolean or 1-bit integer) or 2/4/8/16/32/64-bit integer">;
def HLO_IntFpOrComplexTensor : HloTensor<"ifc", "integer or floating-point or complex">;
def HLO_IntFpComplexOrQuantTensor : HloTensor<"ifcq", "integer or floating-point or complex or per-tensor quantized">;
def HLO_SignedNumberTensor : HloTensor<"ifcq", "integer or floating-point or complex or per-tensor quantized">;
def HLO_IntFpOrQuantTensor : HloTensor<"ifq", "integer or floating-point or per-tensor quantized">;
def HLO_ComplexTensor : HloTensor<"c", "complex">;
def HLO_Fp32Or64Tensor
    : Type<CPred<"::icd::stablehlo::isTensorOfWidth($_self, 32) || ::icd::stablehlo::isTensorOfWidth($_self, 64)">,
           "ranked tensor of 32/64-bit float values", "::mlir::RankedTensorType">;
def HLO_QuantTensor : HloTensor<"qa", "quantized">;
def HLO_FpOrAnyQuantTensor : HloTensor<"fqa", "floating-point or quantized">;
def HLO_IntOrFpTensor : HloTensor<"if", "integer or floating-point">;
def HLO_ScalarIntTensor : HloScalar<"i", "2/4/8/16/32/64-bit integer">;
def HLO_ScalarIndexOrIntTensor : HloScalar<"ix", "index or integer">;
def HLO_ScalarNumber : HloScalar<"pif", "pred or integer or floating-point">;
def HLO_DimensionTensor : HloVector<"ix", "index or integer">;
def HLO_StaticTensor
    : Type<CPred<"::icd::stablehlo::isStaticTensorOf($_self, \"pifcqa\")">,
           "statically shaped tensor", "::mlir::RankedTensorType">;
def HLO_StaticIndexTensor
    : Type<CPred<"::icd::stablehlo::isStaticVectorOf($_self, \"ix\")">,
           "statically shaped 1-dimensional tensor of index or integer values", "::mlir::RankedTensorType">;
def HLO_StaticIntTensor
    : Type<CPred<"::icd::stablehlo::isStaticVectorOf($_self, \"i\")">,
           "statically shaped 1-dimensional tensor of integer values", "::mlir::RankedTensorType">;
def HLO_Tuple : Type<CPred<"::llvm::isa<::mlir::TupleType>($_self)">, "tuple", "::mlir::TupleType">;
def HLO_Token : Type<CPred<"::llvm::isa<::icd::stablehlo::TokenType>($_self)">, "token", "::icd::stablehlo::TokenType">;
def HLO_Future : Type<CPred<"::llvm::isa<::icd::stablehlo::FutureType>($_self)">, "future", "::icd::stablehlo::FutureType">;
def HLO_TensorOrToken : Type<Or<[HLO_AnyTensor.predicate, HLO_Token.predicate]>,
    HLO_AnyTensor.summary # " or token">;
def HLO_TensorTokenOrTuple : Type<Or<[HLO_AnyTensor.predicate, HLO_Token.predicate, HLO_Tuple.predicate]>,
    HLO_AnyTensor.summary # " or token or nested tuple with any combination of these">;
def HLO_Buffer : Type<CPred<"::llvm::isa<::mlir::MemRefType>($_self)">, "memref">;
def HLO_BufferTensorTokenOrTuple
    : Type<Or<[HLO_TensorTokenOrTuple.predicate, HLO_Buffer.predicate]>,
           HLO_TensorTokenOrTuple.summary # " or memref">;
def HLO_CustomCallValue
    : Type<Or<[HLO_TensorTokenOrTuple.predicate, HLO_Buffer.predicate, HLO_Future.predicate]>,
           HLO_TensorTokenOrTuple.summary # " or memref or future">;

//===-- op classes ----------------------------------------------------------===//

class Shlo_Op<string mnemonic, list<Trait> traits = []>
    : Op<Stablehlo_Dialect, mnemonic, traits>;

// An op whose result types follow from its operands and attributes. The check
// that the written types are compatible comes with the interface.
defvar agreeDecl = [{
  static bool isCompatibleReturnTypes(::mlir::TypeRange l, ::mlir::TypeRange r) { return typesAgree(l, r); }
}];

class Shlo_InferOp<string mnemonic, list<Trait> traits = []>
    : Shlo_Op<mnemonic, traits # [InferTypeOpAdaptor]> {
  let extraClassDeclaration = agreeDecl;
}

// An op whose operands and result have one type; the result takes what is known
// of the operands.
def HLO_SameTypes : NativeOpTrait<"CompatibleOperandsAndResultType"> {
  let cppNamespace = "::icd::stablehlo";
}
class Shlo_SameTypesOp<string mnemonic, list<Trait> traits = []>
    : Shlo_Op<mnemonic, traits # [InferTypeOpInterface, HLO_SameTypes]> {
  let extraClassDeclaration = agreeDecl;
}

#endif
