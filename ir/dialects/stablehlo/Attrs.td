#ifndef ICD_STABLEHLO_ATTRS_TD
#define ICD_STABLEHLO_ATTRS_TD

include "Base.td"

//===-- enums ---------------------------------------------------------------===//

class Shlo_Enum<string cpp, string what, list<I32EnumAttrCase> cases> : I32EnumAttr<cpp, what, cases> {
  let genSpecializedAttr = 0;
  let cppNamespace = "::icd::stablehlo";
}
class Shlo_EnumAttr<EnumAttrInfo info, string mnemonic> : EnumAttr<Stablehlo_Dialect, info, mnemonic>;

def Precision : Shlo_Enum<"Precision", "precision asked for one operand", [
    I32EnumAttrCase<"DEFAULT", 0>, I32EnumAttrCase<"HIGH", 1>, I32EnumAttrCase<"HIGHEST", 2>]>;
def Shlo_PrecisionAttr : Shlo_EnumAttr<Precision, "precision">;
def Shlo_PrecisionConfig : OptionalAttr<TypedArrayAttrBase<Shlo_PrecisionAttr, "Precision Config attribute">>;

def FftType : Shlo_Enum<"FftType", "kind of Fourier transform", [
    I32EnumAttrCase<"FFT", 0>, I32EnumAttrCase<"IFFT", 1>,
    I32EnumAttrCase<"RFFT", 2>, I32EnumAttrCase<"IRFFT", 3>]>;
def Shlo_FftTypeAttr : Shlo_EnumAttr<FftType, "fft_type">;

def ComparisonDirection : Shlo_Enum<"ComparisonDirection", "which comparison to perform", [
    I32EnumAttrCase<"EQ", 0>, I32EnumAttrCase<"NE", 1>, I32EnumAttrCase<"GE", 2>,
    I32EnumAttrCase<"GT", 3>, I32EnumAttrCase<"LE", 4>, I32EnumAttrCase<"LT", 5>]>;
def Shlo_ComparisonDirectionAttr : Shlo_EnumAttr<ComparisonDirection, "comparison_direction">;

def ComparisonType : Shlo_Enum<"ComparisonType", "how elements are compared", [
    I32EnumAttrCase<"NOTYPE", 0>, I32EnumAttrCase<"FLOAT", 1>, I32EnumAttrCase<"TOTALORDER", 2>,
    I32EnumAttrCase<"SIGNED", 3>, I32EnumAttrCase<"UNSIGNED", 4>]>;
def Shlo_ComparisonTypeAttr : Shlo_EnumAttr<ComparisonType, "comparison_type">;

def Transpose : Shlo_Enum<"Transpose", "transpose applied to a matrix operand", [
    I32EnumAttrCase<"TRANSPOSE_INVALID", 0>, I32EnumAttrCase<"NO_TRANSPOSE", 1>,
    I32EnumAttrCase<"TRANSPOSE", 2>, I32EnumAttrCase<"ADJOINT", 3>]>;
def Shlo_TransposeAttr : Shlo_EnumAttr<Transpose, "transpose">;

def RngDistribution : Shlo_Enum<"RngDistribution", "distribution of random numbers", [
    I32EnumAttrCase<"UNIFORM", 1>, I32EnumAttrCase<"NORMAL", 2>]>;
def Shlo_RngDistributionAttr : Shlo_EnumAttr<RngDistribution, "rng_distribution">;

def RngAlgorithm : Shlo_Enum<"RngAlgorithm", "generator of random bits", [
    I32EnumAttrCase<"DEFAULT", 0>, I32EnumAttrCase<"THREE_FRY", 1>, I32EnumAttrCase<"PHILOX", 2>]>;
def Shlo_RngAlgorithmAttr : Shlo_EnumAttr<RngAlgorithm, "rng_algorithm">;

def CustomCallApiVersion : I32EnumAttr<"CustomCallApiVersion", "calling convention of a custom call", [
    I32EnumAttrCase<"API_VERSION_UNSPECIFIED", 0>, I32EnumAttrCase<"API_VERSION_ORIGINAL", 1>,
    I32EnumAttrCase<"API_VERSION_STATUS_RETURNING", 2>,
    I32EnumAttrCase<"API_VERSION_STATUS_RETURNING_UNIFIED", 3>,
    I32EnumAttrCase<"API_VERSION_TYPED_FFI", 4>]> {
  let cppNamespace = "::icd::stablehlo";
}

def ResultAccuracyMode : Shlo_Enum<"ResultAccuracyMode", "how accurate a result must be", [
    I32EnumAttrCase<"DEFAULT", 0>, I32EnumAttrCase<"HIGHEST", 1>, I32EnumAttrCase<"TOLERANCE", 2>]>;
def Shlo_ResultAccuracyModeAttr : Shlo_EnumAttr<ResultAccuracyMode, "result_accuracy_mode"> {
  let assemblyFormat = "`<` $value `>`";
}

//===-- structured attributes -----------------------------------------------===//

class Shlo_Attr<string cpp, string mn, list<Trait> traits = []>
    : AttrDef<Stablehlo_Dialect, cpp, traits> { let mnemonic = mn; }
def Shlo_Dims : ArrayRefParameter<"int64_t">;

def Shlo_DotDims : Shlo_Attr<"DotDimensionNumbers", "dot"> {
  let parameters = (ins Shlo_Dims:$lhsBatchingDimensions, Shlo_Dims:$rhsBatchingDimensions,
                        Shlo_Dims:$lhsContractingDimensions, Shlo_Dims:$rhsContractingDimensions);
  let hasCustomAssemblyFormat = 1;
}

def Shlo_GatherDims : Shlo_Attr<"GatherDimensionNumbers", "gather"> {
  let parameters = (ins Shlo_Dims:$offsetDims, Shlo_Dims:$collapsedSliceDims,
                        Shlo_Dims:$operandBatchingDims, Shlo_Dims:$startIndicesBatchingDims,
                        Shlo_Dims:$startIndexMap, "int64_t":$indexVectorDim);
  let hasCustomAssemblyFormat = 1;
}

def Shlo_ScatterDims : Shlo_Attr<"ScatterDimensionNumbers", "scatter"> {
  let parameters = (ins Shlo_Dims:$updateWindowDims, Shlo_Dims:$insertedWindowDims,
                        Shlo_Dims:$inputBatchingDims, Shlo_Dims:$scatterIndicesBatchingDims,
                        Shlo_Dims:$scatterDimsToOperandDims, "int64_t":$indexVectorDim);
  let hasCustomAssemblyFormat = 1;
}

def Shlo_ConvDims : Shlo_Attr<"ConvDimensionNumbers", "conv"> {
  let parameters = (ins
    "int64_t":$inputBatchDimension, "int64_t":$inputFeatureDimension, Shlo_Dims:$inputSpatialDimensions,
    "int64_t":$kernelInputFeatureDimension, "int64_t":$kernelOutputFeatureDimension, Shlo_Dims:$kernelSpatialDimensions,
    "int64_t":$outputBatchDimension, "int64_t":$outputFeatureDimension, Shlo_Dims:$outputSpatialDimensions);
  let hasCustomAssemblyFormat = 1;
}

def Shlo_DotAlgorithm : Shlo_Attr<"DotAlgorithm", "dot_algorithm"> {
  let parameters = (ins "::mlir::Type":$lhsPrecisionType, "::mlir::Type":$rhsPrecisionType,
                        "::mlir::Type":$accumulationType, "int64_t":$lhsComponentCount,
                        "int64_t":$rhsComponentCount, "int64_t":$numPrimitiveOperations,
                        "bool":$allowImpreciseAccumulation);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Shlo_OutputOperandAlias : Shlo_Attr<"OutputOperandAlias", "output_operand_alias"> {
  let parameters = (ins Shlo_Dims:$outputTupleIndices, "int64_t":$operandIndex, Shlo_Dims:$operandTupleIndices);
  let hasCustomAssemblyFormat = 1;
}

def Shlo_ChannelHandle : Shlo_Attr<"ChannelHandle", "channel_handle"> {
  let parameters = (ins "int64_t":$handle, "int64_t":$type);
  let assemblyFormat = "`<` struct(params) `>`";
}

def Shlo_TypeExtensions : Shlo_Attr<"TypeExtensions", "type_extensions", []> {
  let parameters = (ins Shlo_Dims:$bounds);
  let hasCustomAssemblyFormat = 1;
}

def Shlo_ResultAccuracy : Shlo_Attr<"ResultAccuracy", "result_accuracy"> {
  let parameters = (ins DefaultValuedParameter<"::llvm::APFloat", "::llvm::APFloat::getZero(::llvm::APFloat::IEEEdouble())">:$atol,
                        DefaultValuedParameter<"::llvm::APFloat", "::llvm::APFloat::getZero(::llvm::APFloat::IEEEdouble())">:$rtol,
                        DefaultValuedParameter<"int64_t", "0">:$ulps,
                        "::icd::stablehlo::ResultAccuracyModeAttr":$mode);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Shlo_ReplicaGroupMeshAxes : Shlo_Attr<"ReplicaGroupMeshAxes", "replica_group_mesh_axes"> {
  let parameters = (ins "::mlir::Attribute":$mesh, "::mlir::ArrayAttr":$axes);
  let assemblyFormat = "`<` struct(params) `>`";
}
def Shlo_SubAxisInfo : Shlo_Attr<"SubAxisInfo", "sub_axis_info"> {
  let parameters = (ins "int64_t":$preSize, "int64_t":$size);
  let assemblyFormat = "`(` $preSize `)` `` $size";
}
def Shlo_AxisRef : Shlo_Attr<"AxisRef", "axis_ref"> {
  let parameters = (ins "::mlir::StringAttr":$name,
                        OptionalParameter<"::icd::stablehlo::SubAxisInfoAttr">:$subAxisInfo);
  let assemblyFormat = "`<` `name` `=` $name (`,` `sub_axis_info` `=` $subAxisInfo^)? `>`";
}

//===-- attribute constraints -----------------------------------------------===//

def Shlo_NonNegativeDim : ConfinedAttr<I64Attr, [IntNonNegative]>;
def Shlo_PositiveInt : ConfinedAttr<I64Attr, [IntPositive]>;
def Shlo_FlatSymbolRefArray : TypedArrayAttrBase<FlatSymbolRefAttr, "flat symbol ref array attribute"> {
  let constBuilderCall = "::mlir::ArrayAttr::get($_builder.getContext(), $0)";
}
def Shlo_AliasArray : TypedArrayAttrBase<Shlo_OutputOperandAlias,
    "Aliasing attribute for outputs and operands of CustomCall"> {
  let constBuilderCall = "::mlir::ArrayAttr::get($_builder.getContext(), $0)";
}
def Shlo_Layout : Attr<CPred<"::icd::stablehlo::isLayoutAttr($_self)">, "A 1D tensor of index type (layout)"> {
  let storageType = "::mlir::DenseIntElementsAttr";
  let returnType = "::mlir::DenseIntElementsAttr";
  let convertFromStorage = "$_self";
}
def Shlo_LayoutArray : TypedArrayAttrBase<Shlo_Layout, "Array of layout (1D tensor of index type) attributes">;
def Shlo_ReplicaGroups : Attr<Or<[I64ElementsAttr.predicate,
    CPred<"::llvm::isa<::icd::stablehlo::ReplicaGroupMeshAxesAttr>($_self)">]>,
    "64-bit signless integer elements attribute or replica groups over mesh axes"> {
  let storageType = "::mlir::Attribute";
  let returnType = "::mlir::Attribute";
  let convertFromStorage = "$_self";
}
def Shlo_AccuracyOrDefault : Attr<Shlo_ResultAccuracy.predicate, "result accuracy"> {
  let storageType = "::icd::stablehlo::ResultAccuracyAttr";
  let returnType = "::icd::stablehlo::ResultAccuracyAttr";
  let convertFromStorage = "$_self";
  let constBuilderCall = "::icd::stablehlo::defaultAccuracy($_builder.getContext())";
}
def Shlo_Accuracy : DefaultValuedOptionalAttr<Shlo_AccuracyOrDefault, "DEFAULT">;

#endif
