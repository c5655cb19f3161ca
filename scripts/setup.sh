#!/bin/sh
# Which Debian packages does neuroglot need? Installs what is missing, as root or through sudo.
#   scripts/setup.sh build    what compiling and running the program takes
#   scripts/setup.sh          that, and what the tests and checks take
# Quick when nothing is missing. Takes nothing but Debian packages.
set -eu

build='ccache cmake g++-12 git libcli11-dev libfmt-dev libgmock-dev libgtest-dev libprotobuf-dev
  libssl-dev make ninja-build nlohmann-json3-dev protobuf-compiler'
checks='clang-14 clang-format-14 clang-tidy-14 debootstrap libbenchmark-dev libclang-rt-14-dev
  llvm-14 python3 python3-venv xz-utils'

case "${1:-all}" in
  build) packages=$build ;;
  all) packages="$build $checks" ;;
  *) echo "usage: scripts/setup.sh [build]" >&2; exit 1 ;;
esac

missing=''
for package in $packages; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "setup: installing$missing"
if [ "$(id -u)" -eq 0 ]; then
  as_root=''
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  echo "setup: needs root or sudo for: apt-get install$missing" >&2
  exit 1
fi
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3
  -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
# A source that is out of reach does not matter when the others have the packages.
$apt update </dev/null || echo "setup: not every package list could be refreshed" >&2
$apt install --no-install-recommends $missing </dev/null
