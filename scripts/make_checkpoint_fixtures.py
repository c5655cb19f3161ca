#!/usr/bin/env python3
"""Writes testdata/checkpoint: files of real torch.save, harmless and harmful, with their values.

    python scripts/make_checkpoint_fixtures.py testdata/checkpoint        (needs torch)

expected.json: file → tensor → {dtype, shape, values}; what src/checkpoint/torch_zip_test.cc compares.
"""
import collections
import json
import os
import pathlib
import sys
import zipfile

import torch
from torch import nn

DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64",
          torch.int64: "s64", torch.int32: "s32", torch.int8: "s8", torch.uint8: "u8", torch.bool: "u8"}


class Tied(nn.Module):
    """Four names over one storage, as M2M100ForConditionalGeneration has."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(5, 4)
        self.encoder = nn.Embedding(5, 4)
        self.lm_head = nn.Linear(4, 5, bias=False)
        self.encoder.weight = self.lm_head.weight = self.shared.weight
        self.norm = nn.LayerNorm(4)


class Harm:
    """What an attacker pickles."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def count(*shape, dtype=torch.float32):
    return torch.arange(1, 1 + int(torch.tensor(shape).prod()), dtype=torch.float32).reshape(shape).to(dtype)


def good_files():
    base = count(6, 4)
    yield "dtypes", collections.OrderedDict(
        [(name, count(2, 3, dtype=dtype)) for dtype, name in DTYPES.items() if dtype != torch.bool]
        + [("bool", torch.tensor([True, False])), ("scalar", torch.tensor(7.0)), ("empty", torch.zeros(0, 3))])
    yield "tied", Tied().state_dict()
    yield "strided", {"base": base, "transposed": base.t(), "rows": base[2:4], "columns": base[:, 1:3],
                      "every_second": base[::2], "cube": base.view(2, 3, 4).permute(2, 0, 1),
                      "element": base[5, 3], "long": count(4, 4, dtype=torch.bfloat16)[1:, ::2].t()}
    yield "parameters", {"weight": nn.Parameter(count(2, 2)), "bias": nn.Parameter(count(2), requires_grad=False)}
    module = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    yield "wrapped_model", {"epoch": 3, "loss": 0.5, "model": module.state_dict(),
                            "optimizer": optimizer.state_dict(), "big": 1 << 40, "note": None}
    yield "wrapped_state_dict", {"state_dict": module.state_dict(), "done": True}


def bad_files():
    ok = count(2)
    yield "os_system", {"a": ok, "b": Harm(os.system, "echo harmed > harmed")}
    yield "eval", {"a": Harm(eval, "print('harmed')")}
    yield "builtins_getattr", Harm(getattr, ok, "numpy")
    yield "int16", {"a": count(2, dtype=torch.int16)}
    yield "sparse", {"a": torch.eye(2).to_sparse()}
    yield "list", [ok]
    yield "number", {"a": 5}
    yield "expanded", {"a": torch.ones(1).expand(1000, 1000)}


def describe(tensor):
    values = tensor.detach().to(torch.float64).flatten().tolist()
    return {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "values": values}


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    expected = {}
    for name, content in good_files():
        torch.save(content, out / f"{name}.bin")
        content = content.get("model", content.get("state_dict", content))
        expected[name + ".bin"] = {key: describe(tensor) for key, tensor in content.items()}
    for name, content in bad_files():
        torch.save(content, out / f"bad_{name}.bin")
    torch.save({"a": count(2)}, out / "bad_legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": count(2)}, out / "bad_protocol4.bin", pickle_protocol=4)
    with zipfile.ZipFile(out / "tied.bin") as source, \
            zipfile.ZipFile(out / "bad_deflated.bin", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))

    shards = out / "sharded"
    shards.mkdir(exist_ok=True)
    tied = Tied().state_dict()
    split = [{"shared.weight": tied["shared.weight"], "norm.weight": tied["norm.weight"]},
             {"norm.bias": tied["norm.bias"], "lm_head.weight": tied["shared.weight"]}]
    weight_map = {}
    for i, shard in enumerate(split):
        name = f"pytorch_model-0000{i + 1}-of-00002.bin"
        torch.save(shard, shards / name)
        weight_map.update({key: name for key in shard})
    index = {"metadata": {"total_size": 192}, "weight_map": weight_map}
    (shards / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (shards / "config.json").write_text("{}\n")
    (out / "expected.json").write_text(json.dumps(expected, indent=None) + "\n")


main()
