#!/usr/bin/env python3
"""How fast does neuroglot decode beside transformers on torch: same model, threads and lengths?

  .venv/check/bin/python benchmarks/against_torch.py MODEL_DIR [--binary PATH] [--dtype f32|bf16]

Prints, for batches of 1 and 32, greedy and beam 4, the median seconds of both and their ratio. Both
sides are warmed and run in turn; loading and tokenising are left out. Sources have 30 random ids, and
the number of new ids is forced. Exits with 3 when a median is less than --least times as fast.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

THREADS, SOURCE, RUNS = 2, 30, 3


def requests(batch, beams, new, vocabulary):
    rng = random.Random(7)
    rows = [[rng.randrange(4, vocabulary - 300) for _ in range(SOURCE - 1)] + [2]
            for _ in range(batch)]
    options = {"num_beams": beams, "min_new_tokens": new, "max_new_tokens": new,
               "forced_bos_token_id": vocabulary - 150}
    return rows, options


def ours(binary, bundle, rows, options):
    with tempfile.TemporaryDirectory() as folder:
        stats = os.path.join(folder, "stats.json")
        lines = "".join(json.dumps({"input_ids": row, **options}) + "\n" for row in rows)
        subprocess.run([binary, "generate", bundle, "--threads", str(THREADS), "--batch",
                        str(len(rows)), "--warmup", "1", "--stats", stats, "--quiet"],
                       input=lines.encode(), stdout=subprocess.DEVNULL, check=True)
        with open(stats, encoding="utf-8") as file:
            return json.load(file)["generate_seconds"]


def theirs(torch, model, rows, options):
    ids = torch.tensor(rows)
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        start = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--binary", default="build/release/neuroglot")
    parser.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
    parser.add_argument("--new", type=int, default=16)
    parser.add_argument("--least", type=float, default=0.5, help="times as fast as torch")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    import torch
    import transformers
    torch.set_num_threads(THREADS)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {THREADS} threads, "
          f"{SOURCE} source ids, {args.new} new ids, {args.dtype}")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(args.model)
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        bundle = os.path.join(folder, "bundle")
        subprocess.run([args.binary, "compile", args.model, "-o", bundle, "--dtype", args.dtype,
                        "--quiet"], check=True)
        for batch in (1, 32):
            for beams in (1, 4):
                rows, options = requests(batch, beams, args.new, model.config.vocab_size)
                pairs = [(ours(args.binary, bundle, rows, options),
                          theirs(torch, model, rows, options)) for _ in range(RUNS)]
                a, b = (statistics.median(side) for side in zip(*pairs))
                print(f"batch {batch:2} beam {beams}: neuroglot {a:7.2f} s, torch {b:7.2f} s, "
                      f"{b / a:.2f} times as fast", flush=True)
                slow += b / a < args.least
    print(f"speed: {4 - slow} passed, {slow} failed")
    sys.exit(3 if slow else 0)


if __name__ == "__main__":
    main()
