"""Does one core tokenize three million characters a second, with every model and in both dialects?

    scripts/check_tokenizer_speed.py [--program build/release/tokenizer_benchmark]

Runs benchmarks/tokenizer_benchmark.cc: FLORES English, Hindi and Chinese together, a line a call. The last
line is `tokenizer speed: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import shared

ROOT = Path(__file__).resolve().parent.parent
LEAST = 3e6  # characters a second


def slow(measured):
    """Prints what Google Benchmark measured; the names that are too slow."""
    rates = {one["name"]: one.get("characters/s", 0) for one in measured["benchmarks"]}
    for name, rate in rates.items():
        print(f"{'ok  ' if rate >= LEAST else 'FAIL'} {name}: {rate / 1e6:.1f} million characters a second")
    return [name for name, rate in rates.items() if not rate >= LEAST]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=str(ROOT / "build/release/tokenizer_benchmark"))
    options = parser.parse_args()
    shared.need("tokenizer speed", shared.SHARED / "data/text/flores200", shared.SHARED / "data/tokenizers")
    output = subprocess.run([options.program, "--benchmark_format=json"], cwd=ROOT, check=True, capture_output=True)
    measured = json.loads(output.stdout)
    failed = len(slow(measured))
    count = len(measured["benchmarks"])
    print(f"tokenizer speed: {count - failed} passed, {failed or int(not count)} failed")
    sys.exit(3 if failed or not count else 0)


if __name__ == "__main__":
    main()
