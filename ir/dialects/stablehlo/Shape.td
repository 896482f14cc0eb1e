#ifndef ICD_STABLEHLO_SHAPE_TD
#define ICD_STABLEHLO_SHAPE_TD

include "Attrs.td"

def Shlo_ConstantOp : Shlo_InferOp<"constant", [Pure, ConstantLike,
    DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let arguments = (ins ElementsAttr:$value);
  let results = (outs HLO_StaticTensor:$output);
  let extraClassDeclaration = "static bool isCompatibleReturnTypes(::mlir::TypeRange l, ::mlir::TypeRange r);";
  let hasFolder = 1;
  let hasCustomAssemblyFormat = 1;
}

def Shlo_IotaOp : Shlo_Op<"iota", [Pure]> {
  let arguments = (ins Shlo_NonNegativeDim:$iota_dimension);
  let results = (outs HLO_StaticTensor:$output);
  let hasVerifier = 1;
  let assemblyFormat = "`dim` `=` $iota_dimension attr-dict `:` type($output)";
}

def Shlo_ReshapeOp : Shlo_Op<"reshape", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Shlo_BitcastConvertOp : Shlo_Op<"bitcast_convert", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Shlo_TransposeOp : Shlo_InferOp<"transpose", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, DenseI64ArrayAttr:$permutation);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = "$operand `,` `dims` `=` $permutation attr-dict `:` functional-type(operands, results)";
}

def Shlo_ReverseOp : Shlo_SameTypesOp<"reverse", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, DenseI64ArrayAttr:$dimensions);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $operand `,` `dims` `=` $dimensions attr-dict
    `:` custom<SameOperandsAndResultType>(type($operand), type($result)) }];
}

def Shlo_BroadcastOp : Shlo_InferOp<"broadcast", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, DenseI64ArrayAttr:$broadcast_sizes);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = "$operand `,` `sizes` `=` $broadcast_sizes attr-dict `:` functional-type(operands, results)";
}

def Shlo_BroadcastInDimOp : Shlo_Op<"broadcast_in_dim", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, DenseI64ArrayAttr:$broadcast_dimensions);
  let results = (outs Type<CPred<"::icd::stablehlo::isStaticOrBoundedTensor($_self)">,
                           "statically shaped or single bounded dimension tensor", "::mlir::RankedTensorType">:$result);
  let hasVerifier = 1;
  let assemblyFormat = "$operand `,` `dims` `=` $broadcast_dimensions attr-dict `:` functional-type(operands, results)";
}

def Shlo_ConcatenateOp : Shlo_InferOp<"concatenate", [Pure]> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$inputs, Shlo_NonNegativeDim:$dimension);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = [{
    custom<VariadicOperandWithAttribute>($inputs) `dim` `=` $dimension attr-dict `:` functional-type(operands, results) }];
}

def Shlo_SliceOp : Shlo_InferOp<"slice", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, DenseI64ArrayAttr:$start_indices,
                       DenseI64ArrayAttr:$limit_indices, DenseI64ArrayAttr:$strides);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = [{
    $operand custom<SliceRanges>($start_indices, $limit_indices, $strides) attr-dict
    `:` functional-type(operands, results) }];
}

def Shlo_DynamicSliceOp : Shlo_InferOp<"dynamic_slice", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, Variadic<HLO_ScalarIntTensor>:$start_indices,
                       DenseI64ArrayAttr:$slice_sizes);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = [{
    $operand `,` custom<VariadicOperandWithAttribute>($start_indices) `sizes` `=` $slice_sizes attr-dict
    `:` functional-type(operands, results) }];
}

def Shlo_DynamicUpdateSliceOp : Shlo_InferOp<"dynamic_update_slice", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_AnyTensor:$update, Variadic<HLO_ScalarIntTensor>:$start_indices);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Shlo_PadOp : Shlo_InferOp<"pad", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_AnyTensor:$padding_value, DenseI64ArrayAttr:$edge_padding_low,
                       DenseI64ArrayAttr:$edge_padding_high, DenseI64ArrayAttr:$interior_padding);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = [{
    $operand `,` $padding_value `,` `low` `=` $edge_padding_low `,` `high` `=` $edge_padding_high
    `,` `interior` `=` $interior_padding attr-dict `:` functional-type(operands, results) }];
}

def Shlo_GatherOp : Shlo_InferOp<"gather", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_IntTensor:$start_indices, Shlo_GatherDims:$dimension_numbers,
                       DenseI64ArrayAttr:$slice_sizes,
                       DefaultValuedOptionalAttr<BoolAttr, "false">:$indices_are_sorted);
  let results = (outs HLO_AnyTensor:$result);
}

def Shlo_TorchIndexSelectOp : Shlo_Op<"torch_index_select", [Pure]> {
  let arguments = (ins HLO_PlainTensor:$operand, HLO_PlainTensor:$index, I64Attr:$dim, I64Attr:$batch_dims);
  let results = (outs HLO_PlainTensor:$result);
}

def Shlo_GetDimensionSizeOp : Shlo_InferOp<"get_dimension_size", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, Shlo_NonNegativeDim:$dimension);
  let results = (outs HLO_PlainTensor:$result);
  let assemblyFormat = "$operand `,` `dim` `=` $dimension attr-dict `:` functional-type(operands, results)";
}

def Shlo_SetDimensionSizeOp : Shlo_InferOp<"set_dimension_size", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_PlainTensor:$size, Shlo_NonNegativeDim:$dimension);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = "$operand `,` $size `,` `dim` `=` $dimension attr-dict `:` functional-type(operands, results)";
}

//===-- shapes that are only known at run time ------------------------------===//

def Shlo_DynamicBroadcastInDimOp : Shlo_Op<"dynamic_broadcast_in_dim", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_DimensionTensor:$output_dimensions,
                       DenseI64ArrayAttr:$broadcast_dimensions,
                       OptionalAttr<DenseI64ArrayAttr>:$known_expanding_dimensions,
                       OptionalAttr<DenseI64ArrayAttr>:$known_nonexpanding_dimensions);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $operand `,` $output_dimensions `,` `dims` `=` $broadcast_dimensions attr-dict
    `:` functional-type(operands, results) }];
}

def Shlo_DynamicIotaOp : Shlo_Op<"dynamic_iota", [Pure]> {
  let arguments = (ins HLO_DimensionTensor:$output_shape, Shlo_NonNegativeDim:$iota_dimension);
  let results = (outs HLO_Tensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "$output_shape `,` `dim` `=` $iota_dimension attr-dict `:` functional-type(operands, results)";
}

def Shlo_DynamicReshapeOp : Shlo_Op<"dynamic_reshape", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_DimensionTensor:$output_shape);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Shlo_DynamicPadOp : Shlo_Op<"dynamic_pad", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_AnyTensor:$padding_value, HLO_DimensionTensor:$edge_padding_low,
                       HLO_DimensionTensor:$edge_padding_high, HLO_DimensionTensor:$interior_padding);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Shlo_RealDynamicSliceOp : Shlo_Op<"real_dynamic_slice", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_DimensionTensor:$start_indices,
                       HLO_DimensionTensor:$limit_indices, HLO_DimensionTensor:$strides);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Shlo_DynamicGatherOp : Shlo_InferOp<"dynamic_gather", [Pure]> {
  let arguments = (ins HLO_AnyTensor:$operand, HLO_IntTensor:$start_indices, HLO_StaticIntTensor:$slice_sizes,
                       Shlo_GatherDims:$dimension_numbers,
                       DefaultValuedOptionalAttr<BoolAttr, "false">:$indices_are_sorted);
  let results = (outs HLO_AnyTensor:$result);
}

#endif
