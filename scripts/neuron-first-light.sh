#!/usr/bin/env bash
# Does neuroglot work on this Inf2, Trn1 or Trn2 instance? Asks the driver and the compiler, compiles
# the smallest modules of a model, runs them, compares them with the CPU, times them, does so with two
# ranks where two cores are visible, and writes one report. Every step runs, whatever became of those
# before it; exit code 1 if one failed.
#   scripts/neuron-first-light.sh MODEL_DIR [OUT]     OUT: folder for bundles and report.md (first-light)
# By the environment: TARGET (inf2, trn1, trn2; else what the instance is), NEURONX_CC (a path),
# DEVICE (neuron; emulated rehearses with the stand-ins, and two ranks with EMULATED_NRT_CORES=2),
# DTYPE (bf16), FROM and TO (languages), REPEAT (5 measured runs), NEUROGLOT (the program).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 1; }
[ $# -ge 1 ] && [ $# -le 2 ] && [ -d "$1" ] || usage
model=$1 out=${2:-first-light}
neuroglot=${NEUROGLOT:-build/release/neuroglot} compiler=${NEURONX_CC:-neuronx-cc}
device=${DEVICE:-neuron} dtype=${DTYPE:-bf16} from=${FROM:-eng_Latn} to=${TO:-fra_Latn}
mkdir -p "$out" || exit 1
report=$out/report.md
failed=0 steps=0

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
  steps=$((steps + 1))
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

compile_smallest() { # BUNDLE [OPTION...]
  "$neuroglot" compile "$model" -o "$1" --force --target "$target" --dtype "$dtype" \
    --neuronx-cc "$compiler" --batch 1 --source-lengths 32 --target-length 256 --with-logits "${@:2}"
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
  same_as_cpu "$out/device.txt"
}

same_as_cpu() { diff "$out/cpu.txt" "$1" && echo "the same as the CPU's"; }

measure() {
  translate "$device" "$out/bundle" --warmup 1 --repeat "${REPEAT:-5}" --stats "$out/stats.json" >/dev/null &&
    cat "$out/stats.json"
}

visible_cores() {
  if [ "$device" = emulated ]; then echo "${EMULATED_NRT_CORES:-1}"; return; fi
  "$neuroglot" devices | sed -n 's/^neuron .* \([0-9]*\) cores visible.*/\1/p'
}

two_ranks() {
  echo 'assumed of nrt_load_collectives: ranks are numbered from 0 among the cores of one replica;'
  echo 'NEURON_RT_ROOT_COMM_ID is 127.0.0.1:port'
  compile_smallest "$out/ranks" --tp 2 && translate "$device" "$out/ranks" >"$out/ranks.txt" &&
    cat "$out/ranks.txt" && "$neuroglot" verify "$out/ranks" --device "$device" --sentences 1 &&
    same_as_cpu "$out/ranks.txt"
}

printf '# neuroglot on %s\n\n%s, target %s, device %s, %s\n' "$(instance)" "$(date -u +%F)" \
  "$target" "$device" "$dtype" >"$report"
step 1 versions versions
step 2 operators operators
step 3 'compile the smallest modules' compile_smallest "$out/bundle"
step 4 'what the NEFFs say' inspect_neffs
step 5 'load and run' run_smallest
step 6 'compare with the CPU' compare
step 7 time measure
cores=$(visible_cores)
if [ "${cores:-0}" -ge 2 ]; then
  step 8 'two ranks' two_ranks
else
  printf 'no two ranks: %s cores visible\n' "${cores:-unknown}" | tee -a "$report"
fi
printf '\nreport: %s, %d of %d steps failed\n' "$report" "$failed" "$steps"
[ "$failed" -eq 0 ]
