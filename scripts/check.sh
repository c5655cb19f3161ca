#!/usr/bin/env bash
# What do `make test`, `make check` and `make check-full` run, in which order, and what does each
# part take? The last line is `N passed, N failed`: single tests where a part counts them, else parts.
#   scripts/check.sh test|check|full ...      scripts/check.sh --sources | --tidy
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
exec </dev/null
export PATH=/usr/bin:/bin:$PATH  # Debian's tools, whatever else is installed

passed=0 failed=0 skipped=0 summary='' logs=() recording=''

# Adds up what a log says of single tests (passed, failed, skipped): GoogleTest, unittest, or a line
# "N passed, N failed" that may go on ", N skipped".
count() {
  awk '/\[  PASSED  \] [0-9]+ test/ { sub(/.*PASSED  \] /, ""); good += $1 }
       /\[  FAILED  \] .* \([0-9]+ ms\)$/ { ++bad }
       /^Ran [0-9]+ tests? in/ { ran += $2 }
       /\[  SKIPPED \] [0-9]+ test/ { sub(/.*SKIPPED \] /, ""); left += $1 }
       /^(OK|FAILED) \(/ {
         for (i = split($0, part, /[(,]/); i > 1; i--) {
           number = part[i]
           gsub(/[^0-9]/, "", number)
           if (part[i] ~ /skipped/) { left += number; ran -= number } else wrong += number
         }
       }
       /^([a-z ]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
         if (sub(/ skipped$/, "")) { left += $NF; sub(/, [0-9]+$/, "") }
         good += $(NF - 3); bad += $(NF - 1)
       }
       END { print good + ran - wrong, bad + wrong, left + 0 }' "$1"
}

# part NAME COMMAND...: shows the command's output, times it, counts it. What counts nothing and ends
# well is one pass; what only skips is none.
part() {
  local name=$1 start=$SECONDS log good bad left status
  shift
  printf '\n== %s\n' "$name"
  mkdir -p build/logs
  log=build/logs/${name//[^a-z0-9]/-}.log
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  read -r good bad left < <(count "$log")
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ "$status" -eq 0 ] && [ "$((good + bad + left))" -eq 0 ]; then good=1; fi
  passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
  summary+=$(printf '%-32s %5d s %7d passed %5d failed' "$name" $((SECONDS - start)) "$good" "$bad")
  if [ "$left" -gt 0 ]; then summary+=$(printf ' %5d skipped' "$left"); fi
  summary+=$'\n'
  if [ -n "$recording" ]; then
    case "$name" in build* | unit* | clang*) ;; *) logs+=("$log") ;; esac
    record
  fi
  [ "$bad" -eq 0 ]
}

sources() { find . \( -path ./build -o -path './.?*' \) -prune -o -regex '.*\.\(cc\|h\|inc\)' -print | sort; }

format() { sources | xargs clang-format-14 --dry-run -Werror; }

tidy() {
  find src -name '*.cc' ! -name '*_test.cc' | sort |
    xargs -P "$(nproc)" -n 1 clang-tidy-14 -p build/release --quiet 2>/dev/null
}

build() { cmake --preset "$1" >/dev/null && cmake --build --preset "$1" ${2:+--target "$2"}; }

# The unit tests with every instruction set this CPU has.
each_isa() {
  local isa flag flags
  flags=" $(grep -m1 ^flags /proc/cpuinfo) "
  for isa in generic avx2 avx512; do
    for flag in $(case $isa in avx2) echo avx2 fma f16c ;; avx512) echo avx512{f,bw,dq,vl} ;; esac); do
      if [[ $flags != *" $flag "* ]]; then
        echo "skipped: NEUROGLOT_ISA=$isa, this CPU lacks $flag"
        continue 2
      fi
    done
    part "unit tests, $isa" env NEUROGLOT_ISA="$isa" ctest --preset release
  done
}

# The runtime of the thread sanitizer knows only the classic address layout.
without_aslr() { if setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi; }

python() { ".venv/$1/bin/python" "${@:2}"; }  # python ENVIRONMENT SCRIPT...

# Small graphs run by each plugin that .venv/check holds, in each format that a plugin may be given.
plugins() {
  local plugin format
  for plugin in .venv/check/lib/python3*/site-packages/{fastatomstruct_xla_cpu,xla_plugins/*}/*.so; do
    for format in hlo mlir; do
      part "plugins, $format, $(basename "$plugin" .so)" build/release/pjrt_run "$plugin" $format
    done
  done
}

run_test() {
  part "layers" python3 scripts/check_layers.py
  part "size" python3 scripts/size_report.py
  part "format" format
  part "scripts" python3 -m unittest discover -s tests -p '*_test.py'
  part "build release" build release && each_isa
  part "command line" python3 -m unittest discover -s tests -p 'command_line*.py'
  part "docs" python3 scripts/check_docs.py
}

# What needs nothing from PyPI but is not for every `make test`.
run_analysers() {
  part "build asan" build asan ng_tests && part "unit tests, asan" ctest --preset asan
  part "build tsan" build tsan ng_tests && part "unit tests, tsan" without_aslr ctest --preset tsan
  part "clang-tidy" tidy
}

run_check() {
  part "build release" build release
  run_analysers
  part "packages from PyPI" scripts/venv.sh check || return
  part "make-checkpoint" python check scripts/check_checkpoint.py
  part "tokens" python check scripts/check_tokens.py --cases 250
  part "tokens, self-test" python check scripts/check_tokens.py --self-test --cases 240
  part "demo model, 1000 sentences" python check scripts/check_demo.py --sentences 1000
  part "tokenizer, all models" python check scripts/check_tokenizer.py
  part "HLO" python check scripts/check_hlo.py --count 40 --plant
  plugins
  part "modules" python check scripts/check_modules.py --cases 12 --demo 100 --plant
  part "dialects" python check scripts/check_dialects.py --cases 8 --plant
  part "mutants" python check scripts/check_mutants.py --sample 3
  part "emission, 3.3B's configuration" python check scripts/check_emission.py --quick
}

speed() {  # float32 of 600M beside torch
  local folder status=0
  folder=$(mktemp -d "${TMPDIR:-/var/tmp}/neuroglot-speed.XXXXXX")
  build/release/neuroglot make-checkpoint --quiet --shape nllb-200-distilled-600M --seed 3 "$folder/600M"
  python check benchmarks/against_torch.py "$folder/600M" --new 8 || status=$?
  rm -rf "$folder"
  return $status
}

# The parts of `make check` with their full counts, the modules first, and what takes longer.
run_full() {
  part "build release" build release
  part "packages from PyPI" scripts/venv.sh check || return
  part "HLO" python check scripts/check_hlo.py --count 300 --plant
  plugins
  part "modules" python check scripts/check_modules.py --cases 200 --demo 1000 --plant
  part "dialects" python check scripts/check_dialects.py --cases 200 --plant
  part "mutants" python check scripts/check_mutants.py
  part "emission, 3.3B" python check scripts/check_emission.py
  run_analysers
  part "tokens, 2000 cases" python check scripts/check_tokens.py --cases 2000
  part "tokens, self-test" python check scripts/check_tokens.py --self-test --cases 250
  part "demo model, 1000 sentences" python check scripts/check_demo.py --sentences 1000
  part "tokenizer, all models" python check scripts/check_tokenizer.py
  part "full size" python check scripts/check_size.py
  part "speed, 600M" speed
  part "build tokenizer benchmark" build release tokenizer_benchmark &&
    part "speed, tokenizer" python3 scripts/check_tokenizer_speed.py
  part "fresh Debian" scripts/fresh.sh
  part "newest from PyPI" scripts/venv.sh check-newest &&
    part "tokens, newest" python check-newest scripts/check_tokens.py --cases 2000 --column newest
  part "make-checkpoint" python check scripts/check_checkpoint.py
  part "make-checkpoint, 600M" python check scripts/check_checkpoint.py --dtype f16 \
    --shape nllb-200-distilled-600M
}

# A log's lines of versions and seeds, which come first, and its last 11, without counts of progress.
excerpt() {
  grep -vE '^WARNING|^[0-9]+ cases, [0-9]+ s$' "$1" | awk '
    { line[NR] = $0 }
    END {
      for (i = 1; i <= NR; i++) {
        if (i > NR - 11 || (line[i] ~ /(torch|transformers) [0-9]/ && heads++ < 2)) print line[i]
      }
    }'
}

# What each part took and ended with, seeds and versions among it, into docs/verification.md: after
# every part, for the whole takes hours.
record() {
  local log
  {
    printf '```\n%s```\n' "$summary"
    for log in "${logs[@]}"; do
      printf '\n%s\n\n```\n%s\n```\n' "$(basename "$log" .log)" "$(excerpt "$log")"
    done
  } | python3 scripts/record.py "make check-full"
}

case "${1:-}" in
  --sources) sources; exit ;;
  --tidy) tidy; exit ;;
esac
for name in "$@"; do
  case "$name" in
    test | check) "run_$name" ;;
    full) recording=yes && run_full ;;
    *) echo "usage: scripts/check.sh test|check|full ..." >&2; exit 1 ;;
  esac
done
printf '\n%s' "$summary"
if [ "$skipped" -gt 0 ]; then printf '%d skipped\n' "$skipped"; fi
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
