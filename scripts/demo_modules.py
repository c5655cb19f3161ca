"""Does the demo model, as modules, give what the CPU backend gives?

Sentences drawn from its test part, through `generate` as ids and through `translate` as text, greedily and
with four beams: by plugins, 99.5 % of them equally, and each other one where the CPU itself chose between
scores less than 1e-4 apart; some of them, of every language and length, by the emulated libnrt too, and by two and
four ranks, which are devices that a plugin simulates. What differs is listed, with the margin where greedy answers
part; of beams it is that between the scores of the whole hypotheses.
"""

import copy
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

import shared
from binary import Binary, parse_answer
from check_demo import TEST_PART, demo_requests
from reference import Answer

MODEL = Path(__file__).resolve().parent.parent / "models/demo"
SIZES = ["--batch", "1,8", "--beams", "4", "--source-lengths", "32,64,128", "--target-length", "200"]
LONGEST = 128  # tokens of a source: `translate` cuts longer texts by itself
SEARCHES = (1, 4)
EQUAL = 0.995  # of the sentences at least
NEAR = 1e-4  # scores that are closer are no choice
DRAWN_FROM = 1000  # sentences
SOME = 50  # at most, and a tenth of the sentences
TPS = (2, 4)


def sentences(count, seed):
    """(lines of `generate`, lines of `translate --jsonl`) of `count` of the first sentences that fit."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    requests = [one for one in demo_requests(tokenizer, DRAWN_FROM) if len(one[0]) <= LONGEST]
    if count < DRAWN_FROM:
        picks = np.random.default_rng(seed).choice(len(requests), min(count, len(requests)), replace=False)
        requests = [requests[pick] for pick in sorted(picks)]
    ids, texts = [], []
    for source, language in requests:
        ids.append({"input_ids": source, "forced_bos_token_id": language, "max_length": 200})
        text = tokenizer.decode(source, skip_special_tokens=True)
        codes = [tokenizer.convert_ids_to_tokens(one) for one in (source[0], language)]
        texts.append(json.dumps({"text": text, "from": codes[0], "to": codes[1]}))
    joined = " ".join(json.loads(text)["text"] for text in texts)[: 8 * LONGEST]
    return ids, texts + [json.dumps(json.loads(texts[0]) | {"text": joined})]


@dataclass
class Outputs:
    """What one backend gives for every sentence."""

    answers: list  # of generate
    texts: list  # of translate; one more, of a text that is cut into pieces


def outputs(binary, bundle, given, beams, options):
    ids, texts = given
    lines = binary.generate(bundle, [request | {"num_beams": beams} for request in ids], options)
    asked = "".join(text + "\n" for text in texts)
    cut = ["--max-source-tokens", str(LONGEST)] if binary.backend == "cpu" else []
    said = binary.run(["translate", str(bundle), "--jsonl", "--beam", str(beams), *cut, *options], asked).splitlines()
    return Outputs(list(map(parse_answer, lines)), [json.loads(line)["translations"][0]["text"] for line in said])


# --- judging -------------------------------------------------------------------------------------


def margin(cpu, bundle, request, ours, theirs):
    """How far apart the CPU's scores are where two answers part: of the two ids in a greedy search, of the two
    hypotheses in one with beams. Infinite where that cannot be said."""
    if not isinstance(ours, Answer) or not isinstance(theirs, Answer):
        return np.inf
    if theirs.scores:
        return abs(ours.scores[0] - theirs.scores[0])
    a, b = ours.sequences[0], theirs.sequences[0]
    step = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
    if not step:
        return np.inf
    inputs = {"input_ids": np.array([request["input_ids"]], np.int32), "decoder_input_ids": np.array([b[:step]], np.int32)}
    logits = cpu.forward(bundle, inputs)["logits"][0, -1]
    return abs(float(logits[a[step]]) - float(logits[b[step]]))


@dataclass
class Verdict:
    """Sentences whose ids or text differ, and what is wrong about that."""

    different: set = field(default_factory=set)
    wrong: list = field(default_factory=list)


def compare(ours, theirs, margin_of):
    """A Verdict over two Outputs; `margin_of(i)` is asked where the ids of sentence i differ."""
    verdict = Verdict()
    ids = lambda answer: getattr(answer, "sequences", answer)
    for i, (a, b) in enumerate(zip(ours.answers, theirs.answers, strict=True)):
        if ids(a) == ids(b):
            continue
        verdict.different.add(i)
        apart = margin_of(i)
        line = f"sentence {i}: {ids(a)}, not {ids(b)}, scores {apart:.2g} apart"
        print(line, flush=True)
        verdict.wrong += [] if apart < NEAR else [line]
    for i, (a, b) in enumerate(zip(ours.texts, theirs.texts, strict=True)):
        if a != b and i not in verdict.different:  # else it is the same difference
            verdict.different.add(i)
            verdict.wrong.append(f"text {i}: {a!r}, not {b!r}")
    if len(verdict.different) > (1 - EQUAL) * len(theirs.answers):
        verdict.wrong.append(f"{len(verdict.different)} of {len(theirs.answers)} differ, more than {1 - EQUAL:.1%}")
    return verdict


def planted(cpu, bundle, request, beams, theirs):
    """Whether an answer with another id, or another score, is no near tie: one sentence of `theirs`."""
    other = copy.deepcopy(theirs)
    wrong = other.answers[0]
    wrong.sequences[0][min(3, len(wrong.sequences[0]) - 1)] += 1
    wrong.scores = [score - 2 * NEAR for score in wrong.scores]
    verdict = compare(other, theirs, lambda i: margin(cpu, bundle, request, wrong, theirs.answers[i]))
    print(f"planted another id, beam {beams}: {'found' if verdict.wrong else 'FAIL'}")
    return bool(verdict.wrong)


# --- all of it -----------------------------------------------------------------------------------


@dataclass
class Compared:
    """One backend with one search."""

    name: str
    beams: int
    binary: Binary
    tp: int
    more: list  # that compile is told
    device: str
    count: int  # of sentences
    form: str  # of modules, for a plugin

    def bundle(self, work):
        """Compiled where there is none yet."""
        place = work / f"{self.binary.backend}-{self.tp}"
        if not place.exists():
            self.binary.run(["compile", str(MODEL), "-o", str(place), *SIZES, "--tp", str(self.tp), *self.more], "")
        return place


def backends(options, formats, work):
    """Each that is compared, for each number of a search."""
    stand_in = Path(options.binary).parent / "emulated-neuronx-cc"
    some = min(SOME, max(5, options.demo // 10))
    modules, neuron = (Binary(options.binary, work, target) for target in ("pjrt", "inf2"))
    for number, beams in enumerate(SEARCHES):
        for turn, tp in enumerate((1, *TPS), number):
            plugin, form = options.plugins[turn % len(options.plugins)], formats[number % len(formats)]
            count = options.demo if tp == 1 else some
            yield Compared(f"{form}, {plugin.name}, tp {tp}", beams, modules, tp, [], f"pjrt:{plugin}", count, form)
        yield Compared("emulated", beams, neuron, 1, ["--neuronx-cc", str(stand_in)], "emulated", some, form)


def spread(total, count):
    """Every (total / count)-th: sentences are in order of languages and lengths."""
    return [number * total // count for number in range(min(count, total))]


def chosen(both, picks):
    """Some of the sentences, and the text that is cut, of (ids or answers, texts)."""
    ids, texts = both
    return [ids[pick] for pick in picks], [texts[pick] for pick in picks] + texts[-1:]


def check(options, formats):
    """(passed, failed, skipped): one for each sentence, search and backend that is not wrong."""
    failed, skipped = shared.absent("modules", TEST_PART)
    if failed or skipped:
        return 0, failed, skipped
    given, passed = sentences(options.demo, options.seed), 0
    with tempfile.TemporaryDirectory(prefix="check-modules-") as folder:
        work, theirs = Path(folder), {}
        cpu = Binary(options.binary, work, "cpu")
        cpu.run(["compile", str(MODEL), "-o", str(work / "cpu")], "")
        for beams in SEARCHES:
            theirs[beams] = outputs(cpu, work / "cpu", given, beams, [])
            if options.plant:
                good = planted(cpu, work / "cpu", given[0][0], beams, theirs[beams])
                passed, failed = passed + good, failed + (not good)
        for one in backends(options, formats, work):
            all_of, name = theirs[one.beams], f"demo, beam {one.beams}, {one.name}"
            os.environ["NEUROGLOT_PJRT_FORMAT"] = one.form
            picks = spread(len(given[0]), one.count)
            some = Outputs(*chosen((all_of.answers, all_of.texts), picks))
            asked = chosen(given, picks)
            ours = outputs(one.binary, one.bundle(work), asked, one.beams, ["--device", one.device])
            apart = lambda i: margin(cpu, work / "cpu", asked[0][i], ours.answers[i], some.answers[i])
            verdict = compare(ours, some, apart)
            for wrong in verdict.wrong:
                print(f"{name}: {wrong}")
            total, differ = len(some.answers), len(verdict.different)
            print(f"{name}: {total} sentences, {differ} differ, {len(verdict.wrong)} wrongly", flush=True)
            passed, failed = passed + max(0, total - len(verdict.wrong)), failed + len(verdict.wrong)
    return passed, failed, skipped
