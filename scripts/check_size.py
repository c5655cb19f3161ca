"""Does neuroglot hold at full size?

    .venv/check/bin/python scripts/check_size.py [--work FOLDER] [--only 600M|3.3B]

600M: 32 padded requests through transformers and through an f32 bundle (of three .bin shards) and a bf16
bundle (of one safetensors file): tokens by the rule of check_tokens.py, logits within 2e-5 of the largest.
3.3B: a float32 checkpoint of three .bin shards becomes a bf16 bundle in less than 1.5 GB of anonymous
memory, translates on two threads in 24 GiB, and is verified with one sentence in less than ten minutes.
Bundles of both open in less than 0.3 s when warm.
Needs 40 GB of disk and 12 GB of memory. The last line is `size: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import M2M100ForConditionalGeneration

import judge
import reference
from binary import Binary, parse_answer

ROOT = Path(__file__).resolve().parent.parent
SEARCHES = {
    "greedy": {"num_beams": 1},
    "beam 4": {"num_beams": 4},
    "repetition_penalty 1.3": {"num_beams": 1, "repetition_penalty": 1.3},
}
NEW_IDS, REQUESTS, LANGUAGE = 12, 32, 256057
LOGITS = 2e-5  # max|ours - f64| ≤ this · max|f64|
COMPILE_BYTES, TRANSLATE_BYTES = 1.5e9, 24 * 2**30
OPEN_SECONDS, VERIFY_SECONDS = 0.3, 600


class Results:
    def __init__(self):
        self.passed = self.failed = 0

    def add(self, name, holds, detail=""):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f"{'ok  ' if holds else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)


def measured(command, text=""):
    """(exit code, standard output, seconds, highest anonymous bytes) of a command, looked at each 20 ms."""
    begin, highest = time.monotonic(), 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        output = []
        talk = threading.Thread(target=lambda: output.append(process.communicate(text)[0]))
        talk.start()
        while talk.is_alive():
            try:
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        highest = max(highest, int(line.split()[1]) * 1024)
            except OSError:
                pass
            talk.join(0.02)
    return process.returncode, output[0], time.monotonic() - begin, highest


def make(results, binary, work, shape, form, shards):
    folder = work / f"{shape}-{form}-{shards}"
    shutil.rmtree(folder, ignore_errors=True)
    command = [binary, "make-checkpoint", "--quiet", "--shape", shape, "--format", form]
    begin = time.monotonic()
    subprocess.run([*command, "--dtype", "f32", "--shards", str(shards), "--seed", "7", str(folder)], check=True)
    results.add(f"{shape} is made, {form}, {shards} files", True, f"{time.monotonic() - begin:.0f} s")
    return folder


def opens(results, name, binary, bundle):
    """How long `inspect`, which opens a bundle and parses two graphs, takes the second time."""
    for _ in range(2):
        code, _, seconds, _ = measured([binary, "inspect", str(bundle)])
    results.add(f"{name} opens", code == 0 and seconds < OPEN_SECONDS, f"{seconds:.3f} s, less than {OPEN_SECONDS}")


# --- 600M ----------------------------------------------------------------------------------------


def padded_requests():
    rng = np.random.default_rng(11)
    rows = [rng.integers(4, 256000, rng.integers(5, 28)).tolist() + [2] for _ in range(REQUESTS)]
    width = max(map(len, rows))
    return {
        "input_ids": [row + [1] * (width - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
        "forced_bos_token_id": LANGUAGE,
        "max_new_tokens": NEW_IDS,
    }


def compare_600m(results, theirs, binary, bundle, dtype):
    request = padded_requests()
    for name, search in SEARCHES.items():
        answer = parse_answer(binary.generate(bundle, [request | search])[0])
        answers = [reference.generate(model, request | search) for model in theirs.both]
        rows = [row_verdict(answer, *answers, row) for row in range(REQUESTS)]
        counted = [found for counts, found in rows if counts]
        wrong = [found for found in counted if found]
        enough = len(counted) >= judge.COUNTED * REQUESTS
        results.add(f"{dtype}, {name}", enough and not wrong, f"{len(counted)} counted, {len(wrong)} differ {wrong[:2]}")
    inputs = {key: np.array(request[key][:2], np.int64) for key in ("input_ids", "attention_mask")}
    inputs["decoder_input_ids"] = np.array([row[:8] for row in answers[0].sequences[:2]], np.int64)
    exact, ours = reference.forward(theirs.f64, inputs)["logits"], binary.forward(bundle, inputs)["logits"]
    error = np.abs(ours - exact).max() / np.abs(exact).max()
    results.add(f"{dtype}, logits", error <= LOGITS, f"{error:.2g} of the largest off, at most {LOGITS}")


def row_verdict(ours, in_f32, in_f64, row):
    if isinstance(ours, str):
        return True, {"error": ours}
    part = slice(row, row + 1)
    one = [reference.Answer(a.sequences[part], a.scores[part], a.finish_reason[part]) for a in (ours, in_f32, in_f64)]
    verdict = judge.judge(*one)
    return verdict.counted, verdict.found


def check_600m(results, options, work):
    shape = "nllb-200-distilled-600M"
    for dtype, form, shards in (("f32", "bin", 3), ("bf16", "safetensors", 1)):
        folder = make(results, options.binary, work, shape, form, shards)
        bundle = work / f"600M-{dtype}"
        command = [options.binary, "compile", str(folder), "-o", str(bundle), "--dtype", dtype, "--force", "--quiet"]
        code, _, seconds, anonymous = measured(command)
        results.add(f"600M {dtype} compiles", code == 0, f"{seconds:.0f} s, {anonymous / 1e6:.0f} MB anonymous")
        opens(results, f"600M {dtype}", options.binary, bundle)
        model = M2M100ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        theirs = reference.Reference(reference.round_matrices(model) if dtype == "bf16" else model)
        compare_600m(results, theirs, Binary(options.binary, work, "cpu"), bundle, f"600M {dtype}")
        del model, theirs
        shutil.rmtree(folder)
        shutil.rmtree(bundle)


# --- 3.3B ----------------------------------------------------------------------------------------


def check_3b(results, options, work):
    folder, bundle = make(results, options.binary, work, "nllb-200-3.3B", "bin", 3), work / "3.3B-bf16"
    command = [options.binary, "compile", str(folder), "-o", str(bundle), "--dtype", "bf16", "--force", "--quiet"]
    code, _, seconds, anonymous = measured(command)
    detail = f"{seconds:.0f} s, {anonymous / 1e6:.0f} MB anonymous, less than {COMPILE_BYTES / 1e6:.0f}"
    results.add("3.3B compiles to bf16", code == 0 and anonymous < COMPILE_BYTES, detail)
    opens(results, "3.3B", options.binary, bundle)
    stats = work / "stats.json"
    command = [options.binary, "translate", str(bundle), "--from", "eng_Latn", "--to", "fra_Latn", "--threads", "2"]
    code, text, _, _ = measured([*command, "--beam", "4", "--quiet", "--stats", str(stats)], "Good morning.\n\nThe sea is calm.\n")
    found = json.loads(stats.read_text()) if stats.exists() else {}
    lines = text.split("\n")
    whole = code == 0 and len(lines) == 4 and lines[0] and lines[1] == "" and lines[2]
    whole = whole and found["peak_rss_bytes"] < TRANSLATE_BYTES
    results.add("3.3B translates in less than 24 GiB", whole, json.dumps(found))
    command = [options.binary, "verify", str(bundle), "--reference", str(folder), "--sentences", "1", "--quiet"]
    code, text, seconds, anonymous = measured(command)
    detail = f"exit code {code}, {seconds:.0f} s, less than {VERIFY_SECONDS}; {anonymous / 1e9:.1f} GB anonymous"
    results.add("3.3B is verified", code == 0 and seconds < VERIFY_SECONDS, f"{detail}\n{text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    parser.add_argument("--work", help="folder for the checkpoints (a temporary one)")
    parser.add_argument("--only", choices=("600M", "3.3B"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="check-size-", dir=options.work) as work:
        if options.only != "3.3B":
            check_600m(results, options, Path(work))
        if options.only != "600M":
            check_3b(results, options, Path(work))
    print(f"size: {results.passed} passed, {results.failed} failed")
    sys.exit(3 if results.failed else 0)


if __name__ == "__main__":
    main()
