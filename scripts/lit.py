"""Run the IR tests with LLVM's lit and close with their counts.

    python3 scripts/lit.py [FILTER]

FILTER is a regular expression over test names. Exits 1 when a test fails or none ran.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PREFIX = pathlib.Path(os.environ.get("MLIR_SYS_220_PREFIX", "/usr/lib/llvm-22"))


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        results = pathlib.Path(scratch) / "lit.json"
        command = [PREFIX / "bin" / "lit", "-q", "--no-progress-bar", "-v", "--output", results, ROOT / "lit-tests"]
        if len(sys.argv) > 1:
            command += ["--filter", sys.argv[1]]
        status = subprocess.run(command, check=False).returncode
        codes = [test["code"] for test in json.loads(results.read_text())["tests"]] if results.exists() else []
    passed = sum(code in ("PASS", "XFAIL", "FLAKYPASS") for code in codes)
    skipped = sum(code in ("UNSUPPORTED", "SKIPPED", "EXCLUDED") for code in codes)
    failed = len(codes) - passed - skipped
    if passed + failed == 0:
        print("lit: error: no test ran", file=sys.stderr)
        return 1
    print(f"lit: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or status else 0


if __name__ == "__main__":
    sys.exit(main())
