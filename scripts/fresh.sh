#!/usr/bin/env bash
# Do README's first commands work on a fresh Debian 12 that has only make and git? Runs `make demo`,
# `make test` and the first translation word for word in a debootstrapped folder, once as root and
# once as a user with sudo, on a clone of what is committed, and writes the times to
# docs/verification.md. Needs root or sudo; about 5 GB below $TMPDIR (default /var/tmp).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then exec sudo --preserve-env=TMPDIR,http_proxy "$0" "$@"; fi

mapfile -t commands < <(
  sed -nE 's/^(\$ )?(make (demo|test)\b.*)$/\2/p; s/^\$ (echo .*\| neuroglot translate .*)$/\1/p' README.md |
    awk '!seen[$0]++')
if [ "${#commands[@]}" -ne 3 ] || [ "${commands[0]}" != "make demo" ]; then
  echo "fresh: README.md must show 'make demo', 'make test' and 'echo … | neuroglot translate …', once each" >&2
  exit 1
fi

folder=$(mktemp -d "${TMPDIR:-/var/tmp}/neuroglot-fresh.XXXXXX")
chmod 755 "$folder"
trap 'rm -rf --one-file-system "$folder"' EXIT
mkdir -p build/logs

# The network is the host's: its Debian mirrors, proxies and name servers.
bootstrap() {
  local mirror
  mirror=$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' 2>/dev/null | head -n 1)
  debootstrap --variant=minbase --include=make,git bookworm "$folder/base" \
    "${mirror:-http://deb.debian.org/debian}" >build/logs/debootstrap.log
  apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$folder/base/etc/apt/apt.conf.d/90host" || true
  cp /etc/resolv.conf "$folder/base/etc/resolv.conf"
}

# inside ROOT USER COMMAND: the mounts are gone when the command ends. `make demo` leaves the program
# in build/release, where README's reader has it on PATH.
inside() {
  unshare --mount bash -c '
    mount -t proc proc "$0/proc"
    exec chroot --userspec="$1" "$0" env -i HOME="$2" USER="$1" LANG=C.UTF-8 ${http_proxy:+http_proxy="$http_proxy"} \
      PATH="$2/neuroglot/build/release:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
      bash -c "cd && cd neuroglot && $3" </dev/null' "$1" "$2" "$(home "$2")" "$3"
}
home() { if [ "$1" = root ]; then echo /root; else echo "/home/$1"; fi; }

failed=0
try() {  # try USER: all commands in a system of its own
  local root="$folder/$1" start status log command
  cp -a "$folder/base" "$root"
  if [ "$1" != root ]; then
    chroot "$root" apt-get -q -y install --no-install-recommends sudo >>build/logs/debootstrap.log 2>&1
    chroot "$root" useradd --create-home "$1"
    echo "$1 ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/$1"
  fi
  git -c advice.detachedHead=false clone -q --no-hardlinks . "$root$(home "$1")/neuroglot"
  chroot "$root" chown -R "$1:$1" "$(home "$1")/neuroglot"
  for command in "${commands[@]}"; do
    log=build/logs/fresh-$1-$(echo "$command" | tr -cs 'a-z\n' '-' | cut -c -40).log
    start=$SECONDS status=0
    inside "$root" "$1" "$command" >"$log" 2>&1 || status=$?
    echo "| $1 | \`${command//|/\\|}\` | $([ $status -eq 0 ] && echo works || echo "exit status $status") | $((SECONDS - start)) s |" |
      tee -a "$folder/rows"
    if [ $status -ne 0 ]; then failed=1; tail -n 60 "$log" >&2; fi
  done
  rm -rf --one-file-system "$root"
}

bootstrap
try root
try user
{
  echo "Debian $(cat "$folder/base/etc/debian_version") from debootstrap (minbase) with make and git;"
  echo "the user also has sudo. Each row begins where the row above it ended, packages included."
  printf '\n| as | command | result | time |\n|---|---|---|---|\n'
  cat "$folder/rows"
} | python3 scripts/record.py "A fresh Debian 12 (scripts/fresh.sh)"
exit $failed
