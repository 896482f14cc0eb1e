// Registration of the StableHLO dialect, and the syntax of its types and attributes.
#include "Stablehlo.h"

#include "mlir/CAPI/Registration.h"
#include "mlir/Dialect/Quant/IR/Quant.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Transforms/InliningUtils.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace icd::stablehlo;

#include "StablehloDialect.cpp.inc"
#include "StablehloEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "StablehloAttrs.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "StablehloTypes.cpp.inc"

namespace {
struct StablehloInliner : public DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;
  bool isLegalToInline(Operation *, Operation *, bool) const final { return true; }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final { return true; }
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final { return true; }
};

} // namespace

void StablehloDialect::initialize() {
  // Newer programs may hold operations that this version does not know: they pass through.
  allowUnknownOperations();
  addOperations<
#define GET_OP_LIST
#include "StablehloOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "StablehloAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "StablehloTypes.cpp.inc"
      >();
  addInterfaces<StablehloInliner>();
}

Operation *StablehloDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type, Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements || elements.getType() != type)
    return nullptr;
  return ConstantOp::create(builder, loc, type, elements);
}

Type StablehloDialect::parseType(DialectAsmParser &parser) const {
  StringRef mnemonic;
  Type type;
  OptionalParseResult parsed = generatedTypeParser(parser, &mnemonic, type);
  if (parsed.has_value())
    return type;
  parser.emitError(parser.getNameLoc()) << "unknown stablehlo type: " << mnemonic;
  return nullptr;
}
void StablehloDialect::printType(Type type, DialectAsmPrinter &os) const { (void)generatedTypePrinter(type, os); }

static void printBounds(AsmPrinter &os, ArrayRef<int64_t> bounds) {
  llvm::interleaveComma(bounds, os, [&](int64_t b) { ShapedType::isDynamic(b) ? os << '?' : os << b; });
}

static ParseResult parseBound(AsmParser &parser, SmallVectorImpl<int64_t> &bounds) {
  if (succeeded(parser.parseOptionalQuestion())) {
    bounds.push_back(ShapedType::kDynamic);
    return success();
  }
  return parser.parseInteger(bounds.emplace_back());
}

// `#stablehlo.bounds<3, ?>` is the short form of a type extension with bounds.
Attribute StablehloDialect::parseAttribute(DialectAsmParser &parser, Type type) const {
  StringRef mnemonic;
  Attribute attr;
  OptionalParseResult parsed = generatedAttributeParser(parser, &mnemonic, type, attr);
  if (parsed.has_value())
    return attr;
  if (mnemonic == "bounds") {
    SmallVector<int64_t> bounds;
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater, [&] { return parseBound(parser, bounds); }))
      return nullptr;
    return TypeExtensionsAttr::get(parser.getContext(), bounds);
  }
  parser.emitError(parser.getNameLoc()) << "unknown stablehlo attribute: " << mnemonic;
  return nullptr;
}

void StablehloDialect::printAttribute(Attribute attr, DialectAsmPrinter &os) const {
  if (auto extensions = dyn_cast<TypeExtensionsAttr>(attr)) {
    os << "bounds<";
    printBounds(os, extensions.getBounds());
    os << '>';
    return;
  }
  (void)generatedAttributePrinter(attr, os);
}

Attribute TypeExtensionsAttr::parse(AsmParser &parser, Type) {
  SmallVector<int64_t> bounds;
  if (parser.parseLess() || parser.parseKeyword("bounds") || parser.parseEqual() ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, [&] { return parseBound(parser, bounds); }) ||
      parser.parseGreater())
    return nullptr;
  return TypeExtensionsAttr::get(parser.getContext(), bounds);
}

void TypeExtensionsAttr::print(AsmPrinter &os) const {
  os << "<bounds = [";
  printBounds(os, getBounds());
  os << "]>";
}

extern "C" {
MLIR_DECLARE_CAPI_DIALECT_REGISTRATION(Stablehlo, stablehlo);
}
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Stablehlo, stablehlo, icd::stablehlo::StablehloDialect)
