// Reading portable artifacts: VHLO's own encoding of types and attributes, decoded
// to builtin types and StableHLO attributes, so that no VHLO type or attribute exists
// in memory.
//
// The codes are those of the StableHLO project's bytecode, which promises never to
// change them.
#include "Vhlo.h"

#include "mlir/Bytecode/BytecodeImplementation.h"
#include "mlir/CAPI/Registration.h"
#include "mlir/Dialect/Quant/IR/Quant.h"
#include "mlir/Dialect/Quant/IR/QuantTypes.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
namespace shlo = icd::stablehlo;

#include "VhloDialect.cpp.inc"
#define GET_OP_CLASSES
#include "VhloOps.cpp.inc"

namespace {

enum AttrCode : uint64_t {
  kArray = 1, kBoolean = 2, kComparisonDirection = 3, kComparisonType = 4, kApiVersion = 5, kDictionary = 6,
  kFftType = 7, kFloat = 8, kInteger = 9, kOutputOperandAlias = 10, kPrecision = 11, kRngAlgorithm = 12,
  kRngDistribution = 13, kString = 14, kTensor = 15, kTranspose = 16, kType = 17, kTypeExtensions = 18,
  kResultAccuracyMode = 19, kResultAccuracy = 20, kSubAxisInfo = 21, kAxisRef = 22, kMeshAxes = 23,
};

enum TypeCode : uint64_t {
  tBoolean = 0, tComplex = 1, tBF16 = 2, tF16 = 3, tF32 = 4, tF64 = 5, tF8E4M3FN = 6, tF8E5M2 = 7, tFunction = 8,
  tIndex = 9, tSI4 = 10, tSI8 = 11, tSI16 = 12, tSI32 = 13, tSI64 = 14, tUI4 = 15, tUI8 = 16, tUI16 = 17, tUI32 = 18,
  tUI64 = 19, tTensor = 20, tTensorWithEncoding = 21, tToken = 22, tTuple = 23, tQuantized = 24, tUnranked = 25,
  tWitness = 26, tF8E4M3FNUZ = 27, tF8E5M2FNUZ = 28, tF8E4M3B11FNUZ = 29, tQuantizedPerAxis = 30, tSI2 = 31,
  tUI2 = 32, tNone = 33, tTF31 = 34, tF8E4M3 = 35, tF8E3M4 = 36, tF4E2M1FN = 37, tF6E2M3FN = 38, tF6E3M2FN = 39,
  tF8E8M0FNU = 40, tBuffer = 41, tFuture = 42,
};

class VhloReader : public BytecodeDialectInterface {
public:
  explicit VhloReader(Dialect *dialect) : BytecodeDialectInterface(dialect) {}

  Attribute readAttribute(DialectBytecodeReader &reader) const override {
    uint64_t code;
    if (failed(reader.readVarInt(code)))
      return {};
    MLIRContext *context = getContext();
    switch (code) {
    case kArray: {
      SmallVector<Attribute> elements;
      if (failed(reader.readAttributes(elements)))
        return {};
      return ArrayAttr::get(context, elements);
    }
    case kBoolean: {
      uint64_t value;
      if (failed(reader.readVarInt(value)))
        return {};
      return BoolAttr::get(context, value != 0);
    }
    case kComparisonDirection:
      return readEnum<shlo::ComparisonDirectionAttr>(reader, shlo::symbolizeComparisonDirection);
    case kComparisonType:
      return readEnum<shlo::ComparisonTypeAttr>(reader, shlo::symbolizeComparisonType);
    case kApiVersion:
      return readEnum<shlo::CustomCallApiVersionAttr>(reader, shlo::symbolizeCustomCallApiVersion);
    case kFftType:
      return readEnum<shlo::FftTypeAttr>(reader, shlo::symbolizeFftType);
    case kPrecision:
      return readEnum<shlo::PrecisionAttr>(reader, shlo::symbolizePrecision);
    case kRngAlgorithm:
      return readEnum<shlo::RngAlgorithmAttr>(reader, shlo::symbolizeRngAlgorithm);
    case kRngDistribution:
      return readEnum<shlo::RngDistributionAttr>(reader, shlo::symbolizeRngDistribution);
    case kTranspose:
      return readEnum<shlo::TransposeAttr>(reader, shlo::symbolizeTranspose);
    case kResultAccuracyMode:
      return readEnum<shlo::ResultAccuracyModeAttr>(reader, shlo::symbolizeResultAccuracyMode);
    case kDictionary:
      return readDictionary(reader);
    case kFloat: {
      FloatType type;
      if (failed(reader.readType(type)))
        return {};
      FailureOr<APFloat> value = reader.readAPFloatWithKnownSemantics(type.getFloatSemantics());
      return failed(value) ? Attribute() : FloatAttr::get(type, *value);
    }
    case kInteger: {
      Type type;
      if (failed(reader.readType(type)))
        return {};
      if (!type.isIntOrIndex())
        return fail(reader, "integer attribute of a type that is not an integer");
      unsigned width = type.isIndex() ? IndexType::kInternalStorageBitWidth : type.getIntOrFloatBitWidth();
      FailureOr<APInt> value = reader.readAPIntWithKnownWidth(width);
      return failed(value) ? Attribute() : IntegerAttr::get(type, *value);
    }
    case kString: {
      StringRef value;
      if (failed(reader.readString(value)))
        return {};
      return StringAttr::get(context, value);
    }
    case kTensor:
      return readTensor(reader);
    case kType: {
      Type type;
      if (failed(reader.readType(type)))
        return {};
      return TypeAttr::get(type);
    }
    case kOutputOperandAlias: {
      SmallVector<int64_t> output, operand;
      int64_t index;
      if (failed(reader.readSignedVarInts(output)) || failed(reader.readSignedVarInt(index)) ||
          failed(reader.readSignedVarInts(operand)))
        return {};
      return shlo::OutputOperandAliasAttr::get(context, output, index, operand);
    }
    case kTypeExtensions: {
      SmallVector<int64_t> bounds;
      if (failed(reader.readSignedVarInts(bounds)))
        return {};
      return shlo::TypeExtensionsAttr::get(context, bounds);
    }
    case kResultAccuracy: {
      FailureOr<APFloat> atol = reader.readAPFloatWithKnownSemantics(APFloat::IEEEdouble());
      if (failed(atol))
        return {};
      FailureOr<APFloat> rtol = reader.readAPFloatWithKnownSemantics(APFloat::IEEEdouble());
      int64_t ulps;
      shlo::ResultAccuracyModeAttr mode;
      if (failed(rtol) || failed(reader.readSignedVarInt(ulps)) || failed(reader.readAttribute(mode)))
        return {};
      return shlo::ResultAccuracyAttr::getChecked([&] { return reader.emitError(); }, context, *atol, *rtol, ulps, mode);
    }
    case kSubAxisInfo: {
      int64_t pre, size;
      if (failed(reader.readSignedVarInt(pre)) || failed(reader.readSignedVarInt(size)))
        return {};
      return shlo::SubAxisInfoAttr::get(context, pre, size);
    }
    case kAxisRef: {
      StringAttr name;
      shlo::SubAxisInfoAttr info;
      uint64_t hasInfo;
      if (failed(reader.readAttribute(name)) || failed(reader.readVarInt(hasInfo)) ||
          (hasInfo && failed(reader.readAttribute(info))))
        return {};
      return shlo::AxisRefAttr::get(context, name, info);
    }
    case kMeshAxes: {
      StringAttr mesh;
      ArrayAttr axes;
      if (failed(reader.readAttribute(mesh)) || failed(reader.readAttribute(axes)))
        return {};
      return shlo::ReplicaGroupMeshAxesAttr::get(context, FlatSymbolRefAttr::get(mesh), axes);
    }
    default:
      return fail(reader, "attribute", code);
    }
  }

  Type readType(DialectBytecodeReader &reader) const override {
    uint64_t code;
    if (failed(reader.readVarInt(code)))
      return {};
    MLIRContext *c = getContext();
    auto integer = [&](unsigned width, bool isUnsigned = false) -> Type {
      return IntegerType::get(c, width, isUnsigned ? IntegerType::Unsigned : IntegerType::Signless);
    };
    switch (code) {
    case tBoolean: return integer(1);
    case tSI2: return integer(2);
    case tSI4: return integer(4);
    case tSI8: return integer(8);
    case tSI16: return integer(16);
    case tSI32: return integer(32);
    case tSI64: return integer(64);
    case tUI2: return integer(2, true);
    case tUI4: return integer(4, true);
    case tUI8: return integer(8, true);
    case tUI16: return integer(16, true);
    case tUI32: return integer(32, true);
    case tUI64: return integer(64, true);
    case tIndex: return IndexType::get(c);
    case tNone: return NoneType::get(c);
    case tBF16: return BFloat16Type::get(c);
    case tF16: return Float16Type::get(c);
    case tF32: return Float32Type::get(c);
    case tF64: return Float64Type::get(c);
    case tTF31: return FloatTF32Type::get(c);
    case tF8E4M3FN: return Float8E4M3FNType::get(c);
    case tF8E5M2: return Float8E5M2Type::get(c);
    case tF8E4M3FNUZ: return Float8E4M3FNUZType::get(c);
    case tF8E5M2FNUZ: return Float8E5M2FNUZType::get(c);
    case tF8E4M3B11FNUZ: return Float8E4M3B11FNUZType::get(c);
    case tF8E3M4: return Float8E3M4Type::get(c);
    case tF8E4M3: return Float8E4M3Type::get(c);
    case tF4E2M1FN: return Float4E2M1FNType::get(c);
    case tF6E2M3FN: return Float6E2M3FNType::get(c);
    case tF6E3M2FN: return Float6E3M2FNType::get(c);
    case tF8E8M0FNU: return Float8E8M0FNUType::get(c);
    case tToken: return shlo::TokenType::get(c);
    case tComplex: {
      Type element;
      if (failed(reader.readType(element)))
        return {};
      if (!isa<FloatType, IntegerType>(element))
        return failType(reader, "complex type of a type that is not a number");
      return ComplexType::get(element);
    }
    case tFunction: {
      SmallVector<Type> inputs, outputs;
      if (failed(reader.readTypes(inputs)) || failed(reader.readTypes(outputs)))
        return {};
      return FunctionType::get(c, inputs, outputs);
    }
    case tTuple: {
      SmallVector<Type> types;
      if (failed(reader.readTypes(types)))
        return {};
      return TupleType::get(c, types);
    }
    case tFuture: {
      SmallVector<Type> types;
      if (failed(reader.readTypes(types)))
        return {};
      return shlo::FutureType::get(c, types);
    }
    case tTensor: return readShaped(reader, false);
    case tTensorWithEncoding: return readShaped(reader, true);
    case tBuffer: {
      SmallVector<int64_t> shape;
      Type element;
      if (failed(reader.readSignedVarInts(shape)) || failed(reader.readType(element)))
        return {};
      return MemRefType::getChecked([&] { return reader.emitError(); }, shape, element, MemRefLayoutAttrInterface(),
                                    Attribute());
    }
    case tUnranked: {
      Type element;
      if (failed(reader.readType(element)))
        return {};
      return UnrankedTensorType::getChecked([&] { return reader.emitError(); }, element);
    }
    case tQuantized: return readQuantized(reader);
    case tQuantizedPerAxis: return readQuantizedPerAxis(reader);
    default: return failType(reader, "type", code);
    }
  }

private:
  static Attribute fail(DialectBytecodeReader &reader, StringRef what) {
    reader.emitError() << "malformed portable artifact: " << what;
    return {};
  }
  static Attribute fail(DialectBytecodeReader &reader, StringRef what, uint64_t code) {
    reader.emitError() << "unknown VHLO " << what << " (code " << code
                       << "): the portable artifact is newer than this tool, or damaged";
    return {};
  }
  static Type failType(DialectBytecodeReader &reader, StringRef what) { return fail(reader, what), Type(); }
  static Type failType(DialectBytecodeReader &reader, StringRef what, uint64_t code) {
    return fail(reader, what, code), Type();
  }

  template <typename AttrT, typename Enum>
  Attribute readEnum(DialectBytecodeReader &reader, std::optional<Enum> (*symbolize)(uint32_t)) const {
    uint64_t value;
    if (failed(reader.readVarInt(value)))
      return {};
    if (value > UINT32_MAX)
      return fail(reader, "enumeration value out of range");
    auto known = symbolize(uint32_t(value));
    if (!known)
      return fail(reader, "unknown enumeration value");
    return AttrT::get(getContext(), *known);
  }

  Attribute readDictionary(DialectBytecodeReader &reader) const {
    SmallVector<NamedAttribute> entries;
    auto one = [&]() -> FailureOr<NamedAttribute> {
      StringAttr name;
      Attribute value;
      if (failed(reader.readAttribute(name)) || failed(reader.readAttribute(value)))
        return failure();
      if (name.empty())
        return fail(reader, "dictionary entry without a name"), failure();
      return NamedAttribute(name, value);
    };
    uint64_t count;
    if (failed(reader.readVarInt(count)))
      return {};
    for (uint64_t i = 0; i < count; ++i) {
      FailureOr<NamedAttribute> entry = one();
      if (failed(entry))
        return {};
      entries.push_back(*entry);
    }
    if (DictionaryAttr::findDuplicate(entries, /*isSorted=*/false))
      return fail(reader, "dictionary with a name twice");
    return DictionaryAttr::get(getContext(), entries);
  }

  /// Dense elements. Predicates come a bit or a byte each, depending on the writer's age.
  Attribute readTensor(DialectBytecodeReader &reader) const {
    RankedTensorType type;
    ArrayRef<char> blob;
    if (failed(reader.readType(type)) || failed(reader.readBlob(blob)))
      return {};
    if (!type.hasStaticShape())
      return fail(reader, "constant of unknown shape");
    Type element = type.getElementType();
    if (!element.isInteger(1)) {
      Type scalar = isa<ComplexType>(element) ? cast<ComplexType>(element).getElementType() : element;
      bool isSplat;
      if (!scalar.isIntOrIndexOrFloat() || !DenseElementsAttr::isValidRawBuffer(type, blob, isSplat))
        return fail(reader, "constant whose data does not fit its type");
      return DenseElementsAttr::getFromRawBuffer(type, blob);
    }
    uint64_t count = type.getNumElements();
    if (count == 0)
      return DenseElementsAttr::get(type, ArrayRef<bool>());
    if (blob.size() == 1 && (blob[0] == 0 || uint8_t(blob[0]) == 0xFF || count == 1))
      return DenseElementsAttr::get(type, blob[0] != 0);
    if (blob.size() != count && blob.size() != llvm::divideCeil(count, 8) && blob.size() != 1)
      return fail(reader, "constant whose data does not fit its type");
    if (blob.size() == 1 && count > 8)
      return DenseElementsAttr::get(type, blob[0] != 0);
    SmallVector<bool> values(count);
    if (blob.size() == count) {
      for (auto [value, byte] : llvm::zip_equal(values, blob))
        value = byte != 0;
    } else {
      for (uint64_t i = 0; i < count; ++i)
        values[i] = (uint8_t(blob[i / 8]) >> (i % 8)) & 1;
    }
    return DenseElementsAttr::get(type, values);
  }

  Type readShaped(DialectBytecodeReader &reader, bool hasEncoding) const {
    Attribute encoding;
    SmallVector<int64_t> shape;
    Type element;
    if ((hasEncoding && failed(reader.readAttribute(encoding))) || failed(reader.readSignedVarInts(shape)) ||
        failed(reader.readType(element)))
      return {};
    return RankedTensorType::getChecked([&] { return reader.emitError(); }, shape, element, encoding);
  }

  Type readQuantized(DialectBytecodeReader &reader) const {
    uint64_t flags;
    Type storage, expressed;
    if (failed(reader.readVarInt(flags)) || failed(reader.readType(storage)) || failed(reader.readType(expressed)))
      return {};
    FailureOr<APFloat> scale = reader.readAPFloatWithKnownSemantics(APFloat::IEEEdouble());
    int64_t zero, low, high;
    if (failed(scale) || failed(reader.readSignedVarInt(zero)) || failed(reader.readSignedVarInt(low)) ||
        failed(reader.readSignedVarInt(high)))
      return {};
    return quant::UniformQuantizedType::getChecked([&] { return reader.emitError(); }, flags, signless(storage), expressed,
                                                   scale->convertToDouble(), zero, low, high);
  }

  Type readQuantizedPerAxis(DialectBytecodeReader &reader) const {
    uint64_t flags;
    Type storage, expressed;
    int64_t axis, low, high;
    if (failed(reader.readVarInt(flags)) || failed(reader.readType(storage)) || failed(reader.readType(expressed)) ||
        failed(reader.readSignedVarInt(axis)) || failed(reader.readSignedVarInt(low)) ||
        failed(reader.readSignedVarInt(high)))
      return {};
    uint64_t count;
    SmallVector<double> scales;
    if (failed(reader.readVarInt(count)))
      return {};
    for (uint64_t i = 0; i < count; ++i) {
      FailureOr<APFloat> scale = reader.readAPFloatWithKnownSemantics(APFloat::IEEEdouble());
      if (failed(scale))
        return {};
      scales.push_back(scale->convertToDouble());
    }
    SmallVector<int64_t> zeros;
    if (failed(reader.readSignedVarInts(zeros)))
      return {};
    return quant::UniformQuantizedPerAxisType::getChecked([&] { return reader.emitError(); }, flags, signless(storage),
                                                          expressed, scales, zeros, axis, low, high);
  }

  static Type signless(Type type) {
    auto integer = dyn_cast<IntegerType>(type);
    return integer ? IntegerType::get(type.getContext(), integer.getWidth()) : type;
  }
};

} // namespace

void icd::vhlo::VhloDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "VhloOps.cpp.inc"
      >();
  addInterfaces<VhloReader>();
}

extern "C" {
MLIR_DECLARE_CAPI_DIALECT_REGISTRATION(Vhlo, vhlo);
}
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Vhlo, vhlo, icd::vhlo::VhloDialect)
