"""FileCheck tests of the dialects and passes, run by LLVM's lit.

Substitutions: %icd-opt (built beside the tests by cargo), %mlir-opt (the LLVM package's), %plugin (the plugin library), %shared (test data that
is kept outside the repository; tests that need it say REQUIRES: shared).
"""

import os
import pathlib
import sys

import lit.formats

root = pathlib.Path(__file__).resolve().parent.parent
llvm = pathlib.Path(os.environ.get("MLIR_SYS_220_PREFIX", "/usr/lib/llvm-22"))
built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release"
shared = pathlib.Path(os.environ.get("ICD_SHARED", root.parent / "shared"))

config.name = "icd"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs"]
config.test_source_root = str(pathlib.Path(__file__).resolve().parent)
config.test_exec_root = str(built.parent / "lit")

config.environment["PATH"] = os.pathsep.join([str(llvm / "bin"), os.environ.get("PATH", "")])
config.substitutions += [
    ("%icd-opt", str(built / "icd-opt")),
    ("%mlir-opt", str(llvm / "bin" / "mlir-opt")),
    ("%plugin", str(built / "libicd_plugin.so")),
    ("%shared", str(shared)),
    ("%python", sys.executable),
]
if (shared / "data" / "stablehlo").is_dir():
    config.available_features.add("shared")
