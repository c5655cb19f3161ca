"""When do the binary's answer and transformers' answer count as the same?"""

from dataclasses import dataclass, field

import numpy as np

COUNTED = 0.98  # of the cases at least: float32 and float64 references agree on every sequence
SCORE_TOLERANCE = 1e-4  # |ours - theirs| ≤ this · (1 + |theirs|)
LOGIT_NOISE = 4  # max|ours - f64| ≤ this · max|f32 - f64| …
LOGIT_FLOOR = 3e-6  # … or this · max|f64|


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


def judge_outputs(ours, in_f32, in_f64, attention_mask):
    """{"logits": …} if an output of `forward` is further from float64 than rounding explains. States of
    source tokens that the mask leaves out are nobody's concern."""
    for name, exact in in_f64.items():
        values, rounded = ours.get(name), in_f32[name]
        if values is None or values.shape != exact.shape or values.dtype != np.float32:
            return {"logits": f"{name} is {values if values is None else (values.dtype, values.shape)}"}
        if name == "encoder_last_hidden_state" and attention_mask is not None:
            counts = np.asarray(attention_mask) != 0
            values, rounded, exact = values[counts], rounded[counts], exact[counts]
        error = np.abs(values - exact).max()
        allowed = max(LOGIT_NOISE * np.abs(rounded - exact).max(), LOGIT_FLOOR * np.abs(exact).max())
        if not error <= allowed:
            return {"logits": f"{name} {error:.3g} off where {allowed:.3g} is allowed"}
    return {}
