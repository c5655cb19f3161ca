#!/usr/bin/env bash
# Does neuroglot work on this Inf2, Trn1 or Trn2 instance? Asks the driver and the compiler, compiles
# the smallest modules of a model, runs them, compares every module with the interpreter and the text
# with the CPU's, times them, uses two cores where there are, provokes what faults can be had, and
# writes one report. Every step runs, whatever became of those before it; exit code 1 if one failed.
#   neuron-first-light.sh MODEL_DIR [OUT]     OUT: folder for bundles and report.md (first-light)
# By the environment: TARGET (inf2, trn1, trn2; else what the instance is), NEURONX_CC (a path),
# DEVICE (neuron; emulated rehearses with the stand-ins, and two cores with EMULATED_NRT_CORES=2),
# DTYPE (bf16), FROM and TO (languages), REPEAT (5 measured runs), NEUROGLOT (the program),
# COMPILE_OPTIONS (more words for compile, such as "--beam-caches reorder"), PJRT_PLUGIN (the path of
# libneuronpjrt.so: tries that, too).
set -uo pipefail

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 1; }
[ $# -ge 1 ] && [ $# -le 2 ] && [ -d "$1" ] || usage
model=$1 out=${2:-first-light}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
neuroglot=${NEUROGLOT:-$root/build/release/neuroglot} compiler=${NEURONX_CC:-neuronx-cc}
device=${DEVICE:-neuron} dtype=${DTYPE:-bf16} from=${FROM:-eng_Latn} to=${TO:-fra_Latn}
read -ra compile_options <<<"${COMPILE_OPTIONS:-}"
PATH=$PATH:/opt/aws/neuron/bin
mkdir -p "$out" || exit 1
# What an earlier run left must not pass for this one's.
rm -f "$out"/{device,cpu,ranks,pjrt,operators}.txt "$out/stats.json" "$out"/step-*.log
for old in bundle ranks pjrt cpu; do [ ! -f "$out/$old/manifest.json" ] || rm -r "${out:?}/$old"; done
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

# The first sentence stands there again at the end: its score must be the same.
printf '%s\n' 'I would like a cup of tea.' 'Where is the station?' \
  'The children are playing in the garden.' 'It is raining.' 'I would like a cup of tea.' >"$out/text.txt"
head -n 1 "$out/text.txt" >"$out/one.txt"

# What is missing does not hide the rest.
versions() {
  local status=0
  echo "instance $(instance), target $target"
  uname -r
  if [ "$device" != emulated ]; then
    neuron-ls || status=1
    dpkg-query -W 'aws-neuronx-*' || rpm -qa 'aws-neuronx*' || status=1
  fi
  "$compiler" --version || status=1
  "$neuroglot" --version && "$neuroglot" devices || status=1
  return "$status"
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

compile_for() { # TARGET BUNDLE [OPTION...]
  "$neuroglot" compile "$model" -o "$2" --force --target "$1" --dtype "$dtype" --batch 1 \
    --source-lengths 32 --target-length 256 --with-logits "${@:3}"
}

compile_smallest() { # BUNDLE [OPTION...]
  compile_for "$target" "$1" --neuronx-cc "$compiler" "${@:2}" "${compile_options[@]}"
}

# A header that is read at the wrong places does not name the compiler that was called.
inspect_neffs() {
  local neff version
  version=$("$compiler" --version 2>&1 | grep -oE -m 1 '[0-9]+(\.[0-9]+){2,}')
  echo "$compiler --version: ${version:-none}"
  for neff in "$out"/bundle/neff/*.neff; do
    "$neuroglot" neff info "$neff" >"$out/neff.txt" || return
    cat "$out/neff.txt"
    grep '^compiler ' "$out/neff.txt" | grep -qF "${version:-none}" ||
      { echo "$neff: its header names another compiler"; return 1; }
  done
}

# Text comes on standard input; lines are SCORE, tab, translation. A device that hangs fails its step.
translate() { # DEVICE BUNDLE [OPTION...]
  timeout 3600 "$neuroglot" translate "$2" --device "$1" --from "$from" --to "$to" --beam 4 --scores \
    "${@:3}"
}

run_smallest() {
  translate "$device" "$out/bundle" <"$out/text.txt" >"$out/device.txt" && cat "$out/device.txt" || return
  [ "$(head -n 1 "$out/device.txt")" = "$(tail -n 1 "$out/device.txt")" ] ||
    { echo 'the same sentence has two results: is stochastic rounding on?'; return 1; }
}

# verify judges. In bf16 a device may choose another word than the CPU where two are about as good.
same_as_cpu() {
  [ -s "$out/cpu.txt" ] && [ -s "$1" ] || { echo 'there is nothing to compare'; return 1; }
  if diff <(cut -f 2 "$out/cpu.txt") <(cut -f 2 "$1"); then echo "the same as the CPU's"; return; fi
  [ "$dtype" != f32 ] || { echo "not the CPU's"; return 1; }
  echo "not the CPU's; for information: in $dtype texts may differ, and verify judges"
}

compare() {
  local status=0 neff
  "$neuroglot" verify "$out/bundle" --device "$device" --sentences 1 || status=$?
  for neff in "$out"/bundle/neff/*.neff; do
    grep -q "^ *$(basename "$neff" .neff) " "$out/step-6.log" || echo "not verified: $(basename "$neff" .neff)"
  done
  "$neuroglot" compile "$model" -o "$out/cpu" --force --dtype "$dtype" --quiet &&
    translate cpu "$out/cpu" <"$out/text.txt" >"$out/cpu.txt" || return
  same_as_cpu "$out/device.txt" && return "$status"
}

measure() {
  translate "$device" "$out/bundle" --warmup 1 --repeat "${REPEAT:-5}" --stats "$out/stats.json" \
    <"$out/text.txt" >/dev/null && cat "$out/stats.json" || return
  awk -v lines="$(wc -l <"$out/text.txt")" '/"generate_seconds"/ { here = 1; next } /]/ { here = 0 }
    here { sum += $1; runs++ }
    END { printf "%.2f sentences per second, with the smallest modules\n", lines * runs / sum }' "$out/stats.json"
}

visible_cores() {
  if [ "$device" = emulated ]; then echo "${EMULATED_NRT_CORES:-1}"; return; fi
  "$neuroglot" devices | sed -n 's/^neuron .* \([0-9]*\) cores visible.*/\1/p'
}

# The last core by itself is number 0 of this process; then two cores together.
two_cores() {
  local visible=${NEURON_RT_VISIBLE_CORES:-$((cores - 1))}
  echo "core ${visible##*[-,]} alone"
  NEURON_RT_VISIBLE_CORES=${visible##*[-,]} translate "$device" "$out/bundle" <"$out/one.txt" |
    diff <(head -n 1 "$out/device.txt") - || return
  echo 'assumed of nrt_load_collectives: ranks are numbered from 0 among the cores of one replica;'
  echo 'NEURON_RT_ROOT_COMM_ID is 127.0.0.1:port'
  compile_smallest "$out/ranks" --tp 2 && translate "$device" "$out/ranks" <"$out/text.txt" >"$out/ranks.txt" &&
    cat "$out/ranks.txt" && "$neuroglot" verify "$out/ranks" --device "$device" --sentences 1 &&
    same_as_cpu "$out/ranks.txt"
}

# What can be had on purpose: a second program on cores that are taken, which may wait, share or be
# refused by a status that we know; and a program that is killed, whose cores the next one must get.
faults() {
  local first status
  "$neuroglot" translate "$out/bundle" --device "$device" --from "$from" --to "$to" --beam 4 --warmup 1000 \
    <"$out/text.txt" >/dev/null &
  first=$!
  for _ in {1..50}; do sleep 0.1; kill -0 "$first" || break; done
  translate "$device" "$out/bundle" <"$out/one.txt"
  status=$?
  echo "a second program on the same cores: exit code $status"
  kill -9 "$first" || { echo 'the first program ended by itself'; return 1; }
  wait "$first"
  [ "$status" -eq 0 ] || [ "$status" -eq 2 ] || return 1
  translate "$device" "$out/bundle" <"$out/one.txt" | diff <(head -n 1 "$out/device.txt") - &&
    echo 'the cores of a killed program work'
}

# As XLA's modules, which the plugin has compiled by neuronx-cc; sorts fail there, so the host ranks.
plugin() {
  "$neuroglot" devices --device "pjrt:$PJRT_PLUGIN" && compile_for pjrt "$out/pjrt" --topk host &&
    translate "pjrt:$PJRT_PLUGIN" "$out/pjrt" <"$out/text.txt" >"$out/pjrt.txt" && cat "$out/pjrt.txt" &&
    "$neuroglot" verify "$out/pjrt" --device "pjrt:$PJRT_PLUGIN" --sentences 1 &&
    same_as_cpu "$out/pjrt.txt"
}

printf '# neuroglot on %s\n\n%s, target %s, device %s, %s, compile options: %s\n' "$(instance)" \
  "$(date -u +%F)" "$target" "$device" "$dtype" "${COMPILE_OPTIONS:-none}" >"$report"
step 1 versions versions
step 2 operators operators
step 3 'compile the smallest modules' compile_smallest "$out/bundle"
step 4 'what the NEFFs say' inspect_neffs
step 5 'load and run' run_smallest
step 6 'verify, and compare with the CPU' compare
step 7 time measure
cores=$(visible_cores)
if [ "${cores:-0}" -ge 2 ]; then
  step 8 'two cores' two_cores
else
  printf 'no two cores: %s visible\n' "${cores:-unknown}" | tee -a "$report"
fi
step 9 'a second program, and one that is killed' faults
if [ -n "${PJRT_PLUGIN:-}" ]; then step 10 'the PJRT plugin' plugin; fi
printf '\nreport: %s, %d of %d steps failed\n' "$report" "$failed" "$steps"
[ "$failed" -eq 0 ]
