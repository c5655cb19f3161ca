#!/usr/bin/env bash
# Does neuroglot work on this Inf2, Trn1 or Trn2 instance? Asks the driver and the compiler, compiles
# the smallest modules of a model, runs them, compares them with the CPU, times them, and writes one
# report. Every step runs, whatever became of those before it; exit code 1 if one failed.
#   scripts/neuron-first-light.sh MODEL_DIR [OUT]     OUT: folder for bundles and report.md (first-light)
# By the environment: TARGET (inf2, trn1, trn2; else what the instance is), NEURONX_CC (a path),
# DEVICE (neuron; emulated rehearses with the stand-ins), DTYPE (bf16), FROM and TO (languages),
# REPEAT (5 measured runs), NEUROGLOT (the program).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 1; }
[ $# -ge 1 ] && [ $# -le 2 ] && [ -d "$1" ] || usage
model=$1 out=${2:-first-light}
neuroglot=${NEUROGLOT:-build/release/neuroglot} compiler=${NEURONX_CC:-neuronx-cc}
device=${DEVICE:-neuron} dtype=${DTYPE:-bf16} from=${FROM:-eng_Latn} to=${TO:-fra_Latn}
mkdir -p "$out" || exit 1
report=$out/report.md
failed=0

# The target that this instance's name means; empty: unknown.
instance() { cat /sys/devices/virtual/dmi/id/product_name 2>/dev/null; }
target_of() { case "$1" in inf2*) echo inf2 ;; trn1*) echo trn1 ;; trn2*) echo trn2 ;; esac; }
target=${TARGET:-$(target_of "$(instance)")}
if [ -z "$target" ]; then
  echo "neuron-first-light: this is no Inf2, Trn1 or Trn2 instance ($(instance)): say TARGET=inf2" >&2
  exit 1
fi

# step NUMBER TITLE COMMAND...: runs it, into the report and onto the terminal.
step() {
  local number=$1 title=$2 start=$SECONDS status
  shift 2
  printf '== %s. %s\n' "$number" "$title"
  "$@" >"$out/step-$number.log" 2>&1
  status=$?
  tail -n 40 "$out/step-$number.log"
  if [ "$status" -ne 0 ]; then failed=$((failed + 1)); fi
  {
    printf '\n## %s. %s: %s, %d s\n\n```\n' "$number" "$title" \
      "$([ "$status" -eq 0 ] && echo works || echo "FAILED ($status)")" $((SECONDS - start))
    tail -n 200 "$out/step-$number.log"
    printf '```\n'
  } >>"$report"
  return "$status"
}

sentences() {
  printf '%s\n' 'I would like a cup of tea.' 'Where is the station?' \
    'The children are playing in the garden.' 'It is raining.'
}

versions() {
  echo "instance $(instance), target $target"
  uname -r
  if [ "$device" != emulated ]; then
    neuron-ls && dpkg-query -W 'aws-neuronx-*' || return
  fi
  "$compiler" --version && "$neuroglot" --version && "$neuroglot" devices
}

# Does the compiler know every opcode that the modules have?
operators() {
  "$neuroglot" analyze "$model" --target "$target" --dtype "$dtype" || return
  "$compiler" list-operators --framework XLA >"$out/operators.txt" || return
  local opcode name missing=''
  for opcode in $(awk '$1 == "supported" { for (i = 4; i <= NF; i++) print $i }' "$out/step-2.log" |
    sort -u); do
    case "$opcode" in
      parameter) continue ;;
      convert) name=convertelementtype ;;
      exponential | maximum | minimum | multiply | subtract | cosine) name=${opcode:0:3} ;;
      divide) name=div ;;
      sine) name=sin ;;
      *) name=${opcode//-/} ;;
    esac
    grep -qix -e "$name" "$out/operators.txt" || missing+=" $opcode"
  done
  [ -z "$missing" ] || { echo "list-operators has none of:$missing"; return 1; }
}

compile_smallest() {
  "$neuroglot" compile "$model" -o "$out/bundle" --force --target "$target" --dtype "$dtype" \
    --neuronx-cc "$compiler" --batch 1 --source-lengths 32 --target-length 256 --with-logits
}

inspect_neffs() {
  local neff
  for neff in "$out"/bundle/neff/*.neff; do "$neuroglot" neff info "$neff" || return; done
}

translate() { # DEVICE BUNDLE [OPTION...]
  sentences | "$neuroglot" translate "$2" --device "$1" --from "$from" --to "$to" --beam 4 "${@:3}"
}

run_smallest() { translate "$device" "$out/bundle" >"$out/device.txt" && cat "$out/device.txt"; }

compare() {
  "$neuroglot" compile "$model" -o "$out/cpu" --force --dtype "$dtype" --quiet &&
    translate cpu "$out/cpu" >"$out/cpu.txt" || return
  diff "$out/cpu.txt" "$out/device.txt" && echo "the same as the CPU's"
}

measure() {
  translate "$device" "$out/bundle" --warmup 1 --repeat "${REPEAT:-5}" --stats "$out/stats.json" >/dev/null &&
    cat "$out/stats.json"
}

printf '# neuroglot on %s\n\n%s, target %s, device %s, %s\n' "$(instance)" "$(date -u +%F)" \
  "$target" "$device" "$dtype" >"$report"
step 1 versions versions
step 2 operators operators
step 3 'compile the smallest modules' compile_smallest
step 4 'what the NEFFs say' inspect_neffs
step 5 'load and run' run_smallest
step 6 'compare with the CPU' compare
step 7 time measure
printf '\nreport: %s, %d of 7 steps failed\n' "$report" "$failed"
[ "$failed" -eq 0 ]
