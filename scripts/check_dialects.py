"""Do Neuron's modules and XLA's differ in nothing but the instructions that find the best, and kinds of aliases?

    .venv/check/bin/python scripts/check_dialects.py --cases 12 [--plant]

The demo model, alone and with two ranks, and random tiny checkpoints, one of them with a vocabulary that needs two
stages, are compiled with random sizes for pjrt and for inf2. In each module of inf2 every custom call AwsNeuronTopK
with its two results becomes a stable sort of scores and columns, cut, its computation is added, instructions are
numbered anew, aliases get XLA's kind: the bytes have to be those of pjrt's module, which check_modules.py runs. The
weights have to be the same bytes too. Each inf2 module is parsed by jaxlib and given to emulated-neuronx-cc, which
knows the compiler's published rules and opcodes (erf, which it refuses, is cut out where a model has gelu). --plant
plants differences that have to be seen. The last line is `dialects: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import secrets
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import module_cases
import parsed_modules
import random_models
from binary import Binary
from planted_modules import entry, module_class

ROOT = Path(__file__).resolve().parent.parent
PRED, S32, TUPLE, MAY_ALIAS = 1, 4, 13, 1
DEMO = module_cases.Compiled((1, 8), 4, (32, 128), 200, "device", True, "f32")
Module = module_class()


class OtherForm(Exception):
    """What is to be replaced does not look as it has to."""


def require(condition, what):
    if not condition:
        raise OtherForm(what)


# --- the XLA form of what stands in a Neuron module ----------------------------------------------


def set_array(shape, element_type, dimensions):
    shape.Clear()
    shape.element_type = element_type
    shape.dimensions.extend(dimensions)
    shape.layout.tail_padding_alignment_in_elements = 1
    shape.layout.minor_to_major.extend(reversed(range(len(dimensions))))
    shape.is_dynamic_dimension.extend(False for _ in dimensions)


def add(to, opcode, operands):
    """An instruction whose id is only of use here, until all are numbered."""
    made = to.add()
    made.opcode, made.id = opcode, add.next_id
    made.name = b"%s.%d" % (opcode, made.id)
    made.operand_ids.extend(operands)
    add.next_id += 1
    return made


add.next_id = 1 << 40  # beyond those of any module


def greater(computation, element_type):
    """Of two scores a and b and two columns: a > b."""
    computation.name = b"greater"
    scalars = (element_type, element_type, S32, S32)
    for number, scalar in enumerate(scalars):
        made = add(computation.instructions, b"parameter", [])
        made.parameter_number = number
        set_array(made.shape, scalar, [])
        computation.program_shape.parameters.add().CopyFrom(made.shape)
        computation.program_shape.parameter_names.append(b"p%d" % number)
    a, b = (made.id for made in computation.instructions[:2])
    root = add(computation.instructions, b"compare", [a, b])
    root.comparison_direction = b"GT"
    set_array(root.shape, PRED, [])
    computation.program_shape.result.CopyFrom(root.shape)
    computation.root_id = root.id


def sorted_and_cut(to, operand, results, called):
    """Scores [rows, n] sorted with their columns, and their first k; the slices get the ids of `results`."""
    rows, width = operand.shape.dimensions
    element_type, (_, k) = operand.shape.element_type, results[0].shape.dimensions
    columns = add(to, b"iota", [])
    columns.dimensions.append(1)
    set_array(columns.shape, S32, [rows, width])
    both = add(to, b"sort", [operand.id, columns.id])
    both.shape.element_type, both.is_stable = TUPLE, True
    both.dimensions.append(1)
    both.called_computation_ids.append(called)
    parts = []
    for number, one in enumerate((element_type, S32)):
        set_array(both.shape.tuple_shapes.add(), one, [rows, width])
        part = add(to, b"get-tuple-element", [both.id])
        part.tuple_index = number
        set_array(part.shape, one, [rows, width])
        parts.append(part)
    for part, result in zip(parts, results):
        best = add(to, b"slice", [part.id])
        best.id, best.name = result.id, b"slice.%d" % result.id
        best.shape.CopyFrom(result.shape)
        for limit in (rows, k):
            cut = best.slice_dimensions.add()
            cut.limit, cut.stride = limit, 1


def check_call(call, operand, results):
    require(call.custom_call_target == b"AwsNeuronTopK", f"{call.name} calls {call.custom_call_target}")
    require(len(results) == 2, f"{call.name} is not followed by its results")
    require([one.opcode for one in results] == [b"get-tuple-element"] * 2, f"{call.name} has other readers")
    require([list(one.operand_ids) for one in results] == [[call.id]] * 2, f"{call.name} has other readers")
    require([one.tuple_index for one in results] == [0, 1], f"the results of {call.name} are crossed")
    require([one.shape for one in results] == list(call.shape.tuple_shapes), f"{call.name} gives other types")
    rows, k = results[0].shape.dimensions
    require(call.backend_config == b"%d" % k and operand.shape.dimensions[0] == rows, f"{call.name} has another k")


def replace_calls(main, called):
    """How many custom calls of the entry became sorts. `called` names the comparison."""
    before, by_id, count = list(main.instructions), {one.id: one for one in main.instructions}, 0
    after = type(main)()
    skip = 0
    for at, instruction in enumerate(before):
        if skip:
            skip -= 1
            continue
        if instruction.opcode != b"custom-call":
            after.instructions.add().CopyFrom(instruction)
            continue
        require(len(instruction.operand_ids) == 1, f"{instruction.name} has not one operand")
        operand, results = by_id[instruction.operand_ids[0]], before[at + 1 : at + 3]
        check_call(instruction, operand, results)
        sorted_and_cut(after.instructions, operand, results, called)
        skip, count = 2, count + 1
    del main.instructions[:]
    main.instructions.extend(after.instructions)
    return count


def place_of_greater(module, main):
    """Computations stand in the order in which the entry first calls them."""
    seen = []
    for instruction in main.instructions:
        if instruction.opcode == b"custom-call":
            return len(seen), instruction.shape.tuple_shapes[0].element_type
        seen += [one for one in instruction.called_computation_ids if one not in seen]
    return None, None


def number_anew(module):
    """Ids 1, 2, … over all instructions and all computations, and the names that hold them."""
    computations = {one.id: number + 1 for number, one in enumerate(module.computations)}
    every = [one for computation in module.computations for one in computation.instructions]
    ids = {one.id: number + 1 for number, one in enumerate(every)}
    require(len(ids) == len(every) and len(computations) == len(module.computations), "an id is used twice")
    for one in every:
        if one.name == b"%s.%d" % (one.opcode, one.id):
            one.name = b"%s.%d" % (one.opcode, ids[one.id])
        one.id = ids[one.id]
        one.operand_ids[:] = [ids[operand] for operand in one.operand_ids]
        one.called_computation_ids[:] = [computations[called] for called in one.called_computation_ids]
    for computation in module.computations:
        computation.id, computation.root_id = computations[computation.id], ids[computation.root_id]
    module.entry_computation_id = computations[module.entry_computation_id]


def as_xla(data):
    """(XLA's form of a Neuron module, how many instructions were replaced)."""
    module = Module.FromString(data)
    ids = [one.id for computation in module.computations for one in computation.instructions]
    require(ids == list(range(1, len(ids) + 1)), "ids are not 1, 2, …")
    require([one.id for one in module.computations] == list(range(1, len(module.computations) + 1)), "computations")
    for alias in module.input_output_alias.entries:
        require(alias.kind == 0, "an alias is not of Neuron's kind")
        alias.kind = MAY_ALIAS
    place, element_type = place_of_greater(module, entry(module))
    if place is None:
        return module.SerializeToString(deterministic=True), 0
    added = type(entry(module))()
    added.id = 1 << 40
    greater(added, element_type)
    count = replace_calls(entry(module), added.id)
    computations = list(module.computations)
    computations.insert(place, added)
    del module.computations[:]
    module.computations.extend(computations)
    number_anew(module)
    return module.SerializeToString(deterministic=True), count


def first_difference(ours, theirs):
    """Where two modules part, in words."""
    ours, theirs = Module.FromString(ours), Module.FromString(theirs)
    for a, b in zip(ours.computations, theirs.computations):
        for x, y in zip(a.instructions, b.instructions):
            if x != y:
                return f"{x.name.decode()} and {y.name.decode()}"
    return "what stands around the instructions"


def difference(neuron, xla):
    """("" or how they differ beyond what may differ, replaced instructions)."""
    try:
        ours, count = as_xla(neuron)
    except OtherForm as error:
        return str(error), 0
    return ("" if ours == xla else f"other bytes: {first_difference(ours, xla)}"), count


# --- planted differences -------------------------------------------------------------------------


def called(module, opcode):
    return [one for one in entry(module).instructions if one.opcode == opcode]


def plant_k(module):
    for call in called(module, b"custom-call")[:1]:
        call.backend_config = b"%d" % (int(call.backend_config) - 1)


def plant_crossed(module):
    for at, one in enumerate(entry(module).instructions):
        if one.opcode == b"custom-call":
            first, second = entry(module).instructions[at + 1 : at + 3]
            first.tuple_index, second.tuple_index = 1, 0
            return


def plant_operands(module):
    for one in called(module, b"multiply")[:1]:
        one.operand_ids[:] = reversed(one.operand_ids)


def plant_constant(module):
    for one in called(module, b"constant")[:1]:
        if one.literal.f32s:
            one.literal.f32s[0] += 1
        else:
            one.literal.s32s[0] += 1


def plant_alias(module):
    for one in module.input_output_alias.entries[:1]:
        one.parameter_number += 1


def plant_clamp(module):
    for one in called(module, b"minimum")[:1]:
        one.opcode = b"maximum"


def plant_direction(module):
    for one in called(module, b"compare")[:1]:
        one.comparison_direction = b"LE"


def plant_kind(module):
    for one in module.input_output_alias.entries[:1]:
        one.kind = MAY_ALIAS


def plant_name(module):
    entry(module).program_shape.parameter_names[0] += b"2"


PLANTS = (plant_k, plant_crossed, plant_operands, plant_constant, plant_alias, plant_clamp, plant_direction)
PLANTS += (plant_kind, plant_name)


def planted(pairs):
    """(passed, failed): is each difference seen in every module that can have it?"""
    passed = failed = 0
    for plant in PLANTS:
        could = seen = 0
        for neuron, xla in pairs:
            module = Module.FromString(neuron)
            plant(module)
            data = module.SerializeToString(deterministic=True)
            could += data != neuron
            seen += data != neuron and bool(difference(data, xla)[0])
        print(f"{plant.__name__.replace('_', 'ed ', 1)}: in {could} modules, seen in {seen}")
        good = 0 < could == seen
        passed, failed = passed + good, failed + (not good)
    return passed, failed


# --- bundles -------------------------------------------------------------------------------------


def refusals(compiler, path):
    """What the stand-in says of a module's rules."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["compile", str(path), "--framework", "XLA", "--target", "inf2", "--output", f"{folder}/x.neff"]
        done = subprocess.run([compiler, *words], cwd=folder, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("[ERROR]")]
    return said or ([] if done.returncode == 0 else [f"exit code {done.returncode}: {done.stderr.strip()}"])


def judge_bundles(options, work, model, compiled, gelu):
    """([what is wrong], pairs of modules, replaced instructions) of one model and one choice of sizes."""
    wrong, pairs, count = [], [], 0
    for target in ("pjrt", "inf2"):
        more = ["--emit-only"] if target == "inf2" else []
        if gelu and target == "pjrt":  # inf2 has it cut, and so it is cut for both
            more = ["--target", "inf2", "--emit-only"]
        words = ["compile", str(model), "-o", str(work / target), "--dtype", compiled.dtype, *compiled.options(), *more]
        Binary(options.binary, work, target).run(words, "")
    if (work / "pjrt/weights.bin").read_bytes() != (work / "inf2/weights.bin").read_bytes():
        wrong.append("the weights are not the same bytes")
    names = [sorted(path.name for path in (work / target / "hlo").iterdir() if not path.name.endswith(".inf2.pb"))
             for target in ("pjrt", "inf2")]
    if names[0] != names[1]:
        wrong.append(f"modules {names[0]} and {names[1]}")
    for name in names[1]:
        data = [(work / target / "hlo" / name).read_bytes() for target in ("inf2", "pjrt")]
        found, replaced = difference(*data)
        pairs.append(data)
        count += replaced
        wrong += [f"{name}: {found}"] if found else []
        wrong += [f"{name}: {said}" for said in refusals(options.compiler, work / "inf2/hlo" / name)]
    wrong += parsed_modules.refusals(work / "inf2")
    finds = {name.split(".")[0] for name in names[1] if name.startswith("decode") and compiled.topk == "device"}
    if count < len(finds):
        wrong.append(f"{count} instructions replaced in {len(finds)} modules that find the best")
    return wrong, pairs, count


def random_case(seed, index, work):
    """A model and sizes; the first has a wide vocabulary, whose best the device finds."""
    rng = np.random.default_rng([seed, index])
    tp = module_cases.draw_tp(rng)
    spec = random_models.make_model(rng, work / "model", tp)
    if index == 0:
        module_cases.widen(rng, spec, activation_function="relu")
    gelu = spec.config["activation_function"] == "gelu"  # which is cut: ranks run whole modules alone
    compiled = module_cases.make_compiled(rng, spec, 1 if gelu else tp)
    if index == 0:
        compiled.topk = "device"
    return spec, compiled


def cases(options, work):
    """(name, model, sizes, whether it has gelu) of each case."""
    for tp in (1, 2):
        yield f"demo, tp {tp}", ROOT / "models/demo", replace(DEMO, tp=tp), False
    for index in range(options.cases):
        spec, compiled = random_case(options.seed, index, work / f"case{index}")
        gelu = spec.config["activation_function"] == "gelu"
        yield f"{options.seed}:{index}, {spec.describe()}", spec.directory, compiled, gelu


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    parser.add_argument("--compiler", default=str(ROOT / "build/release/emulated-neuronx-cc"))
    parser.add_argument("--cases", type=int, default=12, help="random models beside the demo")
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed if not given")
    parser.add_argument("--plant", action="store_true", help="plant differences, which have to be seen")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(2**31)
    return options


def main():
    options = parse_options()
    passed = failed = modules = replaced = 0
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="check-dialects-") as folder:
        for number, (name, model, compiled, gelu) in enumerate(cases(options, Path(folder))):
            work = Path(folder) / f"bundles{number}"
            work.mkdir()
            wrong, pairs, count = judge_bundles(options, work, model, compiled, gelu)
            modules, replaced = modules + len(pairs), replaced + count
            passed, failed = passed + (not wrong), failed + bool(wrong)
            for one in wrong[:8]:
                print(f"{name}, {compiled.describe()}: {one}", flush=True)
            if options.plant and number == 0:
                more = planted(pairs)
                passed, failed = passed + more[0], failed + more[1]
    print(f"{modules} modules compared, {replaced} instructions replaced in them")
    print(f"dialects: {passed} passed, {failed} failed")
    sys.exit(3 if failed else 0)


if __name__ == "__main__":
    main()
