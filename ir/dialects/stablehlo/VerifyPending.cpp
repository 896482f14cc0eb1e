#include "Stablehlo.h"
using namespace mlir;
namespace icd::stablehlo {
LogicalResult AllGatherOp::verify() { return success(); }
LogicalResult AllReduceOp::verify() { return success(); }
LogicalResult AllToAllOp::verify() { return success(); }
LogicalResult AsyncDoneOp::verify() { return success(); }
LogicalResult AsyncStartOp::verify() { return success(); }
LogicalResult BitcastConvertOp::verify() { return success(); }
LogicalResult BroadcastInDimOp::verify() { return success(); }
LogicalResult CaseOp::verify() { return success(); }
LogicalResult CholeskyOp::verify() { return success(); }
LogicalResult CollectiveBroadcastOp::verify() { return success(); }
LogicalResult CollectivePermuteOp::verify() { return success(); }
LogicalResult CollectiveReduceOp::verify() { return success(); }
LogicalResult CompareOp::verify() { return success(); }
LogicalResult CompositeOp::verify() { return success(); }
LogicalResult CompositeOp::verifySymbolUses(SymbolTableCollection &) { return success(); }
LogicalResult ConcatenateOp::verify() { return success(); }
LogicalResult ConvolutionOp::verify() { return success(); }
LogicalResult CustomCallOp::verify() { return success(); }
LogicalResult CustomCallOp::verifySymbolUses(SymbolTableCollection &) { return success(); }
LogicalResult DotGeneralOp::verify() { return success(); }
LogicalResult DotOp::verify() { return success(); }
LogicalResult DynamicBroadcastInDimOp::verify() { return success(); }
LogicalResult DynamicConvOp::verify() { return success(); }
LogicalResult DynamicIotaOp::verify() { return success(); }
LogicalResult DynamicPadOp::verify() { return success(); }
LogicalResult DynamicReshapeOp::verify() { return success(); }
LogicalResult IfOp::verify() { return success(); }
LogicalResult InfeedOp::verify() { return success(); }
LogicalResult IotaOp::verify() { return success(); }
LogicalResult OptimizationBarrierOp::verify() { return success(); }
LogicalResult RealDynamicSliceOp::verify() { return success(); }
LogicalResult RecvOp::verify() { return success(); }
LogicalResult ReducePrecisionOp::verify() { return success(); }
LogicalResult ReduceScatterOp::verify() { return success(); }
LogicalResult ReshapeOp::verify() { return success(); }
LogicalResult ReverseOp::verify() { return success(); }
LogicalResult RngBitGeneratorOp::verify() { return success(); }
LogicalResult SendOp::verify() { return success(); }
LogicalResult TriangularSolveOp::verify() { return success(); }
LogicalResult WhileOp::verify() { return success(); }
void CustomCallOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &e) {}
LogicalResult DotAlgorithmAttr::verify(llvm::function_ref<InFlightDiagnostic()>, Type, Type, Type, int64_t, int64_t, int64_t, bool) { return success(); }
Type permutedElementType(Type t, ArrayRef<int64_t>) { return t; }
}
