#ifndef ICD_CHLO_TD
#define ICD_CHLO_TD

include "Base.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"

def Chlo_Dialect : Dialect {
  let name = "chlo";
  let cppNamespace = "::icd::chlo";
  let summary = "client operations above StableHLO: special functions and implicit broadcasting";
  let useDefaultAttributePrinterParser = 1;
}

class Chlo_Enum<string cpp, string what, list<I32EnumAttrCase> cases> : I32EnumAttr<cpp, what, cases> {
  let genSpecializedAttr = 0;
  let cppNamespace = "::icd::chlo";
}
def ComparisonDirection : Chlo_Enum<"ComparisonDirection", "which comparison to perform", [
    I32EnumAttrCase<"EQ", 0>, I32EnumAttrCase<"NE", 1>, I32EnumAttrCase<"GE", 2>,
    I32EnumAttrCase<"GT", 3>, I32EnumAttrCase<"LE", 4>, I32EnumAttrCase<"LT", 5>]>;
def Chlo_ComparisonDirectionAttr : EnumAttr<Chlo_Dialect, ComparisonDirection, "comparison_direction">;
def ComparisonType : Chlo_Enum<"ComparisonType", "how elements are compared", [
    I32EnumAttrCase<"NOTYPE", 0>, I32EnumAttrCase<"FLOAT", 1>, I32EnumAttrCase<"TOTALORDER", 2>,
    I32EnumAttrCase<"SIGNED", 3>, I32EnumAttrCase<"UNSIGNED", 4>]>;
def Chlo_ComparisonTypeAttr : EnumAttr<Chlo_Dialect, ComparisonType, "comparison_type">;
def Precision : Chlo_Enum<"Precision", "precision asked for one operand", [
    I32EnumAttrCase<"DEFAULT", 0>, I32EnumAttrCase<"HIGH", 1>, I32EnumAttrCase<"HIGHEST", 2>]>;
def Chlo_PrecisionAttr : EnumAttr<Chlo_Dialect, Precision, "precision">;
def Chlo_PrecisionConfig : OptionalAttr<TypedArrayAttrBase<Chlo_PrecisionAttr, "Precision Config attribute">>;

def Chlo_Dims : ArrayRefParameter<"int64_t"> {
  let parser = "::icd::chlo::parseDims($_parser)";
  let printer = "::icd::chlo::printDims($_printer, $_self)";
}
def Chlo_RaggedDotDims : AttrDef<Chlo_Dialect, "RaggedDotDimensionNumbers"> {
  let mnemonic = "ragged_dot";
  let parameters = (ins
    Chlo_Dims:$lhsBatchingDimensions, Chlo_Dims:$rhsBatchingDimensions,
    Chlo_Dims:$lhsContractingDimensions, Chlo_Dims:$rhsContractingDimensions,
    Chlo_Dims:$lhsRaggedDimensions, Chlo_Dims:$rhsGroupDimensions);
  let assemblyFormat = [{
    `<` `lhs_batching_dimensions` `=` $lhsBatchingDimensions `,` `rhs_batching_dimensions` `=` $rhsBatchingDimensions `,`
    `lhs_contracting_dimensions` `=` $lhsContractingDimensions `,` `rhs_contracting_dimensions` `=` $rhsContractingDimensions `,`
    `lhs_ragged_dimensions` `=` $lhsRaggedDimensions `,` `rhs_group_dimensions` `=` $rhsGroupDimensions `>` }];
}

class Chlo_Op<string mnemonic, list<Trait> traits = []> : Op<Chlo_Dialect, mnemonic, traits>;

//===-- special functions ---------------------------------------------------===//

class Chlo_Unary<string mnemonic> : Chlo_Op<mnemonic, [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins AnyTensor:$operand);
  let results = (outs AnyTensor:$result);
  let assemblyFormat = "$operand attr-dict `:` type($operand) `->` type($result)";
}
def Chlo_AsinAcosKernelOp : Chlo_Unary<"_asin_acos_kernel">;
def Chlo_AcosOp : Chlo_Unary<"acos">;
def Chlo_AcoshOp : Chlo_Unary<"acosh">;
def Chlo_AsinOp : Chlo_Unary<"asin">;
def Chlo_AsinhOp : Chlo_Unary<"asinh">;
def Chlo_AtanOp : Chlo_Unary<"atan">;
def Chlo_AtanhOp : Chlo_Unary<"atanh">;
def Chlo_BesselI1eOp : Chlo_Unary<"bessel_i1e">;
def Chlo_ConjOp : Chlo_Unary<"conj">;
def Chlo_CoshOp : Chlo_Unary<"cosh">;
def Chlo_DigammaOp : Chlo_Unary<"digamma">;
def Chlo_ErfOp : Chlo_Unary<"erf">;
def Chlo_ErfInvOp : Chlo_Unary<"erf_inv">;
def Chlo_ErfcOp : Chlo_Unary<"erfc">;
def Chlo_IsInfOp : Chlo_Unary<"is_inf">;
def Chlo_IsNegInfOp : Chlo_Unary<"is_neg_inf">;
def Chlo_IsPosInfOp : Chlo_Unary<"is_pos_inf">;
def Chlo_LgammaOp : Chlo_Unary<"lgamma">;
def Chlo_SinhOp : Chlo_Unary<"sinh">;
def Chlo_SquareOp : Chlo_Unary<"square">;
def Chlo_TanOp : Chlo_Unary<"tan">;

class Chlo_Binary<string mnemonic> : Chlo_Op<mnemonic, [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins AnyTensor:$lhs, AnyTensor:$rhs);
  let results = (outs AnyTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
}
def Chlo_MulhiOp : Chlo_Binary<"mulhi">;
def Chlo_NextAfterOp : Chlo_Binary<"next_after">;
def Chlo_PolygammaOp : Chlo_Binary<"polygamma">;
def Chlo_ZetaOp : Chlo_Binary<"zeta">;

//===-- implicit broadcasting -----------------------------------------------===//

class Chlo_Broadcast<string mnemonic, list<Trait> traits = []> : Chlo_Op<mnemonic, traits # [Pure]> {
  let arguments = (ins AnyTensor:$lhs, AnyTensor:$rhs, OptionalAttr<DenseI64ArrayAttr>:$broadcast_dimensions);
  let results = (outs AnyTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` functional-type(operands, results)";
}
def Chlo_BroadcastAddOp : Chlo_Broadcast<"broadcast_add", [Commutative]>;
def Chlo_BroadcastAndOp : Chlo_Broadcast<"broadcast_and", [Commutative]>;
def Chlo_BroadcastAtan2Op : Chlo_Broadcast<"broadcast_atan2">;
def Chlo_BroadcastComplexOp : Chlo_Broadcast<"broadcast_complex">;
def Chlo_BroadcastDivOp : Chlo_Broadcast<"broadcast_divide">;
def Chlo_BroadcastMaxOp : Chlo_Broadcast<"broadcast_maximum", [Commutative]>;
def Chlo_BroadcastMinOp : Chlo_Broadcast<"broadcast_minimum", [Commutative]>;
def Chlo_BroadcastMulOp : Chlo_Broadcast<"broadcast_multiply", [Commutative]>;
def Chlo_BroadcastNextAfterOp : Chlo_Broadcast<"broadcast_next_after">;
def Chlo_BroadcastOrOp : Chlo_Broadcast<"broadcast_or", [Commutative]>;
def Chlo_BroadcastPolygammaOp : Chlo_Broadcast<"broadcast_polygamma">;
def Chlo_BroadcastPowOp : Chlo_Broadcast<"broadcast_power">;
def Chlo_BroadcastRemOp : Chlo_Broadcast<"broadcast_remainder">;
def Chlo_BroadcastShiftLeftOp : Chlo_Broadcast<"broadcast_shift_left">;
def Chlo_BroadcastShiftRightArithmeticOp : Chlo_Broadcast<"broadcast_shift_right_arithmetic">;
def Chlo_BroadcastShiftRightLogicalOp : Chlo_Broadcast<"broadcast_shift_right_logical">;
def Chlo_BroadcastSubOp : Chlo_Broadcast<"broadcast_subtract">;
def Chlo_BroadcastXorOp : Chlo_Broadcast<"broadcast_xor", [Commutative]>;
def Chlo_BroadcastZetaOp : Chlo_Broadcast<"broadcast_zeta">;
def Chlo_BroadcastCompareOp : Chlo_Broadcast<"broadcast_compare"> {
  let arguments = (ins AnyTensor:$lhs, AnyTensor:$rhs, OptionalAttr<DenseI64ArrayAttr>:$broadcast_dimensions,
                       Chlo_ComparisonDirectionAttr:$comparison_direction,
                       OptionalAttr<Chlo_ComparisonTypeAttr>:$compare_type);
}
def Chlo_BroadcastSelectOp : Chlo_Op<"broadcast_select", [Pure]> {
  let arguments = (ins AnyTensor:$pred, AnyTensor:$on_true, AnyTensor:$on_false);
  let results = (outs AnyTensor:$result);
  let assemblyFormat = [{
    $pred `,` $on_true `,` $on_false attr-dict `:` functional-type(operands, results) }];
}

//===-- the rest ------------------------------------------------------------===//

def Chlo_ConstantOp : Chlo_Op<"constant", [Pure, ConstantLike]> {
  let arguments = (ins ElementsAttr:$value);
  let results = (outs AnyStaticShapeTensor:$output);
  let hasFolder = 1;
}
def Chlo_ConstantLikeOp : Chlo_Op<"constant_like", [Pure, SameOperandsAndResultShape]> {
  let arguments = (ins TypedAttrInterface:$value, AnyTensor:$operand);
  let results = (outs AnyTensor:$result);
  let hasVerifier = 1;
}
def Chlo_MinimumBroadcastShapesOp : Chlo_Op<"minimum_broadcast_shapes", [Pure]> {
  let arguments = (ins Variadic<1DTensorOf<[Index]>>:$shapes);
  let results = (outs Variadic<1DTensorOf<[Index]>>:$results);
  let hasVerifier = 1;
  let assemblyFormat = "$shapes attr-dict `:` type($shapes) `->` type($results)";
}
def Chlo_TopKOp : Chlo_Op<"top_k", [Pure]> {
  let arguments = (ins AnyTensor:$operand, ConfinedAttr<I64Attr, [IntNonNegative]>:$k);
  let results = (outs AnyTensor:$values, AnyTensor:$indices);
  let hasVerifier = 1;
  let assemblyFormat = [{
    `(` $operand `,` `k` `=` $k `)` attr-dict `:` type($operand) `->` `(` type($values) `,` type($indices) `)` }];
}
def Chlo_RaggedDotOp : Chlo_Op<"ragged_dot", [Pure]> {
  let arguments = (ins AnyRankedTensor:$lhs, AnyRankedTensor:$rhs, AnyRankedTensor:$group_sizes,
                       Chlo_RaggedDotDims:$ragged_dot_dimension_numbers, Chlo_PrecisionConfig:$precision_config);
  let results = (outs AnyRankedTensor:$result);
}
def Chlo_ScanOp : Chlo_Op<"scan", [RecursiveMemoryEffects, AttrSizedOperandSegments, AttrSizedResultSegments]> {
  let arguments = (ins Variadic<AnyTensor>:$inputs, Variadic<AnyTensor>:$inits, I64Attr:$dimension,
                       DefaultValuedOptionalAttr<BoolAttr, "false">:$is_reverse,
                       OptionalAttr<BoolAttr>:$is_associative, OptionalAttr<I64Attr>:$scan_dim_size);
  let results = (outs Variadic<AnyTensor>:$outputs, Variadic<AnyTensor>:$carries);
  let regions = (region SizedRegion<1>:$body);
  let hasVerifier = 1;
  let hasCustomAssemblyFormat = 1;
}

#endif
