#ifndef ICD_STABLEHLO_ELEMENTWISE_TD
#define ICD_STABLEHLO_ELEMENTWISE_TD

include "Attrs.td"

class Shlo_Unary<string mnemonic, Type operandType, Type resultType = operandType, list<Trait> traits = []>
    : Shlo_Op<mnemonic, traits # [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins operandType:$operand);
  let results = (outs resultType:$result);
  let assemblyFormat = "$operand attr-dict `:` custom<SameOperandsAndResultType>(type($operand), type($result))";
}
class Shlo_UnarySame<string mnemonic, Type t>
    : Shlo_Unary<mnemonic, t, t, [InferTypeOpInterface, HLO_SameTypes]> {
  let extraClassDeclaration = agreeDecl;
}
class Shlo_UnaryInfer<string mnemonic, Type operandType, Type resultType>
    : Shlo_Unary<mnemonic, operandType, resultType, [InferTypeOpAdaptor]> {
  let extraClassDeclaration = agreeDecl;
}
class Shlo_UnaryAccurate<string mnemonic, Type t> : Shlo_UnarySame<mnemonic, t> {
  let arguments = (ins t:$operand, Shlo_Accuracy:$result_accuracy);
}

def Shlo_AbsOp : Shlo_UnaryInfer<"abs", HLO_SignedNumberTensor, HLO_IntFpOrQuantTensor>;
def Shlo_CbrtOp : Shlo_UnaryAccurate<"cbrt", HLO_FpComplexOrQuantTensor>;
def Shlo_CeilOp : Shlo_UnarySame<"ceil", HLO_FpOrQuantTensor>;
def Shlo_ConvertOp : Shlo_Unary<"convert", HLO_AnyTensor>;
def Shlo_CosineOp : Shlo_UnaryAccurate<"cosine", HLO_FpComplexOrQuantTensor>;
def Shlo_ClzOp : Shlo_UnarySame<"count_leading_zeros", HLO_IntTensor>;
def Shlo_ExpOp : Shlo_UnaryAccurate<"exponential", HLO_FpComplexOrQuantTensor>;
def Shlo_Expm1Op : Shlo_UnaryAccurate<"exponential_minus_one", HLO_FpComplexOrQuantTensor>;
def Shlo_FloorOp : Shlo_UnarySame<"floor", HLO_FpOrQuantTensor>;
def Shlo_ImagOp : Shlo_UnaryInfer<"imag", HLO_FpOrComplexTensor, HLO_FpTensor>;
def Shlo_LogOp : Shlo_UnaryAccurate<"log", HLO_FpComplexOrQuantTensor>;
def Shlo_Log1pOp : Shlo_UnaryAccurate<"log_plus_one", HLO_FpComplexOrQuantTensor>;
def Shlo_LogisticOp : Shlo_UnaryAccurate<"logistic", HLO_FpComplexOrQuantTensor>;
def Shlo_NotOp : Shlo_UnarySame<"not", HLO_PredOrIntTensor>;
def Shlo_NegOp : Shlo_UnarySame<"negate", HLO_IntFpComplexOrQuantTensor>;
def Shlo_PopcntOp : Shlo_UnarySame<"popcnt", HLO_IntTensor>;
def Shlo_RealOp : Shlo_UnaryInfer<"real", HLO_FpOrComplexTensor, HLO_FpTensor>;
def Shlo_RoundAfzOp : Shlo_UnarySame<"round_nearest_afz", HLO_FpOrQuantTensor>;
def Shlo_RoundEvenOp : Shlo_UnarySame<"round_nearest_even", HLO_FpOrQuantTensor>;
def Shlo_RsqrtOp : Shlo_UnaryAccurate<"rsqrt", HLO_FpComplexOrQuantTensor>;
def Shlo_SignOp : Shlo_UnarySame<"sign", HLO_SignedNumberTensor>;
def Shlo_SineOp : Shlo_UnaryAccurate<"sine", HLO_FpComplexOrQuantTensor>;
def Shlo_SqrtOp : Shlo_UnaryAccurate<"sqrt", HLO_FpComplexOrQuantTensor>;
def Shlo_TanOp : Shlo_UnaryAccurate<"tan", HLO_FpComplexOrQuantTensor>;
def Shlo_TanhOp : Shlo_UnaryAccurate<"tanh", HLO_FpComplexOrQuantTensor>;

def Shlo_IsFiniteOp : Shlo_InferOp<"is_finite", [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins HLO_FpOrQuantTensor:$x);
  let results = (outs HLO_PredTensor:$y);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
}

def Shlo_UniformQuantizeOp : Shlo_Unary<"uniform_quantize", HLO_FpOrAnyQuantTensor, HLO_QuantTensor> {
  let assemblyFormat = "operands attr-dict `:` custom<SameOperandsAndResultType>(type($operand), type($result))";
}
def Shlo_UniformDequantizeOp
    : Shlo_UnaryInfer<"uniform_dequantize", HLO_QuantTensor, HLO_FpTensor>;

def Shlo_ReducePrecisionOp
    : Shlo_SameTypesOp<"reduce_precision", [Pure, Elementwise]> {
  let arguments = (ins HLO_FpOrQuantTensor:$operand, ConfinedAttr<I32Attr, [IntPositive]>:$exponent_bits,
                       ConfinedAttr<I32Attr, [IntNonNegative]>:$mantissa_bits);
  let results = (outs HLO_FpOrQuantTensor:$output);
  let assemblyFormat = [{
    $operand `,` `format` `=` custom<ExponentMantissa>($exponent_bits, $mantissa_bits) attr-dict
    `:` custom<SameOperandsAndResultType>(type($operand), type($output)) }];
}

class Shlo_Binary<string mnemonic, Type t, list<Trait> traits = []>
    : Shlo_SameTypesOp<mnemonic, traits # [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins t:$lhs, t:$rhs);
  let results = (outs t:$result);
  let assemblyFormat = [{
    $lhs `,` $rhs attr-dict `:` custom<SameOperandsAndResultType>(type($lhs), type($rhs), type($result)) }];
}

def Shlo_AddOp : Shlo_Binary<"add", HLO_AnyTensor, [Commutative]>;
def Shlo_AndOp : Shlo_Binary<"and", HLO_PredOrIntTensor, [Commutative]>;
def Shlo_Atan2Op : Shlo_Binary<"atan2", HLO_FpComplexOrQuantTensor>;
def Shlo_DivOp : Shlo_Binary<"divide", HLO_IntFpComplexOrQuantTensor>;
def Shlo_MaxOp : Shlo_Binary<"maximum", HLO_Tensor, [Commutative]>;
def Shlo_MinOp : Shlo_Binary<"minimum", HLO_Tensor, [Commutative]>;
def Shlo_MulOp : Shlo_Binary<"multiply", HLO_Tensor, [Commutative]>;
def Shlo_OrOp : Shlo_Binary<"or", HLO_PredOrIntTensor, [Commutative]>;
def Shlo_PowOp : Shlo_Binary<"power", HLO_IntFpComplexOrQuantTensor>;
def Shlo_RemOp : Shlo_Binary<"remainder", HLO_IntFpComplexOrQuantTensor>;
def Shlo_ShiftLeftOp : Shlo_Binary<"shift_left", HLO_IntTensor>;
def Shlo_ShiftRightArithmeticOp : Shlo_Binary<"shift_right_arithmetic", HLO_IntTensor>;
def Shlo_ShiftRightLogicalOp : Shlo_Binary<"shift_right_logical", HLO_IntTensor>;
def Shlo_SubtractOp : Shlo_Binary<"subtract", HLO_IntFpComplexOrQuantTensor>;
def Shlo_XorOp : Shlo_Binary<"xor", HLO_PredOrIntTensor, [Commutative]>;

def Shlo_ComplexOp : Shlo_InferOp<"complex", [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins HLO_Fp32Or64Tensor:$lhs, HLO_Fp32Or64Tensor:$rhs);
  let results = (outs HLO_ComplexTensor:$result);
  let assemblyFormat = "operands attr-dict `:` custom<ComplexOpType>(type($lhs), type($rhs), type($result))";
}

def Shlo_CompareOp : Shlo_InferOp<"compare", [Pure, Elementwise, SameOperandsAndResultShape]> {
  let arguments = (ins HLO_Tensor:$lhs, HLO_Tensor:$rhs,
                       Shlo_ComparisonDirectionAttr:$comparison_direction,
                       OptionalAttr<Shlo_ComparisonTypeAttr>:$compare_type);
  let results = (outs HLO_PredTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    `` $comparison_direction `,` $lhs `,` $rhs (`,` `` $compare_type^)? attr-dict `:` functional-type(operands, results) }];
}

def Shlo_ClampOp : Shlo_InferOp<"clamp", [Pure]> {
  let arguments = (ins HLO_Tensor:$min, HLO_Tensor:$operand, HLO_Tensor:$max);
  let results = (outs HLO_Tensor:$result);
  let assemblyFormat = [{
    $min `,` $operand `,` $max attr-dict
    `:` custom<SameOperandsAndResultType>(type($min), type($operand), type($max), type($result)) }];
}

def Shlo_SelectOp : Shlo_InferOp<"select", [Pure]> {
  let arguments = (ins HLO_PredTensor:$pred, HLO_AnyTensor:$on_true, HLO_AnyTensor:$on_false);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = [{
    operands attr-dict `:` custom<SelectOpType>(type($pred), type($on_true), type($on_false), type($result)) }];
}

#endif
