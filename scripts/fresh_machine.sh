#!/usr/bin/env bash
# Proves that a bare Debian 12 suffices: makes one with debootstrap, clones this repository's HEAD into it, and runs a make target there.
#
#     scripts/fresh_machine.sh demo|test|... [ROOT]
#
# Needs root and the package debootstrap. Only the Rust toolchain is the host's (rustup's folder, mounted); cargo's downloads and builds, Python packages and Debian
# packages are all fetched anew. ROOT (default /tmp/icd-fresh) is kept, so that a second target can follow. What is mounted in it is mounted in a namespace of
# this script's own and ends with it, so that ROOT can be removed afterwards without harm to the host's folders.
set -euo pipefail
[ "${ICD_OWN_MOUNTS:-}" = 1 ] || exec env ICD_OWN_MOUNTS=1 unshare --mount --propagation private "$0" "$@"
cd "$(dirname "$0")/.."

target=${1:?"usage: scripts/fresh_machine.sh TARGET [ROOT]"}
root=${2:-/tmp/icd-fresh}
toolchains=$(dirname "$(rustc --print sysroot)")
[ "$(basename "$toolchains")" = toolchains ] || { echo "fresh_machine: error: $toolchains is no folder of rustup's toolchains, which this script shares with the bare system" >&2; exit 1; }
toolchain=$(dirname "$toolchains")
cargo=$(dirname "$(rustup which cargo)")

if [ ! -x "$root/usr/bin/apt-get" ]; then
  debootstrap --variant=minbase bookworm "$root" >/dev/null
  cp -r /etc/apt/sources.list.d /etc/apt/apt.conf.d "$root/etc/apt/"
  rm -f "$root/etc/apt/sources.list"
  cp /etc/resolv.conf "$root/etc/"
  chroot "$root" apt-get update -qq
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates git make python3 sudo >/dev/null
  # Mirrors in use here may have certificates of their own.
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi
mkdir -p "$root/proc" "$root/dev" "$root$toolchain"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -o bind,ro "$toolchain" "$root$toolchain"

if [ -d "$root/root/icd" ]; then
  git -C "$root/root/icd" pull -q --ff-only
else
  git clone -q --no-hardlinks . "$root/root/icd"
  [ ! -d ../shared ] || mkdir -p "$root/root/shared"
fi
if [ -d ../shared ]; then mount -o bind,ro ../shared "$root/root/shared"; fi

start=$SECONDS
status=0
chroot "$root" env -i HOME=/root PATH="$cargo:/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin" LANG=C.UTF-8 TERM=dumb make -C /root/icd "$target" || status=$?
echo "fresh_machine: make $target on a bare Debian 12: $((SECONDS - start)) s, exit $status"
exit $status
