"""Do a bundle's modules, run by XLA, give what the CPU backend gives?

    .venv/check/bin/python scripts/check_modules.py --cases 12 --plugins A.so B.so [--demo 20] [--plant]

Random tiny checkpoints, each compiled for the CPU and, with random sizes, as modules, which one of the plugins
runs as HLO or as StableHLO: half of them on two or four devices together, which it simulates. What `neuroglot
forward` gives may be off by 1e-4 of the largest (bf16: 2^-6, against the same modules interpreted: the CPU's
bf16 rounds matrices alone). `neuroglot generate` has to give the CPU's sequences in float32, but where the CPU
itself has no choice that is clearer than 1e-4; every module has to run, and what is beyond the compiled sizes
to be refused with both numbers. --demo N compares N sentences of the demo model, --plant plants faults in
modules and fails unless each is noticed. The last line is `modules: N passed, N failed`; exit code 3 is a
failure.
"""

import argparse
import json
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import demo_modules
import module_cases
import planted_modules
from binary import Binary, BinaryFailed, parse_answer
from check_tokens import lively_model
from judge import first_difference
from reference import Answer

ROOT = Path(__file__).resolve().parent.parent
FORMATS = ("hlo", "mlir")
CLOSE = {"f32": 1e-4, "bf16": 2.0**-6}  # of the largest value, of an output
NEAR = 1e-4  # scores that are closer, relatively, are no choice
LEFT_OUT = 0.02  # of the compared requests at most
REQUESTS = 12  # random ones of a bundle, and
FORWARDS = 2


@dataclass
class Found:
    """What was found about one bundle."""

    wrong: list = field(default_factory=list)
    compared: int = 0
    left_out: int = 0
    refused: int = 0  # for whole rows that the bundle does not give
    ran: set = field(default_factory=set)  # modules


@dataclass
class Unit:
    """One bundle to judge."""

    seed: int
    index: int
    plugin: str
    format: str
    options: argparse.Namespace

    @property
    def name(self):
        return f"{self.seed}:{self.index}"


class Case:
    """One checkpoint, compiled twice, with requests and what the CPU answers to them."""

    def __init__(self, unit, work, compiled=None):
        self.work = Path(work)
        self.rng = np.random.default_rng([unit.seed, unit.index])
        tp = compiled.tp if compiled else module_cases.draw_tp(self.rng)
        self.spec, _, self.likely = lively_model(self.rng, self.work / "model", tp)
        self.compiled = compiled or module_cases.make_compiled(self.rng, self.spec, tp)
        self.cpu = Binary(unit.options.binary, work, "cpu")
        self.modules = Binary(unit.options.binary, work, "pjrt")
        self.device = ["--device", f"pjrt:{unit.plugin}"]
        os.environ["NEUROGLOT_PJRT_FORMAT"] = unit.format
        dtype = ["--dtype", self.compiled.dtype]
        model = str(self.spec.directory)
        self.cpu.run(["compile", model, "-o", str(self.work / "cpu"), *dtype], "")
        self.modules.run(["compile", model, "-o", str(self.work / "modules"), *dtype, *self.compiled.options()], "")
        self.manifest = json.loads((self.work / "modules/manifest.json").read_text())
        self.draw(unit.options.interpreter)

    def draw(self, interpreter):
        """Windows of requests, inputs of `forward`, and what is expected."""
        rng, spec, compiled = self.rng, self.spec, self.compiled
        self.windows = module_cases.driving_windows(rng, spec, compiled)
        self.windows.append([module_cases.make_request(rng, spec, compiled, self.likely) for _ in range(REQUESTS)])
        self.beyond = list(module_cases.refused_requests(rng, spec, compiled, self.manifest["sizes"]["candidates"]))
        self.expected = self.answers(self.cpu, "cpu", self.windows, [])
        self.inputs, self.outputs = [], []
        if not compiled.with_logits:
            return
        exact = compiled.dtype == "bf16"
        judge = Binary(interpreter, self.work, "pjrt") if exact else self.cpu
        options = ["--device", "pjrt:interpreter"] if exact else []
        for _ in range(FORWARDS):
            self.inputs.append(module_cases.forward_inputs(rng, spec, compiled))
            self.outputs.append(judge.forward(self.work / ("modules" if exact else "cpu"), self.inputs[-1], options))

    def answers(self, binary, bundle, windows, options):
        lines = binary.generate_in_turn(self.work / bundle, windows, options)
        return [list(map(parse_answer, window)) for window in lines]

    # --- judging ---

    def judge(self, bundle="modules"):
        found = Found()
        try:
            self.judge_forward(bundle, found)
            windows = [*self.windows[:-1], self.windows[-1] + [request for request, _ in self.beyond]]
            answers = self.answers(self.modules, bundle, windows, [*self.device, *self.stats()])
            self.note_executions(found)
            for requests, ours, theirs in zip(self.windows, answers, self.expected):
                for one in zip(requests, ours, theirs):
                    self.judge_answer(*one, found)
            for (_, numbers), answer in zip(self.beyond, answers[-1][REQUESTS:]):
                judge_refusal(numbers, answer, found)
        except BinaryFailed as error:
            found.wrong.append(str(error))
        return found

    def stats(self):
        return ["--stats", str(self.work / "stats.json")]

    def note_executions(self, found):
        found.ran |= set(json.loads((self.work / "stats.json").read_text())["executions"])

    def judge_forward(self, bundle, found):
        for inputs, theirs in zip(self.inputs, self.outputs):
            ours = self.modules.forward(self.work / bundle, inputs, [*self.device, *self.stats()])
            self.note_executions(found)
            for name, exact in theirs.items():
                if ours[name].shape != exact.shape:
                    found.wrong.append(f"forward: {name} is {ours[name].shape}, not {exact.shape}")
                    continue
                off, most = np.abs(ours[name] - exact).max(), np.abs(exact).max()
                if not off <= CLOSE[self.compiled.dtype] * most:  # not: NaN is a difference too
                    found.wrong.append(f"forward: {name} is off by {off / most:.3g} of the largest")

    def judge_answer(self, request, ours, theirs, found):
        """Equal sequences with scores that are close; errors as they are."""
        if isinstance(ours, str) and ours.endswith("compile with --with-logits") and not self.compiled.with_logits:
            found.refused += 1
            return
        if isinstance(ours, str) or isinstance(theirs, str):
            if ours != theirs:
                found.wrong.append(f"{ours}, not {theirs}: {json.dumps(request)}")
            return
        if self.compiled.dtype == "bf16":  # another rounding than the CPU's: forward judges it
            return
        found.compared += 1
        if [len(ours.sequences), len(ours.scores)] != [len(theirs.sequences), len(theirs.scores)]:
            found.wrong.append(f"{len(ours.sequences)} sequences, not {len(theirs.sequences)}: {json.dumps(request)}")
            return
        close = np.allclose(ours.scores, theirs.scores, rtol=NEAR, atol=NEAR)
        same = (ours.sequences, ours.finish_reason) == (theirs.sequences, theirs.finish_reason)
        if same and close:
            return
        if not same and (close if theirs.scores else self.no_choice(request, ours, theirs)):
            found.left_out += 1
            return
        what = f"scores {ours.scores}, not {theirs.scores}" if same else first_difference(ours, theirs)
        found.wrong.append(f"{what}: {json.dumps(request)}")

    def no_choice(self, request, ours, theirs):
        """Whether the CPU's logits of the ids at which two greedy answers part are as good as equal."""
        for row, (a, b) in enumerate(zip(ours.sequences, theirs.sequences)):
            step = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
            if step is None:
                continue
            inputs = {"input_ids": np.atleast_2d(request["input_ids"])[row : row + 1].astype(np.int32)}
            inputs["decoder_input_ids"] = np.array([b[:step]], np.int32)
            if "attention_mask" in request:
                inputs["attention_mask"] = np.atleast_2d(request["attention_mask"])[row : row + 1].astype(np.int32)
            logits = self.cpu.forward(self.work / "cpu", inputs)["logits"][0, -1]
            if abs(logits[a[step]] - logits[b[step]]) > NEAR * max(1, abs(logits[b[step]])):
                return False
        return True


def judge_refusal(numbers, answer, found):
    if isinstance(answer, Answer):
        found.wrong.append(f"a request beyond the sizes {numbers} was answered")
        return
    named = set(map(int, re.findall(r"\d+", answer)))
    if not answer.startswith("invalid_request") or not set(numbers) <= named or len(named) < 2:
        found.wrong.append(f"the refusal does not name {numbers}: {answer}")


# --- all of them ---------------------------------------------------------------------------------


def run_unit(unit):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="check-modules-") as work:
        try:
            case = Case(unit, work)
        except BinaryFailed as error:
            return unit, "", Found(wrong=[str(error)])
        found = case.judge()
        idle = {module["name"] for module in case.manifest["modules"]} - found.ran
        if idle and not found.wrong:
            found.wrong.append(f"modules that never ran: {', '.join(sorted(idle))}")
        return unit, f"{case.spec.describe()}\n  {case.compiled.describe()}", found


def units(options):
    """Plugins and formats drawn at random, each pair once among as many as there are."""
    rng = np.random.default_rng(options.seed)
    pairs = [(plugin, form) for plugin in options.plugins for form in FORMATS]
    drawn = []
    while len(drawn) < options.cases:
        rng.shuffle(pairs)
        drawn += pairs
    for index, (plugin, form) in enumerate(drawn[: options.cases]):
        unit = Unit(options.seed, index, str(plugin), str(form), options)
        if options.only in (None, index):
            yield unit


def run_all(options):
    """(passed, failed) over all bundles."""
    passed = failed = compared = left_out = refused = modules = 0
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for unit, facts, found in pool.imap_unordered(run_unit, list(units(options))):
            compared, left_out = compared + found.compared, left_out + found.left_out
            refused, modules = refused + found.refused, modules + len(found.ran)
            passed, failed = passed + (not found.wrong), failed + bool(found.wrong)
            if found.wrong:
                print(f"bundle {unit.name}, {unit.format}, {Path(unit.plugin).name}: {facts}", flush=True)
            for wrong in found.wrong[:8]:
                print(f"  {wrong[:1500]}", flush=True)
            if (passed + failed) % 10 == 0:
                print(f"{passed + failed} bundles, {failed} failed", file=sys.stderr, flush=True)
    few = left_out <= LEFT_OUT * compared
    print(
        f"{modules} modules ran; {compared} requests compared in float32, {left_out} left out as too close to call"
        f"{'' if few else ': too many'}, {refused} refused for want of whole rows",
        flush=True,
    )
    return passed + few, failed + (not few)


def plant(options):
    """(passed, failed): is each fault noticed by a plugin that runs HLO as it is?"""
    passed = failed = 0
    for caches, tp, faults in planted_modules.GROUPS:
        compiled = module_cases.Compiled((1, 4), 3, (8, 20), 20, "device", True, "f32", caches, tp=tp)
        with tempfile.TemporaryDirectory(prefix="check-modules-") as work:
            case = Case(Unit(1, 0, str(options.plugins[0]), "hlo", options), work, compiled)
            whole = case.judge()
            print(f"nothing planted, {caches}, tp {tp}: {'; '.join(whole.wrong) or 'nothing found'}")
            for name, fault in faults.items():
                count = planted_modules.plant(fault, case.work / "modules", case.work / "planted")
                wrong = case.judge("planted").wrong
                print(f"planted {name}: {count} modules, {len(wrong)} findings; {wrong[0][:150] if wrong else 'FAIL'}", flush=True)
                good = bool(count and wrong and not whole.wrong)
                passed, failed = passed + good, failed + (not good)
    return passed, failed


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    parser.add_argument("--interpreter", default=str(ROOT / "build/release/interpreted"))
    parser.add_argument("--plugins", nargs="+", type=Path, default=plugins_installed())
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed if not given")
    parser.add_argument("--only", type=int, help="one bundle of those that --cases and --seed give")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--demo", type=int, default=0, help="sentences of the demo model")
    parser.add_argument("--plant", action="store_true", help="plant faults, which have to be noticed")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(2**31)
    return options


def plugins_installed():
    packages = Path(np.__file__).resolve().parent.parent
    return sorted(packages.glob("fastatomstruct_xla_cpu/*.so")) + sorted(packages.glob("xla_plugins/*/*.so"))


def main():
    options = parse_options()
    begin = time.monotonic()
    print(f"seed {options.seed}; plugins {', '.join(path.name for path in options.plugins)}", flush=True)
    results = [run_all(options)]
    if options.plant:
        results.append(plant(options))
    if options.demo:
        results.append(demo_modules.check(options, FORMATS))
    passed, failed = (sum(column) for column in zip(*results))
    print(f"{options.cases} bundles in {time.monotonic() - begin:.0f} s")
    print(f"modules: {passed} passed, {failed} failed")
    sys.exit(3 if failed else 0)


if __name__ == "__main__":
    main()
