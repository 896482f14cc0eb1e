// C interface between the dialects and Rust. Each function says what it needs of
// its arguments; none of them throws.
#ifndef ICD_SHIM_H
#define ICD_SHIM_H

#include "mlir-c/IR.h"
#include "mlir-c/Pass.h"
#include "mlir/CAPI/IR.h"
#include "mlir/CAPI/Registration.h"

#include <cstddef>
#include <cstdint>

extern "C" {

/// A pass whose options and body live in Rust. Strings are NUL-terminated and
/// outlive the process' pass registry; `opName` is empty for a pass on any operation.
struct IcdPassVTable {
  const char *argument;
  const char *description;
  const char *opName;
  void *(*create)(const void *data);
  void *(*clone)(const void *self);
  void (*destroy)(void *self);
  /// Parses `key=value` options. On failure returns false and calls `report(text, len, sink)`.
  bool (*parseOptions)(void *self, const char *text, size_t length,
                       void (*report)(const char *, size_t, void *), void *sink);
  /// Runs on `op`; false fails the pass. Never unwinds.
  bool (*run)(void *self, MlirOperation op);
  const void *data;
};

/// Bytes of a `dense_resource` attribute, which live as long as its context. False for
/// other attributes, and where the resource is declared but has no data.
bool icdDenseResourceData(MlirAttribute attr, const void **data, size_t *length);

/// Shows `text` (NUL-terminated) as a remark at `location`.
void icdEmitRemark(MlirLocation location, const char *text);

/// Adds a pass to the process-wide registry. The table must live for ever.
/// MLIR does not guard that registry: no other thread may register a pass or parse a pipeline meanwhile.
void icdRegisterPass(const IcdPassVTable *vtable);
/// This project's dialects, for a registry.
void icdRegisterDialects(MlirDialectRegistry registry);
/// The passes that are written in C++, once, under the same condition.
void icdRegisterDialectPasses();
/// Upstream's dialects and extensions, for a registry.
void icdRegisterUpstreamDialects(MlirDialectRegistry registry);
/// Upstream's passes and pipelines, under the condition of `icdRegisterPass`.
void icdRegisterUpstreamPasses();
/// The command line of mlir-opt; returns the exit status.
int icdOptMain(int argc, char **argv, MlirDialectRegistry registry, const char *toolName);
}
#endif
