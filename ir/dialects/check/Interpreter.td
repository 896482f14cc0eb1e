#ifndef ICD_INTERPRETER_TD
#define ICD_INTERPRETER_TD

include "Base.td"

def Interpreter_Dialect : Dialect {
  let name = "interpreter";
  let cppNamespace = "::icd::interpreter";
  let summary = "instrumentation and parallel runs of test programs";
}
class Interpreter_Op<string mnemonic, list<Trait> traits = []> : Op<Interpreter_Dialect, mnemonic, traits>;

def Interpreter_PrintOp : Interpreter_Op<"print"> {
  let arguments = (ins HLO_AnyTensor:$operand);
  let assemblyFormat = "$operand attr-dict `:` type($operand)";
}
def Interpreter_ProbeOp : Interpreter_Op<"probe", [SameOperandsAndResultType]> {
  let arguments = (ins HLO_AnyTensor:$operand, StrAttr:$probe_id);
  let results = (outs HLO_AnyTensor:$result);
  let assemblyFormat = "$operand `,` `probe_id` `=` $probe_id attr-dict `:` type($result)";
}
def Interpreter_RunParallelOp : Interpreter_Op<"run_parallel"> {
  let arguments = (ins Variadic<HLO_TensorTokenOrTuple>:$inputs, OptionalAttr<ArrayAttr>:$infeed, ArrayAttr:$programs);
  let results = (outs Variadic<HLO_TensorTokenOrTuple>:$results);
}

#endif
