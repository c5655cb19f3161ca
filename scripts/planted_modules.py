"""Which faults in a bundle's modules does check_modules.py have to notice?

Each changes the HLO of a copy of a bundle and hashes its files anew, so that nothing but the results,
or a reader's own rules, can tell.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, message_factory

PROTO = Path(__file__).resolve().parent.parent / "src/backends/xla/hlo.proto"


def module_class():
    """The message ng.hlo.Module."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={file.name}", PROTO], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(file.name).read_bytes()).file
    return message_factory.GetMessages(files)["ng.hlo.Module"]


def entry(module):
    return next(one for one in module.computations if one.id == module.entry_computation_id)


def mask_one_too_long(module):
    """Attention reads the key behind the last."""
    masks = [i for i in entry(module).instructions if i.opcode == b"compare" and len(i.shape.dimensions) == 4]
    for instruction in masks:
        instruction.comparison_direction = b"LE"
    return bool(masks)


def history_mask_only(module):
    """The same where a row reads the tokens before it, not the source."""
    if module.name.startswith(b"encode"):
        return False
    masks = [i for i in entry(module).instructions if i.opcode == b"compare" and len(i.shape.dimensions) == 4]
    masks[0].comparison_direction = b"LE"
    return True


def wrong_slot(module):
    """Sentences read the last slot: a clamp from above becomes one from below."""
    names = list(entry(module).program_shape.parameter_names)
    if b"slot" not in names:
        return False
    reached = {i.id for i in entry(module).instructions if i.opcode == b"parameter" and i.name == b"p%d" % names.index(b"slot")}
    for instruction in entry(module).instructions:
        if instruction.opcode in (b"maximum", b"minimum") and reached & set(instruction.operand_ids):
            reached.add(instruction.id)
            instruction.opcode = b"maximum"
    return len(reached) > 1


def parents_ignored(module):
    """Beams that are put in order stay where they were: rows are written into the caches as they came."""
    body, names = entry(module), list(entry(module).program_shape.parameter_names)
    if b"parent" not in names:
        return False
    by_id = {i.id: i for i in body.instructions}
    for scatter in (i for i in body.instructions if i.opcode == b"scatter"):
        gather = by_id[by_id[scatter.operand_ids[0]].operand_ids[0]]
        scatter.operand_ids[0] = by_id[gather.operand_ids[0]].operand_ids[0]
    return True


def states_crosswise(module):
    """The first two states, keys and values of a layer, are given back in each other's place."""
    if len(module.input_output_alias.entries) < 2:
        return False
    operands = entry(module).instructions[-1].operand_ids
    a, b = (one.output_shape_index[0] for one in module.input_output_alias.entries[:2])
    operands[a], operands[b] = operands[b], operands[a]
    return True


def aliases_swapped(module):
    """Two outputs take each other's memory."""
    entries = module.input_output_alias.entries
    if len(entries) < 2:
        return False
    a, b = entries[0], entries[1]
    a.parameter_number, b.parameter_number = b.parameter_number, a.parameter_number
    return True


def worst_for_best(module):
    """Candidates are sorted the wrong way."""
    changed = False
    for computation in module.computations:
        for instruction in computation.instructions:
            if instruction.opcode == b"compare" and instruction.comparison_direction == b"GT":
                instruction.comparison_direction = b"LT"
                changed = True
    return changed


def operand_of_nobody(module):
    """The last instruction reads what no instruction gives: a parser's to refuse."""
    entry(module).instructions[-1].operand_ids[0] = 1 << 20
    return True


# --- faults of modules that ranks run together ---


def bypass(body, instruction, operand):
    """Whoever reads `instruction` reads `operand`, an id, instead."""
    for reader in body.instructions:
        reader.operand_ids[:] = [operand if one == instruction.id else one for one in reader.operand_ids]


def readers(body, name):
    """Instructions that read the parameter whose name ends so, reshaped and broadcast; none if there is no such."""
    names = list(body.program_shape.parameter_names)
    numbers = {number for number, one in enumerate(names) if one.endswith(name)}
    reached = {i.id for i in body.instructions if i.opcode == b"parameter" and i.parameter_number in numbers}
    for shape in (i for i in body.instructions if i.opcode in (b"reshape", b"broadcast")):
        if reached & set(shape.operand_ids):
            reached.add(shape.id)
    return [i for i in body.instructions if i.id not in reached and reached & set(i.operand_ids)]


def part_for_sum(module, which):
    """The own part of a rank is taken for the sum of all in one of the all-reduces."""
    body = entry(module)
    sums = [i for i in body.instructions if i.opcode == b"all-reduce"]
    bypass(body, sums[which], sums[which].operand_ids[0])
    return True


def nothing_banned(module):
    """Rows of a rank that are no ids have the score 0."""
    body, changed = entry(module), False
    for add in readers(body, b".banned"):
        bypass(body, add, add.operand_ids[0])
        changed = True
    return changed


def chosen_by_rank(body):
    """(select of positions, that of ids) where a rank reads its part of the embedding."""
    of_first = {i.opcode: i.id for i in readers(body, b".first")}
    reader = lambda opcode, of: next(i for i in body.instructions if i.opcode == opcode and i.operand_ids[:1] == [of])
    below_own = reader(b"compare", of_first[b"subtract"])
    return reader(b"select", of_first[b"compare"]), reader(b"select", below_own.id)


def position_of_every_rank(module):
    """Each rank adds the position, not the first alone."""
    body = entry(module)
    positions, _ = chosen_by_rank(body)
    bypass(body, positions, positions.operand_ids[1])
    return True


def lower_ids_kept(module):
    """Ids of the ranks before read a rank's first row, not its last, which is zeros."""
    body = entry(module)
    _, ids = chosen_by_rank(body)
    bypass(body, ids, ids.operand_ids[2])
    return True


def row_before_the_zeros(module):
    """Ids of other ranks read the row before the last: an id's where a rank has as many as it may."""
    body = entry(module)
    by_id = {i.id: i for i in body.instructions}
    _, ids = chosen_by_rank(body)
    by_id[by_id[ids.operand_ids[1]].operand_ids[0]].literal.s32s[0] -= 1
    return True


FAULTS = {  # of bundles with histories
    "a mask one too long": mask_one_too_long,
    "a mask of the history one too long": history_mask_only,
    "a wrong slot": wrong_slot,
    "keys and values crosswise": states_crosswise,
    "two aliases swapped": aliases_swapped,
    "the worst for the best": worst_for_best,
    "an operand of nobody": operand_of_nobody,
}
PARSED = ("an operand of nobody",)  # these are asked of jaxlib's parser alone
STEP_FAULTS = {  # of decodes alone, which `forward` does not run
    f"{name}, in steps": lambda module, fault=fault: module.name.startswith(b"decode") and fault(module)
    for name, fault in FAULTS.items()
    if name in ("a mask one too long", "a wrong slot", "keys and values crosswise")
}
REORDER_FAULTS = {"parents ignored": parents_ignored}
RANK_FAULTS = {
    "a part for the embedding's sum": lambda module: part_for_sum(module, 0),
    "a part for the last sum": lambda module: part_for_sum(module, -1),
    "nothing banned": nothing_banned,
    "a position of every rank": position_of_every_rank,
    "ids of the ranks before kept": lower_ids_kept,
    "the row before the zeros": row_before_the_zeros,
}
GROUPS = (  # (caches, ranks, dtype, faults)
    ("history", 1, "f32", FAULTS),
    ("history", 1, "bf16", STEP_FAULTS),
    ("reorder", 1, "f32", REORDER_FAULTS),
    ("history", 2, "f32", RANK_FAULTS),
)


def plant(fault, bundle, place):
    """A copy of `bundle` at `place` with the fault in every module that can have it; how many could."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(bundle, place)
    manifest = json.loads((place / "manifest.json").read_text())
    planted, module = 0, module_class()()
    for path in sorted(place.glob("hlo/*.pb")):
        module.ParseFromString(path.read_bytes())
        if not fault(module):
            continue
        planted += 1
        data = module.SerializeToString(deterministic=True)
        path.write_bytes(data)
        manifest["files"][f"hlo/{path.name}"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    (place / "manifest.json").write_text(text)
    (place / "manifest.sha256").write_text(hashlib.sha256(text.encode()).hexdigest() + "  manifest.json\n")
    return planted
