"""Do third parties load what make-checkpoint writes, and read the same in it as neuroglot does?

    .venv/check/bin/python scripts/check_checkpoint.py --shape tiny --binary build/release/neuroglot

In every form (.bin and safetensors, whole and in three shards): the tokenizers and the model of transformers
load it without a name missing or left over; the files read by torch and safetensors hold the model's weights,
the same in every form, with the embedding's other names in each .bin shard as on the hub; CTranslate2's
converter takes it; ids, logits and greedy tokens are the same everywhere. The last line is
`checkpoint: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections import defaultdict
from pathlib import Path

import ctranslate2
import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from binary import Binary, parse_answer
from random_models import TIED_NAMES

ROOT = Path(__file__).resolve().parent.parent
FORMS = [(format, shards) for format in ("bin", "safetensors") for shards in (1, 3)]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LOGIT_ERROR = 2e-5  # of the largest
NEW_TOKENS = 12
SENTENCES = ["The quick brown fox.", "Wo ist  der Bahnhof?", "मैं चाय पीता हूँ।", "我喜欢茶 😀", "</s> x"]


def same(what, ours, theirs):
    assert ours == theirs, f"{what}: {str(ours)[:200]}, not {str(theirs)[:200]}"


def read_files(directory):
    """{file: {name: tensor}} as torch and safetensors read them."""
    files = {}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".bin":
            files[path.name] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        elif path.suffix == ".safetensors":
            files[path.name] = load_file(path)
    return files


def check_files(directory, format, shards):
    """The weights by name; what an index must say and where the embedding's names must stand."""
    files = read_files(directory)
    same("files", len(files), shards)
    if shards > 1:
        index = json.loads(next(directory.glob("*.index.json")).read_text())
        for name, file in index["weight_map"].items():
            assert name in files[file], f"{name} is not in {file}"
        same("names", sorted(index["weight_map"]), sorted(set().union(*files.values())))
        bytes_of = {(file, tensor.data_ptr()): tensor.nbytes for file in files for tensor in files[file].values()}
        same("total_size", index["metadata"]["total_size"], sum(bytes_of.values()))
    weights = {name: tensor for tensors in files.values() for name, tensor in tensors.items()}
    tied = [name for name in TIED_NAMES if name in weights]
    same("names of the embedding", len(tied), 4 if format == "bin" else 1)
    for name in tied:
        assert torch.equal(weights[name], weights[tied[0]]), name
    for file, tensors in files.items():  # one storage in a file, repeated in the next
        same(f"embeddings in {file}", len({tensors[name].data_ptr() for name in tied if name in tensors}),
             min(1, sum(name in tensors for name in tied)))
    if format == "bin" and shards > 1:
        assert sum(any(name in tensors for name in tied) for tensors in files.values()) > 1, "the embedding is in one"
    return weights


def check_model(directory, weights):
    """transformers' model with exactly these weights."""
    model, told = AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        same(kind, list(told[kind]), [])
    for name, tensor in model.state_dict().items():
        stored = weights[name if name in weights else TIED_NAMES[0]]
        assert torch.equal(tensor, stored.float()), name
    return model.eval()


def check_outliers(weights):
    """One input column in a hundred is five times larger than the others."""
    large = columns = 0
    for name, tensor in weights.items():
        if tensor.dim() == 2 and name not in TIED_NAMES[1:]:
            ratio = tensor.float().norm(dim=0)
            ratio /= ratio.median()
            same(f"columns between in {name}", int(((ratio > 2) & (ratio < 3)).sum()), 0)
            large, columns = large + int((ratio > 3).sum()), columns + len(ratio)
    assert 0.005 < large / columns < 0.015, f"{large} of {columns} columns are large"


def check_tokenizers(binary, directory, vocabulary):
    """Both of transformers' tokenizers and ours give the same ids; the fast one is returned."""
    text = json.loads((directory / "tokenizer.json").read_text())
    pieces = [piece for piece in text["model"]["vocab"] if len(piece) > 1 and not piece.startswith("<")]
    chance = random.Random(1)
    lines = SENTENCES + ["".join(chance.choices(pieces, k=8)).replace("▁", " ").strip() for _ in range(200)]
    fast, slow = (AutoTokenizer.from_pretrained(directory, use_fast=fast) for fast in (True, False))
    same("classes", (fast.is_fast, slow.is_fast), (True, False))
    same("sizes", (len(fast), len(slow)), (vocabulary - 2, vocabulary - 2))  # NLLB leaves two ids free
    codes = [line.split("\t")[0] for line in binary.run(["languages", str(directory)], "").splitlines()]
    same("languages", codes, list(fast.additional_special_tokens)[:len(codes)])
    for code in (codes[0], "eng_Latn", codes[-1]):
        ours = [[int(id) for id in line.split()] for line in
                binary.run(["tokenize", str(directory), "--lang", code, "--special"], "\n".join(lines)).splitlines()]
        for tokenizer in (fast, slow):
            tokenizer.src_lang = code
            same(f"ids, {code}, fast {tokenizer.is_fast}", ours, [tokenizer(line).input_ids for line in lines])
    return fast


def check_answers(binary, directory, model, tokenizer):
    """Logits and greedy tokens of neuroglot are transformers'; the requests with their answers."""
    ids = torch.randint(4, len(tokenizer), (2, 9), generator=torch.Generator().manual_seed(1))
    start = torch.tensor([[2, 5, 77], [2, 9, 500]])
    with torch.inference_mode():
        theirs = model(input_ids=ids, decoder_input_ids=start).logits.numpy()
    ours = binary.forward(directory, {"input_ids": ids.numpy(), "decoder_input_ids": start.numpy()})["logits"]
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error <= LOGIT_ERROR, f"logits are {error:.3g} off"
    tokenizer.src_lang, target = "eng_Latn", tokenizer.convert_tokens_to_ids("fra_Latn")
    requests = [{"input_ids": tokenizer(line).input_ids, "forced_bos_token_id": target,
                 "max_new_tokens": NEW_TOKENS} for line in SENTENCES]
    answers = [parse_answer(line).sequences[0] for line in binary.generate(directory, requests)]
    for request, answer in zip(requests, answers):
        settings = {key: value for key, value in request.items() if key != "input_ids"}
        found = model.generate(torch.tensor([request["input_ids"]]), do_sample=False, **settings)
        same("greedy tokens", answer, found[0].tolist())
    return requests, answers


def check_ctranslate2(binary, directory, tokenizer, requests, answers, quantization):
    """CTranslate2 converts it and finds the same tokens; neuroglot says what the result is."""
    out = directory.with_name("ct2")
    subprocess.run([Path(sys.executable).parent / "ct2-transformers-converter", "--model", directory, "--output_dir",
                    out, "--force", "--quantization", quantization], check=True, stdout=subprocess.DEVNULL)
    translator = ctranslate2.Translator(str(out), device="cpu", compute_type="float32", intra_threads=1)
    sources = [tokenizer.convert_ids_to_tokens(request["input_ids"]) for request in requests]
    found = translator.translate_batch(sources, target_prefix=[["fra_Latn"]] * len(sources), beam_size=1,
                                       max_decoding_length=NEW_TOKENS, return_end_token=True)
    for answer, result in zip(answers, found):
        theirs = tokenizer.convert_tokens_to_ids(result.hypotheses[0])
        same("CTranslate2's tokens", theirs, answer[1:1 + len(theirs)])
        assert len(theirs) >= min(NEW_TOKENS, len(answer) - 1) - 1, f"{len(theirs)} tokens of {len(answer)}"
    done = subprocess.run([binary.path, "compile", out, "-o", out.with_name("no")], capture_output=True, text=True)
    assert done.returncode == 1 and "is a CTranslate2 model" in done.stderr, done.stderr


def check_form(arguments, folder, format, shards, first):
    """One form; `first` keeps the first form's weights, which the others must equal."""
    directory = folder / "model"
    binary = Binary(arguments.binary, folder, "cpu")
    subprocess.run([arguments.binary, "make-checkpoint", "--shape", arguments.shape, "--format", format, "--dtype",
                    arguments.dtype, "--shards", str(shards), "--seed", "3", "--quiet", directory], check=True)
    config = json.loads((directory / "config.json").read_text())
    weights = check_files(directory, format, shards)
    same("dtypes", {tensor.dtype for tensor in weights.values()}, {DTYPES[arguments.dtype]})
    if not first:
        check_outliers(weights)
    for name, tensor in weights.items():
        sums = tuple(tensor.double().flatten()[:1 << 20].sum(0, keepdim=True).tolist())
        same(f"sum of {name}", first[name].setdefault("sum", sums), sums)
    tokenizer = check_tokenizers(binary, directory, config["vocab_size"])
    requests, answers = check_answers(binary, directory, check_model(directory, weights), tokenizer)
    check_ctranslate2(binary, directory, tokenizer, requests, answers,
                      "float32" if arguments.dtype == "f32" else "float16")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="tiny")
    parser.add_argument("--dtype", default="f32", choices=DTYPES)
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    arguments = parser.parse_args()
    arguments.binary = os.path.abspath(arguments.binary)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, CTranslate2 {ctranslate2.__version__}, shape {arguments.shape}")
    failed, first = 0, defaultdict(dict)
    for format, shards in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check_form(arguments, Path(folder), format, shards, first)
                print(f"{format}, {shards} files: passed", flush=True)
            except Exception:  # what third parties raise is anybody's guess
                failed += 1
                print(f"{format}, {shards} files: failed\n{traceback.format_exc()}", flush=True)
    print(f"checkpoint: {len(FORMS) - failed} passed, {failed} failed")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
