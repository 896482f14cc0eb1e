// Passes that are written in Rust, as MLIR sees them.
#include "Shim.h"

#include "mlir/CAPI/IR.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassRegistry.h"

using namespace mlir;

namespace {
class RustPass : public Pass {
public:
  explicit RustPass(const IcdPassVTable *vtable)
      : RustPass(vtable, vtable->create(vtable->data)) {}
  RustPass(const RustPass &other) : Pass(other), vtable(other.vtable), self(other.vtable->clone(other.self)) {}
  ~RustPass() override { vtable->destroy(self); }

  StringRef getName() const override { return vtable->argument; }
  StringRef getArgument() const override { return vtable->argument; }
  StringRef getDescription() const override { return vtable->description; }
  std::unique_ptr<Pass> clonePass() const override { return std::make_unique<RustPass>(*this); }
  void getDependentDialects(DialectRegistry &registry) const override { icdRegisterDialects(wrap(&registry)); }
  bool canScheduleOn(RegisteredOperationName name) const override {
    return !*vtable->opName || name.getStringRef() == vtable->opName;
  }

  LogicalResult initializeOptions(StringRef options,
                                  llvm::function_ref<LogicalResult(const Twine &)> errorHandler) override {
    std::string why;
    auto report = [](const char *text, size_t length, void *sink) {
      static_cast<std::string *>(sink)->assign(text, length);
    };
    if (vtable->parseOptions(self, options.data(), options.size(), report, &why))
      return success();
    return errorHandler(Twine(vtable->argument) + ": " + why);
  }

  void runOnOperation() override {
    if (!vtable->run(self, wrap(getOperation())))
      signalPassFailure();
  }

private:
  RustPass(const IcdPassVTable *vtable, void *self)
      : Pass(TypeID::getFromOpaquePointer(vtable),
             *vtable->opName ? std::optional<StringRef>(vtable->opName) : std::nullopt),
        vtable(vtable), self(self) {}

  const IcdPassVTable *vtable;
  void *self;
};
} // namespace

extern "C" void icdRegisterPass(const IcdPassVTable *vtable) {
  registerPass([vtable]() -> std::unique_ptr<Pass> { return std::make_unique<RustPass>(vtable); });
}
