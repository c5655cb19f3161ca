"""With which sizes and requests are the modules of a static target judged?

Random bundles of tiny models, requests at the edges of their buckets, requests that drive every module,
and requests that the bundle has to refuse.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import random_models
import random_requests
from random_models import chance, integer, pick
from random_requests import prompt_length, words

CPU_OPS = ("embed", "layer_norm", "linear", "attend", "write_rows", "slice")  # all that every module has
MODEL = Path(__file__).resolve().parent.parent / "models/demo"
VOCABULARY = 40000  # whose best are found in two stages
STEPS = 3  # of a request that only has to run a module


@dataclass
class Compiled:
    """What `compile --target pjrt` is told."""

    batches: tuple
    beams: int
    sources: tuple  # lengths, ascending
    target: int
    topk: str
    with_logits: bool
    dtype: str
    beam_caches: str = "history"
    cpu_ops: tuple = ()
    tp: int = 1

    def options(self):
        numbers = lambda values: ",".join(map(str, values))
        return [
            *("--batch", numbers(self.batches), "--beams", str(self.beams), "--topk", self.topk),
            *("--source-lengths", numbers(self.sources), "--target-length", str(self.target)),
            *("--beam-caches", self.beam_caches),
            *(["--with-logits"] if self.with_logits else []),
            *(["--cpu-ops", ",".join(self.cpu_ops)] if self.cpu_ops else []),
            *(["--tp", str(self.tp)] if self.tp > 1 else []),
        ]

    def describe(self):
        return " ".join(self.options() + ["--dtype", self.dtype])

    def edges(self):
        """Source lengths at which another encoder begins to serve, and the first and last."""
        near = {length + off for length in self.sources for off in (-1, 0, 1)}
        return sorted({1} | {length for length in near if 1 <= length <= self.sources[-1]})


def draw_tp(rng):
    """How many ranks: to be asked before the model is drawn, which they have to divide."""
    return pick(rng, (1, 2, 4), (2, 1, 1))


def make_compiled(rng, spec, tp):
    lengths = {integer(rng, 1, 40) for _ in range(integer(rng, 1, 3))}
    dtype = pick(rng, ("f32", "bf16"), (7, 3))
    cut = dtype == "f32" and tp == 1 and chance(rng, 0.3)  # ranks run whole modules alone
    cpu_ops = tuple(op for op in CPU_OPS if chance(rng, 0.4)) if cut else ()
    on_cpu = {"attend", "write_rows"} & set(cpu_ops)  # states are: beams are not reordered there
    return Compiled(
        batches=pick(rng, ((1,), (2,), (1, 2), (1, 4), (1, 8), (3,), (1, 3, 8))),
        beams=min(integer(rng, 1, 5), max(1, (spec.config["vocab_size"] - 6) // 2)),
        sources=tuple(sorted({max(3, max(lengths))} | lengths)),
        target=integer(rng, 14, 40),
        topk=pick(rng, ("device", "host"), (7, 3)),
        with_logits=dtype == "bf16" or chance(rng, 0.6),  # near ties of bf16 are looked up
        dtype=dtype,
        cpu_ops=cpu_ops,
        beam_caches="history" if on_cpu else pick(rng, ("history", "reorder")),
        tp=tp,
    )


DEMO = Compiled((1, 8), 4, (32, 64, 128), 200, "device", True, "f32")
FOR_WIDE = Compiled((1, 2), 3, (9,), 20, "device", True, "f32")  # sizes for the wide vocabulary


@dataclass
class DemoModel:
    """The demo in the place of a random model."""

    directory: Path
    config: dict
    defaults: dict

    def describe(self):
        return "the demo model"


def demo_model():
    read = lambda name: json.loads((MODEL / name).read_text())
    return DemoModel(MODEL, read("config.json"), read("generation_config.json"))


def widen(rng, spec, **more):
    """Writes the model anew with a wide vocabulary and what else its configuration gets."""
    for path in spec.directory.glob("*"):
        path.unlink()
    spec.config |= {"vocab_size": VOCABULARY} | more
    random_models.write_json(spec.directory, spec, False)
    random_models.write_tensors(rng, spec)


# --- random requests -----------------------------------------------------------------------------


def make_request(rng, spec, compiled, likely):
    """A request of any kind that stays within what was compiled."""
    request = random_requests.make_request(rng, spec, likely)
    request |= edge_source(rng, spec, compiled, np.atleast_2d(request["input_ids"]).shape[0])
    if "attention_mask" in request and np.ndim(request["attention_mask"]) != np.ndim(request["input_ids"]):
        del request["attention_mask"]  # of the source that was there before
    rows = np.atleast_2d(request["input_ids"]).shape[0]
    if chance(rng, 0.25):
        request["decoder_input_ids"] = prompt(rng, spec, rows, integer(rng, 2, compiled.target - 2))
    elif "decoder_input_ids" in request:
        request["decoder_input_ids"] = np.atleast_2d(request["decoder_input_ids"]).tolist()
    if "decoder_input_ids" in request and np.ndim(request["input_ids"]) == 1:
        request["decoder_input_ids"] = request["decoder_input_ids"][0]
    request.pop("max_new_tokens", None)
    request["max_length"] = integer(rng, prompt_length(spec, request) + 1, compiled.target)
    beams = min(request.get("num_beams", spec.defaults.get("num_beams", 1)), compiled.beams)
    request["num_beams"] = beams
    if "num_return_sequences" in request:
        request["num_return_sequences"] = min(request["num_return_sequences"], beams)
    return request


def edge_source(rng, spec, compiled, rows):
    """input_ids, with attention_mask where something is padded and now and then elsewhere."""
    lengths = [pick(rng, compiled.edges()) for _ in range(rows)]
    width, pad = max(lengths), spec.config["pad_token_id"]
    ids, mask = np.full((rows, width), pad), np.zeros((rows, width), int)
    left = chance(rng, 0.1)
    for row, length in enumerate(lengths):
        place = slice(width - length, width) if left else slice(0, length)
        ids[row, place], mask[row, place] = words(rng, spec, length), 1
    if chance(rng, 0.15):  # words that the mask leaves out
        mask &= rng.random(mask.shape) >= 0.2
        mask[mask.sum(1) == 0] = 1
    flat = rows == 1 and chance(rng, 0.8)
    source = {"input_ids": ids[0].tolist() if flat else ids.tolist()}
    if mask.min() == 0 or chance(rng, 0.3):
        source["attention_mask"] = mask[0].tolist() if flat else mask.tolist()
    return source


def prompt(rng, spec, rows, length):
    ids = words(rng, spec, rows * length).reshape(rows, length)
    ids[:, 0] = spec.config["decoder_start_token_id"]
    return ids.tolist()


def forward_inputs(rng, spec, compiled):
    """Ids for `forward`: more rows than slots now and then, lengths at the edges."""
    rows = integer(rng, 1, compiled.batches[-1] + 1)
    source = edge_source(rng, spec, compiled, rows)
    inputs = {name: np.atleast_2d(values).astype(np.int32) for name, values in source.items()}
    length = pick(rng, (1, compiled.target, integer(rng, 1, compiled.target)))
    return inputs | {"decoder_input_ids": np.array(prompt(rng, spec, rows, length), np.int32)}


# --- requests with a purpose ---------------------------------------------------------------------


def driving_windows(rng, spec, compiled):
    """Windows of requests that run every module at every edge: for each batch as many sources of each length at
    which an encoder begins or ends to serve, whose searches all take as many steps, with a prompt that is longer
    than a step's rows; and as many that go from the first position to the last, one after the other ending."""
    windows = []
    source = lambda length: {"input_ids": words(rng, spec, length).tolist()}
    for batch in compiled.batches:
        for lower, upper in zip((0, *compiled.sources), compiled.sources):
            edges = sorted({length for length in (lower + 1, upper - 1, upper) if lower < length <= upper})
            for number, length in enumerate(edges):
                for penalty in (1.0, 0.8) if compiled.with_logits and number == 0 else (1.0,):
                    begin = prompt(rng, spec, 1, compiled.beams + 2)[0]
                    same = driving_request(compiled, begin, penalty)
                    windows.append([same | source(length) for _ in range(batch)])
        begin = prompt(rng, spec, 1, 1)[0]
        last = range(compiled.target, compiled.target - batch, -1)
        whole = [driving_request(compiled, begin, 1.0) | {"max_length": most, "min_new_tokens": most - 1} for most in last]
        windows.append([one | source(pick(rng, compiled.edges())) for one in whole])
    return windows


def driving_request(compiled, begin, penalty):
    return {
        "decoder_input_ids": begin,
        "num_beams": compiled.beams,
        "max_length": len(begin) + STEPS,
        "min_new_tokens": STEPS,
        "repetition_penalty": penalty,
        "no_repeat_ngram_size": 0,
        "forced_bos_token_id": None,
    }


def refused_requests(rng, spec, compiled, candidates):
    """(request, numbers that the error has to name): one beyond each size."""
    plain = {"input_ids": words(rng, spec, 1).tolist(), "num_beams": 1, "max_length": compiled.target}
    longest, vocabulary = compiled.sources[-1], spec.config["vocab_size"]
    yield plain | {"input_ids": words(rng, spec, longest + 1).tolist()}, (longest + 1, longest)
    yield plain | {"max_length": compiled.target + 1}, (compiled.target + 1, compiled.target)
    yield plain | {"num_beams": compiled.beams + 1}, (compiled.beams + 1, compiled.beams)
    if compiled.with_logits:
        return
    if candidates:
        yield plain | {"repetition_penalty": 0.8}, (vocabulary, candidates)
    if 0 < candidates < vocabulary - 2:  # banned ids are looked past: one candidate more for each
        banned = sorted(set(range(vocabulary)) - {spec.config["decoder_start_token_id"]})[-candidates:]
        yield plain | {"suppress_tokens": banned, "repetition_penalty": 1.0}, (candidates,)
