#!/usr/bin/env python3
"""Writes testdata/search_goldens.jsonl: what transformers' generate makes of random requests.

    OMP_NUM_THREADS=1 python scripts/make_search_goldens.py > testdata/search_goldens.jsonl

Needs torch and transformers 4.57.6. The model is a table: its logits are an integer hash of (seed,
source id, last two ids, length) that src/translate/beam_search_test.cc computes as well, to the
bit. A line is one request as `neuroglot generate` reads it, with what comes of every row, or with
an error where transformers refuses it or continues beams that do not exist (refused here). Every
row is generated in its batch and alone, and again with noise on the logits; a case that depends on
either is a near tie and left out.
"""
import json
import logging
import random
import sys
import warnings

import numpy
import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, M2M100Config, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

EOS, PAD, START = 2, 1, 2
DEAD = -1e8  # transformers marks what does not exist with -1e9


def mix(hashed, value):
    hashed = ((hashed ^ value) * 0x9E3779B1) & 0xFFFFFFFF
    return hashed ^ (hashed >> 15)


def table_logits(case, source, ids):
    """[vocab], exact in float32: multiples of 2^-21 in [-4, 4) times case["spread"], the end raised
    by case["eos_bias"]."""
    hashed = mix(mix(mix(case["seed"], source), ids[-1]), ids[-2] if len(ids) > 1 else 0xFFFF)
    hashed = mix(hashed, len(ids))
    value = numpy.uint64(hashed) ^ numpy.arange(1, case["vocab"] + 1, dtype=numpy.uint64)
    for _ in range(2):
        value = (value * numpy.uint64(0x9E3779B1)) & numpy.uint64(0xFFFFFFFF)
        value = value ^ (value >> numpy.uint64(15))
    logits = (value >> numpy.uint64(8)).astype(numpy.float64) * 2.0**-21 - 4
    logits *= case["spread"]
    logits[EOS] += case["eos_bias"]
    return logits.astype(numpy.float32)


class Source(torch.nn.Module):
    main_input_name = "input_ids"

    def forward(self, input_ids, **_):
        return BaseModelOutput(last_hidden_state=input_ids[:, :1, None].double())


class Table(PreTrainedModel, GenerationMixin):
    config_class = M2M100Config
    main_input_name = "input_ids"

    def __init__(self, config, case, noise):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(1))  # generate asks for the model's device
        self.source, self.case, self.noise = Source(), case, noise
        self.too_few = False

    def get_encoder(self):
        return self.source

    def prepare_inputs_for_generation(self, ids, encoder_outputs=None, **_):
        return {"decoder_input_ids": ids, "encoder_outputs": encoder_outputs}

    def forward(self, input_ids=None, attention_mask=None, decoder_input_ids=None,
                encoder_outputs=None, return_dict=True, **_):
        sources = encoder_outputs[0][:, 0, 0].long().tolist()
        rows = [table_logits(self.case, source, ids)
                for source, ids in zip(sources, decoder_input_ids.tolist())]
        logits = torch.tensor(numpy.stack(rows))
        if self.noise:
            logits = logits + torch.randn(logits.shape) * self.noise
        return Seq2SeqLMOutput(logits=logits[:, None, :])

    def _get_top_k_continuations(self, accumulated_log_probs, **kwargs):
        """Notes whether fewer tokens can be chosen than there are beams, forced steps aside, and
        those after which nothing was left that goes on."""
        choices = (accumulated_log_probs > DEAD).sum()
        if 0 < choices < kwargs["num_beams"] and not self.forced(kwargs["cur_len"]):
            self.too_few = True
        return super()._get_top_k_continuations(
            accumulated_log_probs=accumulated_log_probs, **kwargs)

    def forced(self, length):
        options = self.options
        return (length == 1 and options.get("forced_bos_token_id") is not None) or (
            options.get("forced_eos_token_id") is not None and length == self.longest - 1)


def model_of(case, noise=0.0):
    config = M2M100Config(vocab_size=case["vocab"], d_model=8, **case.get("config", {}))
    model = Table(config, case, noise).eval()
    if "generation_config" in case:
        model.generation_config = GenerationConfig.from_dict(case["generation_config"])
    return model


def run(case, request, noise=0.0):
    """The rows' results as [[{"ids", "score"}]], or a reason for an error."""
    model, nothing_left = model_of(case, noise), []
    options = {k: v for k, v in request.items() if k not in ("input_ids", "decoder_input_ids")}
    defaults = {k: getattr(model.generation_config, k)
                for k in ("forced_bos_token_id", "forced_eos_token_id", "num_beams",
                          "num_return_sequences", "eos_token_id")}
    model.options = {**defaults, **options}
    extra = dict(options)
    if "decoder_input_ids" in request:
        extra["decoder_input_ids"] = torch.tensor(request["decoder_input_ids"])

    def watch(ids, scores):
        nothing_left.append(bool((scores == -float("inf")).all(dim=-1).any()))
        return scores

    remember_longest(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            out = model.generate(
                torch.tensor(request["input_ids"]), use_cache=False, output_scores=True,
                return_dict_in_generate=True, logits_processor=[watch], **extra)
        except ValueError as error:
            return str(error).splitlines()[0], 0
    warned = any("Unfeasible" in str(w.message) for w in caught)
    if model.too_few or (model.options["num_beams"] == 1 and any(nothing_left)):
        return "too few tokens", warned
    return rows_of(out, request, model.options["eos_token_id"]), warned


def remember_longest(model):
    """Makes `generate` leave the limit that it works with in `model.longest`."""
    criteria = model._get_stopping_criteria

    def remember(generation_config, **kwargs):
        model.longest = generation_config.max_length
        return criteria(generation_config=generation_config, **kwargs)

    model._get_stopping_criteria = remember


def rows_of(out, request, ends):
    """What `generate` returned as [[{"ids", "score"}]], or a reason for an error."""
    scores = out.get("sequences_scores")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    prompt = 1
    if "decoder_input_ids" in request:
        rows = request["decoder_input_ids"]
        prompt = len(rows[0]) + all(row[0] != START for row in rows)
    results = []
    for i, ids in enumerate(out.sequences.tolist()):
        stop = next((t for t in range(prompt, len(ids)) if ids[t] in ends), len(ids) - 1)
        score = 0.0 if scores is None else scores[i].item()
        if score < DEAD:
            return "too few sequences"
        results.append({"ids": ids[:stop + 1], "score": float(f"{score:.8g}")})
    per_row = len(results) // len(request["input_ids"])
    return [results[i:i + per_row] for i in range(0, len(results), per_row)]


def some_ids(rng, vocab, most):
    return [rng.randrange(vocab) for _ in range(rng.randint(1, most))]


def random_request(rng, vocab):
    rows = rng.choice([1, 1, 1, 2, 3])
    request = {"input_ids": [[rng.randrange(3, vocab), EOS] for _ in range(rows)]}

    def maybe(chance, key, make):
        if rng.random() < chance:
            request[key] = make()

    beams = rng.choice([1, 1, 2, 3, 4, 5, 6])
    maybe(0.9, "num_beams", lambda: beams)
    if beams > 1 and "num_beams" in request:
        maybe(0.5, "num_return_sequences", lambda: rng.randint(1, beams))
        maybe(0.6, "length_penalty", lambda: rng.choice([0, 0.5, 1, 2, -0.5, -1, 1.3]))
        maybe(0.6, "early_stopping", lambda: rng.choice([True, False, "never", "never"]))
    if rng.random() < 0.7:
        request["max_length"] = rng.randint(2, 24)
    maybe(0.25, "max_new_tokens", lambda: rng.randint(1, 16))
    maybe(0.15, "min_length", lambda: rng.randint(0, 26))
    maybe(0.15, "min_new_tokens", lambda: rng.randint(0, 18))
    maybe(0.3, "repetition_penalty", lambda: rng.choice([0.5, 0.8, 1.0, 1.1, 1.3, 2.0, 5.0]))
    maybe(0.25, "no_repeat_ngram_size", lambda: rng.randint(1, 4))
    maybe(0.25, "bad_words_ids",
          lambda: [rng.choice([[], [START]]) + some_ids(rng, vocab, 3)
                   for _ in range(rng.randint(1, 12))])
    maybe(0.2, "suppress_tokens", lambda: some_ids(rng, vocab, vocab // 3))
    maybe(0.5, "forced_bos_token_id", lambda: rng.randrange(3, vocab))
    maybe(0.2, "forced_eos_token_id",
          lambda: rng.choice([EOS, rng.randrange(vocab)] if beams > 1 else
                             [EOS, rng.randrange(vocab), some_ids(rng, vocab, 3)]))
    maybe(0.3, "eos_token_id", lambda: [EOS] + some_ids(rng, vocab, 3))
    if rng.random() < 0.25:
        length = rng.randint(1, 5)
        request["decoder_input_ids"] = [
            [rng.choice([START, rng.randrange(vocab)])] + [rng.randrange(vocab)
                                                           for _ in range(length - 1)]
            for _ in range(rows)]
    return request


def random_defaults(rng):
    """A generation_config.json, or None and the legacy keys of config.json."""
    options = {}
    for key, values in {"max_length": [20, 12, 15], "num_beams": [1, 2, 5],
                        "early_stopping": [True, False], "forced_bos_token_id": [5, None],
                        "eos_token_id": [[2, 3], 2], "no_repeat_ngram_size": [0, 3],
                        "repetition_penalty": [1.2], "length_penalty": [0.7],
                        "max_new_tokens": [6], "min_length": [4]}.items():
        if rng.random() < 0.4:
            options[key] = rng.choice(values)
    if rng.random() < 0.5:
        return None, {**options, "max_position_embeddings": rng.choice([12, 1024])}
    ids = {"bos_token_id": 0, "pad_token_id": PAD, "eos_token_id": EOS}
    if rng.random() < 0.6:
        ids["decoder_start_token_id"] = START
    else:
        ids["bos_token_id"] = START  # transformers starts with it when there is nothing else
    return {**ids, **options}, {"max_position_embeddings": rng.choice([12, 1024])}


def one_case(rng, number):
    vocab = rng.choice([12, 16, 20, 33, 47, 60])
    case = {"seed": rng.randrange(2**32), "vocab": vocab, "spread": rng.choice([1, 1, 2, 4])}
    case["eos_bias"] = case["spread"] * rng.choice([-2, 0, 1.5, 2.75])
    if number % 5 == 0:
        generation_config, case["config"] = random_defaults(rng)
        if generation_config is not None:
            case["generation_config"] = generation_config
    request = random_request(rng, vocab)
    if number % 9 == 0:  # rare by chance: a search that goes on, or not, past n finished sequences
        request = {"input_ids": request["input_ids"], "num_beams": 3, "num_return_sequences": 3,
                   "length_penalty": rng.choice([-1, -0.5, 0.5, 2]), "max_length": 24,
                   "early_stopping": rng.choice(["never", "never", False])}
        case["spread"] = 4
    result, warned = run(case, request)
    case["request"] = request
    rows = request["input_ids"]
    if isinstance(result, str):
        case["error"] = result[:60]
        return case if len(rows) == 1 else None
    for noise in (1e-5, 1e-5):
        noisy, _ = run(case, request, noise)
        if isinstance(noisy, str) or ids_of(noisy) != ids_of(result):
            return None
    for i, row in enumerate(rows if len(rows) > 1 else []):
        alone = {**request, "input_ids": [row]}
        if "decoder_input_ids" in request:
            prompts = request["decoder_input_ids"]
            start = [] if any(prompt[0] == START for prompt in prompts) else [START]
            if prompts[i][0] != START and not start:
                continue  # alone it would be given a start
            alone["decoder_input_ids"] = [start + prompts[i]]
        single, _ = run(case, alone)
        if isinstance(single, str):
            return None
        assert ids_of(single) == ids_of(result[i:i + 1]), (case, single, result)
    if warned:
        case["warned"] = True
    case["results"] = result
    return case


def ids_of(results):
    return [[result["ids"] for result in row] for row in results]


def main():
    assert transformers.__version__ == "4.57.6", transformers.__version__
    logging.disable(logging.WARNING)
    torch.manual_seed(1)
    rng = random.Random(20)
    counts = {"cases": 0, "errors": 0, "left out": 0, "batches": 0, "beams": 0, "sequences": 0}
    number = 0
    while counts["cases"] < 900:
        number += 1
        case = one_case(rng, number)
        if case is None or ("error" in case and counts["errors"] > counts["cases"] // 10):
            counts["left out"] += 1
            continue
        counts["cases"] += 1
        counts["errors"] += "error" in case
        counts["batches"] += len(case["request"]["input_ids"]) > 1
        counts["beams"] += case["request"].get("num_beams", 1) > 1
        for row in case.get("results", []):
            counts["sequences"] += len(row)
        print(json.dumps(case, separators=(",", ":")))
    print(counts, file=sys.stderr)


if __name__ == "__main__":
    main()
