#ifndef ICD_STABLEHLO_MISC_TD
#define ICD_STABLEHLO_MISC_TD

include "Attrs.td"

//===-- tokens, tuples, barriers --------------------------------------------===//

def Shlo_CreateTokenOp : Shlo_InferOp<"create_token", [Pure]> {
  let results = (outs HLO_Token:$output);
  let assemblyFormat = "attr-dict `:` type(results)";
}

def Shlo_AfterAllOp : Shlo_InferOp<"after_all", [Pure]> {
  let arguments = (ins Variadic<HLO_Token>:$inputs);
  let results = (outs HLO_Token:$result);
  let assemblyFormat = [{
    $inputs attr-dict `:` custom<VariadicSameOperandsAndResultType>(ref($inputs), type($inputs), type($result)) }];
}

def Shlo_TupleOp : Shlo_InferOp<"tuple", [Pure]> {
  let arguments = (ins Variadic<HLO_BufferTensorTokenOrTuple>:$val);
  let results = (outs HLO_Tuple:$result);
  let assemblyFormat = "$val attr-dict `:` custom<TupleOpType>(type($val), type($result))";
}

def Shlo_GetTupleElementOp : Shlo_InferOp<"get_tuple_element", [Pure]> {
  let arguments = (ins HLO_Tuple:$operand, ConfinedAttr<I32Attr, [IntNonNegative]>:$index);
  let results = (outs HLO_BufferTensorTokenOrTuple);
  let assemblyFormat = "$operand `[` $index `]` attr-dict `:` functional-type(operands, results)";
}

def Shlo_OptimizationBarrierOp : Shlo_Op<"optimization_barrier"> {
  let arguments = (ins Variadic<HLO_TensorOrToken>:$operand);
  let results = (outs Variadic<HLO_TensorOrToken>:$result);
  let hasVerifier = 1;
  let assemblyFormat = "attr-dict ($operand^ `:` custom<PairwiseOpType>(type($operand), type($result))):(`(` `)`)?";
}

//===-- host transfers and calls --------------------------------------------===//

def Shlo_InfeedOp : Shlo_Op<"infeed"> {
  let arguments = (ins HLO_Token:$token, DefaultValuedStrAttr<StrAttr, "">:$infeed_config, OptionalAttr<ArrayAttr>:$layout);
  let results = (outs Variadic<HLO_TensorTokenOrTuple>);
  let hasVerifier = 1;
}

def Shlo_OutfeedOp : Shlo_Op<"outfeed"> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$inputs, HLO_Token:$token, DefaultValuedStrAttr<StrAttr, "">:$outfeed_config);
  let results = (outs HLO_Token:$result);
}

def Shlo_SendOp : Shlo_Op<"send"> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$inputs, HLO_Token:$token, Shlo_ChannelHandle:$channel_handle,
    DefaultValuedOptionalAttr<BoolAttr, "false">:$is_host_transfer, OptionalAttr<I64ElementsAttr>:$source_target_pairs);
  let results = (outs HLO_Token:$result);
  let hasVerifier = 1;
}

def Shlo_RecvOp : Shlo_Op<"recv"> {
  let arguments = (ins HLO_Token:$token, Shlo_ChannelHandle:$channel_handle,
    DefaultValuedOptionalAttr<BoolAttr, "false">:$is_host_transfer, OptionalAttr<I64ElementsAttr>:$source_target_pairs);
  let results = (outs Variadic<HLO_TensorOrToken>);
  let hasVerifier = 1;
}

def Shlo_CustomCallOp : Shlo_Op<"custom_call", [
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let arguments = (ins Variadic<HLO_CustomCallValue>:$inputs, StrAttr:$call_target_name,
    DefaultValuedOptionalAttr<BoolAttr, "false">:$has_side_effect,
    OptionalAttr<AnyAttrOf<[StrAttr, DictionaryAttr]>>:$backend_config,
    DefaultValuedOptionalAttr<CustomCallApiVersion, "::icd::stablehlo::CustomCallApiVersion::API_VERSION_ORIGINAL">:$api_version,
    DefaultValuedOptionalAttr<Shlo_FlatSymbolRefArray, "{}">:$called_computations,
    OptionalAttr<Shlo_LayoutArray>:$operand_layouts, OptionalAttr<Shlo_LayoutArray>:$result_layouts,
    DefaultValuedOptionalAttr<Shlo_AliasArray, "{}">:$output_operand_aliases,
    OptionalAttr<ArrayAttr>:$result_tilings);
  let results = (outs Variadic<HLO_CustomCallValue>);
  let hasVerifier = 1;
  let assemblyFormat = [{
    custom<CustomCallTarget>($call_target_name) `(` $inputs `)` attr-dict `:` functional-type(operands, results) }];
}

def Shlo_CompositeOp : Shlo_Op<"composite", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let arguments = (ins Variadic<HLO_TensorTokenOrTuple>:$inputs, StrAttr:$name,
    DefaultValuedOptionalAttr<DictionaryAttr, "{}">:$composite_attributes, FlatSymbolRefAttr:$decomposition,
    DefaultValuedOptionalAttr<ConfinedAttr<I32Attr, [IntNonNegative]>, "0">:$version);
  let results = (outs Variadic<HLO_TensorTokenOrTuple>:$results);
  let regions = (region VariadicRegion<AnyRegion>:$composite_regions);
  let hasVerifier = 1;
  let hasCustomAssemblyFormat = 1;
}

//===-- random numbers ------------------------------------------------------===//

def Shlo_RngOp : Shlo_InferOp<"rng"> {
  let arguments = (ins HLO_ScalarNumber:$a, HLO_ScalarNumber:$b, HLO_StaticIndexTensor:$shape,
                       Shlo_RngDistributionAttr:$rng_distribution);
  let results = (outs HLO_PlainTensor:$result);
  let assemblyFormat = [{
    $a `,` $b `,` $shape `,` `distribution` `=` `` $rng_distribution attr-dict `:` functional-type(operands, results) }];
}

def Shlo_RngBitGeneratorOp : Shlo_Op<"rng_bit_generator", [Pure]> {
  let arguments = (ins HLO_IntOrFpTensor:$initial_state, Shlo_RngAlgorithmAttr:$rng_algorithm);
  let results = (outs HLO_IntOrFpTensor:$output_state, HLO_IntOrFpTensor:$output);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $initial_state `,` `algorithm` `=` `` $rng_algorithm attr-dict `:` functional-type(operands, results) }];
}

//===-- batch normalization -------------------------------------------------===//

def Shlo_BatchNormInferenceOp : Shlo_InferOp<"batch_norm_inference", [Pure]> {
  let arguments = (ins HLO_FpTensor:$operand, HLO_FpTensor:$scale, HLO_FpTensor:$offset, HLO_FpTensor:$mean,
                       HLO_FpTensor:$variance, F32Attr:$epsilon, Shlo_NonNegativeDim:$feature_index);
  let results = (outs HLO_FpTensor:$result);
}
def Shlo_BatchNormTrainingOp : Shlo_InferOp<"batch_norm_training", [Pure]> {
  let arguments = (ins HLO_FpTensor:$operand, HLO_FpTensor:$scale, HLO_FpTensor:$offset, F32Attr:$epsilon,
                       Shlo_NonNegativeDim:$feature_index);
  let results = (outs HLO_FpTensor:$output, HLO_FpTensor:$batch_mean, HLO_FpTensor:$batch_var);
}
def Shlo_BatchNormGradOp : Shlo_InferOp<"batch_norm_grad", [Pure]> {
  let arguments = (ins HLO_FpTensor:$operand, HLO_FpTensor:$scale, HLO_FpTensor:$mean, HLO_FpTensor:$variance,
                       HLO_FpTensor:$grad_output, F32Attr:$epsilon, Shlo_NonNegativeDim:$feature_index);
  let results = (outs HLO_FpTensor:$grad_operand, HLO_FpTensor:$grad_scale, HLO_FpTensor:$grad_offset);
}

#endif
