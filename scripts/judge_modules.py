"""When does what a bundle's modules answer count as what was expected of them?"""

import json
import re
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from judge import first_difference
from random_requests import prompt_length
from reference import Answer

CLOSE = {"f32": 1e-4, "bf16": 2.0**-6}  # of the largest value, of an output
NEAR = {"f32": 1e-4, "bf16": 2.0**-6}  # scores that are closer, relatively, are no choice
LEFT_OUT = {"f32": 0.02, "bf16": 0.1}  # of the compared requests at most
BANS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "no_repeat_ngram_size")


@dataclass
class Found:
    """What was found about one bundle."""

    wrong: list = field(default_factory=list)
    compared: int = 0
    left_out: int = 0
    refused: int = 0  # for whole rows that the bundle does not give
    ran: set = field(default_factory=set)  # modules

    def add(self, other, place=""):
        self.wrong += [place + wrong for wrong in other.wrong]
        self.ran |= other.ran
        self.compared, self.left_out = self.compared + other.compared, self.left_out + other.left_out
        self.refused += other.refused


@dataclass
class Judge:
    """Judges answers of one bundle's modules: equal sequences with scores that are close, errors as they are."""

    spec: object  # of the model
    dtype: str
    candidates: int | None  # of a step, 0: the host ranks; None: the bundle has modules that give whole rows
    expected_logits: object  # inputs of `forward` → logits, by whoever gave the expected answers

    def setting(self, request, name, default):
        return request.get(name, self.spec.defaults.get(name, default))

    def answer(self, request, ours, theirs, found):
        what = self.difference(request, ours, theirs, found)
        if what:
            found.wrong.append(f"{what}: {json.dumps(request)}")

    def difference(self, request, ours, theirs, found):
        if isinstance(ours, str) and ours.endswith("compile with --with-logits"):
            found.refused += 1
            return "" if self.calls_for_rows(request, ours) else f"{ours}, which nothing asked for"
        if isinstance(ours, str) or isinstance(theirs, str):
            return "" if ours == theirs else f"{ours}, not {theirs}"
        found.compared += 1
        if [len(ours.sequences), len(ours.scores)] != [len(theirs.sequences), len(theirs.scores)]:
            return f"{len(ours.sequences)} sequences, not {len(theirs.sequences)}"
        close = self.close(request, theirs.sequences, ours.scores, theirs.scores)
        if ours.sequences == theirs.sequences and ours.finish_reason == theirs.finish_reason:
            return "" if close else f"scores {ours.scores}, not {theirs.scores}"
        by_scores = lambda: close or (self.dtype == "bf16" and self.as_reckoned(request, ours, theirs))
        tie = lambda: by_scores() if theirs.scores else self.no_choice(request, ours, theirs)
        if ours.sequences != theirs.sequences and tie():
            found.left_out += 1
            return ""
        return f"{first_difference(ours, theirs)}, scores {ours.scores}, not {theirs.scores}"

    def close(self, request, sequences, ours, theirs):
        """Whether scores of these sequences are. A score is the sum of its steps' over steps^length_penalty: in bf16,
        where each step may be off, a sum that is not divided by the steps may be so by all of theirs."""
        near, penalty = NEAR[self.dtype], self.setting(request, "length_penalty", 1.0)
        begin = prompt_length(self.spec, request)
        steps = [max(1, len(ids) - begin) if self.dtype == "bf16" else 1 for ids in sequences]
        allowed = [near * (max(1, count ** (1 - penalty)) + abs(score)) for count, score in zip(steps, theirs)]
        with np.errstate(invalid="ignore"):  # equal infinities
            return bool(np.all(np.equal(ours, theirs) | (np.abs(np.subtract(ours, theirs)) <= allowed)))

    def calls_for_rows(self, request, refusal):
        """Whether a step of the request may need more than the bundle's candidates, as the refusal says."""
        setting = lambda name, default: self.setting(request, name, default)
        if self.candidates is None:
            return False
        if "the scores of all" in refusal:
            return setting("repetition_penalty", 1.0) < 1
        if not self.candidates:
            return False
        needed, given = map(int, re.findall(r"\d+", refusal)[-2:])
        edits = setting("repetition_penalty", 1.0) != 1 or any(setting(name, None) for name in BANS)
        ends = np.size(setting("eos_token_id", 0))  # which min_new_tokens bans, besides
        plain = setting("num_beams", 1) + 2 * ends
        return given == self.candidates < needed and (edits or plain > given)

    def no_choice(self, request, ours, theirs):
        """Whether the expected logits of the ids at which two greedy answers part are as good as equal."""
        for row, (a, b) in enumerate(zip(ours.sequences, theirs.sequences)):
            if a == b:
                continue
            step = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
            if not step:  # none: one answer is the other, cut short
                return False
            if self.dtype == "bf16" and self.counts_otherwise(request, b[:step]):
                continue
            logits = self.logits(request, row, b[:step])[-1]
            penalised, penalty = sorted(set(b[:step])), self.setting(request, "repetition_penalty", 1.0)
            scores = logits.copy()
            scores[penalised] *= np.where(logits[penalised] > 0, 1 / penalty, penalty)
            largest = np.abs(logits).max() if self.dtype == "bf16" else abs(scores[b[step]])
            if not abs(scores[a[step]] - scores[b[step]]) <= NEAR[self.dtype] * max(1, largest):
                return False
        return True

    def counts_otherwise(self, request, ids):
        """Whether the step after `ids` is not to be had of `forward`: where a prompt holds the pad id, which has no
        position, `forward` goes on to count without it, and `generate`, behind its first step, counts all that is
        past, as transformers does."""
        begin = prompt_length(self.spec, request)
        return len(ids) > begin and self.spec.config["pad_token_id"] in ids[:begin]

    def logits(self, request, row, ids):
        """Those expected at each of `ids`, which one row's decoder reads."""
        names = [name for name in ("input_ids", "attention_mask") if name in request]
        inputs = {name: np.atleast_2d(request[name])[row : row + 1] for name in names}
        inputs["decoder_input_ids"] = np.array([ids])
        return self.expected_logits({name: ids.astype(np.int32) for name, ids in inputs.items()})[0].astype(np.float64)

    def as_reckoned(self, request, ours, theirs):
        """Whether each of our beams is worth, by the expected logits, what it says: a near tie in the middle of a
        search ends in other sequences with other scores. True, too, where theirs are not reckoned so."""
        reckoned = lambda ids: [self.reckoned(request, number, ids) for number in range(len(ids))]
        agree = lambda answer: self.close(request, answer.sequences, reckoned(answer.sequences), answer.scores)
        return not agree(theirs) or agree(ours)

    def reckoned(self, request, number, sequences):
        """A beam's score, of a row's sequences that stand together."""
        ids, begin = sequences[number], prompt_length(self.spec, request)
        setting = lambda name, default: self.setting(request, name, default)
        row = number * len(np.atleast_2d(request["input_ids"])) // len(sequences)
        logits, penalty = self.logits(request, row, ids[:-1]), setting("repetition_penalty", 1.0)
        largest = logits.max(1, keepdims=True)
        own = logits - largest - np.log(np.exp(logits - largest).sum(1, keepdims=True))
        forced = {1} if setting("forced_bos_token_id", None) is not None else set()
        forced |= {setting("max_length", 0) - 1} if setting("forced_eos_token_id", None) is not None else set()
        chosen = [at for at in range(begin, len(ids)) if at not in forced]
        scores = [own[at - 1, ids[at]] * (penalty if ids[at] in ids[:at] else 1) for at in chosen]
        return sum(scores) / (len(ids) - begin) ** setting("length_penalty", 1.0)


def judge_refusal(numbers, answer, found):
    if isinstance(answer, Answer):
        found.wrong.append(f"a request beyond the sizes {numbers} was answered")
        return
    named = list(map(int, re.findall(r"\d+", answer)))  # two may be equal
    if not answer.startswith("invalid_request") or not set(numbers) <= set(named) or len(named) < 2:
        found.wrong.append(f"the refusal does not name {numbers}: {answer}")


# --- planted answers -----------------------------------------------------------------------------


def planted():
    """[(what is wrong with an answer, whether that is noticed)]: all logits are equal, so that any id is a tie, or
    (`apart`) far from each other."""
    right, plain = Answer([[2, 5, 6, 7, 2]], [], ["eos"]), {"input_ids": [4, 2], "num_beams": 1}
    beams = Answer([[2, 5, 2]], [-np.log(99)], ["eos"])
    padded, prompt = Answer([[2, 1, 7, 8, 2]], [], ["eos"]), plain | {"decoder_input_ids": [2, 1]}
    summed = plain | {"num_beams": 3, "length_penalty": 0.0}
    best = "modules give the best 20: compile with --with-logits"
    more = lambda needs: f"invalid_request: num_beams: a step needs the {needs} ids, {best}"
    cases = {
        "cut short": (Answer([[2, 5, 6]], [], ["eos"]), right, plain),
        "another finish_reason": (Answer(right.sequences, [], ["length"]), right, plain),
        "refused for its k": (more("best 21"), right, plain),
        "refused for its penalty": (more("scores of all 99"), right, plain),
        "another score": (Answer(beams.sequences, [-4.8], ["eos"]), beams, plain | {"num_beams": 3}),
        "other beams": (Answer([[2, 6, 2]], [-4.8], ["eos"]), beams, plain | {"num_beams": 3}),
        "another sum": (Answer(beams.sequences, [-4.8], ["eos"]), beams, summed),
        "cut short after a pad": (Answer([[2, 1, 7]], [], ["eos"]), padded, prompt),
    }
    ties = {
        "": (right, right, plain),
        "another id of as good a score": (Answer([[2, 5, 8, 2]], [], ["eos"]), right, plain),
        "refused for what it bans": (more("best 21"), right, plain | {"suppress_tokens": [9] * 20}),
    }
    apart = {
        "another id": (Answer([[2, 5, 60, 7, 2]], [], ["eos"]), right, plain),
        "another first id after a pad": (Answer([[2, 1, 60, 8, 2]], [], ["eos"]), padded, prompt),
        "another id after a pad": (Answer([[2, 1, 7, 60, 2]], [], ["eos"]), padded, prompt),
    }
    noticed, spec = [], SimpleNamespace(defaults={}, config={"decoder_start_token_id": 2, "pad_token_id": 1})
    for dtype in NEAR:
        for scale, answers in ((0, cases | ties), (1, apart)):
            row = scale * np.arange(99, dtype=np.float32)
            logits = lambda inputs, row=row: np.stack([row] * inputs["decoder_input_ids"].size)[None]
            judge = Judge(spec, dtype, 20, logits)
            for name, (ours, theirs, request) in answers.items():
                found = Found()
                judge.answer(request, ours, theirs, found)
                wanted = name not in ties and not (name == "another id after a pad" and dtype == "bf16")
                noticed.append((f"{dtype} answer: {name or 'nothing planted'}", bool(found.wrong) == wanted))
    return noticed
