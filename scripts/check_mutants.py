"""Is every mistake that mutants.py plants in the sources noticed by the tests and checks there are?

    .venv/check/bin/python scripts/check_mutants.py [--sample 3] [--only NAME …] [--all-judges]

Needs build/release whole. Each mutant is one changed source, compiled as there and linked before the library
into copies of `neuroglot` and `ng_tests`. Judges are asked until one notices:

    units           unit tests of graphs, passes, emitters, buckets and searches
    tokens          check_tokens.py: the CPU backend against transformers
    dialects        check_dialects.py: Neuron's modules and XLA's, the published rules
    hlo, stablehlo  check_modules.py: modules run by a plugin against the unchanged CPU backend
    ranks           the same of modules that two devices of a plugin run together

Those who noticed any have to take what is not changed, compiled and linked anew as the mutants are. A mutant whose text does not stand in its source once is a
failure, as is one that nobody notices. The last line is `mutants: N passed, N failed`; exit code 3 is one.
"""

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import check_dialects
import check_modules
import check_tokens
import judge
import module_cases
import random_requests
import reference
from binary import Binary, BinaryFailed, parse_answer
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/release"
UNITS = (
    "EmitHlo.*:EmitStablehlo.*:ImportHlo.*:ModuleInterface.*:StaticLowering.*:Phases/*:Fuse.*:Buckets.*"
    ":HostResults.*:Columns.*:BeamSearch.*:Batch.*:Session.*:Ranks.*-*AfterARunThatFailed*:*ARankThatFails*"
)
PROGRAMS = ("neuroglot", "ng_tests")
SIZES = module_cases.Compiled((1, 3), 3, (9,), 20, "device", True, "f32")
MODELS = (1, 4)  # of check_tokens.py's fixed seed
REQUESTS = 4  # to each
TIMEOUT = 300  # seconds: a mutant that does not end is noticed, too


# --- building ------------------------------------------------------------------------------------


def run(command):
    """The lines a command ends with, "" where it ends well."""
    done = subprocess.run(command, cwd=BUILD, capture_output=True, text=True)
    return "\n".join((done.stdout + done.stderr).splitlines()[-8:]) if done.returncode else ""


def compile_command(file):
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        if entry["file"] == str(ROOT / file) and "CMakeFiles/ng.dir/" in entry["command"]:
            return shlex.split(entry["command"])
    raise SystemExit(f"{file} is not compiled in {BUILD}")


def link_command(program):
    """As ninja links it: ": && g++ … -o PROGRAM libng.a … && :"."""
    commands = subprocess.run(["ninja", "-t", "commands", program], cwd=BUILD, capture_output=True, text=True, check=True)
    return shlex.split(commands.stdout.splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))


def replaced(words, old, new):
    words[words.index(old)] = new
    return words


def build(mutant, text, folder):
    """"" or what went wrong; the programs are in `folder` then."""
    source, made = folder / Path(mutant.file).name, folder / "mutant.o"
    source.write_text(text)
    command = replaced(compile_command(mutant.file), str(ROOT / mutant.file), str(source))
    command[command.index("-o") + 1] = str(made)
    said = run(command)
    for program in PROGRAMS:
        link = link_command(program)
        link[link.index("-o") + 1] = str(folder / program)
        link.insert(link.index("libng.a"), str(made))
        said = said or run(link)
    return said


# --- judges: each gives "" or what it noticed ----------------------------------------------------

folders = []  # that live as long as the process


def kept():
    folders.append(tempfile.TemporaryDirectory(prefix="check-mutants-"))
    return Path(folders[-1].name)


def by_units(programs, options):
    command = [programs / "ng_tests", "--gtest_brief=1", "--gtest_fail_fast", f"--gtest_filter={UNITS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"no end in {TIMEOUT} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("[  FAILED  ]")]
    return "" if done.returncode == 0 else (lines or [f"exit code {done.returncode}"])[0]


def by_dialects(programs, options):
    """The demo, and a model whose best are found in two stages."""
    options = SimpleNamespace(binary=str(programs / "neuroglot"), compiler=str(BUILD / "emulated-neuronx-cc"))
    with tempfile.TemporaryDirectory() as work:
        spec, sizes = check_dialects.random_case(1, 0, Path(work) / "case")
        for number, (model, compiled) in enumerate(((spec.directory, sizes), (ROOT / "models/demo", check_dialects.DEMO))):
            (Path(work) / str(number)).mkdir()
            wrong, _, _ = check_dialects.judge_bundles(options, Path(work) / str(number), model, compiled, False)
            if wrong:
                return wrong[0]
    return ""


@functools.cache
def case(plugin, tp):
    """A checkpoint with requests and what the unchanged CPU backend answers."""
    given = SimpleNamespace(binary=str(BUILD / "neuroglot"), interpreter=str(BUILD / "interpreted"))
    made = check_modules.Case(check_modules.Unit(1, 0, [(plugin, "hlo")], given), kept(), replace(SIZES, tp=tp))
    del made.inputs[1:], made.outputs[1:]  # each costs a process that loads all modules
    return made


def run_by_plugin(programs, options, form, tp=1):
    judged = case(str(options.plugins[0]), tp)
    judged.modules = Binary(programs / "neuroglot", judged.work, "pjrt")
    words = ["compile", str(judged.spec.directory), "-o", str(judged.work / "mutant"), "--force"]
    judged.modules.run([*words, *judged.compiled.options()], "")
    os.environ["NEUROGLOT_PJRT_FORMAT"] = form
    wrong = judged.judge("mutant").wrong
    return wrong[0] if wrong else ""


@dataclass
class Asked:
    """One of check_tokens.py's models, and what transformers answers to requests."""

    spec: object
    requests: list
    answers: list  # in float32 and in float64, for each
    inputs: list  # of forward, for each request
    outputs: list  # of transformers' forward in float32, three ways, and in float64


@functools.cache
def asked(index):
    rng = np.random.default_rng([check_tokens.FIXED_SEED, index])
    spec, theirs, likely = check_tokens.lively_model(rng, kept() / "model")
    requests = [random_requests.make_request(rng, spec, likely) for _ in range(REQUESTS)]
    inputs = [random_requests.forward_inputs(rng, spec, request) for request in requests]
    answers = [[reference.generate(model, request) for model in theirs.both] for request in requests]
    outputs = [(reference.forward_f32(theirs.f32, one), reference.forward(theirs.f64, one)) for one in inputs]
    return Asked(spec, requests, answers, inputs, outputs)


def by_tokens(programs, options):
    for index in MODELS:
        model = asked(index)
        binary = Binary(programs / "neuroglot", kept(), "cpu")
        words = ["--dtype", model.spec.run_dtype, "--threads", "1"]
        lines = binary.generate(model.spec.directory, model.requests, words)
        outputs = []
        for number, (line, answers) in enumerate(zip(lines, model.answers)):
            ours = parse_answer(line)
            found = judge.judge(ours, *answers).found if isinstance(ours, reference.Answer) else {"error": ours}
            for criterion, difference in found.items():
                return f"model {index}, request {number}, {criterion}: {difference}"
            given, theirs = model.inputs[number], model.outputs[number]
            ours = binary.forward(model.spec.directory, given, words)
            outputs.append(judge.Outputs(ours, *theirs, given.get("attention_mask")))
        for number, found in enumerate(judge.judge_outputs(outputs)):
            for difference in found.values():
                return f"model {index}, request {number}: {difference}"
    return ""


JUDGES = {
    "units": by_units,
    "tokens": by_tokens,
    "dialects": by_dialects,
    "hlo": functools.partial(run_by_plugin, form="hlo"),
    "stablehlo": functools.partial(run_by_plugin, form="mlir"),
    "ranks": functools.partial(run_by_plugin, form="hlo", tp=2),
}


def ask(name, programs, options):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return JUDGES[name](programs, options)
    except BinaryFailed as error:
        return str(error)


# --- all of them ---------------------------------------------------------------------------------


def try_mutant(mutant, options):
    """(who noticed it, what there is to say): nobody's name is a failure."""
    text = (ROOT / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        return [], f"its text stands {text.count(mutant.old)} times in {mutant.file}"
    with tempfile.TemporaryDirectory(prefix="check-mutants-") as folder:
        said = build(mutant, text.replace(mutant.old, mutant.new), Path(folder))
        if said:
            return [], f"it does not build: {said}"
        noticed, first = [], ""
        for name in sorted(JUDGES, key=lambda name: name != mutant.judge):
            found = ask(name, Path(folder), options)
            noticed, first = noticed + [name] * bool(found), first or found
            if found and not options.all_judges:
                break
    return noticed, first


def one(task):
    mutant, options = task
    torch.set_num_threads(1)
    begin = time.monotonic()
    return mutant, *try_mutant(mutant, options), time.monotonic() - begin


def unchanged(task):
    """What a judge notices where nothing is changed, in programs that are built as the mutants' are."""
    name, options = task
    torch.set_num_threads(1)
    same = MUTANTS[0]
    with tempfile.TemporaryDirectory(prefix="check-mutants-") as folder:
        said = build(same, (ROOT / same.file).read_text(), Path(folder))
        return name, f"it does not build: {said}" if said else ask(name, Path(folder), options)


def chosen(options):
    if options.only:
        return [mutant for mutant in MUTANTS if any(part in mutant.name for part in options.only)]
    if options.sample >= len(MUTANTS) or options.sample == 0:
        return MUTANTS
    picks = np.random.default_rng(options.seed).choice(len(MUTANTS), options.sample, replace=False)
    return [MUTANTS[pick] for pick in sorted(picks)]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn; all if not given")
    parser.add_argument("--seed", type=int, default=None, help="of the sample; drawn and printed if not given")
    parser.add_argument("--only", nargs="+", help="those whose name holds one of these")
    parser.add_argument("--all-judges", action="store_true", help="ask every judge, whoever noticed first")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--plugins", nargs="+", type=Path, default=check_modules.plugins_installed())
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(2**31)
    return options


def main():
    options = parse_options()
    check_modules.need_plugins("mutants", options)
    os.environ["CCACHE_DISABLE"] = "1"  # no mutant is compiled twice
    mutants = chosen(options)
    print(f"seed {options.seed}; {len(mutants)} of {len(MUTANTS)} mutants", flush=True)
    passed, failed, judges = 0, 0, set()
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(mutants))) as pool:
        for mutant, noticed, said, seconds in pool.imap_unordered(one, [(mutant, options) for mutant in mutants]):
            by = f"noticed by {', '.join(noticed)}" if noticed else "FAIL: nobody noticed it"
            print(f"{mutant.name}: {by}, {seconds:.0f} s: {' '.join(said.split())[:200]}", flush=True)
            passed, failed, judges = passed + bool(noticed), failed + (not noticed), judges | set(noticed)
        for name, found in pool.imap_unordered(unchanged, [(name, options) for name in sorted(judges)]):
            print(f"nothing changed, {name}: {found or 'nothing found'}", flush=True)
            passed, failed = passed + (not found), failed + bool(found)
    print(f"mutants: {passed} passed, {failed} failed")
    sys.exit(3 if failed else 0)


if __name__ == "__main__":
    main()
