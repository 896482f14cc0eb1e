"""Parse, print, parse and print again: the last two texts must be equal. Prints the count of programs and of failures."""

import pathlib
import subprocess
import sys


def opt(tool: str, text: str) -> subprocess.CompletedProcess:
    command = [tool, "--split-input-file", "--allow-unregistered-dialect"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def main() -> None:
    tool, *folders = sys.argv[1:]
    files = sorted(f for folder in folders for f in pathlib.Path(folder).glob("*.mlir"))
    failed = 0
    for file in files:
        first = opt(tool, file.read_text())
        second = opt(tool, first.stdout)
        if first.returncode or second.returncode or first.stdout != second.stdout:
            failed += 1
            print(f"{file.name}: {first.stderr or second.stderr or 'the text changes'}")
    print(f"{len(files)} programs, {failed} failed")


main()
