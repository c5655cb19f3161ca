#!/usr/bin/env python3
"""Does XLA take our modules, and compute what our interpreter does?

build/release/hlo_modules writes random graphs as HLO and as StableHLO, with inputs and expected
outputs (tests/hlo_modules.cc says how). jaxlib's XLA parses both, compiles and runs them on its
CPU. Floats may be off by 1e-4 (bfloat16: 2^-6) of the output's largest; integers not. The aliases
of the compiled module have to be ours. Modules for Neuron are parsed only: no CPU runs them.

    .venv/check/bin/python scripts/check_hlo.py [--seed N] [--count N] [--plant]

--plant also damages modules, one fault at a time, and fails when nothing notices.
The last line is `hlo: N passed, N failed`.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's greetings
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import ml_dtypes
import numpy as np
from jaxlib import _hlo, _jax

ROOT = Path(__file__).resolve().parent.parent
DTYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "I32": np.int32}
TOLERANCES = {"F32": 1e-4, "BF16": 2.0**-6, "I32": 0.0}


def read_tensors(path):
    """The tensors of a safetensors file in the order of their names."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8:8 + size]), data[8 + size:]
    return [(entry["dtype"], np.frombuffer(data[slice(*entry["data_offsets"])],
                                           DTYPES[entry["dtype"]]).reshape(entry["shape"]))
            for name, entry in sorted(header.items()) if name != "__metadata__"]


class Module:
    """A module's files, its bytes and text perhaps damaged afterwards."""
    def __init__(self, stem):
        self.name = stem.name
        self.hlo, self.text = Path(f"{stem}.pb").read_bytes(), Path(f"{stem}.mlir").read_bytes()
        self.neuron = Path(f"{stem}.neuron.pb").read_bytes()
        self.inputs = read_tensors(Path(f"{stem}.inputs.safetensors"))
        self.outputs = read_tensors(Path(f"{stem}.outputs.safetensors"))
        self.aliases = sorted(tuple(map(int, line.split()))
                              for line in Path(f"{stem}.aliases").read_text().splitlines())


def run(module, program):
    """What is wrong with the compiled program, as a string, "" if nothing."""
    devices = jax.devices()[:1]
    executable = devices[0].client.compile_and_load(
        program, _jax.DeviceList(tuple(devices)), _jax.CompileOptions())
    compiled = executable.hlo_modules()[0].to_string().splitlines()[0]
    aliases = sorted((int(output), int(parameter)) for output, parameter in
                     re.findall(r"\{(\d+)\}: \((\d+), \{\}, may-alias\)", compiled))
    if aliases != module.aliases:
        return f"aliases {aliases}, not {module.aliases}"
    arguments = [jax.device_put(tensor, devices[0]) for _, tensor in module.inputs]
    results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
    for number, (result, (dtype, expected)) in enumerate(zip(results, module.outputs, strict=True)):
        found = np.asarray(result[0])
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return f"output {number} is {found.dtype}{found.shape}"
        found, expected = found.astype(np.float64), expected.astype(np.float64)
        if not np.isfinite(expected).all():
            return f"output {number} is not finite"
        off = np.abs(found - expected).max(initial=0.0)
        if not off <= TOLERANCES[dtype] * np.abs(expected).max(initial=0.0):
            return f"output {number} of {len(results)} ({dtype}) is off by {off:.3g}"
    return ""


def judge(module):
    """(form, what is wrong with it) of each form of the module that is wrong."""
    forms = {"HLO": lambda: run(module, _jax.mlir.hlo_to_stablehlo(module.hlo)),
             "StableHLO": lambda: run(module, module.text),
             "HLO for Neuron": lambda: "" if _hlo.HloModule.from_serialized_hlo_module_proto(
                 module.neuron).to_string() else "is empty"}
    for form, check in forms.items():
        try:
            problem = check()
        except Exception as error:  # whatever XLA refuses with
            problem = str(error).splitlines()[0]
        if problem:
            yield form, problem


def plant_direction(module, right, wrong):
    tag = b"\xfa\x03\x02"  # comparison_direction = 63, 2 bytes
    module.hlo = module.hlo.replace(tag + right, tag + wrong)
    direction = b"comparison_direction "
    module.text = module.text.replace(direction + right, direction + wrong)


def plant_alias(module):
    for output, parameter in module.aliases[:1]:
        other = (output + 1) % len(module.outputs)
        entry = b"\x0a\x01%c\x10%c\x20\x01"  # output_shape_index, parameter_number, kind
        module.hlo = module.hlo.replace(entry % (output, parameter), entry % (other, parameter))
        text = b"tf.aliasing_output = %d "
        module.text = module.text.replace(text % output, text % other)


FAULTS = {"a comparison turned around": lambda module: plant_direction(module, b"LT", b"GE"),
          "the least taken for the best": lambda module: plant_direction(module, b"GT", b"LT"),
          "an alias of the wrong output": plant_alias}


def plant(stems):
    """For each fault: is it found at least once in each form? Returns (passed, failed)."""
    passed = failed = 0
    for fault, damage in FAULTS.items():
        planted, found = 0, {"HLO": 0, "StableHLO": 0}
        for stem in stems:
            module, whole = Module(stem), Module(stem)
            damage(module)
            if module.hlo == whole.hlo:
                continue
            planted += 1
            for form, _ in judge(module):
                found[form] += 1
        print(f"planted {fault}: {planted} modules, " +
              ", ".join(f"found in {count} as {form}" for form, count in found.items()))
        passed += all(found.values())
        failed += not all(found.values())
    return passed, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=ROOT / "build/release/hlo_modules", type=Path)
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--count", default=60, type=int)
    parser.add_argument("--plant", action="store_true")
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.program, folder, str(options.seed), str(options.count)], check=True)
        stems = [path.with_suffix("") for path in sorted(Path(folder).glob("*.mlir"))]
        for stem in stems:
            problems = list(judge(Module(stem)))
            for form, problem in problems:
                print(f"seed {options.seed + stems.index(stem)}, {form}: {problem}")
            failed += len(problems)
            passed += 3 - len(problems)
        if options.plant:
            more = plant(stems[:25])
            passed, failed = passed + more[0], failed + more[1]
    print(f"hlo: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
