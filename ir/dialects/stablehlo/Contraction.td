#ifndef ICD_STABLEHLO_CONTRACTION_TD
#define ICD_STABLEHLO_CONTRACTION_TD

include "Attrs.td"

def Shlo_DotOp : Shlo_Op<"dot", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$lhs, HLO_AnyTensor:$rhs, Shlo_PrecisionConfig:$precision_config);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $lhs `,` $rhs `` custom<PrecisionConfig>($precision_config) attr-dict `:` functional-type(operands, results) }];
}

def Shlo_DotGeneralOp : Shlo_Op<"dot_general", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$lhs, HLO_AnyTensor:$rhs, Shlo_DotDims:$dot_dimension_numbers,
                       Shlo_PrecisionConfig:$precision_config, OptionalAttr<Shlo_DotAlgorithm>:$algorithm);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $lhs `,` $rhs `,` custom<DotDimensionNumbers>($dot_dimension_numbers) ``
    custom<PrecisionConfigAndAlgorithm>($precision_config, $algorithm) attr-dict
    `:` functional-type(operands, results) }];
}

def Shlo_EinsumOp : Shlo_Op<"einsum", [Pure]> {
  let arguments = (ins HLO_PlainTensor:$lhs, HLO_PlainTensor:$rhs, StrAttr:$einsum_config);
  let results = (outs HLO_PlainTensor:$result);
  let assemblyFormat = [{
    $lhs `,` $rhs `,` `config` `=` $einsum_config attr-dict `:` functional-type(operands, results) }];
}

def Shlo_UnaryEinsumOp : Shlo_Op<"unary_einsum", [Pure]> {
  let arguments = (ins HLO_PlainTensor:$operand, StrAttr:$einsum_config);
  let results = (outs HLO_PlainTensor:$result);
  let assemblyFormat = "$operand `,` `config` `=` $einsum_config attr-dict `:` functional-type(operands, results)";
}

def Shlo_ConvolutionOp : Shlo_Op<"convolution", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$lhs, HLO_AnyTensor:$rhs,
    OptionalAttr<DenseI64ArrayAttr>:$window_strides, OptionalAttr<I64ElementsAttr>:$padding,
    OptionalAttr<DenseI64ArrayAttr>:$lhs_dilation, OptionalAttr<DenseI64ArrayAttr>:$rhs_dilation,
    OptionalAttr<DenseBoolArrayAttr>:$window_reversal, Shlo_ConvDims:$dimension_numbers,
    Shlo_PositiveInt:$feature_group_count, Shlo_PositiveInt:$batch_group_count,
    Shlo_PrecisionConfig:$precision_config);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    `(` operands `)` `dim_numbers` `=` custom<ConvolutionDimensions>($dimension_numbers) `,`
    `window` `=` `{` custom<WindowAttributes>($window_strides, $padding, $lhs_dilation, $rhs_dilation, $window_reversal)
    `}` attr-dict `:` functional-type(operands, results) }];
}

def Shlo_DynamicConvOp : Shlo_Op<"dynamic_conv", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$lhs, HLO_AnyTensor:$rhs, HLO_PlainTensor:$padding,
    OptionalAttr<DenseI64ArrayAttr>:$window_strides,
    OptionalAttr<DenseI64ArrayAttr>:$lhs_dilation, OptionalAttr<DenseI64ArrayAttr>:$rhs_dilation,
    OptionalAttr<DenseBoolArrayAttr>:$window_reversal, Shlo_ConvDims:$dimension_numbers,
    Shlo_PositiveInt:$feature_group_count, Shlo_PositiveInt:$batch_group_count,
    Shlo_PrecisionConfig:$precision_config);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
}

def Shlo_CholeskyOp : Shlo_SameTypesOp<"cholesky", [Pure]> {
  let arguments = (ins HLO_FpOrComplexTensor:$a, DefaultValuedOptionalAttr<BoolAttr, "false">:$lower);
  let results = (outs HLO_FpOrComplexTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $a (`,` `lower` `=` $lower^)? attr-dict `:` custom<SameOperandsAndResultType>(type($a), type($result)) }];
}

def Shlo_TriangularSolveOp : Shlo_Op<"triangular_solve", [Pure]> {
  let arguments = (ins HLO_FpOrComplexTensor:$a, HLO_FpOrComplexTensor:$b, BoolAttr:$left_side, BoolAttr:$lower,
                       BoolAttr:$unit_diagonal, Shlo_TransposeAttr:$transpose_a);
  let results = (outs HLO_FpOrComplexTensor:$result);
  let hasVerifier = 1;
}

def Shlo_FftOp : Shlo_InferOp<"fft", [Pure]> {
  let arguments = (ins HLO_FpOrComplexTensor:$operand, Shlo_FftTypeAttr:$fft_type, DenseI64ArrayAttr:$fft_length);
  let results = (outs HLO_FpOrComplexTensor:$result);
  let assemblyFormat = [{
    $operand `,` `type` `=` `` $fft_type `,` `length` `=` $fft_length attr-dict `:` functional-type(operands, results) }];
}

#endif
