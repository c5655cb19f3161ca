"""Which requests does `make check` judge with?

One request is one line of `neuroglot generate`: rows of random ids with padding and masks, decoder
prompts, and random search settings that leave enough selectable tokens at every step.
"""

import numpy as np

from random_models import chance, integer, pick

RACES = 0.3  # the share of requests whose hypotheses compete to the last


def make_request(rng, spec, likely):
    """One request; `likely` are ids the model tends to answer, so that bans and ends have an effect."""
    rows = 1 if chance(rng, 0.6) else integer(rng, 2, 4)
    request = source(rng, spec, rows)
    if chance(rng, 0.2):
        prompt = decoder_prompt(rng, spec, rows)
        nested = np.ndim(request["input_ids"]) == 2
        request["decoder_input_ids"] = prompt if nested else prompt[0]
    request |= length_settings(rng, spec, prompt_length(spec, request))
    request |= beam_settings(rng, spec)
    request |= ending_settings(rng, spec, likely)
    request |= ban_settings(rng, spec, request, likely)
    request |= forced_first_token(rng, spec, request, rows)
    if chance(rng, RACES):
        request |= race(rng, spec, request, likely)
    return request


def race(rng, spec, request, likely):
    """Settings under which hypotheses end early and compete to the last: what a search makes of its ends
    shows in few others."""
    beams = max(2, min(6, (spec.config["vocab_size"] - 6) // 2))
    ends = {pick(rng, likely) for _ in range(integer(rng, 2, 5))} | {spec.config["decoder_start_token_id"]}
    return {
        "num_beams": beams,
        "num_return_sequences": beams,
        "early_stopping": True,
        "length_penalty": pick(rng, (0.0, 1.4, 2.0)),
        "eos_token_id": sorted(ends - set(ids_of(request.get("forced_bos_token_id")))),
        "repetition_penalty": pick(rng, (0.8, 1.5, 2.5)),  # on the start, which is an end as well
        "min_new_tokens": integer(rng, 5, 8),
    }


def another_source(rng, spec, request):
    """The same request about other ids of the same lengths."""
    ids = np.array(request["input_ids"])
    fresh = words(rng, spec, ids.size).reshape(ids.shape)
    return request | {"input_ids": np.where(ids == spec.config["pad_token_id"], ids, fresh).tolist()}


# --- ids -----------------------------------------------------------------------------------------


def words(rng, spec, count):
    """Random ids other than the padding id."""
    ids = rng.integers(0, spec.config["vocab_size"] - 1, count)
    return ids + (ids >= spec.config["pad_token_id"])


def source(rng, spec, rows):
    """input_ids and, mostly where something is padded, attention_mask."""
    pad = spec.config["pad_token_id"]
    long = chance(rng, 0.1)
    lengths = [integer(rng, 300, 1100) if long else integer(rng, 1, 40) for _ in range(rows)]
    width = max(lengths)
    ids, mask = np.full((rows, width), pad), np.zeros((rows, width), int)
    left = chance(rng, 0.1)
    for row, length in enumerate(lengths):
        place = slice(width - length, width) if left else slice(0, length)
        ids[row, place], mask[row, place] = words(rng, spec, length), 1
    if chance(rng, 0.1):  # padding ids among the words: they count where the mask says so, but not as positions
        ids[rng.random(ids.shape) < 0.1] = pad
    if chance(rng, 0.1):  # words that the mask leaves out
        mask &= rng.random(mask.shape) >= 0.1
        mask[mask.sum(1) == 0] = 1
    request = {"input_ids": ids.tolist() if rows > 1 or chance(rng, 0.2) else ids[0].tolist()}
    if chance(rng, 0.9 if mask.min() == 0 else 0.3):
        request["attention_mask"] = mask.tolist() if np.ndim(request["input_ids"]) == 2 else mask[0].tolist()
    return request


def decoder_prompt(rng, spec, rows):
    """Ids that begin with decoder_start in every row, or in none, which then gets it put before."""
    start, pad = spec.config["decoder_start_token_id"], spec.config["pad_token_id"]
    length = integer(rng, 1, 6)
    ids = words(rng, spec, rows * length).reshape(rows, length)
    if chance(rng, 0.1):
        ids[rng.random(ids.shape) < 0.3] = pad
    if chance(rng, 0.6):
        ids[:, 0] = start
    else:
        ids[ids[:, 0] == start, 0] = pad
    return ids.tolist()


def prompt_length(spec, request):
    if "decoder_input_ids" not in request:
        return 1
    ids = np.atleast_2d(request["decoder_input_ids"])
    return ids.shape[1] + int(ids[0, 0] != spec.config["decoder_start_token_id"])


def ids_of(value):
    return [] if value is None else [int(i) for i in np.atleast_1d(value)]


def eos_ids(spec, request):
    return ids_of(request.get("eos_token_id", spec.config["eos_token_id"]))


# --- settings ------------------------------------------------------------------------------------


def length_settings(rng, spec, prompt):
    limit = integer(rng, 60, 150) if chance(rng, 0.03) else integer(rng, 8, 40)
    settings = {}
    kind = pick(rng, ("length", "new", "both", "default"), (4, 4, 1, 2))
    if kind == "default" and spec.defaults.get("max_length", 20) <= prompt:
        kind = "new"
    if kind in ("length", "both"):
        settings["max_length"] = prompt + limit
    if kind in ("new", "both"):
        settings["max_new_tokens"] = integer(rng, 8, limit)
    if chance(rng, 0.1):
        settings["min_length"] = integer(rng, 1, limit + 3)
    if chance(rng, 0.35):  # mostly just enough to keep a likely end from coming at once
        settings["min_new_tokens"] = integer(rng, 4, 9) if chance(rng, 0.8) else integer(rng, 1, limit + 3)
    return settings


def beam_settings(rng, spec):
    settings = {}
    most = max(1, min(6, (spec.config["vocab_size"] - 6) // 2))
    if chance(rng, 0.9):
        settings["num_beams"] = 1 if chance(rng, 0.25) else integer(rng, 1, most)
    beams = settings.get("num_beams", spec.defaults.get("num_beams", 1))
    if beams > 1:
        if chance(rng, 0.3):
            settings["num_return_sequences"] = integer(rng, 1, beams)
        if chance(rng, 0.6):
            settings["length_penalty"] = pick(rng, (-1.0, 0.0, 0.3, 0.6, 1.0, 1.4, 2.0))
        if chance(rng, 0.75):
            settings["early_stopping"] = pick(rng, (True, False, "never"), (3, 1, 2))
    elif "num_beams" in settings and chance(rng, 0.1):  # transformers ignores these when it is greedy
        settings |= {"length_penalty": 0.5, "early_stopping": True}
    return settings


def ending_settings(rng, spec, likely):
    """Which ids end a sequence, and whether one is forced at the limit."""
    settings = {}
    if chance(rng, 0.6):
        ends = {pick(rng, likely) for _ in range(integer(rng, 1, 3))} | set(ids_of(spec.config["eos_token_id"])[:1])
        settings["eos_token_id"] = sorted(ends) if chance(rng, 0.7) else pick(rng, sorted(ends))
    if chance(rng, 0.1):
        settings["forced_eos_token_id"] = eos_ids(spec, settings)[0]
    return settings


def ban_settings(rng, spec, request, likely):
    """Penalties and bans, none of them on ids that are forced or where the vocabulary is too small."""
    settings = {}
    if chance(rng, 0.35):
        settings["repetition_penalty"] = pick(rng, (0.8, 1.1, 1.3, 2.0), (1, 2, 3, 2))
    limit = request.get("max_new_tokens", request.get("max_length", 40))
    vocab = spec.config["vocab_size"]
    if vocab < 3 * limit + 40:
        return settings | ({"no_repeat_ngram_size": 0} if "no_repeat_ngram_size" in spec.defaults else {})
    if chance(rng, 0.2):
        settings["no_repeat_ngram_size"] = pick(rng, (1, 2, 3, 4), (1, 4, 3, 1))
    free = [i for i in likely if i not in eos_ids(spec, request) and i < vocab - 4]
    if free and chance(rng, 0.2):
        banned = {pick(rng, free) for _ in range(3)} | {integer(rng, 0, vocab - 5) for _ in range(3)}
        settings["suppress_tokens"] = sorted(banned - {request.get("forced_eos_token_id")})
    if free and chance(rng, 0.2):
        settings["bad_words_ids"] = [[pick(rng, free) for _ in range(integer(rng, 1, 3))] for _ in range(4)]
        if chance(rng, 0.2):  # a bad word that is an end is ignored
            settings["bad_words_ids"].append([eos_ids(spec, request)[0]])
    return settings


def forced_first_token(rng, spec, request, rows):
    """forced_bos_token_id, one for all or one for each row, among the last ids as languages are."""
    if not chance(rng, 0.65):
        return {}
    refused = {*eos_ids(spec, request), spec.config["pad_token_id"]}
    languages = [i for i in range(spec.config["vocab_size"] - 4, spec.config["vocab_size"]) if i not in refused]
    if not languages:
        return {}
    if rows > 1 and chance(rng, 0.4):
        return {"forced_bos_token_id": [pick(rng, languages) for _ in range(rows)]}
    return {"forced_bos_token_id": pick(rng, languages)}


# --- forward -------------------------------------------------------------------------------------


def forward_inputs(rng, spec, request):
    """The request's source with a random target, as `neuroglot forward` takes them."""
    kind = pick(rng, (np.int32, np.int64))
    inputs = {"input_ids": np.atleast_2d(request["input_ids"]).astype(kind)}
    if "attention_mask" in request:
        inputs["attention_mask"] = np.atleast_2d(request["attention_mask"]).astype(kind)
    rows, length = len(inputs["input_ids"]), integer(rng, 1, 24)
    target = words(rng, spec, rows * length).reshape(rows, length)
    target[:, 0] = spec.config["decoder_start_token_id"]
    if chance(rng, 0.2):
        target[rng.random(target.shape) < 0.1] = spec.config["pad_token_id"]
    return inputs | {"decoder_input_ids": target.astype(kind)}
