#!/usr/bin/env python3
"""Compares our tokenizer with transformers 4.57.6 and SentencePiece on every line of a folder.

    check_tokenizer.py [--program build/release/tokenize_lines] [--shared ../shared] [--model DIR]

For the demo's model and every BPE model of ../shared/data: tokenizer.json as transformers' converter
makes it, and sentencepiece.bpe.model alone. Ids must be equal on each line, in both dialects, with
and without special tokens; ids must decode to the same text. Ends with `N passed, N failed`."""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import sentencepiece  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAGS = ["</s>", "<s>", "<pad>", "<unk>", "<mask>", "fra_Latn", "eng_Latn", "</s", " <mask> ", "_Latn"]
ODD = ["\u0301", "\u0323", "\u200d", "\u200c", "\u2581", "\u2581\u2581", "  ", "\u3000", "\u00a0", "\t",
       "\u2026", "\ufb01", "\ufdfa", "\uac00\u11a8", "\u1100\u1161", "\U0001f468\u200d\U0001f469", "\u0600",
       "\u0915\u094d\u0937", "\u0e33", "\u00e9", "e\u0301", "\U0001d53e", "\u00a9\u200d", "\u0000", "\u0001",
       "\ufeff", "\u200b", "\u2028", "\u0085", "\uff5e", "\ufffd", "\U0001f1eb\U0001f1f7", ">>en<<"]


def text_lines(folder):
    """Every distinct line of every file, cut at line feeds only; JSON texts too."""
    lines = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            lines.update(path.read_bytes().decode("utf-8", "replace").split("\n"))
    for case in json.loads((folder / "segmentation/cases.json").read_text() or "[]") or []:
        lines.update(piece for piece in strings_of(case) if "\n" not in piece)
    return sorted(lines)


def strings_of(value):
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for child in children for text in strings_of(child)]


def made_up_lines(lines, seed, count):
    """Lines with tags, odd characters and blanks strewn in, and strings of odd characters alone."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        base = rng.choice(lines)[:200] if rng.random() < 0.7 else ""
        for _ in range(rng.randint(1, 8)):
            at = rng.randint(0, len(base))
            base = base[:at] + rng.choice(TAGS + ODD * 2) + base[at:]
        made.append(base.replace("\n", " "))
    return made


def run(program, model, mode, lines):
    done = subprocess.run([program, str(model), mode], input=("\n".join(lines) + "\n").encode(),
                          capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{program} {model} {mode}: {done.stderr.decode()}")
    return done.stdout.decode().split("\n")[:-1]


class Report:
    passed = failed = 0

    def compare(self, what, lines, ours, theirs):
        wrong = [(a, b, c) for a, b, c in zip(lines, ours, theirs, strict=True) if b != c]
        self.passed += not wrong
        self.failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'passed'}  {what}: {len(lines)} lines, {len(wrong)} differ",
              flush=True)
        for line, mine, other in wrong[:3]:
            print(f"    {line[:100]!r}\n      ours   {mine[:200]}\n      theirs {other[:200]}")


def as_text(rows):
    return [" ".join(map(str, row)) for row in rows]


def model_directories(shared, work):
    """name → directory as transformers saves it, and the same with the .model alone."""
    models = {"demo": shared / "demo-model/sentencepiece.bpe.model",
              "fixture": shared / "data/vectors/test_sentencepiece_bpe.model",
              "barthez": shared / "data/tokenizers/barthez-sentencepiece.bpe.model",
              "bpe32k": shared / "data/tokenizers/bpe32k-en-hi-te-spiece.model"}
    for name, source in models.items():
        alone = work / (name + "-model")
        alone.mkdir()
        shutil.copy(source, alone / "sentencepiece.bpe.model")
        (alone / "config.json").write_text('{"model_type":"m2m_100","tokenizer_class":"NllbTokenizer"}')
        AutoTokenizer.from_pretrained(alone).save_pretrained(work / name)
        yield name, work / name, alone


def check_model(report, program, name, directory, alone, lines, special_lines):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    backend = tokenizer.backend_tokenizer

    def reference(texts, special):
        backend.encode_special_tokens = not special
        rows = backend.encode_batch(texts, add_special_tokens=False)
        backend.encode_special_tokens = False
        return [row.ids for row in rows]

    plain = reference(lines, False)
    report.compare(f"{name}: ids", lines, run(program, directory, "encode", lines), as_text(plain))
    report.compare(f"{name}: ids of the .model alone", lines, run(program, alone, "encode", lines),
                   as_text(plain))
    special = reference(special_lines, True)
    report.compare(f"{name}: ids, --special", special_lines,
                   run(program, directory, "special", special_lines), as_text(special))
    ids = [row + [3, tokenizer.convert_tokens_to_ids("fra_Latn"), len(tokenizer) + 5] for row in special]
    for mode, skip in (("decode", True), ("show", False)):
        texts = tokenizer.batch_decode(ids, skip_special_tokens=skip)
        report.compare(f"{name}: {mode}", as_text(ids), run(program, directory, mode, as_text(ids)), texts)
    check_sentencepiece(report, program, name, directory, tokenizer, lines)


def check_sentencepiece(report, program, name, directory, tokenizer, lines):
    processor = sentencepiece.SentencePieceProcessor(str(directory / "sentencepiece.bpe.model"))
    to_ours = [i + 1 if i >= 3 else 3 for i in range(len(processor))]
    for i in range(3):  # what the converter drops or moves
        piece = processor.id_to_piece(i)
        to_ours[i] = tokenizer.convert_tokens_to_ids("<unk>" if i == processor.unk_id() else piece)
    to_ours[processor.unk_id()] = tokenizer.convert_tokens_to_ids("<unk>")
    rows = processor.encode(lines)
    expected = [[to_ours[i] for i in row] for row in rows]
    report.compare(f"{name}: ids, sentencepiece", lines, run(program, directory, "sentencepiece", lines),
                   as_text(expected))
    texts = [processor.decode(row) for row in rows]
    keep = [i for i, text in enumerate(texts) if "\n" not in text]
    report.compare(f"{name}: decode, sentencepiece", as_text(expected[i] for i in keep),
                   run(program, directory, "spdecode", as_text(expected[i] for i in keep)),
                   [texts[i] for i in keep])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=ROOT / "build/release/tokenize_lines")
    parser.add_argument("--shared", type=pathlib.Path,
                        default=os.environ.get("NEUROGLOT_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--models", default="demo,fixture,barthez,bpe32k",
                        help="which of the models to compare with, by name")
    options = parser.parse_args()
    shared = pathlib.Path(options.shared)
    print("seed", options.seed)
    lines = text_lines(shared / "data/text")
    lines += made_up_lines(lines, 1, 20000) + made_up_lines(lines, options.seed, 20000)
    special_lines = lines[-40000:] + lines[:20000]
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        for name, directory, alone in model_directories(shared, pathlib.Path(work)):
            if name in options.models.split(","):
                check_model(report, options.program, name, directory, alone, lines, special_lines)
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(report.failed > 0)


if __name__ == "__main__":
    main()
