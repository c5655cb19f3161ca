"""Does neuroglot translate real sentences with transformers' own tokens?

    .venv/check/bin/python scripts/check_demo.py --sentences 100 --binary build/release/neuroglot

Sentences of the demo model's test part, every other one in each direction, tokenised by transformers'
NLLB tokenizer and translated greedily and with five beams, under the rule of check_tokens.py: where
float32 and float64 references agree, at least on 98 %, the binary's tokens must be the same and its scores
close. The last line is `demo: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import lzma
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, M2M100ForConditionalGeneration

import judge
import shared
from binary import Binary, BinaryFailed, parse_answer
from reference import Answer, Reference, generate

ROOT = Path(__file__).resolve().parent.parent
TEST_PART = shared.SHARED / "data/corpus/demo-test.tsv.xz"
BATCH = 50
SEARCHES = {"greedy": {"num_beams": 1}, "beam 5": {"num_beams": 5}}


def demo_requests(tokenizer, count):
    """[(source ids, forced language)] of the first sentences, by language and length."""
    with lzma.open(TEST_PART, "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line, _ in zip(lines, range(count))]
    requests = []
    for index, (language, english, other) in enumerate(rows):
        source, target, text = ("eng_Latn", language, english) if index % 2 else (language, "eng_Latn", other)
        tokenizer.src_lang = source
        requests.append((tokenizer(text).input_ids, tokenizer.convert_tokens_to_ids(target)))
    return sorted(requests, key=lambda request: (request[1], len(request[0])))


def reference_answers(model, requests, search, pad):
    """One Answer for each request, run in padded batches of one language each."""
    answers = []
    for language, group in groupby(requests, key=lambda request: request[1]):
        group = [ids for ids, _ in group]
        for first in range(0, len(group), BATCH):
            batch = group[first : first + BATCH]
            width = max(map(len, batch))
            request = {
                "input_ids": [ids + [pad] * (width - len(ids)) for ids in batch],
                "attention_mask": [[1] * len(ids) + [0] * (width - len(ids)) for ids in batch],
                "forced_bos_token_id": language,
            }
            found = generate(model, request | search)
            for row in range(len(batch)):
                one = slice(row, row + 1)
                answers.append(Answer(found.sequences[one], found.scores[one], found.finish_reason[one]))
    return answers


def check(name, binary, model_directory, theirs, requests, search):
    """Prints how one way of searching went; (passed, failed)."""
    begin, pad = time.monotonic(), theirs.f32.config.pad_token_id
    exact = [reference_answers(model, requests, search, pad) for model in theirs.both]
    lines = [{"input_ids": ids, "forced_bos_token_id": language, **search} for ids, language in requests]
    try:
        ours = [parse_answer(line) for line in binary.generate(model_directory, lines)]
    except BinaryFailed as error:
        ours = [str(error)] * len(requests)
    failed = counted = 0
    for request, answer, in_f32, in_f64 in zip(requests, ours, *exact):
        if not isinstance(answer, Answer):
            found = {"error": answer}
            counted += in_f32.sequences == in_f64.sequences
        else:
            verdict = judge.judge(answer, in_f32, in_f64)
            counted, found = counted + verdict.counted, verdict.found
        failed += bool(found)
        for criterion, difference in found.items():
            print(f"{name}: {criterion}: {difference}\n  source {request[0]}, language {request[1]}")
    enough = counted >= judge.COUNTED * len(requests)
    print(
        f"{name}: {len(requests)} sentences, {counted} counted{'' if enough else ', too few'}, {failed} differ, "
        f"{time.monotonic() - begin:.0f} s",
        flush=True,
    )
    return len(requests) - failed + enough, failed + (not enough)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    parser.add_argument("--target", default="cpu", choices=("cpu", "reference"))
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo")
    parser.add_argument("--sentences", type=int, default=100)
    return parser.parse_args()


def main():
    options = parse_options()
    shared.need("demo", TEST_PART)
    model = options.model
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, model {model}", flush=True)
    theirs = Reference(M2M100ForConditionalGeneration.from_pretrained(model, dtype=torch.float32))
    requests = demo_requests(AutoTokenizer.from_pretrained(model), options.sentences)
    with tempfile.TemporaryDirectory(prefix="check-demo-") as work:
        binary = Binary(options.binary, work, options.target)
        results = [check(name, binary, model, theirs, requests, search) for name, search in SEARCHES.items()]
    passed, failed = (sum(column) for column in zip(*results))
    print(f"demo: {passed} passed, {failed} failed")
    sys.exit(3 if failed else 0)


if __name__ == "__main__":
    main()
