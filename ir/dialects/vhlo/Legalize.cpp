// Pass icd-legalize-vhlo: vhlo.X_vN -> stablehlo.X, func and call.
//
// An operation becomes the StableHLO operation of its name; a table tells which of its
// attributes are spelled otherwise there, and which say nothing and go.
#include "Vhlo.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassRegistry.h"

using namespace mlir;
namespace shlo = icd::stablehlo;

namespace {

/// The attributes of one operation, taken out one by one.
class Attrs {
public:
  explicit Attrs(Operation *op) : list(op->getAttrs()), context(op->getContext()) {}

  Attribute take(StringRef name) { return list.erase(name); }
  void set(StringRef name, Attribute value) { list.set(name, value); }
  void drop(StringRef name) { list.erase(name); }

  SmallVector<int64_t> takeInts(StringRef name) { return ints(take(name)); }
  int64_t takeInt(StringRef name) {
    auto value = dyn_cast_or_null<IntegerAttr>(take(name));
    return value ? value.getInt() : 0;
  }
  static SmallVector<int64_t> ints(Attribute attr) {
    SmallVector<int64_t> values;
    if (auto dense = dyn_cast_or_null<DenseIntElementsAttr>(attr))
      for (APInt value : dense.getValues<APInt>())
        values.push_back(value.getSExtValue());
    return values;
  }

  NamedAttrList list;
  MLIRContext *context;
};

bool isTrue(Attribute attr) {
  auto b = dyn_cast_or_null<BoolAttr>(attr);
  return b && b.getValue();
}
bool isEmptyArray(Attribute attr) {
  auto array = dyn_cast_or_null<ArrayAttr>(attr);
  return array && array.empty();
}
bool isEmptyDense(Attribute attr) {
  auto dense = dyn_cast_or_null<DenseElementsAttr>(attr);
  return dense && dense.empty();
}
bool isEmptyString(Attribute attr) {
  auto text = dyn_cast_or_null<StringAttr>(attr);
  return text && text.empty();
}
bool isSplatOf(Attribute attr, int64_t value) {
  auto dense = dyn_cast_or_null<DenseIntElementsAttr>(attr);
  return dense && (dense.empty() || (dense.isSplat() && dense.getSplatValue<APInt>().getZExtValue() == uint64_t(value)));
}
bool isNone(Attribute attr) {
  auto type = dyn_cast_or_null<TypeAttr>(attr);
  return type && isa<NoneType>(type.getValue());
}
bool isDefaultPrecision(Attribute attr) {
  auto array = dyn_cast_or_null<ArrayAttr>(attr);
  return array && llvm::all_of(array, [](Attribute a) {
           auto precision = dyn_cast<shlo::PrecisionAttr>(a);
           return precision && precision.getValue() == shlo::Precision::DEFAULT;
         });
}

/// Lists that StableHLO spells `array<i64: ..>`.
constexpr StringRef kDenseArrays[] = {
    "base_dilations", "broadcast_dimensions", "broadcast_sizes", "dimensions", "edge_padding_high", "edge_padding_low",
    "fft_length", "interior_padding", "known_expanding_dimensions", "known_nonexpanding_dimensions", "lhs_dilation",
    "limit_indices", "permutation", "rhs_dilation", "slice_sizes", "start_indices", "strides", "window_dilations",
    "window_dimensions", "window_strides"};

/// Lists that say nothing when all their elements have this value.
constexpr std::pair<StringRef, int64_t> kDefaultSplats[] = {
    {"window_strides", 1}, {"lhs_dilation", 1}, {"rhs_dilation", 1}, {"base_dilations", 1},
    {"window_dilations", 1}, {"window_reversal", 0}, {"padding", 0}};

class Legalizer {
public:
  explicit Legalizer(ModuleOp module) : module(module), builder(module.getContext()) {}

  LogicalResult run() {
    SmallVector<Operation *> ops;
    module.walk<WalkOrder::PostOrder>([&](Operation *op) {
      if (op->getName().getDialectNamespace() == icd::vhlo::VhloDialect::getDialectNamespace())
        ops.push_back(op);
    });
    for (Operation *op : ops)
      if (failed(convert(op)))
        return failure();
    return success();
  }

private:
  LogicalResult convert(Operation *op) {
    StringRef name = op->getName().stripDialect();
    size_t version = name.rfind("_v");
    name = name.take_front(version);
    builder.setInsertionPoint(op);
    if (name == "func")
      return convertFunc(op);
    Attrs attrs(op);
    std::string target = ("stablehlo." + name).str();
    if (name == "call") {
      target = "func.call";
      auto callee = dyn_cast_or_null<StringAttr>(attrs.take("callee"));
      if (!callee)
        return op->emitError("needs the name of the function that it calls");
      attrs.set("callee", FlatSymbolRefAttr::get(callee));
    } else if (name == "return" && isFunction(op->getParentOp())) {
      target = "func.return";
    } else if (failed(convertAttributes(op, name, attrs))) {
      return failure();
    }
    std::optional<RegisteredOperationName> known = RegisteredOperationName::lookup(target, op->getContext());
    if (!known)
      return op->emitError() << "has no counterpart '" << target << "'";
    OperationState state(op->getLoc(), *known);
    state.addOperands(op->getOperands());
    state.addTypes(op->getResultTypes());
    state.addAttributes(attrs.list);
    for (size_t i = 0; i < op->getNumRegions(); ++i)
      state.addRegion();
    Operation *made = builder.create(state);
    for (auto [from, to] : llvm::zip_equal(op->getRegions(), made->getRegions()))
      to.takeBody(from);
    op->replaceAllUsesWith(made);
    op->erase();
    return success();
  }

  static bool isFunction(Operation *op) { return isa_and_nonnull<func::FuncOp, icd::vhlo::FuncV1>(op); }

  LogicalResult convertFunc(Operation *op) {
    Attrs attrs(op);
    auto name = dyn_cast_or_null<StringAttr>(attrs.take("sym_name"));
    auto type = dyn_cast_or_null<TypeAttr>(attrs.take("function_type"));
    auto fnType = type ? dyn_cast<FunctionType>(type.getValue()) : FunctionType();
    if (!name || !fnType)
      return op->emitError("needs a name and a function type");
    auto visibility = dyn_cast_or_null<StringAttr>(attrs.take("sym_visibility"));
    auto dictionaries = [&](StringRef key) -> ArrayAttr {
      auto array = dyn_cast_or_null<ArrayAttr>(attrs.take(key));
      bool useful = array && llvm::any_of(array, [](Attribute a) {
        auto dict = dyn_cast<DictionaryAttr>(a);
        return dict && !dict.empty();
      });
      return useful ? array : ArrayAttr();
    };
    ArrayAttr arguments = dictionaries("arg_attrs"), results = dictionaries("res_attrs");
    auto func = func::FuncOp::create(builder, op->getLoc(), name.getValue(), fnType);
    for (NamedAttribute attr : attrs.list)
      func->setAttr(attr.getName(), attr.getValue());
    if (visibility && !visibility.empty())
      func.setSymVisibility(visibility.getValue());
    if (arguments)
      func.setArgAttrsAttr(arguments);
    if (results)
      func.setResAttrsAttr(results);
    if (op->getNumRegions() == 1)
      func.getBody().takeBody(op->getRegion(0));
    op->erase();
    return success();
  }

  LogicalResult convertAttributes(Operation *op, StringRef name, Attrs &a) {
    dropDefaults(name, a);
    gatherStructs(op, name, a);
    for (NamedAttribute attr : llvm::to_vector(a.list)) {
      StringRef key = attr.getName();
      if (llvm::is_contained(kDenseArrays, key) && isa<DenseIntElementsAttr>(attr.getValue()))
        a.set(key, DenseI64ArrayAttr::get(a.context, Attrs::ints(attr.getValue())));
      else if (key == "window_reversal")
        if (auto dense = dyn_cast<DenseElementsAttr>(attr.getValue()); dense && dense.getElementType().isInteger(1))
          a.set(key, DenseBoolArrayAttr::get(a.context, llvm::to_vector(dense.getValues<bool>())));
    }
    return success();
  }

  /// Removes attributes that have their default value and are optional in StableHLO.
  void dropDefaults(StringRef name, Attrs &a) {
    auto dropIf = [&](StringRef key, bool isDefault) {
      if (isDefault)
        a.drop(key);
    };
    for (auto [key, value] : kDefaultSplats)
      if (key != "window_dimensions")
        dropIf(key, isSplatOf(a.list.get(key), value));
    if (name == "select_and_scatter")
      dropIf("window_dimensions", isSplatOf(a.list.get("window_dimensions"), 1));
    for (StringRef key : {"indices_are_sorted", "unique_indices", "has_side_effect", "is_host_transfer", "is_stable"})
      dropIf(key, a.list.get(key) && isa<BoolAttr>(a.list.get(key)) && !isTrue(a.list.get(key)));
    if (name == "cholesky")
      dropIf("lower", !isTrue(a.list.get("lower")));
    for (StringRef key : {"use_global_device_ids", "has_dynamic_root"})
      if (Attribute flag = a.take(key); isTrue(flag))
        a.set(key, UnitAttr::get(a.context));
    for (StringRef key : {"known_expanding_dimensions", "known_nonexpanding_dimensions"})
      dropIf(key, isEmptyDense(a.list.get(key)));
    for (StringRef key : {"called_computations", "output_operand_aliases", "result_tilings"})
      dropIf(key, isEmptyArray(a.list.get(key)));
    if (isEmptyArray(a.list.get("operand_layouts")) && isEmptyArray(a.list.get("result_layouts"))) {
      a.drop("operand_layouts");
      a.drop("result_layouts");
    }
    for (StringRef key : {"infeed_config", "outfeed_config", "backend_config"})
      dropIf(key, isEmptyString(a.list.get(key)));
    dropIf("layout", name == "infeed" && isEmptyArray(a.list.get("layout")));
    dropIf("precision_config", isDefaultPrecision(a.list.get("precision_config")));
    if (auto type = dyn_cast_or_null<shlo::ComparisonTypeAttr>(a.list.get("compare_type")))
      dropIf("compare_type", type.getValue() == shlo::ComparisonType::NOTYPE);
    if (auto accuracy = dyn_cast_or_null<shlo::ResultAccuracyAttr>(a.list.get("result_accuracy")))
      dropIf("result_accuracy", accuracy.getMode().getValue() == shlo::ResultAccuracyMode::DEFAULT);
    if (auto api = dyn_cast_or_null<shlo::CustomCallApiVersionAttr>(a.list.get("api_version"))) {
      if (auto dict = dyn_cast_or_null<DictionaryAttr>(a.list.get("backend_config")))
        dropIf("backend_config", dict.empty());
      a.set("api_version", builder.getI32IntegerAttr(int32_t(api.getValue())));
      dropIf("api_version", api.getValue() == shlo::CustomCallApiVersion::API_VERSION_ORIGINAL);
    }
    if (auto pairs = a.list.get("source_target_pairs"); name == "send" || name == "recv")
      dropIf("source_target_pairs", isEmptyDense(pairs));
    if (name == "sort")
      if (auto dim = dyn_cast_or_null<IntegerAttr>(a.list.get("dimension")))
        dropIf("dimension", dim.getInt() == -1);
    if (name == "composite") {
      if (auto dict = dyn_cast_or_null<DictionaryAttr>(a.list.get("composite_attributes")))
        dropIf("composite_attributes", dict.empty());
      if (auto version = dyn_cast_or_null<IntegerAttr>(a.take("version")); version && version.getInt() != 0)
        a.set("version", builder.getI32IntegerAttr(version.getInt()));
    }
  }

  /// Fields that StableHLO keeps together in one attribute.
  void gatherStructs(Operation *op, StringRef name, Attrs &a) {
    MLIRContext *c = a.context;
    if (a.list.get("channel_id")) {
      int64_t id = a.takeInt("channel_id");
      bool typed = bool(a.list.get("channel_type"));
      int64_t type = typed ? a.takeInt("channel_type") : 0;
      if (typed || id != 0)
        a.set("channel_handle", shlo::ChannelHandleAttr::get(c, id, type));
    }
    if (name == "dot_general") {
      auto lb = a.takeInts("lhs_batching_dimensions"), rb = a.takeInts("rhs_batching_dimensions"),
           lc = a.takeInts("lhs_contracting_dimensions"), rc = a.takeInts("rhs_contracting_dimensions");
      a.set("dot_dimension_numbers", shlo::DotDimensionNumbersAttr::get(c, lb, rb, lc, rc));
      Attribute lhs = a.take("lhs_precision_type"), rhs = a.take("rhs_precision_type"), acc = a.take("accumulation_type"),
                imprecise = a.take("allow_imprecise_accumulation");
      if (lhs && rhs && acc && !isNone(lhs)) {
        auto type = [](Attribute attr) { return cast<TypeAttr>(attr).getValue(); };
        int64_t lhsCount = a.takeInt("lhs_component_count"), rhsCount = a.takeInt("rhs_component_count"),
                count = a.takeInt("num_primitive_operations");
        if (isa<TypeAttr>(lhs) && isa<TypeAttr>(rhs) && isa<TypeAttr>(acc))
          a.set("algorithm", shlo::DotAlgorithmAttr::getChecked([&] { return op->emitError(); }, c, type(lhs), type(rhs),
                                                                type(acc), lhsCount, rhsCount, count, isTrue(imprecise)));
      } else {
        for (StringRef key : {"lhs_component_count", "rhs_component_count", "num_primitive_operations"})
          a.drop(key);
      }
    }
    if (name == "gather" || name == "dynamic_gather") {
      auto offset = a.takeInts("offset_dims"), collapsed = a.takeInts("collapsed_slice_dims"),
           operandBatch = a.takeInts("operand_batching_dims"), indexBatch = a.takeInts("start_indices_batching_dims"),
           map = a.takeInts("start_index_map");
      a.set("dimension_numbers", shlo::GatherDimensionNumbersAttr::get(c, offset, collapsed, operandBatch, indexBatch, map,
                                                                       a.takeInt("index_vector_dim")));
    }
    if (name == "scatter") {
      auto window = a.takeInts("update_window_dims"), inserted = a.takeInts("inserted_window_dims"),
           inputBatch = a.takeInts("input_batching_dims"), indexBatch = a.takeInts("scatter_indices_batching_dims"),
           map = a.takeInts("scatter_dims_to_operand_dims");
      a.set("scatter_dimension_numbers",
            shlo::ScatterDimensionNumbersAttr::get(c, window, inserted, inputBatch, indexBatch, map,
                                                   a.takeInt("index_vector_dim")));
    }
    if (name == "convolution" || name == "dynamic_conv") {
      int64_t ib = a.takeInt("input_batch_dimension"), inf = a.takeInt("input_feature_dimension"),
              ki = a.takeInt("kernel_input_feature_dimension"), ko = a.takeInt("kernel_output_feature_dimension"),
              ob = a.takeInt("output_batch_dimension"), of = a.takeInt("output_feature_dimension");
      auto is = a.takeInts("input_spatial_dimensions"), ks = a.takeInts("kernel_spatial_dimensions"),
           os = a.takeInts("output_spatial_dimensions");
      a.set("dimension_numbers", shlo::ConvDimensionNumbersAttr::get(c, ib, inf, is, ki, ko, ks, ob, of, os));
      if (name == "dynamic_conv")
        a.drop("padding");
    }
    auto symbol = [&](StringRef key) {
      if (auto text = dyn_cast_or_null<StringAttr>(a.list.get(key)))
        a.set(key, FlatSymbolRefAttr::get(text));
    };
    if (name == "composite")
      symbol("decomposition");
    if (name == "custom_call")
      if (auto array = dyn_cast_or_null<ArrayAttr>(a.list.get("called_computations"))) {
        SmallVector<Attribute> symbols;
        for (Attribute one : array) {
          auto text = dyn_cast<StringAttr>(one);
          symbols.push_back(text ? FlatSymbolRefAttr::get(text) : one);
        }
        a.set("called_computations", ArrayAttr::get(c, symbols));
      }
  }

  ModuleOp module;
  OpBuilder builder;
};

class LegalizeVhloPass : public PassWrapper<LegalizeVhloPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(LegalizeVhloPass)
  StringRef getArgument() const final { return "icd-legalize-vhlo"; }
  StringRef getDescription() const final { return "turn the versioned operations of a portable artifact into StableHLO"; }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<func::FuncDialect, shlo::StablehloDialect>();
  }
  void runOnOperation() final {
    if (failed(Legalizer(getOperation()).run()))
      signalPassFailure();
  }
};
} // namespace

void icd::vhlo::registerLegalizePass() {
  static bool done = (registerPass([] { return std::make_unique<LegalizeVhloPass>(); }), true);
  (void)done;
}
