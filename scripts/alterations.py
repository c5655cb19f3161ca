"""Would `make check` notice? Ten mistakes, planted in the reference.

Each alters a copy of the model in place; the binary's right answers must then be reported as wrong.
"""

from dataclasses import dataclass
from typing import Callable

import torch
from transformers.activations import ACT2FN
from transformers.generation import logits_process


@dataclass
class Alteration:
    name: str
    apply: Callable  # (model) → nothing
    of: str  # "model", "search", or "beams": what it can change at all


def stacks(model):
    return model.model.encoder, model.model.decoder


def positions_from_zero(model):
    for stack in stacks(model):
        table = stack.embed_positions
        first = table.padding_idx + 1
        rows = table.get_embedding(4096, table.embedding_dim).to(table.weights.dtype)
        table.weights = torch.cat([torch.zeros_like(rows[:first]), rows])


def smaller_eps(model):
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


def no_final_encoder_norm(model):
    model.model.encoder.layer_norm = torch.nn.Identity()


def no_embedding_scale(model):
    for stack in stacks(model):
        stack.embed_tokens.embed_scale = 1.0


def tanh_gelu(model):
    if model.config.activation_function == "gelu":
        for stack in stacks(model):
            for layer in stack.layers:
                layer.activation_fn = ACT2FN["gelu_pytorch_tanh"]


def wrap(model, method, change):
    """Replaces a method of this model by change(original, *args, **kwargs)."""
    original = getattr(model, method)
    setattr(model, method, lambda *args, **kwargs: change(original, *args, **kwargs))


def length_without_eos(model):
    """The length that a score is divided by leaves out a final end token."""

    def change(original, *, topk_log_probs, next_token_hits_stopping_criteria, cur_len, **rest):
        generated = cur_len + 1 - rest["decoder_prompt_len"]
        at_limit = cur_len + 1 >= rest["topk_running_sequences"].shape[-1]
        if not at_limit and generated > 1:
            longer = (generated / (generated - 1)) ** rest["length_penalty"]
            topk_log_probs = torch.where(next_token_hits_stopping_criteria, topk_log_probs * longer, topk_log_probs)
        return original(
            topk_log_probs=topk_log_probs,
            next_token_hits_stopping_criteria=next_token_hits_stopping_criteria,
            cur_len=cur_len,
            **rest,
        )

    wrap(model, "_update_finished_beams", change)


def early_stopping_ignored(model):
    def change(original, *args, **kwargs):
        config, rest = original(*args, **kwargs)
        config.early_stopping = False
        return config, rest

    wrap(model, "_prepare_generation_config", change)


def fewer_candidates(model):
    """n candidates a step: those after the best n are as good as absent."""

    def change(original, **kwargs):
        scores, *rest = original(**kwargs)
        scores[:, kwargs["num_beams"] :] = -torch.inf
        return scores, *rest

    wrap(model, "_get_top_k_continuations", change)


def replace_processor(model, kind, replacement):
    """Every score processor of a kind becomes replacement(processor, generation_config)."""

    def change(original, *args, **kwargs):
        config = kwargs["generation_config"]
        processors = original(*args, **kwargs)
        for index, processor in enumerate(processors):
            if isinstance(processor, kind):
                processors[index] = replacement(processor, config)
        return processors

    wrap(model, "_get_logits_processor", change)


def eos_spared(model):
    """The repetition penalty leaves the end tokens as they are."""

    def replacement(processor, config):
        ends = config._eos_token_tensor

        def process(input_ids, scores):
            penalised = processor(input_ids, scores)
            penalised[:, ends] = scores[:, ends]
            return penalised

        return process

    replace_processor(model, logits_process.RepetitionPenaltyLogitsProcessor, replacement)


def forced_token_counted(model):
    """The forced first token's log-probability is added to the score."""

    def replacement(processor, config):
        def process(input_ids, scores):
            forced = processor(input_ids, scores)
            return torch.where(forced == 0, scores, forced) if input_ids.shape[-1] == 1 else forced

        return process

    replace_processor(model, logits_process.ForcedBOSTokenLogitsProcessor, replacement)


ALTERATIONS = (
    Alteration("positions from 0", positions_from_zero, "model"),
    Alteration("eps 1e-6", smaller_eps, "model"),
    Alteration("no final encoder norm", no_final_encoder_norm, "model"),
    Alteration("no embedding scale", no_embedding_scale, "model"),
    Alteration("tanh gelu", tanh_gelu, "model"),
    Alteration("length penalty without eos", length_without_eos, "beams"),
    Alteration("early_stopping ignored", early_stopping_ignored, "beams"),
    Alteration("eos spared by the repetition penalty", eos_spared, "search"),
    Alteration("n candidates in place of 2n", fewer_candidates, "beams"),
    Alteration("forced token's log-probability added", forced_token_counted, "beams"),
)
