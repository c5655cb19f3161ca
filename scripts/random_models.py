"""Which tiny M2M100 checkpoints does `make check` judge with?

Random configurations over a wide grid, weights drawn so that outputs are lively (varied tokens, an
end now and then, a result that depends on the source), files in every layout the hub knows.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HEAD_SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 32, 33, 64, 128)
TIED_NAMES = (
    "model.shared.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
FILE_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class ModelSpec:
    """One checkpoint on disk and how it is to be run."""

    directory: Path
    config: dict
    defaults: dict  # generation_config.json, or the same keys of config.json where that is absent
    file_dtype: str  # f32, f16 or bf16
    file_format: str  # bin or safetensors
    shards: int
    tied_names: tuple  # which names of the tied embedding the files list
    run_dtype: str  # what the binary is told: f32 or bf16
    threads: int

    def describe(self):
        c = self.config
        return (
            f"d_model {c['d_model']}, layers {c['encoder_layers']}/{c['decoder_layers']}, heads "
            f"{c['encoder_attention_heads']}/{c['decoder_attention_heads']}, ffn {c['encoder_ffn_dim']}/"
            f"{c['decoder_ffn_dim']}, vocabulary {c['vocab_size']}, {c['activation_function']}, "
            f"{self.file_dtype} {self.file_format} x{self.shards}, run in {self.run_dtype}"
        )


def pick(rng, values, weights=None):
    """One of `values`, as the Python object it is."""
    p = None if weights is None else np.asarray(weights, float) / sum(weights)
    return values[int(rng.choice(len(values), p=p))]


def chance(rng, probability):
    return bool(rng.random() < probability)


def integer(rng, low, high):
    """Uniform in [low, high]."""
    return int(rng.integers(low, high + 1))


def make_model(rng, directory, ranks=1):
    """Draws a configuration, which so many ranks can share, and weights and writes them to `directory`."""
    directory.mkdir(parents=True)
    config = shared_by(ranks, random_config(rng))
    defaults = random_defaults(rng, config)
    file_format = pick(rng, ("safetensors", "bin"))
    all_names = file_format == "bin" and chance(rng, 0.7)
    spec = ModelSpec(
        directory=directory,
        config=config,
        defaults=defaults,
        file_dtype=pick(rng, ("f32", "f16", "bf16"), (5, 3, 2)),
        file_format=file_format,
        shards=pick(rng, (1, 2, 3), (7, 2, 1)),
        tied_names=TIED_NAMES if all_names else (pick(rng, TIED_NAMES, (5, 1, 1, 2)),),
        run_dtype=pick(rng, ("f32", "bf16"), (8, 2)),
        threads=integer(rng, 1, 3),
    )
    write_json(directory, spec, in_config=chance(rng, 0.1))
    write_tensors(rng, spec)
    return spec


# --- configuration -------------------------------------------------------------------------------


def random_config(rng):
    head_dim = pick(rng, HEAD_SIZES)
    d_model = head_dim * integer(rng, -(-4 // head_dim), max(2, 144 // head_dim))
    heads = [h for h in range(1, d_model + 1) if d_model % h == 0 and d_model // h <= 128]
    vocab = integer(rng, 8, 40) if chance(rng, 0.1) else integer(rng, 30, min(1500, 16 * d_model))
    pad, eos, start = special_ids(rng, vocab)
    return {
        "architectures": ["M2M100ForConditionalGeneration"],
        "model_type": "m2m_100",
        "vocab_size": vocab,
        "d_model": d_model,
        "encoder_layers": integer(rng, 1, 3),
        "decoder_layers": integer(rng, 1, 3),
        "encoder_ffn_dim": integer(rng, 3, 200),
        "decoder_ffn_dim": integer(rng, 3, 200),
        "encoder_attention_heads": d_model // head_dim,
        "decoder_attention_heads": pick(rng, heads) if chance(rng, 0.4) else d_model // head_dim,
        "activation_function": pick(rng, ("relu", "gelu", "swish", "silu"), (4, 4, 3, 1)),
        "scale_embedding": chance(rng, 0.75),
        "max_position_embeddings": pick(rng, (8, 64, 1024), (1, 1, 2)),
        "pad_token_id": pad,
        "bos_token_id": 0,
        "eos_token_id": eos,
        "decoder_start_token_id": start,
        "is_encoder_decoder": True,
        "use_cache": True,
        "tie_word_embeddings": True,
    }


def shared_by(ranks, config):
    """`config` with the heads and feed-forward columns of both stacks raised to the next that `ranks` divides;
    the encoder's heads keep their size. Nothing is drawn: what follows is drawn as without ranks."""
    if ranks == 1:
        return config
    up = lambda size: -(-size // ranks) * ranks
    heads = up(config["encoder_attention_heads"])
    d_model = config["d_model"] // config["encoder_attention_heads"] * heads
    least = config["decoder_attention_heads"]
    fitting = (h for h in range(up(least), d_model + 1, ranks) if d_model % h == 0 and d_model // h <= 128)
    return config | {
        "d_model": d_model,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": next(fitting),
        "encoder_ffn_dim": up(config["encoder_ffn_dim"]),
        "decoder_ffn_dim": up(config["decoder_ffn_dim"]),
    }


def special_ids(rng, vocab):
    """pad, eos (an id or a list) and decoder_start: NLLB's 1, 2, 2 mostly."""
    if chance(rng, 0.8):
        pad, eos, start = 1, 2, 2
    else:
        pad, eos, start = (int(i) for i in rng.choice(8, 3, replace=False))
    if vocab > 60 and chance(rng, 0.15):
        eos = [eos] + [int(i) for i in rng.choice(np.arange(8, vocab), integer(rng, 1, 2), replace=False)]
    return pad, eos, start


def random_defaults(rng, config):
    """What generation_config.json says: a limit mostly, and search options now and then."""
    defaults = {
        key: config[key] for key in ("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id")
    }
    if chance(rng, 0.85):
        defaults["max_length"] = integer(rng, 12, 40)
    if chance(rng, 0.3):
        defaults["num_beams"] = integer(rng, 2, 4) if config["vocab_size"] >= 30 else 2
        defaults["early_stopping"] = pick(rng, (True, False))
    if chance(rng, 0.15):
        defaults["length_penalty"] = pick(rng, (0.5, 1.5))
    if chance(rng, 0.15):
        defaults["repetition_penalty"] = pick(rng, (1.2, 0.9))
    if chance(rng, 0.1) and config["vocab_size"] >= 100:
        defaults["no_repeat_ngram_size"] = 3
    return defaults


def write_json(directory, spec, in_config):
    config = dict(spec.config, torch_dtype=str(FILE_DTYPES[spec.file_dtype]).removeprefix("torch."))
    if in_config:
        config |= spec.defaults
    else:
        (directory / "generation_config.json").write_text(json.dumps(spec.defaults, indent=2))
    (directory / "config.json").write_text(json.dumps(config, indent=2))


# --- weights -------------------------------------------------------------------------------------


class Weights:
    """Draws tensors. Every block's share of the residual stream is a little above the embedding's, and
    attention peaked, so that outputs depend on the source, the position and the tokens before."""

    def __init__(self, rng, config):
        self.rng, self.config, self.tensors = rng, config, {}
        self.sharpness = rng.uniform(1.4, 2.0)
        self.cross = rng.uniform(1.4, 3.0)

    def normal(self, name, shape, scale, mean=0.0):
        draw = self.rng.standard_normal(shape, dtype=np.float32)
        self.tensors[name] = torch.from_numpy(draw * np.float32(scale) + np.float32(mean))

    def linear(self, name, outputs, inputs, gain):
        self.normal(f"{name}.weight", (outputs, inputs), gain / inputs**0.5)
        self.normal(f"{name}.bias", (outputs,), 0.1)

    def norm(self, name, scale=0.2, mean=1.0):
        self.normal(f"{name}.weight", (self.config["d_model"],), scale, mean)
        self.normal(f"{name}.bias", (self.config["d_model"],), 0.1)

    def attention(self, name, gain):
        d = self.config["d_model"]
        for part, scale in (("k", self.sharpness), ("v", 1.0), ("q", self.sharpness), ("out", gain)):
            self.linear(f"{name}.{part}_proj", d, d, scale)

    def layer(self, side, index):
        d, f = self.config["d_model"], self.config[f"{side}_ffn_dim"]
        name = f"model.{side}.layers.{index}"
        self.attention(f"{name}.self_attn", 1.5)
        self.norm(f"{name}.self_attn_layer_norm")
        if side == "decoder":
            self.attention(f"{name}.encoder_attn", self.cross)
            self.norm(f"{name}.encoder_attn_layer_norm")
        self.linear(f"{name}.fc1", f, d, 1.4)
        self.linear(f"{name}.fc2", d, f, 2.0)
        self.norm(f"{name}.final_layer_norm")

    def embedding(self):
        """Rows of about unit size a coordinate where the model scales them up, else less, so that
        logits stay moderate; those of the ends larger, so that some step ends."""
        c = self.config
        size = self.rng.uniform(0.5, 1.2) / c["d_model"] ** (0.5 if c["scale_embedding"] else 0.25)
        self.normal(TIED_NAMES[0], (c["vocab_size"], c["d_model"]), size)
        rows = self.tensors[TIED_NAMES[0]]
        for eos in np.atleast_1d(c["eos_token_id"]):
            rows[int(eos)] *= self.rng.uniform(1.2, 2.2)

    def final_norm(self):
        """Random signs, mostly negative: tied to a positive norm the last token would only repeat."""
        c = self.config
        size = self.rng.uniform(2.0, 3.5) / (1 if c["scale_embedding"] else c["d_model"] ** 0.25)
        self.norm("model.decoder.layer_norm", size, mean=-0.6 * size)


def draw_tensors(rng, config):
    """Tensor name → float32 values, the tied embedding under the first of its names."""
    weights = Weights(rng, config)
    weights.embedding()
    for side in ("encoder", "decoder"):
        for index in range(config[f"{side}_layers"]):
            weights.layer(side, index)
    weights.norm("model.encoder.layer_norm")
    weights.final_norm()
    return weights.tensors


# --- files ---------------------------------------------------------------------------------------


def write_tensors(rng, spec):
    dtype = FILE_DTYPES[spec.file_dtype]
    tensors = {name: value.to(dtype) for name, value in draw_tensors(rng, spec.config).items()}
    shared = tensors.pop(TIED_NAMES[0])
    tensors |= dict.fromkeys(spec.tied_names, shared)
    if spec.file_format == "bin":
        if chance(rng, 0.2):  # a table that the model computes for itself; readers ignore the stored one
            tensors["model.encoder.embed_positions.weights"] = torch.full((4, spec.config["d_model"]), 7.0, dtype=dtype)
        if chance(rng, 0.3):  # a tensor stored column by column
            name = pick(rng, sorted(name for name in tensors if name.endswith("fc1.weight")))
            tensors[name] = tensors[name].t().contiguous().t()
    write_shards(rng, spec, tensors)


def write_shards(rng, spec, tensors):
    stem, suffix = ("pytorch_model", ".bin") if spec.file_format == "bin" else ("model", ".safetensors")
    names = sorted(tensors)
    rng.shuffle(names)
    files = {}
    for index, name in enumerate(names):
        shard = index * spec.shards // len(names) + 1
        file = f"{stem}-{shard:05}-of-{spec.shards:05}{suffix}" if spec.shards > 1 else stem + suffix
        files.setdefault(file, {})[name] = tensors[name]
    for file, part in files.items():
        if spec.file_format == "bin":
            torch.save(part, spec.directory / file)
        else:
            save_file(part, spec.directory / file, metadata={"format": "pt"})
    if spec.shards > 1:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        weight_map = {name: file for file, part in files.items() for name in part}
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (spec.directory / f"{stem}{suffix}.index.json").write_text(json.dumps(index, indent=2))


def read_tensors(spec):
    """The files' tensors as float32, the tied embedding under all its names."""
    tensors = {}
    for file in sorted(spec.directory.glob(f"*{'.bin' if spec.file_format == 'bin' else '.safetensors'}")):
        if spec.file_format == "bin":
            tensors |= torch.load(file, weights_only=True)
        else:
            from safetensors.torch import load_file

            tensors |= load_file(file)
    shared = tensors[spec.tied_names[0]]
    tensors |= dict.fromkeys(TIED_NAMES, shared)
    return {name: tensor.float() for name, tensor in tensors.items() if "embed_positions" not in name}
