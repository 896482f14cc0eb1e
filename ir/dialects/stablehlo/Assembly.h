// Custom directives of the operations' assembly formats.
#ifndef ICD_STABLEHLO_ASSEMBLY_H
#define ICD_STABLEHLO_ASSEMBLY_H

#include "AttrSyntax.h"

namespace icd::stablehlo {

using mlir::ArrayAttr;
using mlir::BoolAttr;
using mlir::DenseBoolArrayAttr;
using mlir::DenseI64ArrayAttr;
using mlir::DenseIntElementsAttr;
using mlir::IntegerAttr;
using mlir::OpAsmParser;
using mlir::OpAsmPrinter;
using mlir::OperandRange;
using mlir::ParseResult;
using mlir::StringAttr;
using Unresolved = OpAsmParser::UnresolvedOperand;

/// `T` where all operands and the result have type T, else `(A, B) -> R`.
void printSameTypes(OpAsmPrinter &os, Operation *op, TypeRange operands, Type result);
ParseResult parseSameTypes(OpAsmParser &parser, ArrayRef<Type *> operands, Type &result);

template <typename... Ts>
void printSameOperandsAndResultType(OpAsmPrinter &os, Operation *op, Ts... types) {
  SmallVector<Type> all{types...};
  Type result = all.pop_back_val();
  printSameTypes(os, op, all, result);
}
template <typename... Ts>
ParseResult parseSameOperandsAndResultType(OpAsmParser &parser, Ts &...types) {
  SmallVector<Type *> all{&types...};
  Type *result = all.pop_back_val();
  return parseSameTypes(parser, all, *result);
}

void printVariadicSameOperandsAndResultType(OpAsmPrinter &os, Operation *op, OperandRange operands, TypeRange types,
                                            Type result);
ParseResult parseVariadicSameOperandsAndResultType(OpAsmParser &parser, SmallVector<Unresolved, 4> &operands,
                                                   SmallVector<Type, 1> &types, Type &result);

void printTupleOpType(OpAsmPrinter &os, Operation *, TypeRange operands, Type result);
ParseResult parseTupleOpType(OpAsmParser &parser, mlir::SmallVectorImpl<Type> &operands, Type &result);

void printPairwiseOpType(OpAsmPrinter &os, Operation *, TypeRange operands, TypeRange results);
ParseResult parsePairwiseOpType(OpAsmParser &parser, mlir::SmallVectorImpl<Type> &operands,
                                mlir::SmallVectorImpl<Type> &results);

/// Operands each followed by a comma; what comes next is an attribute.
void printVariadicOperandWithAttribute(OpAsmPrinter &os, Operation *, OperandRange operands);
ParseResult parseVariadicOperandWithAttribute(OpAsmParser &parser, mlir::SmallVectorImpl<Unresolved> &operands);

void printComplexOpType(OpAsmPrinter &os, Operation *op, Type lhs, Type rhs, Type result);
ParseResult parseComplexOpType(OpAsmParser &parser, Type &lhs, Type &rhs, Type &result);

void printSelectOpType(OpAsmPrinter &os, Operation *op, Type pred, Type onTrue, Type onFalse, Type result);
ParseResult parseSelectOpType(OpAsmParser &parser, Type &pred, Type &onTrue, Type &onFalse, Type &result);

/// `e8m10`
void printExponentMantissa(OpAsmPrinter &os, Operation *, IntegerAttr exponent, IntegerAttr mantissa);
ParseResult parseExponentMantissa(OpAsmParser &parser, IntegerAttr &exponent, IntegerAttr &mantissa);

/// `[0:4:2, 1:3]`
void printSliceRanges(OpAsmPrinter &os, Operation *, DenseI64ArrayAttr start, DenseI64ArrayAttr limit,
                      DenseI64ArrayAttr strides);
ParseResult parseSliceRanges(OpAsmParser &parser, DenseI64ArrayAttr &start, DenseI64ArrayAttr &limit,
                             DenseI64ArrayAttr &strides);

/// `, precision = [DEFAULT, HIGH]`
void printPrecisionConfig(OpAsmPrinter &os, Operation *, ArrayAttr config);
ParseResult parsePrecisionConfig(OpAsmParser &parser, ArrayAttr &config);
void printPrecisionConfigAndAlgorithm(OpAsmPrinter &os, Operation *, ArrayAttr config, DotAlgorithmAttr algorithm);
ParseResult parsePrecisionConfigAndAlgorithm(OpAsmParser &parser, ArrayAttr &config, DotAlgorithmAttr &algorithm);

/// `batching_dims = [0] x [0], contracting_dims = [2] x [1]`
void printDotDimensionNumbers(OpAsmPrinter &os, Operation *, DotDimensionNumbersAttr dims);
ParseResult parseDotDimensionNumbers(OpAsmParser &parser, DotDimensionNumbersAttr &dims);

void printConvolutionDimensions(OpAsmPrinter &os, Operation *, ConvDimensionNumbersAttr dims);
ParseResult parseConvolutionDimensions(OpAsmParser &parser, ConvDimensionNumbersAttr &dims);

/// `stride = [1, 1], pad = [[0, 0], [0, 0]], lhs_dilate = [..], rhs_dilate = [..], reverse = [false, true]`
void printWindowAttributes(OpAsmPrinter &os, Operation *, DenseI64ArrayAttr strides, DenseIntElementsAttr padding,
                           DenseI64ArrayAttr lhsDilation, DenseI64ArrayAttr rhsDilation, DenseBoolArrayAttr reversal);
ParseResult parseWindowAttributes(OpAsmParser &parser, DenseI64ArrayAttr &strides, DenseIntElementsAttr &padding,
                                  DenseI64ArrayAttr &lhsDilation, DenseI64ArrayAttr &rhsDilation,
                                  DenseBoolArrayAttr &reversal);

/// `@name`
void printCustomCallTarget(OpAsmPrinter &os, Operation *, StringAttr target);
ParseResult parseCustomCallTarget(OpAsmParser &parser, StringAttr &target);

} // namespace icd::stablehlo
#endif
