#ifndef ICD_STABLEHLO_COLLECTIVE_TD
#define ICD_STABLEHLO_COLLECTIVE_TD

include "Attrs.td"

def Shlo_ReplicaIdOp : Shlo_InferOp<"replica_id", [Pure]> {
  let results = (outs HLO_PlainTensor:$result);
  let assemblyFormat = "attr-dict `:` type(results)";
}
def Shlo_PartitionIdOp : Shlo_InferOp<"partition_id", [Pure]> {
  let results = (outs HLO_PlainTensor:$result);
  let assemblyFormat = "attr-dict `:` type(results)";
}

def Shlo_AllGatherOp : Shlo_Op<"all_gather"> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$operands, Shlo_NonNegativeDim:$all_gather_dim,
    Shlo_ReplicaGroups:$replica_groups, OptionalAttr<Shlo_ChannelHandle>:$channel_handle,
    UnitAttr:$use_global_device_ids);
  let results = (outs Variadic<HLO_AnyTensor>);
  let hasVerifier = 1;
}

def Shlo_AllReduceOp : Shlo_Op<"all_reduce", [SingleBlockImplicitTerminator<"ReturnOp">]> {
  let arguments = (ins Variadic<HLO_Tensor>:$operands, Shlo_ReplicaGroups:$replica_groups,
    OptionalAttr<Shlo_ChannelHandle>:$channel_handle, UnitAttr:$use_global_device_ids);
  let results = (outs Variadic<HLO_Tensor>);
  let regions = (region SizedRegion<1>:$computation);
  let hasVerifier = 1;
}

def Shlo_AllToAllOp : Shlo_Op<"all_to_all"> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$operands, Shlo_NonNegativeDim:$split_dimension,
    Shlo_NonNegativeDim:$concat_dimension, Shlo_PositiveInt:$split_count, Shlo_ReplicaGroups:$replica_groups,
    OptionalAttr<Shlo_ChannelHandle>:$channel_handle);
  let results = (outs Variadic<HLO_AnyTensor>);
  let hasVerifier = 1;
}

def Shlo_CollectiveBroadcastOp : Shlo_Op<"collective_broadcast"> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$operands, Shlo_ReplicaGroups:$replica_groups,
    OptionalAttr<Shlo_ChannelHandle>:$channel_handle, UnitAttr:$has_dynamic_root);
  let results = (outs Variadic<HLO_AnyTensor>);
  let hasVerifier = 1;
}

def Shlo_CollectivePermuteOp : Shlo_SameTypesOp<"collective_permute"> {
  let arguments = (ins HLO_AnyTensor:$operand, I64ElementsAttr:$source_target_pairs,
    OptionalAttr<Shlo_ChannelHandle>:$channel_handle);
  let results = (outs HLO_AnyTensor:$result);
  let hasVerifier = 1;
}

def Shlo_CollectiveReduceOp : Shlo_Op<"collective_reduce", [SingleBlockImplicitTerminator<"ReturnOp">]> {
  let arguments = (ins Variadic<HLO_Tensor>:$operands, Shlo_ReplicaGroups:$replica_groups,
    OptionalAttr<Shlo_ChannelHandle>:$channel_handle, UnitAttr:$use_global_device_ids, UnitAttr:$has_dynamic_root);
  let results = (outs Variadic<HLO_Tensor>);
  let regions = (region SizedRegion<1>:$computation);
  let hasVerifier = 1;
}

def Shlo_ReduceScatterOp : Shlo_Op<"reduce_scatter", [SingleBlockImplicitTerminator<"ReturnOp">]> {
  let arguments = (ins HLO_Tensor:$operand, Shlo_NonNegativeDim:$scatter_dimension, Shlo_ReplicaGroups:$replica_groups,
    OptionalAttr<Shlo_ChannelHandle>:$channel_handle, UnitAttr:$use_global_device_ids);
  let results = (outs HLO_Tensor:$result);
  let regions = (region SizedRegion<1>:$computation);
  let hasVerifier = 1;
}

def Shlo_CrossReplicaSumOp : Shlo_SameTypesOp<"cross-replica-sum"> {
  let arguments = (ins HLO_Tensor:$operand, I64ElementsAttr:$replica_groups);
  let results = (outs HLO_Tensor:$result);
}

def Shlo_AsyncStartOp : Shlo_Op<"async_start", [SingleBlockImplicitTerminator<"ReturnOp">]> {
  let arguments = (ins Variadic<HLO_AnyTensor>:$operands);
  let results = (outs HLO_Future:$result);
  let regions = (region SizedRegion<1>:$body);
  let hasVerifier = 1;
}

def Shlo_AsyncDoneOp : Shlo_Op<"async_done"> {
  let arguments = (ins HLO_Future:$future);
  let results = (outs Variadic<HLO_TensorTokenOrTuple>);
  let hasVerifier = 1;
}

#endif
