#ifndef ICD_VHLO_TD
#define ICD_VHLO_TD

include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Vhlo_Dialect : Dialect {
  let name = "vhlo";
  let cppNamespace = "::icd::vhlo";
  let summary = "versioned operations of StableHLO portable artifacts; read only, then legalized to stablehlo";
  let dependentDialects = ["::icd::stablehlo::StablehloDialect", "::mlir::quant::QuantDialect"];
}

// One version of one operation. What bytecode stores of it is its attributes in
// alphabetical order; operands, results and regions need no declaration.
class Vhlo<string mnemonic, list<string> attrs = [], list<Trait> traits = []> : Op<Vhlo_Dialect, mnemonic, traits> {
  let arguments = !foldl((ins Variadic<AnyType>:$inputs), attrs, all, name, !con(all, !dag(ins, [AnyAttr], [name])));
  let results = (outs Variadic<AnyType>:$outputs);
  let regions = (region VariadicRegion<AnyRegion>:$bodies);
}

def Vhlo_AbsV1 : Vhlo<"abs_v1">;
def Vhlo_AddV1 : Vhlo<"add_v1">;
def Vhlo_AfterAllV1 : Vhlo<"after_all_v1">;
def Vhlo_AllGatherV1 : Vhlo<"all_gather_v1", [
    "all_gather_dim", "channel_id", "replica_groups", "use_global_device_ids"]>;
def Vhlo_AllGatherV2 : Vhlo<"all_gather_v2", [
    "all_gather_dim", "channel_id", "replica_groups", "use_global_device_ids"]>;
def Vhlo_AllReduceV1 : Vhlo<"all_reduce_v1", ["channel_id", "replica_groups", "use_global_device_ids"]>;
def Vhlo_AllReduceV2 : Vhlo<"all_reduce_v2", ["channel_id", "replica_groups", "use_global_device_ids"]>;
def Vhlo_AllToAllV1 : Vhlo<"all_to_all_v1", [
    "channel_id", "concat_dimension", "replica_groups", "split_count", "split_dimension"]>;
def Vhlo_AllToAllV2 : Vhlo<"all_to_all_v2", [
    "channel_id", "concat_dimension", "replica_groups", "split_count", "split_dimension"]>;
def Vhlo_AndV1 : Vhlo<"and_v1">;
def Vhlo_AsyncDoneV1 : Vhlo<"async_done_v1">;
def Vhlo_AsyncStartV1 : Vhlo<"async_start_v1">;
def Vhlo_Atan2V1 : Vhlo<"atan2_v1">;
def Vhlo_BatchNormGradV1 : Vhlo<"batch_norm_grad_v1", ["epsilon", "feature_index"]>;
def Vhlo_BatchNormInferenceV1 : Vhlo<"batch_norm_inference_v1", ["epsilon", "feature_index"]>;
def Vhlo_BatchNormTrainingV1 : Vhlo<"batch_norm_training_v1", ["epsilon", "feature_index"]>;
def Vhlo_BitcastConvertV1 : Vhlo<"bitcast_convert_v1">;
def Vhlo_BroadcastV1 : Vhlo<"broadcast_v1", ["broadcast_sizes"]>;
def Vhlo_BroadcastInDimV1 : Vhlo<"broadcast_in_dim_v1", ["broadcast_dimensions"]>;
def Vhlo_CallV1 : Vhlo<"call_v1", ["callee"]>;
def Vhlo_CaseV1 : Vhlo<"case_v1">;
def Vhlo_CbrtV1 : Vhlo<"cbrt_v1">;
def Vhlo_CbrtV2 : Vhlo<"cbrt_v2", ["result_accuracy"]>;
def Vhlo_CeilV1 : Vhlo<"ceil_v1">;
def Vhlo_CholeskyV1 : Vhlo<"cholesky_v1", ["lower"]>;
def Vhlo_ClampV1 : Vhlo<"clamp_v1">;
def Vhlo_CollectiveBroadcastV1 : Vhlo<"collective_broadcast_v1", ["channel_id", "replica_groups"]>;
def Vhlo_CollectiveBroadcastV2 : Vhlo<"collective_broadcast_v2", ["channel_id", "has_dynamic_root", "replica_groups"]>;
def Vhlo_CollectivePermuteV1 : Vhlo<"collective_permute_v1", ["channel_id", "source_target_pairs"]>;
def Vhlo_CollectiveReduceV1 : Vhlo<"collective_reduce_v1", [
    "channel_id", "has_dynamic_root", "replica_groups", "use_global_device_ids"]>;
def Vhlo_CompareV1 : Vhlo<"compare_v1", ["compare_type", "comparison_direction"]>;
def Vhlo_ComplexV1 : Vhlo<"complex_v1">;
def Vhlo_CompositeV1 : Vhlo<"composite_v1", ["composite_attributes", "decomposition", "name", "version"]>;
def Vhlo_CompositeV2 : Vhlo<"composite_v2", ["composite_attributes", "decomposition", "name", "version"]>;
def Vhlo_ConcatenateV1 : Vhlo<"concatenate_v1", ["dimension"]>;
def Vhlo_ConstantV1 : Vhlo<"constant_v1", ["value"]>;
def Vhlo_ConvertV1 : Vhlo<"convert_v1">;
def Vhlo_ConvolutionV1 : Vhlo<"convolution_v1", [
    "padding", "batch_group_count", "feature_group_count", "input_batch_dimension",
    "input_feature_dimension", "input_spatial_dimensions", "kernel_input_feature_dimension",
    "kernel_output_feature_dimension", "kernel_spatial_dimensions", "lhs_dilation",
    "output_batch_dimension", "output_feature_dimension", "output_spatial_dimensions", "precision_config",
    "rhs_dilation", "window_reversal", "window_strides"]>;
def Vhlo_CosineV1 : Vhlo<"cosine_v1">;
def Vhlo_CosineV2 : Vhlo<"cosine_v2", ["result_accuracy"]>;
def Vhlo_CountLeadingZerosV1 : Vhlo<"count_leading_zeros_v1">;
def Vhlo_CreateTokenV1 : Vhlo<"create_token_v1">;
def Vhlo_CrossReplicaSumV1 : Vhlo<"cross-replica-sum_v1", ["replica_groups"]>;
def Vhlo_CustomCallV1 : Vhlo<"custom_call_v1", [
    "api_version", "backend_config", "call_target_name", "called_computations", "has_side_effect",
    "operand_layouts", "output_operand_aliases", "result_layouts"]>;
def Vhlo_CustomCallV2 : Vhlo<"custom_call_v2", [
    "api_version", "backend_config", "call_target_name", "called_computations", "has_side_effect",
    "operand_layouts", "output_operand_aliases", "result_layouts", "result_tilings"]>;
def Vhlo_DivideV1 : Vhlo<"divide_v1">;
def Vhlo_DotV1 : Vhlo<"dot_v1", ["precision_config"]>;
def Vhlo_DotGeneralV1 : Vhlo<"dot_general_v1", [
    "lhs_batching_dimensions", "lhs_contracting_dimensions", "precision_config", "rhs_batching_dimensions",
    "rhs_contracting_dimensions"]>;
def Vhlo_DotGeneralV2 : Vhlo<"dot_general_v2", [
    "accumulation_type", "allow_imprecise_accumulation", "lhs_batching_dimensions", "lhs_component_count",
    "lhs_contracting_dimensions", "lhs_precision_type", "num_primitive_operations", "precision_config",
    "rhs_batching_dimensions", "rhs_component_count", "rhs_contracting_dimensions", "rhs_precision_type"]>;
def Vhlo_DynamicBroadcastInDimV1 : Vhlo<"dynamic_broadcast_in_dim_v1", [
    "broadcast_dimensions", "known_expanding_dimensions", "known_nonexpanding_dimensions"]>;
def Vhlo_DynamicConvV1 : Vhlo<"dynamic_conv_v1", [
    "padding", "batch_group_count", "feature_group_count", "input_batch_dimension",
    "input_feature_dimension", "input_spatial_dimensions", "kernel_input_feature_dimension",
    "kernel_output_feature_dimension", "kernel_spatial_dimensions", "lhs_dilation",
    "output_batch_dimension", "output_feature_dimension", "output_spatial_dimensions", "precision_config",
    "rhs_dilation", "window_reversal", "window_strides"]>;
def Vhlo_DynamicConvV2 : Vhlo<"dynamic_conv_v2", [
    "batch_group_count", "feature_group_count", "input_batch_dimension", "input_feature_dimension",
    "input_spatial_dimensions", "kernel_input_feature_dimension", "kernel_output_feature_dimension",
    "kernel_spatial_dimensions", "lhs_dilation", "output_batch_dimension", "output_feature_dimension",
    "output_spatial_dimensions", "precision_config", "rhs_dilation", "window_reversal", "window_strides"]>;
def Vhlo_DynamicGatherV1 : Vhlo<"dynamic_gather_v1", [
    "collapsed_slice_dims", "index_vector_dim", "indices_are_sorted", "offset_dims", "start_index_map"]>;
def Vhlo_DynamicGatherV2 : Vhlo<"dynamic_gather_v2", [
    "collapsed_slice_dims", "index_vector_dim", "indices_are_sorted", "offset_dims",
    "operand_batching_dims", "start_index_map", "start_indices_batching_dims"]>;
def Vhlo_DynamicIotaV1 : Vhlo<"dynamic_iota_v1", ["iota_dimension"]>;
def Vhlo_DynamicPadV1 : Vhlo<"dynamic_pad_v1">;
def Vhlo_DynamicReshapeV1 : Vhlo<"dynamic_reshape_v1">;
def Vhlo_DynamicSliceV1 : Vhlo<"dynamic_slice_v1", ["slice_sizes"]>;
def Vhlo_DynamicUpdateSliceV1 : Vhlo<"dynamic_update_slice_v1">;
def Vhlo_EinsumV1 : Vhlo<"einsum_v1", ["einsum_config"]>;
def Vhlo_ExponentialV1 : Vhlo<"exponential_v1">;
def Vhlo_ExponentialV2 : Vhlo<"exponential_v2", ["result_accuracy"]>;
def Vhlo_ExponentialMinusOneV1 : Vhlo<"exponential_minus_one_v1">;
def Vhlo_ExponentialMinusOneV2 : Vhlo<"exponential_minus_one_v2", ["result_accuracy"]>;
def Vhlo_FftV1 : Vhlo<"fft_v1", ["fft_length", "fft_type"]>;
def Vhlo_FloorV1 : Vhlo<"floor_v1">;
def Vhlo_FuncV1 : Vhlo<"func_v1", ["arg_attrs", "function_type", "res_attrs", "sym_name", "sym_visibility"]>;
def Vhlo_GatherV1 : Vhlo<"gather_v1", [
    "collapsed_slice_dims", "index_vector_dim", "indices_are_sorted", "offset_dims", "slice_sizes",
    "start_index_map"]>;
def Vhlo_GatherV2 : Vhlo<"gather_v2", [
    "collapsed_slice_dims", "index_vector_dim", "indices_are_sorted", "offset_dims",
    "operand_batching_dims", "slice_sizes", "start_index_map", "start_indices_batching_dims"]>;
def Vhlo_GetDimensionSizeV1 : Vhlo<"get_dimension_size_v1", ["dimension"]>;
def Vhlo_GetTupleElementV1 : Vhlo<"get_tuple_element_v1", ["index"]>;
def Vhlo_IfV1 : Vhlo<"if_v1">;
def Vhlo_ImagV1 : Vhlo<"imag_v1">;
def Vhlo_InfeedV1 : Vhlo<"infeed_v1", ["infeed_config", "layout"]>;
def Vhlo_IotaV1 : Vhlo<"iota_v1", ["iota_dimension"]>;
def Vhlo_IsFiniteV1 : Vhlo<"is_finite_v1">;
def Vhlo_LogV1 : Vhlo<"log_v1">;
def Vhlo_LogV2 : Vhlo<"log_v2", ["result_accuracy"]>;
def Vhlo_LogPlusOneV1 : Vhlo<"log_plus_one_v1">;
def Vhlo_LogPlusOneV2 : Vhlo<"log_plus_one_v2", ["result_accuracy"]>;
def Vhlo_LogisticV1 : Vhlo<"logistic_v1">;
def Vhlo_LogisticV2 : Vhlo<"logistic_v2", ["result_accuracy"]>;
def Vhlo_MapV1 : Vhlo<"map_v1", ["dimensions"]>;
def Vhlo_MaximumV1 : Vhlo<"maximum_v1">;
def Vhlo_MinimumV1 : Vhlo<"minimum_v1">;
def Vhlo_MultiplyV1 : Vhlo<"multiply_v1">;
def Vhlo_NegateV1 : Vhlo<"negate_v1">;
def Vhlo_NotV1 : Vhlo<"not_v1">;
def Vhlo_OptimizationBarrierV1 : Vhlo<"optimization_barrier_v1">;
def Vhlo_OrV1 : Vhlo<"or_v1">;
def Vhlo_OutfeedV1 : Vhlo<"outfeed_v1", ["outfeed_config"]>;
def Vhlo_PadV1 : Vhlo<"pad_v1", ["edge_padding_high", "edge_padding_low", "interior_padding"]>;
def Vhlo_PartitionIdV1 : Vhlo<"partition_id_v1">;
def Vhlo_PopcntV1 : Vhlo<"popcnt_v1">;
def Vhlo_PowerV1 : Vhlo<"power_v1">;
def Vhlo_RealV1 : Vhlo<"real_v1">;
def Vhlo_RealDynamicSliceV1 : Vhlo<"real_dynamic_slice_v1">;
def Vhlo_RecvV1 : Vhlo<"recv_v1", ["channel_id", "channel_type", "is_host_transfer"]>;
def Vhlo_RecvV2 : Vhlo<"recv_v2", ["channel_id", "channel_type", "is_host_transfer", "source_target_pairs"]>;
def Vhlo_ReduceV1 : Vhlo<"reduce_v1", ["dimensions"]>;
def Vhlo_ReducePrecisionV1 : Vhlo<"reduce_precision_v1", ["exponent_bits", "mantissa_bits"]>;
def Vhlo_ReduceScatterV1 : Vhlo<"reduce_scatter_v1", [
    "channel_id", "replica_groups", "scatter_dimension", "use_global_device_ids"]>;
def Vhlo_ReduceWindowV1 : Vhlo<"reduce_window_v1", [
    "base_dilations", "padding", "window_dilations", "window_dimensions", "window_strides"]>;
def Vhlo_RemainderV1 : Vhlo<"remainder_v1">;
def Vhlo_ReplicaIdV1 : Vhlo<"replica_id_v1">;
def Vhlo_ReshapeV1 : Vhlo<"reshape_v1">;
def Vhlo_ReturnV1 : Vhlo<"return_v1", [], [Terminator]>;
def Vhlo_ReverseV1 : Vhlo<"reverse_v1", ["dimensions"]>;
def Vhlo_RngV1 : Vhlo<"rng_v1", ["rng_distribution"]>;
def Vhlo_RngBitGeneratorV1 : Vhlo<"rng_bit_generator_v1", ["rng_algorithm"]>;
def Vhlo_RoundNearestAfzV1 : Vhlo<"round_nearest_afz_v1">;
def Vhlo_RoundNearestEvenV1 : Vhlo<"round_nearest_even_v1">;
def Vhlo_RsqrtV1 : Vhlo<"rsqrt_v1">;
def Vhlo_RsqrtV2 : Vhlo<"rsqrt_v2", ["result_accuracy"]>;
def Vhlo_ScatterV1 : Vhlo<"scatter_v1", [
    "index_vector_dim", "indices_are_sorted", "inserted_window_dims", "scatter_dims_to_operand_dims",
    "unique_indices", "update_window_dims"]>;
def Vhlo_ScatterV2 : Vhlo<"scatter_v2", [
    "index_vector_dim", "indices_are_sorted", "input_batching_dims", "inserted_window_dims",
    "scatter_dims_to_operand_dims", "scatter_indices_batching_dims", "unique_indices", "update_window_dims"]>;
def Vhlo_SelectV1 : Vhlo<"select_v1">;
def Vhlo_SelectAndScatterV1 : Vhlo<"select_and_scatter_v1", ["padding", "window_dimensions", "window_strides"]>;
def Vhlo_SendV1 : Vhlo<"send_v1", ["channel_id", "channel_type", "is_host_transfer"]>;
def Vhlo_SendV2 : Vhlo<"send_v2", ["channel_id", "channel_type", "is_host_transfer", "source_target_pairs"]>;
def Vhlo_SetDimensionSizeV1 : Vhlo<"set_dimension_size_v1", ["dimension"]>;
def Vhlo_ShiftLeftV1 : Vhlo<"shift_left_v1">;
def Vhlo_ShiftRightArithmeticV1 : Vhlo<"shift_right_arithmetic_v1">;
def Vhlo_ShiftRightLogicalV1 : Vhlo<"shift_right_logical_v1">;
def Vhlo_SignV1 : Vhlo<"sign_v1">;
def Vhlo_SineV1 : Vhlo<"sine_v1">;
def Vhlo_SineV2 : Vhlo<"sine_v2", ["result_accuracy"]>;
def Vhlo_SliceV1 : Vhlo<"slice_v1", ["limit_indices", "start_indices", "strides"]>;
def Vhlo_SortV1 : Vhlo<"sort_v1", ["dimension", "is_stable"]>;
def Vhlo_SqrtV1 : Vhlo<"sqrt_v1">;
def Vhlo_SqrtV2 : Vhlo<"sqrt_v2", ["result_accuracy"]>;
def Vhlo_SubtractV1 : Vhlo<"subtract_v1">;
def Vhlo_TanV1 : Vhlo<"tan_v1">;
def Vhlo_TanV2 : Vhlo<"tan_v2", ["result_accuracy"]>;
def Vhlo_TanhV1 : Vhlo<"tanh_v1">;
def Vhlo_TanhV2 : Vhlo<"tanh_v2", ["result_accuracy"]>;
def Vhlo_TorchIndexSelectV1 : Vhlo<"torch_index_select_v1", ["batch_dims", "dim"]>;
def Vhlo_TransposeV1 : Vhlo<"transpose_v1", ["permutation"]>;
def Vhlo_TriangularSolveV1 : Vhlo<"triangular_solve_v1", ["left_side", "lower", "transpose_a", "unit_diagonal"]>;
def Vhlo_TupleV1 : Vhlo<"tuple_v1">;
def Vhlo_UnaryEinsumV1 : Vhlo<"unary_einsum_v1", ["einsum_config"]>;
def Vhlo_UniformDequantizeV1 : Vhlo<"uniform_dequantize_v1">;
def Vhlo_UniformQuantizeV1 : Vhlo<"uniform_quantize_v1">;
def Vhlo_WhileV1 : Vhlo<"while_v1">;
def Vhlo_XorV1 : Vhlo<"xor_v1">;

#endif
