#ifndef ICD_DIALECT_TD
#define ICD_DIALECT_TD

include "Base.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"

def Icd_Dialect : Dialect {
  let name = "icd";
  let cppNamespace = "::icd::dialect";
  let summary = "layouts, quantized products and fused regions";
}
class Icd_Op<string mnemonic, list<Trait> traits = []> : Op<Icd_Dialect, mnemonic, traits>;

def Icd_WeightOp : Icd_Op<"weight", [Pure, DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "a named tensor that is kept outside the program";
  let description = "`icd.weight \"encoder.0.w\" : tensor<384x1536xf32>`";
  let arguments = (ins StrAttr:$name);
  let results = (outs AnyStaticShapeTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "$name attr-dict `:` type($result)";
}

class Icd_Map<string mnemonic> : Icd_Op<mnemonic, [Pure, AllTypesMatch<["operand", "result"]>]> {
  let arguments = (ins AnyRankedTensor:$operand, ConfinedAttr<I64Attr, [IntNonNegative]>:$axis, StrAttr:$kind,
                       OptionalAttr<DenseI64ArrayAttr>:$permutation, OptionalAttr<ElementsAttr>:$scale,
                       OptionalAttr<ConfinedAttr<I64Attr, [IntPositive]>>:$block, OptionalAttr<I64Attr>:$seed);
  let results = (outs AnyRankedTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "$operand attr-dict `:` type($operand)";
}
def Icd_ChannelMapOp : Icd_Map<"channel_map"> {
  let summary = "an invertible linear map on the channels of one dimension";
  let description = [{
    `kind` tells which: "permutation" takes channel `permutation[i]` to place i, "scale" multiplies channel i by
    `scale[i]`, "hadamard" turns blocks of `block` channels by a Hadamard matrix with the signs of `seed` (0: none).
  }];
}
def Icd_ChannelUnmapOp : Icd_Map<"channel_unmap"> {
  let summary = "the inverse of icd.channel_map with the same attributes";
}

def Icd_QuantizedDotOp : Icd_Op<"quantized_dot", [Pure]> {
  let summary = "product with a matrix of integer codes that have scales by group of rows";
  let description = [{
    `x[...,K] . W[K,N]` with `W[k,n] = (codes[k,n] - zero_points[k/g,n]) * scales[k/g,n]`, g = `group_size`.
  }];
  let arguments = (ins AnyRankedTensor:$x, AnyRankedTensor:$codes, AnyRankedTensor:$scales,
                       Optional<AnyRankedTensor>:$zero_points, ConfinedAttr<I64Attr, [IntPositive]>:$bits,
                       ConfinedAttr<I64Attr, [IntPositive]>:$group_size,
                       DefaultValuedOptionalAttr<BoolAttr, "false">:$zeros, OptionalAttr<StrAttr>:$scheme);
  let results = (outs AnyRankedTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Icd_PackedDotOp : Icd_Op<"packed_dot", [Pure]> {
  let summary = "product with a matrix whose codes, scales and zero points are packed in kernel order";
  let description = "`format` is the packed format as JSON; it tells n, k, bits and groups.";
  let arguments = (ins AnyRankedTensor:$x, TensorOf<[UI8]>:$packed, Optional<AnyRankedTensor>:$bias, StrAttr:$format);
  let results = (outs AnyRankedTensor:$result);
  let hasVerifier = 1;
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Icd_FusionOp : Icd_Op<"fusion", [RecursiveMemoryEffects, IsolatedFromAbove,
    SingleBlockImplicitTerminator<"YieldOp">]> {
  let summary = "operations that become one kernel";
  let description = "The block arguments are the operands; `kind` decides the kernel family.";
  let arguments = (ins Variadic<AnyType>:$inputs, StrAttr:$kind);
  let results = (outs Variadic<AnyType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let hasVerifier = 1;
  let hasCustomAssemblyFormat = 1;
}

def Icd_YieldOp : Icd_Op<"yield", [Pure, Terminator, ReturnLike, HasParent<"FusionOp">]> {
  let summary = "the results of a fused region";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

#endif
