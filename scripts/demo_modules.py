"""Does the demo model, as modules run by XLA, give what the CPU backend gives?

Sentences of its test part, through `generate` as ids and through `translate` as text, greedily and with
four beams. What differs is listed.
"""

import json
import os
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

import shared
from binary import Binary, parse_answer
from check_demo import TEST_PART, demo_requests

MODEL = Path(__file__).resolve().parent.parent / "models/demo"
SIZES = ["--batch", "1,8", "--beams", "4", "--source-lengths", "32,64,128", "--target-length", "200"]
LONGEST = 128  # tokens of a source: `translate` cuts longer texts by itself
SEARCHES = (1, 4)


def sentences(count):
    """(lines of `generate`, lines of `translate --jsonl`) of the first sentences that fit."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    ids, texts = [], []
    for source, language in demo_requests(tokenizer, count):
        if len(source) <= LONGEST:
            ids.append({"input_ids": source, "forced_bos_token_id": language, "max_length": 200})
            text = tokenizer.decode(source, skip_special_tokens=True)
            codes = [tokenizer.convert_ids_to_tokens(one) for one in (source[0], language)]
            texts.append(json.dumps({"text": text, "from": codes[0], "to": codes[1]}))
    joined = " ".join(json.loads(text)["text"] for text in texts)[: 8 * LONGEST]
    return ids, texts + [json.dumps(json.loads(texts[0]) | {"text": joined})]


def outputs(binary, bundle, given, beams, options):
    """Sequences of every sentence, and its translation."""
    ids, texts = given
    lines = binary.generate(bundle, [request | {"num_beams": beams} for request in ids], options)
    answers = [getattr(answer, "sequences", answer) for answer in map(parse_answer, lines)]
    asked = "".join(text + "\n" for text in texts)
    cut = ["--max-source-tokens", str(LONGEST)] if binary.backend == "cpu" else []
    said = binary.run(["translate", str(bundle), "--jsonl", "--beam", str(beams), *cut, *options], asked).splitlines()
    return answers, [json.loads(line)["translations"][0]["text"] for line in said]


def check(options, formats):
    """(passed, failed): one for each sentence and search, by plugin and format in turn."""
    shared.need("modules", TEST_PART)
    given, passed, failed = sentences(options.demo), 0, 0
    with tempfile.TemporaryDirectory(prefix="check-modules-") as work:
        cpu, modules = (Binary(options.binary, work, target) for target in ("cpu", "pjrt"))
        bundles = Path(work) / "cpu", Path(work) / "modules"
        cpu.run(["compile", str(MODEL), "-o", str(bundles[0])], "")
        modules.run(["compile", str(MODEL), "-o", str(bundles[1]), *SIZES], "")
        for number, beams in enumerate(SEARCHES):
            plugin, form = options.plugins[number % len(options.plugins)], formats[number % len(formats)]
            os.environ["NEUROGLOT_PJRT_FORMAT"] = form
            theirs = outputs(cpu, bundles[0], given, beams, [])
            ours = outputs(modules, bundles[1], given, beams, ["--device", f"pjrt:{plugin}"])
            for kind, found, expected in zip(("generate", "translate"), ours, theirs):
                different = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
                for i in different:
                    print(f"demo, {kind}, beam {beams}, sentence {i}: {found[i]}, not {expected[i]}")
                print(f"demo, {kind}, beam {beams}, {form}, {plugin.name}: {len(found)} sentences, {len(different)} differ", flush=True)
                passed, failed = passed + len(found) - len(different), failed + len(different)
    return passed, failed
