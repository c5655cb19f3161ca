#!/usr/bin/env python3
"""Compares our tokenizer with transformers 4.57.6 and SentencePiece on every line of a folder.

    check_tokenizer.py [--program build/release/tokenize_lines] [--shared ../shared] [--models NAMES]

For the demo's model and every BPE model of ../shared/data: tokenizer.json as transformers' converter
makes it, and sentencepiece.bpe.model alone; of the demo's also the form of the hub's own file and a
fine-tune with added tokens. Ids must be equal on each line, in both dialects, with and without special
tokens; ids must decode to the same text. A process for each model, as many as there are cores. Ends
with `tokenizer: N passed, N failed`."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each model has a process of its own
import sentencepiece  # noqa: E402
import transformers  # noqa: E402
from transformers import AddedToken, AutoTokenizer  # noqa: E402

import shared as shared_data  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAGS = ["</s>", "<s>", "<pad>", "<unk>", "<mask>", "fra_Latn", "eng_Latn", "</s", " <mask> ", "_Latn",
        "xyz_Latn", " <keep>  ", "Neuroglot", "...!", " left", "<r> ", "<rr>"]
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


def start(program, model, mode, lines):
    """Our program at work on `lines`, and the file that its answers go to."""
    files = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    files[0].write(("\n".join(lines) + "\n").encode())
    files[0].seek(0)
    return subprocess.Popen([program, str(model), mode], stdin=files[0], stdout=files[1],
                            stderr=subprocess.PIPE), files[1]


def answers(job):
    process, out = job
    errors = process.communicate()[1]
    if process.returncode != 0:
        raise SystemExit(f"{process.args}: {errors.decode()}")
    out.seek(0)
    return out.read().decode().split("\n")[:-1]


class Report:
    """What was compared, and the lines that say so."""
    def __init__(self):
        self.passed, self.failed, self.text = 0, 0, []

    def compare(self, what, lines, job, theirs):
        wrong = [(a, b, c) for a, b, c in zip(lines, answers(job), theirs, strict=True) if b != c]
        self.passed += not wrong
        self.failed += bool(wrong)
        self.text.append(f"{'FAILED' if wrong else 'passed'}  {what}: {len(lines)} lines, {len(wrong)} differ")
        for line, mine, other in wrong[:3]:
            self.text.append(f"    {line[:100]!r}\n      ours   {mine[:200]}\n      theirs {other[:200]}")


def as_text(rows):
    return [" ".join(map(str, row)) for row in rows]


MODELS = {"demo": "demo-model/sentencepiece.bpe.model",
          "fixture": "data/vectors/test_sentencepiece_bpe.model",
          "barthez": "data/tokenizers/barthez-sentencepiece.bpe.model",
          "bpe32k": "data/tokenizers/bpe32k-en-hi-te-spiece.model"}


def make_directories(shared, work, name):
    """The model alone, and as transformers saves it."""
    alone, saved = work / (name + "-model"), work / name
    alone.mkdir()
    shutil.copy(shared / MODELS[name], alone / "sentencepiece.bpe.model")
    (alone / "config.json").write_text('{"model_type":"m2m_100","tokenizer_class":"NllbTokenizer"}')
    AutoTokenizer.from_pretrained(alone).save_pretrained(saved)
    return alone, saved


def as_on_the_hub(source, target):
    """The form of NLLB's own file: no Strip, merges as strings, languages and <mask> in the vocabulary."""
    shutil.copytree(source, target)
    path = target / "tokenizer.json"
    data = json.loads(path.read_text())
    data["normalizer"] = {"type": "Sequence", "normalizers": [
        data["normalizer"]["normalizers"][0],
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    specials = [token for token in data["added_tokens"] if token["id"] > 3]
    specials = [t for t in specials if t["content"] != "<mask>"] + [
        t for t in specials if t["content"] == "<mask>"]
    for place, token in enumerate(specials):
        token["id"] = 8001 + place
        data["model"]["vocab"][token["content"]] = token["id"]
    data["added_tokens"] = data["added_tokens"][:4] + specials
    data["pre_tokenizer"] = data["decoder"] = {
        "type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    path.write_text(json.dumps(data))
    config = json.loads((target / "tokenizer_config.json").read_text())
    config["clean_up_tokenization_spaces"] = True
    del config["added_tokens_decoder"]
    (target / "tokenizer_config.json").write_text(json.dumps(config))
    (target / "added_tokens.json").unlink()
    assert AutoTokenizer.from_pretrained(target).convert_tokens_to_ids("eng_Latn") == 8047
    return target


def fine_tuned(source, target):
    """New languages, new special and ordinary tokens, with every flag that is read."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["xyz_Latn", AddedToken(
        "<keep>", lstrip=True, rstrip=True, normalized=False)]}, replace_additional_special_tokens=False)
    tokenizer.add_tokens(["Neuroglot", "\u2026!", "e\u0301", AddedToken(" left", lstrip=True),
                          AddedToken("<r>", rstrip=True, normalized=False), AddedToken("<rr>")])
    tokenizer.save_pretrained(target)
    return target


def check_ids(report, program, name, directory, lines, special_lines):
    """Ids with and without special tokens, and back. Ours run while transformers does."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    backend = tokenizer.backend_tokenizer

    def reference(texts, special):
        backend.encode_special_tokens = not special
        rows = backend.encode_batch_fast(texts, add_special_tokens=False)
        backend.encode_special_tokens = False
        return [row.ids for row in rows]

    plain_job = start(program, directory, "encode", lines)
    special_job = start(program, directory, "special", special_lines)
    plain = as_text(reference(lines, False))
    report.compare(f"{name}: ids", lines, plain_job, plain)
    special = reference(special_lines, True)
    report.compare(f"{name}: ids, --special", special_lines, special_job, as_text(special))
    # 3 is <unk>, the last has no token.
    ending = [3, tokenizer.convert_tokens_to_ids("fra_Latn"), len(tokenizer) + 5]
    rows = [row + ending for row in special]
    for mode, skip in (("decode", True), ("show", False)):
        job = start(program, directory, mode, as_text(rows))
        texts = backend.decode_batch(rows, skip_special_tokens=skip)
        if tokenizer.clean_up_tokenization_spaces:
            texts = [tokenizer.clean_up_tokenization(text) for text in texts]
        report.compare(f"{name}: {mode}", as_text(rows), job, texts)
    return plain, tokenizer.get_vocab()


def check_sentencepiece(report, program, name, directory, lines, vocabulary):
    processor = sentencepiece.SentencePieceProcessor(str(directory / "sentencepiece.bpe.model"))
    job = start(program, directory, "sentencepiece", lines)
    to_ours = [i + 1 if i >= 3 else 3 for i in range(len(processor))]
    for i in range(3):  # what the converter drops or moves
        to_ours[i] = vocabulary.get(processor.id_to_piece(i), vocabulary["<unk>"])
    to_ours[processor.unk_id()] = vocabulary["<unk>"]
    rows = processor.encode(lines)
    expected = as_text([to_ours[i] for i in row] for row in rows)
    report.compare(f"{name}: ids, sentencepiece", lines, job, expected)
    texts = processor.decode(rows)
    keep = [i for i, text in enumerate(texts) if "\n" not in text]
    expected = [expected[i] for i in keep]
    report.compare(f"{name}: decode, sentencepiece", expected, start(program, directory, "spdecode", expected),
                   [texts[i] for i in keep])


def check_model(name, program, shared, seed):
    lines = text_lines(shared / "data/text")
    lines += made_up_lines(lines, 1, 20000) + made_up_lines(lines, seed, 20000)
    made_up, special_lines = lines[-40000:], lines[-40000:] + lines[:20000]
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        alone, saved = make_directories(shared, work, name)
        alone_job = start(program, alone, "encode", lines)
        plain, vocabulary = check_ids(report, program, name, saved, lines, special_lines)
        report.compare(f"{name}: ids of the .model alone", lines, alone_job, plain)
        check_sentencepiece(report, program, name, saved, lines, vocabulary)
        if name == "demo":
            for variant, make in (("on the hub", as_on_the_hub), ("fine-tuned", fine_tuned)):
                directory = make(saved, work / variant.replace(" ", "-"))
                check_ids(report, program, f"demo {variant}", directory, made_up, made_up)
    return report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=ROOT / "build/release/tokenize_lines")
    parser.add_argument("--shared", type=pathlib.Path, default=shared_data.SHARED)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--models", default=",".join(MODELS), help="which of the models, by name")
    options = parser.parse_args()
    names = options.models.split(",")
    shared_data.need("tokenizer", options.shared / "data/text", *(options.shared / MODELS[name] for name in names))
    print(f"transformers {transformers.__version__}, sentencepiece {sentencepiece.__version__}; seed {options.seed}")
    passed = failed = 0
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as processes:
        jobs = [processes.submit(check_model, name, options.program, options.shared, options.seed)
                for name in names]
        for job in jobs:
            report = job.result()
            print("\n".join(report.text), flush=True)
            passed, failed = passed + report.passed, failed + report.failed
    print(f"tokenizer: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
