"""Do a bundle's modules, run by XLA, give what the CPU backend gives?

    .venv/check/bin/python scripts/check_modules.py --cases 12 --plugins A.so B.so [--demo 20] [--plant]

Random tiny checkpoints, one with a vocabulary whose best are found in two stages, each compiled for the CPU and, with
random sizes, as modules, which jaxlib's parser has to take and which are run in passes: by one plugin in one of the
formats, HLO and StableHLO, `generate` and `forward`; `generate` alone by the other plugin in the other format; every
fourth by the first plugin in that, too (XLA compiles these two without optimising). Half of them are for two or four devices
together, which the plugin simulates. What `neuroglot forward` gives may be off by 1e-4 of the largest, and sequences
have to be the CPU's but where the CPU itself has no choice that is clearer than 1e-4. bf16 is asked of the same modules
interpreted, with 2^-6 (the CPU's bf16 rounds matrices alone). In every pass every module has to run, and what is beyond
the compiled sizes to be refused with both numbers. --demo N judges the demo model so, with random ids, and compares N
sentences, --plant plants faults in modules and fails unless each is noticed. The last line is
`modules: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import json
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import demo_modules
import judge_modules
import module_cases
import parsed_modules
import planted_modules
import shared
from binary import Binary, BinaryFailed, parse_answer
from check_tokens import lively_model
from judge_modules import CLOSE, LEFT_OUT, Found, Judge, judge_refusal

ROOT = Path(__file__).resolve().parent.parent
FORMATS = ("hlo", "mlir")
REQUESTS = 12  # random ones of a bundle, and
FORWARDS = 2
BOTH_FORMATS = 4  # every so many, by one plugin
UNOPTIMISED = "--xla_backend_optimization_level=0"
DEMO = -1  # the index of the demo model's bundle
WIDE = 0  # that of the model with a wide vocabulary


@dataclass
class Unit:
    """One bundle to judge."""

    seed: int
    index: int
    passes: list  # (plugin, format): the first is asked everything
    options: argparse.Namespace

    @property
    def name(self):
        return f"{self.seed}:{'demo' if self.index == DEMO else self.index}"


class Case:
    """One checkpoint, compiled twice, with requests and what the CPU answers to them."""

    def __init__(self, unit, work, compiled=None):
        self.work = Path(work)
        self.rng = np.random.default_rng([unit.seed, abs(unit.index)])
        self.make_model(unit, compiled)
        self.cpu = Binary(unit.options.binary, work, "cpu")
        self.modules = Binary(unit.options.binary, work, "pjrt")
        self.use(*unit.passes[0])
        dtype = ["--dtype", self.compiled.dtype]
        model = str(self.spec.directory)
        self.cpu.run(["compile", model, "-o", str(self.work / "cpu"), *dtype], "")
        self.modules.run(["compile", model, "-o", str(self.work / "modules"), *dtype, *self.compiled.options()], "")
        self.manifest = json.loads((self.work / "modules/manifest.json").read_text())
        self.draw(unit.options.interpreter)

    def make_model(self, unit, compiled):
        if unit.index == DEMO:
            self.spec, self.compiled = module_cases.demo_model(), compiled or module_cases.DEMO
            self.likely = module_cases.words(self.rng, self.spec, 40).tolist()
            return
        wide = unit.index == WIDE and not compiled
        tp = 1 if wide else compiled.tp if compiled else module_cases.draw_tp(self.rng)
        self.spec, _, self.likely = lively_model(self.rng, self.work / "model", tp)
        if wide:
            module_cases.widen(self.rng, self.spec)
            compiled = module_cases.FOR_WIDE
        self.compiled = compiled or module_cases.make_compiled(self.rng, self.spec, tp)

    def use(self, plugin, form, flags=""):
        """Who runs the modules from here on."""
        self.device = ["--device", f"pjrt:{plugin}"]
        os.environ |= {"NEUROGLOT_PJRT_FORMAT": form, "XLA_FLAGS": flags}

    def draw(self, interpreter):
        """Windows of requests, inputs of `forward`, and what is expected: of the CPU, or of the same modules
        interpreted, which round at the same points."""
        rng, spec, compiled = self.rng, self.spec, self.compiled
        self.windows = module_cases.driving_windows(rng, spec, compiled)
        self.windows.append([module_cases.make_request(rng, spec, compiled, self.likely) for _ in range(REQUESTS)])
        candidates = self.manifest["sizes"]["candidates"]
        self.beyond = list(module_cases.refused_requests(rng, spec, compiled, candidates))
        rounds = compiled.dtype == "bf16"
        binary = Binary(interpreter, self.work, "pjrt") if rounds else self.cpu
        bundle, options = ("modules", ["--device", "pjrt:interpreter"]) if rounds else ("cpu", [])
        forward = lambda inputs: binary.forward(self.work / bundle, inputs, options)
        logits = lambda inputs: forward(inputs)["logits"]
        rows = None if compiled.with_logits else candidates
        self.judged = Judge(spec, compiled.dtype, rows, logits)
        self.expected = self.answers(binary, bundle, self.windows, options)
        self.inputs = [module_cases.forward_inputs(rng, spec, compiled) for _ in range(FORWARDS * compiled.with_logits)]
        self.outputs = list(map(forward, self.inputs))

    def answers(self, binary, bundle, windows, options):
        lines = binary.generate_in_turn(self.work / bundle, windows, options)
        return [list(map(parse_answer, window)) for window in lines]

    # --- judging ---

    def judge(self, bundle="modules", with_forward=True):
        found = Found()
        try:
            if with_forward:
                self.judge_forward(bundle, found)
            windows = [*self.windows[:-1], self.windows[-1] + [request for request, _ in self.beyond]]
            answers = self.answers(self.modules, bundle, windows, [*self.device, *self.stats()])
            self.note_executions(found)
            for requests, ours, theirs in zip(self.windows, answers, self.expected):
                for one in zip(requests, ours, theirs):
                    self.judged.answer(*one, found)
            for (_, numbers), answer in zip(self.beyond, answers[-1][REQUESTS:]):
                judge_refusal(numbers, answer, found)
        except BinaryFailed as error:
            found.wrong.append(str(error))
        return found

    def judge_passes(self, passes):
        """A Found of all passes, every module of which had to run in each."""
        total, flags = Found(wrong=parsed_modules.refusals(self.work / "modules")), ""
        for plugin, form in passes:
            self.use(plugin, form, flags)
            found = self.judge(with_forward=not flags)
            idle = {module["name"] for module in self.manifest["modules"]} - found.ran
            if idle and not found.wrong:
                found.wrong.append(f"modules that never ran: {', '.join(sorted(idle))}")
            total.add(found, f"{form}, {Path(plugin).name}: ")
            flags = UNOPTIMISED
        return total

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


# --- all of them ---------------------------------------------------------------------------------


def run_unit(unit):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="check-modules-") as work:
        try:
            case = Case(unit, work)
        except BinaryFailed as error:
            return unit, "", "f32", Found(wrong=[str(error)])
        facts = f"{case.spec.describe()}\n  {case.compiled.describe()}"
        return unit, facts, case.compiled.dtype, case.judge_passes(unit.passes)


def units(options):
    """The demo's bundle if it is asked for, and random ones: (plugin, format) of the first pass drawn at random, each
    pair once among as many as there are; then another plugin in the other format, and now and then the same."""
    rng = np.random.default_rng(options.seed)
    pairs = [(str(plugin), form) for plugin in options.plugins for form in FORMATS]
    drawn = []
    while len(drawn) < options.cases + 1:
        rng.shuffle(pairs)
        drawn += map(tuple, pairs)
    for index in range(-1 if options.demo else 0, options.cases):
        plugin, form = drawn[index]
        others = [str(other) for other in options.plugins if str(other) != plugin]
        runners = [others[index % len(others)]] if others else []
        runners += [plugin] if not others or index % BOTH_FORMATS == 0 else []
        passes = [(plugin, form), *((runner, FORMATS[form == FORMATS[0]]) for runner in runners)]
        if options.only in (None, index):
            yield Unit(options.seed, index, [(str(one), str(name)) for one, name in passes], options)


def few_left_out(dtype, total):
    """Whether as few requests were too close to call as may be, of those compared in a type."""
    few = total.left_out <= LEFT_OUT[dtype] * total.compared
    print(f"{total.compared} requests compared in {dtype}, {total.left_out} left out as too close to call"
          f"{'' if few else ': too many'}, {total.refused} refused for want of whole rows", flush=True)  # fmt: skip
    return few


def run_all(options):
    """(passed, failed) over all bundles, and whether few were left out."""
    passed = failed = modules = 0
    totals = {dtype: Found() for dtype in CLOSE}
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for unit, facts, dtype, found in pool.imap_unordered(run_unit, list(units(options))):
            totals[dtype].add(found)
            modules += len(found.ran)
            passed, failed = passed + (not found.wrong), failed + bool(found.wrong)
            if found.wrong:
                print(f"bundle {unit.name}: {facts}", flush=True)
            for wrong in found.wrong[:8]:
                print(f"  {wrong[:1500]}", flush=True)
            if (passed + failed) % 10 == 0:
                print(f"{passed + failed} bundles, {failed} failed", file=sys.stderr, flush=True)
    if not passed + failed:
        print("no bundle was judged")
        return 0, 1
    few = all([few_left_out(dtype, total) for dtype, total in totals.items()])
    print(f"{modules} modules ran in {passed + failed} bundles", flush=True)
    return passed + few, failed + (not few)


def plant(options):
    """(passed, failed): is each fault noticed, in answers, and in modules by a plugin that runs HLO as it is?"""
    answers = judge_modules.planted()
    for name, good in answers:
        print(f"planted {name}: {'as it has to be' if good else 'FAIL'}", flush=True)
    passed = sum(good for _, good in answers)
    failed = len(answers) - passed
    for caches, tp, dtype, faults in planted_modules.GROUPS:
        compiled = module_cases.Compiled((1, 4), 3, (8, 20), 20, "device", True, dtype, caches, tp=tp)
        with tempfile.TemporaryDirectory(prefix="check-modules-") as work:
            case = Case(Unit(1, 0, [(str(options.plugins[0]), "hlo")], options), work, compiled)
            case.use(options.plugins[0], "hlo", UNOPTIMISED)
            whole = case.judge()
            whole.wrong += parsed_modules.refusals(case.work / "modules")
            group = f"{caches}, {dtype}, tp {tp}"
            print(f"nothing planted, {group}: {'; '.join(whole.wrong) or 'nothing found'}", flush=True)
            for name, fault in faults.items():
                count = planted_modules.plant(fault, case.work / "modules", case.work / "planted")
                parsed = name in planted_modules.PARSED
                wrong = parsed_modules.refusals(case.work / "planted") if parsed else case.judge("planted").wrong
                said = wrong[0][:150] if wrong else "FAIL"
                print(f"planted {name}, {dtype}: {count} modules, {len(wrong)} findings; {said}", flush=True)
                good = bool(count and wrong and not whole.wrong)
                passed, failed = passed + good, failed + (not good)
    os.environ["XLA_FLAGS"] = ""
    return passed, failed


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    parser.add_argument("--interpreter", default=str(ROOT / "build/release/interpreted"))
    parser.add_argument("--plugins", nargs="+", type=Path, default=plugins_installed())
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed if not given")
    parser.add_argument("--only", type=int, help="one bundle of those that --cases and --seed give; -1: the demo's")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--demo", type=int, default=0, help="the demo model, and so many of its sentences")
    parser.add_argument("--plant", action="store_true", help="plant faults, which have to be noticed")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(2**31)
    return options


def plugins_installed():
    packages = Path(np.__file__).resolve().parent.parent
    return sorted(packages.glob("fastatomstruct_xla_cpu/*.so")) + sorted(packages.glob("xla_plugins/*/*.so"))


def need_plugins(check, options):
    """Ends the program as failed where there is nobody to run a module."""
    absent = [str(path) for path in options.plugins if not path.is_file()]
    if absent or not options.plugins:
        print(f"no PJRT plugin {' '.join(absent) or 'is installed'}: `scripts/venv.sh check` installs two")
        shared.finish(check, 0, 1)


def main():
    options = parse_options()
    need_plugins("modules", options)
    begin = time.monotonic()
    print(f"seed {options.seed}; plugins {', '.join(path.name for path in options.plugins)}", flush=True)
    results = [(*run_all(options), 0)]
    if options.plant:
        results.append((*plant(options), 0))
    if options.demo:
        results.append(demo_modules.check(options, FORMATS))
    passed, failed, skipped = (sum(column) for column in zip(*results))
    print(f"{options.cases} bundles in {time.monotonic() - begin:.0f} s")
    shared.finish("modules", passed, failed, skipped)


if __name__ == "__main__":
    main()
