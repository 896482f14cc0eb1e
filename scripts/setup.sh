#!/usr/bin/env bash
# Installs what building icd needs and is missing: Debian packages, and a check of the Rust toolchain. Safe to run again: it then only looks.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  "build-essential:C compiler and linker for the C parts of Rust crates"
  "clang-22:compiles the C++ part of the dialects; must be the compiler that Debian's MLIR was built with"
  "libclang-22-dev:bindgen reads MLIR's C headers through it"
  "libmlir-22-dev:MLIR headers and libraries"
  "libpolly-22-dev:named by LLVM's static link line"
  "libzstd-dev:named by LLVM's static link line"
  "lld-22:links generated native code"
  "llvm-22-dev:LLVM headers and libraries for native code and PTX"
  "llvm-22-tools:lit and FileCheck, which run the IR tests"
  "mlir-22-tools:mlir-tblgen builds the dialects; mlir-opt loads the plugin in tests"
  "zlib1g-dev:named by LLVM's static link line"
)

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

fail() { printf 'setup: error: %s\n' "$@" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "installing packages needs root, and there is no sudo: run as root: $*"
  fi
}

if ! command -v dpkg-query >/dev/null; then
  printf 'setup: this is no Debian system: install what corresponds to these Debian 12 packages, and name the folder of LLVM 22 in .cargo/config.toml:\n' >&2
  printf '  %s\n' "${packages[@]/:/  (}" | sed 's/$/)/' >&2
  [ -x "${MLIR_SYS_220_PREFIX:-/usr/lib/llvm-22}/bin/mlir-tblgen" ] || exit 1
else
  missing=()
  for entry in "${packages[@]}"; do
    is_installed "${entry%%:*}" || missing+=("$entry")
  done
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=("python3-venv:exports the demo's model and runs test oracles")
  if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing Debian packages that are missing:"
    for entry in "${missing[@]}"; do printf '  %-18s %s\n' "${entry%%:*}" "${entry#*:}"; done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || echo "setup: warning: the package lists could not be refreshed; trying with those at hand" >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]%%:*}" >/dev/null \
      || fail "apt-get could not install: ${missing[*]%%:*}" "LLVM 22 is in Debian 12's security archive (bookworm-security): check that apt's sources name it"
  fi
fi

command -v cargo >/dev/null || fail "there is no cargo: install Rust 1.95 or newer with rustup (https://rustup.rs), then run this again"
have=$(rustc --version | cut -d' ' -f2)
need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
[ "$(printf '%s\n' "$need" "$have" | sort -V | head -1)" = "$need" ] || fail "rustc $have is too old, $need is needed: run 'rustup update stable'"
for component in clippy rustfmt; do
  cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || echo "setup: note: 'make test' needs $component: run 'rustup component add $component'" >&2
done
echo "setup: Debian packages and Rust $have are in place"
