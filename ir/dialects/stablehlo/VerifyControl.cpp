// Rules of control flow, calls, barriers and transfers.
#include "VerifyRules.h"

#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;

namespace icd::stablehlo {

//===-- while, if, case -----------------------------------------------------===//

LogicalResult WhileOp::verify() {
  TypeRange operands = getOperandTypes();
  auto agree = [&](TypeRange types, StringRef what) -> LogicalResult {
    if (typesAgree(operands, types))
      return success();
    return emitOpError() << "expect operands to be compatible with " << what << " but got " << operands << " vs " << types;
  };
  Block &cond = getCond().front(), &body = getBody().front();
  if (failed(agree(cond.getArgumentTypes(), "condition block arguments")) ||
      failed(agree(body.getArgumentTypes(), "body block arguments")) ||
      failed(agree(body.getTerminator()->getOperandTypes(), "body block return types")))
    return failure();
  TypeRange returned = cond.getTerminator()->getOperandTypes();
  if (returned.size() != 1)
    return emitOpError() << "expect condition body returns a single value but got " << returned.size();
  auto result = dyn_cast<RankedTensorType>(returned.front());
  if (!result || result.getRank() != 0 || !result.getElementType().isInteger(1))
    return emitOpError() << "expect condition block return a zero-ranked tensor of i1 but got " << returned.front();
  if (!typesAgree(operands, getResultTypes()))
    return emitOpError() << "inferred type(s) " << operands << " are incompatible with return type(s) of operation "
                         << getResultTypes();
  return success();
}

static LogicalResult verifyBranches(Operation *op) {
  TypeRange first;
  for (auto [index, region] : llvm::enumerate(op->getRegions())) {
    Block &block = region.front();
    if (block.getNumArguments() != 0)
      return op->emitOpError() << "branch " << index << " must have 0 arguments, but found " << block.getNumArguments();
    TypeRange types = block.getTerminator()->getOperandTypes();
    if (index == 0)
      first = types;
    else if (!typesAgree(first, types))
      return op->emitOpError() << "branch 0 and branch " << index << " have mismatched return types: " << first << " vs "
                               << types;
  }
  if (!typesAgree(first, op->getResultTypes()))
    return op->emitOpError() << "inferred type(s) " << first << " are incompatible with return type(s) of operation "
                             << op->getResultTypes();
  return success();
}

static LogicalResult verifyScalar(Operation *op, Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getRank() != 0)
    return op->emitOpError() << "operand should be rank 0 tensor but got rank " << type.getRank();
  return success();
}

LogicalResult IfOp::verify() { return failure(failed(verifyScalar(*this, getPred())) || failed(verifyBranches(*this))); }

LogicalResult CaseOp::verify() {
  if (getBranches().empty())
    return emitOpError() << "expect at least one branch";
  return failure(failed(verifyScalar(*this, getIndex())) || failed(verifyBranches(*this)));
}

LogicalResult OptimizationBarrierOp::verify() {
  if (getNumOperands() != getNumResults())
    return emitOpError() << "requires the same number of operands and results";
  if (!typesAgree(getOperandTypes(), getResultTypes()))
    return emitOpError() << "inferred type(s) " << getOperandTypes()
                         << " are incompatible with return type(s) of operation " << getResultTypes();
  return success();
}

//===-- calls ---------------------------------------------------------------===//

void CustomCallOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  if (!getHasSideEffect())
    return;
  effects.emplace_back(MemoryEffects::Allocate::get());
  effects.emplace_back(MemoryEffects::Free::get());
  effects.emplace_back(MemoryEffects::Write::get());
  effects.emplace_back(MemoryEffects::Read::get());
}

static LogicalResult verifyLayouts(Operation *op, StringRef what, ArrayAttr layouts, TypeRange types) {
  if (layouts.size() != types.size())
    return op->emitOpError() << "Number of " << what << "s must match the number of " << what << " layouts, " << types.size()
                             << " != " << layouts.size();
  for (auto [index, pair] : llvm::enumerate(llvm::zip_equal(layouts, types))) {
    auto layout = cast<DenseIntElementsAttr>(std::get<0>(pair));
    Type type = std::get<1>(pair);
    if (isa<TupleType>(type))
      return op->emitOpError() << "Tuple types are not fully supported with layout constraints yet";
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor) {
      if (layout.empty())
        continue;
      return op->emitOpError() << "Only tensor types can have non-empty layout: " << what << " #" << index << " of type "
                               << type << " has layout " << layout;
    }
    SmallVector<int64_t> order;
    for (APInt value : layout.getValues<APInt>())
      order.push_back(value.getSExtValue());
    llvm::sort(order);
    if (!llvm::equal(order, llvm::seq<int64_t>(0, tensor.getRank())))
      return op->emitOpError() << "incorrect layout " << layout << " for type " << type
                               << ", layout must be a permutation of [0, " << tensor.getRank() << ")";
  }
  return success();
}

/// The part of a (nested tuple) type at `path`, or null where there is none.
static Type partOf(Type type, ArrayRef<int64_t> path) {
  for (int64_t index : path) {
    auto tuple = dyn_cast<TupleType>(type);
    if (!tuple || index < 0 || index >= int64_t(tuple.size()))
      return nullptr;
    type = tuple.getType(index);
  }
  return type;
}

LogicalResult CustomCallOp::verify() {
  if (bool(getOperandLayouts()) != bool(getResultLayouts()))
    return emitOpError() << "Layout attributes should be specified for either both operands and results or none";
  if (getOperandLayouts()) {
    SmallVector<Type> results(getResultTypes());
    if (results.size() == 1)
      if (auto tuple = dyn_cast<TupleType>(results.front()))
        results.assign(tuple.getTypes().begin(), tuple.getTypes().end());
    if (failed(verifyLayouts(*this, "operand", *getOperandLayouts(), getOperandTypes())) ||
        failed(verifyLayouts(*this, "result", *getResultLayouts(), results)))
      return failure();
  }
  for (Attribute one : getOutputOperandAliases()) {
    auto alias = cast<OutputOperandAliasAttr>(one);
    if (alias.getOperandIndex() < 0 || alias.getOperandIndex() >= int64_t(getNumOperands()))
      return emitOpError() << "expects operandIndex in the output_operand_alias attribute to be in range [0, "
                           << getNumOperands() << "); got: " << alias.getOperandIndex();
    Type operand = partOf(getOperand(alias.getOperandIndex()).getType(), alias.getOperandTupleIndices());
    if (!operand)
      return emitOpError() << "operand_tuple_indices in the output_operand_alias attribute out of bounds";
    Type whole = getNumResults() == 1 ? getResult(0).getType() : Type(TupleType::get(getContext(), getResultTypes()));
    Type output = partOf(whole, alias.getOutputTupleIndices());
    if (!output)
      return emitOpError() << "output_tuple_indices in the output_operand_alias attribute out of bounds";
    if (!typesAgree(operand, output))
      return emitOpError() << "shapes mismatch in the output_operand_alias attribute: operand part has type " << operand
                           << " and output part has type " << output;
  }
  if (std::optional<Attribute> config = getBackendConfig()) {
    bool typed = getApiVersion() == CustomCallApiVersion::API_VERSION_TYPED_FFI;
    if (typed != isa<DictionaryAttr>(*config) && !(isa<StringAttr>(*config) && cast<StringAttr>(*config).empty()))
      return emitOpError() << "backend_config for api_version " << stringifyCustomCallApiVersion(getApiVersion())
                           << " must be a " << (typed ? "dictionary" : "string") << " attribute";
  }
  return success();
}

LogicalResult CustomCallOp::verifySymbolUses(SymbolTableCollection &) { return success(); }

LogicalResult CompositeOp::verify() {
  StringRef name = getName();
  auto [space, rest] = name.split('.');
  auto isWord = [](StringRef s) {
    return !s.empty() && (isalpha((unsigned char)s[0]) || s[0] == '_') &&
           llvm::all_of(s, [](unsigned char c) { return isalnum(c) || c == '_' || c == '$'; });
  };
  bool valid = isWord(space) && !rest.empty() && (isalpha((unsigned char)rest[0]) || rest[0] == '_') &&
               llvm::all_of(rest, [](unsigned char c) { return isalnum(c) || c == '_' || c == '.' || c == '$'; });
  if (!valid)
    return emitOpError() << "name must be a valid namespaced op name";
  return success();
}

LogicalResult CompositeOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto function = symbols.lookupNearestSymbolFrom<FunctionOpInterface>(*this, getDecompositionAttr());
  if (!function)
    return emitOpError() << "'" << getDecomposition() << "' does not reference a valid function";
  auto check = [&](StringRef what, TypeRange mine, ArrayRef<Type> theirs) -> LogicalResult {
    if (mine.size() != theirs.size())
      return emitOpError() << "has " << mine.size() << " " << what << "(s), but decomposition has " << theirs.size();
    for (auto [index, pair] : llvm::enumerate(llvm::zip_equal(mine, theirs)))
      if (!typesAgree(std::get<0>(pair), std::get<1>(pair)))
        return emitOpError() << what << " at index " << index << " has type " << std::get<0>(pair)
                             << ", but decomposition has type " << std::get<1>(pair);
    return success();
  };
  return failure(failed(check("operand", getInputs().getTypes(), function.getArgumentTypes())) ||
                 failed(check("result", getResultTypes(), function.getResultTypes())));
}

//===-- transfers -----------------------------------------------------------===//

LogicalResult InfeedOp::verify() {
  TypeRange types = getResultTypes();
  if (types.empty())
    return emitOpError() << "result is expected to be at least of size 1, but got 0";
  if (!isa<TokenType>(types.back()))
    return emitOpError() << "last element of result types is expected to be of token type, but got " << types.back();
  for (Type type : types.drop_back())
    if (!isa<TensorType>(type))
      return emitOpError() << "all elements of result types, except the last element, are expected to be of tensor type, "
                              "but got "
                           << type;
  if (!getLayout())
    return success();
  size_t wanted = types.size() - 1;
  if (getLayout()->size() != wanted)
    return emitOpError() << "layout-attribute size must be " << wanted
                         << " (which is the number of op-results - 1 (for token result)), but got " << getLayout()->size();
  for (Attribute one : getLayoutAttr()) {
    auto list = dyn_cast<ArrayAttr>(one);
    if (!list)
      return emitOpError() << "layout-attribute expected to have elements of type array, but got " << one;
    for (Attribute leaf : list)
      if (!isa<IntegerAttr>(leaf))
        return emitOpError() << "layout-attribute's leaf elements are expected to be of type integer, but got " << leaf;
  }
  return success();
}

static LogicalResult verifyChannel(Operation *op, ChannelHandleAttr channel, bool host, bool send) {
  constexpr int64_t deviceToDevice = 1, deviceToHost = 2, hostToDevice = 3;
  if (!host)
    return channel.getType() == deviceToDevice
               ? success()
               : LogicalResult(op->emitOpError() << "channel_type should be DEVICE_TO_DEVICE when is_host_transfer is false");
  if (channel.getType() != (send ? deviceToHost : hostToDevice))
    return op->emitOpError() << "channel_type should be " << (send ? "DEVICE_TO_HOST" : "HOST_TO_DEVICE")
                             << " when is_host_transfer is true";
  return success();
}

LogicalResult SendOp::verify() { return verifyChannel(*this, getChannelHandle(), getIsHostTransfer(), true); }

LogicalResult RecvOp::verify() {
  TypeRange types = getResultTypes();
  if (failed(verifyChannel(*this, getChannelHandle(), getIsHostTransfer(), false)))
    return failure();
  if (types.empty())
    return emitOpError() << "result is expected to be at least of size 1, but got 0";
  if (!isa<TokenType>(types.back()))
    return emitOpError() << "last element of result types is expected to be of token type, but got " << types.back();
  for (Type type : types.drop_back())
    if (!isa<TensorType>(type))
      return emitOpError() << "everything but the last element of result types is expected to be of tensor type, but got "
                           << type;
  return success();
}

} // namespace icd::stablehlo
