#!/usr/bin/env bash
# Makes .venv/NAME from scripts/requirements-NAME.txt and prints what it holds.
# Run again it does nothing; interrupted, or with other requirements, it starts over, and where
# a requirement is open (>=) once a day.
set -euo pipefail

name=${1:?usage: scripts/venv.sh NAME, where scripts/requirements-NAME.txt exists}
root=$(cd "$(dirname "$0")/.." && pwd)
wanted=$root/scripts/requirements-$name.txt
home=$root/.venv/$name
stamp=$home/complete
[ -f "$wanted" ] || { echo "venv.sh: no $wanted" >&2; exit 1; }

mkdir -p "$root/.venv"
exec 9>"$root/.venv/$name.lock"
flock 9

is_current() {
  cmp -s "$wanted" "$stamp" &&
    { ! grep -q '^[^#]*>=' "$wanted" || [ -n "$(find "$stamp" -mmin -1440)" ]; }
}

if ! is_current; then
  rm -rf "$home"
  python3 -m venv "$home"
  pip=("$home/bin/python" -m pip --disable-pip-version-check --quiet)
  # torch first and alone: a resolver with more to solve may pick a build with CUDA, gigabytes of it.
  torch=$(grep '^torch==' "$wanted")
  "${pip[@]}" install "$torch"
  "${pip[@]}" install --constraint <(echo "$torch") --requirement "$wanted"
  cp "$wanted" "$stamp"
fi
"$home/bin/python" - <<'PY'
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy")))
PY
