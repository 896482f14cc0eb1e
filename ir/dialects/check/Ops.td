#ifndef ICD_CHECK_TD
#define ICD_CHECK_TD

include "Base.td"

def Check_Dialect : Dialect {
  let name = "check";
  let cppNamespace = "::icd::check";
  let summary = "assertions of test programs";
}
class Check_Op<string mnemonic, list<Trait> traits = []> : Op<Check_Dialect, mnemonic, traits>;

def Check_ExpectEqOp : Check_Op<"expect_eq", [SameTypeOperands]> {
  let arguments = (ins HLO_Tensor:$lhs, HLO_Tensor:$rhs);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs)";
}
def Check_ExpectEqConstOp : Check_Op<"expect_eq_const", [AllTypesMatch<["lhs", "value"]>]> {
  let arguments = (ins HLO_Tensor:$lhs, ElementsAttr:$value);
  let assemblyFormat = "$lhs `,` $value attr-dict";
}
def Check_ExpectAlmostEqOp : Check_Op<"expect_almost_eq", [SameTypeOperands]> {
  let arguments = (ins HLO_FpOrComplexTensor:$lhs, HLO_FpOrComplexTensor:$rhs,
                       DefaultValuedOptionalAttr<F64Attr, "0.001">:$tolerance);
  let assemblyFormat = "$lhs `,` $rhs (`,` `tolerance` `=` $tolerance^)? attr-dict `:` type($lhs)";
}
def Check_ExpectAlmostEqConstOp : Check_Op<"expect_almost_eq_const", [AllTypesMatch<["lhs", "value"]>]> {
  let arguments = (ins HLO_FpOrComplexTensor:$lhs, ElementsAttr:$value,
                       DefaultValuedOptionalAttr<F64Attr, "0.001">:$tolerance);
  let assemblyFormat = "$lhs `,` $value attr-dict";
}
def Check_ExpectCloseOp : Check_Op<"expect_close"> {
  let arguments = (ins HLO_FpOrComplexTensor:$actual, HLO_FpOrComplexTensor:$expected,
                       DefaultValuedOptionalAttr<I64Attr, "3">:$max_ulp_difference,
                       DefaultValuedOptionalAttr<I64Attr, "0">:$min_ulp_difference);
  let assemblyFormat = [{
    $actual `,` $expected (`,` `max_ulp_difference` `=` $max_ulp_difference^)?
    (`,` `min_ulp_difference` `=` $min_ulp_difference^)? attr-dict `:` type($actual) `,` type($expected) }];
}
def Check_ExpectSerializedEqOp : Check_Op<"expect_serialized_eq"> {
  let arguments = (ins HLO_Tensor:$expected, StrAttr:$probe_id, DefaultValuedOptionalAttr<UI32Attr, "0">:$iteration);
  let hasCustomAssemblyFormat = 1;
}

#endif
