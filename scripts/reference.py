"""What does transformers itself answer?

The checkpoint in float32 and in float64, run over requests as `neuroglot generate` and
`neuroglot forward` take them.
"""

import copy
import warnings
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration

from random_models import TIED_NAMES, read_tensors

VERSION = int(transformers.__version__.split(".")[0])

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore")


@dataclass
class Answer:
    """One request's result, in the form of `neuroglot generate`."""

    sequences: list  # of lists of ids: decoder_start … eos or the limit, no padding
    scores: list  # of floats, empty when greedy
    finish_reason: list  # "eos" or "length" for each sequence


class Reference:
    """The same weights in two precisions."""

    def __init__(self, model):
        self.f32 = model.eval()
        self.f64 = copy.deepcopy(model).double()

    @property
    def both(self):
        return self.f32, self.f64


def load(spec):
    """A random checkpoint as the binary is told to run it."""
    if TIED_NAMES[0] in spec.tied_names:
        model = M2M100ForConditionalGeneration.from_pretrained(spec.directory, dtype=torch.float32)
    else:  # transformers 4 ties every name to the one that these files lack
        config = M2M100Config.from_pretrained(spec.directory)
        model = M2M100ForConditionalGeneration(config)
        model.load_state_dict(read_tensors(spec), strict=False)
        if (spec.directory / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(spec.directory)
    if VERSION >= 5 and not (spec.directory / "generation_config.json").exists():  # 5 takes nothing of config.json
        model.generation_config = GenerationConfig(**spec.defaults)
    return Reference(round_matrices(model) if spec.run_dtype == "bf16" else model)


def round_matrices(model):
    """bf16 bundles: matrices rounded to nearest even once, everything else in float32."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.bfloat16().float()
    model.tie_weights()
    return model


@torch.inference_mode()
def generate(model, request):
    """The request through model.generate; rows with forced tokens of their own run one by one, which
    transformers cannot do at once."""
    forced = request.get("forced_bos_token_id")
    if not isinstance(forced, list):
        return generate_rows(model, request)
    answers = [generate_rows(model, row_of(request, row)) for row in range(len(forced))]
    joined = {name: sum((getattr(answer, name) for answer in answers), []) for name in vars(answers[0])}
    return Answer(**joined)


def steady(model, request, expected):
    """Whether float32 gives the expected sequences with either attention, on one thread and on two. Where not,
    two hypotheses are closer than float32's rounding, and that the usual run agrees with float64 is luck."""
    threads, attention = torch.get_num_threads(), model.config._attn_implementation
    try:
        for count in (1, 2):
            for name in ("eager", "sdpa"):
                torch.set_num_threads(count)
                model.set_attn_implementation(name)
                if generate(model, request).sequences != expected.sequences:
                    return False
    finally:
        torch.set_num_threads(threads)
        model.set_attn_implementation(attention)
    return True


def row_of(request, row):
    one = dict(request)
    for name in ("input_ids", "attention_mask", "decoder_input_ids"):
        if name in request:
            one[name] = [request[name][row]]
    one["forced_bos_token_id"] = request["forced_bos_token_id"][row]
    return one


def generate_rows(model, request):
    settings = dict(request)
    ids = torch.tensor(np.atleast_2d(settings.pop("input_ids")))
    mask = settings.pop("attention_mask", None)
    mask = torch.ones_like(ids) if mask is None else torch.tensor(np.atleast_2d(mask))
    prompt = settings.pop("decoder_input_ids", None)
    if prompt is not None:
        settings["decoder_input_ids"] = torch.tensor(np.atleast_2d(prompt))
    result = model.generate(ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **settings)
    ends = settings.get("eos_token_id", model.generation_config.eos_token_id)
    length = prompt_length(model, prompt)
    sequences, reasons = [], []
    for row in result.sequences.tolist():
        sequence, reason = cut(row, length, np.atleast_1d(ends))
        sequences.append(sequence)
        reasons.append(reason)
    scores = getattr(result, "sequences_scores", None)
    return Answer(sequences, [] if scores is None else scores.tolist(), reasons)


def prompt_length(model, prompt):
    if prompt is None:
        return 1
    ids = np.atleast_2d(prompt)
    return ids.shape[1] + int(ids[0, 0] != model.generation_config.decoder_start_token_id)


def limit(model, request):
    """The longest sequence that the request allows, prompt included."""
    length = prompt_length(model, request.get("decoder_input_ids"))
    if "max_new_tokens" in request:
        return length + request["max_new_tokens"]
    longest = request.get("max_length", model.generation_config.max_length)
    if longest is None or ("max_length" not in request and longest == 20):  # the general default
        longest = min(20 + length, model.config.max_position_embeddings)
    return longest


def cut(row, prompt, ends):
    """A row without the padding after its end: an end id of the prompt does not count."""
    for index in range(prompt, len(row)):
        if row[index] in ends:
            return row[: index + 1], "eos"
    return row, "length"


@torch.inference_mode()
def forward(model, inputs):
    """{encoder_last_hidden_state, logits} as arrays in the model's precision."""
    ids = torch.tensor(inputs["input_ids"]).long()
    mask = torch.tensor(inputs["attention_mask"]).long() if "attention_mask" in inputs else torch.ones_like(ids)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        decoder_input_ids=torch.tensor(inputs["decoder_input_ids"]).long(),
        use_cache=False,
    )
    return {
        "encoder_last_hidden_state": output.encoder_last_hidden_state.numpy(),
        "logits": output.logits.numpy(),
    }


def forward_f32(model, inputs):
    """The outputs of `model` in float32 as transformers gets them in three ways, with either of its
    attentions and row by row, which differ by rounding alone: {name: [3, …]}."""
    found = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        found.append(forward(model, inputs))
    rows = [{name: ids[row : row + 1] for name, ids in inputs.items()} for row in range(len(inputs["input_ids"]))]
    alone = [forward(model, row) for row in rows]
    found.append({name: np.concatenate([row[name] for row in alone]) for name in alone[0]})
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def margin(model, request, ours, theirs):
    """How close the choice was where two answers part: a note for the reader of a failure."""
    for row, (a, b) in enumerate(zip(ours.sequences, theirs.sequences)):
        step = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
        if step:
            break
    else:
        return ""
    ids = np.atleast_2d(request["input_ids"])
    source = row * len(ids) // len(theirs.sequences)
    inputs = {"input_ids": ids[source : source + 1], "decoder_input_ids": np.array([a[:step]])}
    if "attention_mask" in request:
        inputs["attention_mask"] = np.atleast_2d(request["attention_mask"])[source : source + 1]
    logits = forward(model, inputs)["logits"][0, -1]
    return f" (their logits differ by {logits[b[step]] - logits[a[step]]:.3g}, before any search setting)"
