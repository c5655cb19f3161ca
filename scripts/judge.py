"""When do the binary's answer and transformers' answer count as the same?"""

from dataclasses import dataclass, field

import numpy as np

COUNTED = 0.98  # of the cases at least: float32 and float64 references agree on every sequence
SCORE_TOLERANCE = 1e-4  # |ours - theirs| ≤ this · (1 + |theirs|)
LOGIT_NOISE = 4  # max|ours - f64| ≤ this · max|f32 - f64| …
LOGIT_FLOOR = 3e-6  # … or this · max|f64|
DEFAULT_ATTENTION = 1  # of the three runs in float32 (reference.forward_f32): sdpa, transformers' default


@dataclass
class Verdict:
    """What was found about one case: criterion → what differs; empty means equal."""

    counted: bool
    found: dict = field(default_factory=dict)


def judge(answer, in_f32, in_f64):
    """Sequences exactly and scores within tolerance, where both references agree."""
    if in_f32.sequences != in_f64.sequences:
        return Verdict(counted=False)
    verdict = Verdict(counted=True)
    if (answer.sequences, answer.finish_reason) != (in_f64.sequences, in_f64.finish_reason):
        verdict.found["tokens"] = first_difference(answer, in_f64)
    scores = np.array(answer.scores), np.array(in_f64.scores)
    if scores[0].shape != scores[1].shape:
        verdict.found["scores"] = f"{len(answer.scores)} scores, not {len(in_f64.scores)}"
    elif scores[0].size:
        excess = np.abs(scores[0] - scores[1]) / (1 + np.abs(scores[1]))
        if not excess.max() <= SCORE_TOLERANCE:  # not: NaN is a difference too
            verdict.found["scores"] = f"{excess.max():.3g} off at {scores[1][np.argmax(excess)]:.6g}"
    return verdict


def first_difference(ours, theirs):
    if len(ours.sequences) != len(theirs.sequences):
        return f"{len(ours.sequences)} sequences, not {len(theirs.sequences)}"
    for row, (a, b) in enumerate(zip(ours.sequences, theirs.sequences)):
        if a != b:
            step = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            return f"sequence {row} from token {step}: {a[step:step + 5]}, not {b[step:step + 5]}"
    return f"finish_reason {ours.finish_reason}, not {theirs.finish_reason}"


@dataclass
class Outputs:
    """One answer of `forward` beside transformers': name → array, [3] arrays in float32, array in float64."""

    ours: dict
    in_f32: dict
    in_f64: dict
    attention_mask: object = None

    def errors(self, name):
        """Ours, theirs in float32, theirs with the default attention alone, and the largest value. States of
        source tokens that the mask leaves out are nobody's concern."""
        values, rounded, exact = self.ours[name], self.in_f32[name], self.in_f64[name]
        if name == "encoder_last_hidden_state" and self.attention_mask is not None:
            counts = np.asarray(self.attention_mask) != 0
            values, rounded, exact = values[counts], rounded[:, counts], exact[counts]
        rounding = np.abs(rounded - exact)
        return np.abs(values - exact).max(), rounding.max(), rounding[DEFAULT_ATTENTION].max(), np.abs(exact).max()

    def within_own_rounding(self):
        """Whether the logits keep the bound that this case's default run alone gives: told, not judged."""
        if self.misshapen():
            return False
        error, _, rounded, largest = self.errors("logits")
        return bool(error <= allowed(rounded, largest))

    def misshapen(self):
        for name, exact in self.in_f64.items():
            values = self.ours.get(name)
            if values is None or values.shape != exact.shape or values.dtype != np.float32:
                return {"logits": f"{name} is {values if values is None else (values.dtype, values.shape)}"}
        return {}


def allowed(rounded, largest):
    return max(LOGIT_NOISE * rounded, LOGIT_FLOOR * largest)


def judge_outputs(outputs):
    """For each of one model's Outputs {"logits": …} if it is further from float64 than rounding explains.
    What that is, float32 shows over all of them: in one alone it may be small by luck."""
    verdicts = [one.misshapen() for one in outputs]
    whole = [(one, verdict) for one, verdict in zip(outputs, verdicts) if not verdict]
    for name in outputs[0].in_f64:
        errors = [one.errors(name) for one, _ in whole]
        _, rounded, _, largest = np.max(errors, axis=0) if errors else (0, 0, 0, 0)
        most = allowed(rounded, largest)
        for (error, *_), (_, verdict) in zip(errors, whole):
            if not error <= most:  # not: NaN is a difference too
                verdict.setdefault("logits", f"{name} {error:.3g} off where {most:.3g} is allowed")
    return verdicts
