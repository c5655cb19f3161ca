"""Does 3.3B become modules for Neuron in the time, sizes and memory that are promised?

    .venv/check/bin/python scripts/check_emission.py [--quick] [--work FOLDER]

--quick takes the configuration alone: which modules the default options give, how long `analyze` lowers and emits
them all (as the compiler does, and counts besides; by the CPU's clock, other work or not), how large they are, and
whether all fits a core of inf2; and the same of two ranks, each of which takes half of a core. Without it, a
checkpoint of 3.3B (float16) is made and compiled for inf2 with --dtype bf16 --emit-only, for two ranks and for one
core, this in turns with `dd` of the same bytes; the modules of both are parsed; then, of the one
core's, the stand-in compiles them, `finish` takes them back, and the bundle is loaded by the emulated libnrt,
whose first run is made to fail: what the host then holds beyond the tensors that stand for the device's.

Not measured: AWS's libnrt and its own copies on the host, the driver, plugins, whose device is the host, and loading
any module but the first encoder.
Needs 20 GB of disk and 12 GB of memory. The last line is `emission: N passed, N failed`; exit code 3 is a failure.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from planted_modules import module_class

ROOT = Path(__file__).resolve().parent.parent
SHAPE = "nllb-200-3.3B"
CONFIG = {
    "model_type": "m2m_100",
    "vocab_size": 256206,
    "d_model": 2048,
    "encoder_layers": 24,
    "decoder_layers": 24,
    "encoder_ffn_dim": 8192,
    "decoder_ffn_dim": 8192,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "activation_function": "relu",
    "scale_embedding": True,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "max_length": 200,
}
MODULES = {"encode": 8, "prefill": 2, "decode": 2}
EMIT_SECONDS = 10  # graph → bytes of all modules
MODULE_BYTES, LITERAL_BYTES = 4e6, 1024
COMPILE_BYTES = 1.5e9  # anonymous
DISK_SHARE = 0.5  # of dd's speed
GROWING = ".bundle.*.partial/weights.bin"
CORE_BYTES = 16 * 2**30
TPS = (2, 1)  # ranks; the last bundle is the one that is finished and loaded
HALF = 0.52  # of one core's memory at most: what each of two ranks takes
LOAD_BYTES = 4 * 2**30  # of the host, beside what stands for the device


class Results:
    def __init__(self):
        self.passed = self.failed = 0

    def add(self, name, holds, detail):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {detail}", flush=True)


# --- measuring -----------------------------------------------------------------------------------


def anonymous_bytes(process):
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def cpu_seconds():
    """Of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Run:
    """A command that ran: its exit code, output, seconds, seconds of a CPU, most anonymous bytes, and since when
    `growing`, a pattern below a folder, had bytes, in seconds before the end."""

    def __init__(self, command, folder=None, growing="", environment=None):
        begin, before, self.anonymous, seen = time.monotonic(), cpu_seconds(), 0, None
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=os.environ | (environment or {}), **pipes) as process:
            talk = threading.Thread(target=lambda: self.take(process.communicate()))
            talk.start()
            while talk.is_alive():
                self.anonymous = max(self.anonymous, anonymous_bytes(process))
                if growing and seen is None and any(path.stat().st_size for path in folder.glob(growing)):
                    seen = time.monotonic()
                talk.join(0.02)
        end = time.monotonic()
        self.code, self.seconds, self.cpu = process.returncode, end - begin, cpu_seconds() - before
        self.growing_seconds = end - seen if seen else None

    def take(self, both):
        self.output, self.errors = both


def disk_seconds(weights):
    """How long the disk takes for these bytes, once more beside them: written by dd around the page cache, whose speed
    depends on the memory that a virtual machine happens to hold."""
    place = weights.with_name("dd")
    begin = time.monotonic()
    subprocess.run(["dd", f"if={weights}", f"of={place}", "bs=4M", "oflag=direct", "status=none"], check=True)
    seconds = time.monotonic() - begin
    place.unlink()
    return seconds


# --- the configuration alone ---------------------------------------------------------------------


def analysis(results, options, model, tp):
    """What `analyze` says of the default options."""
    words = ["analyze", str(model), "--target", "inf2", "--dtype", "bf16", "--tp", str(tp), "--json"]
    run = Run([options.binary, *words])
    found = json.loads(run.output) if run.code == 0 else {"modules": []}
    counts = {phase: sum(one["phase"] == phase for one in found["modules"]) for phase in MODULES}
    right = counts == MODULES and len(found["modules"]) == sum(MODULES.values())
    results.add(f"modules of the default options, tp {tp}", right, f"{counts} {run.errors.strip()}")
    detail = f"{run.cpu:.2f} s of one CPU, {EMIT_SECONDS} at most; {run.seconds:.2f} s beside other work"
    results.add(f"graph to bytes of all modules, tp {tp}", right and run.cpu <= EMIT_SECONDS, detail)
    if right:
        largest = max(one["hlo_bytes"] for one in found["modules"])
        detail = f"{largest} bytes, {MODULE_BYTES:.0f} at most"
        results.add(f"the largest module, tp {tp}", largest <= MODULE_BYTES, detail)
        check_plan(results, found, tp)
    return found


def analyses(results, options, work):
    """What is planned for each number of ranks."""
    model = work / "config"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    found = {tp: analysis(results, options, model, tp) for tp in TPS}
    if not all(one["modules"] for one in found.values()):
        return {}
    rank, core = (found[tp]["memory"]["core_bytes"] for tp in TPS)
    results.add("memory of a rank of two", rank <= HALF * core, f"{rank / core:.1%} of one core's, {HALF:.0%} at most")
    return found


def state_bytes():
    """Caches of the default options (docs/neuron.md), reckoned apart: 8 slots, 4 beams, 256 tokens, bf16."""
    rows = 8 * 256 + 8 * 4 * 256 + 1
    return CONFIG["decoder_layers"] * 2 * rows * CONFIG["d_model"] * 2


def check_plan(results, found, tp):
    memory = found["memory"]
    core, reckoned = memory["core_bytes"], state_bytes() // tp
    holds = core <= CORE_BYTES == memory["hbm_bytes_per_core"] and memory["fits"] is True
    results.add(f"memory of a core of inf2, tp {tp}", holds, f"{core / 2**30:.2f} GiB of {CORE_BYTES / 2**30:.0f}")
    same = memory["state_bytes"] == reckoned
    results.add(f"caches, tp {tp}", same, f"{memory['state_bytes']} bytes, reckoned {reckoned}")


# --- with weights --------------------------------------------------------------------------------


def make(results, options, work):
    folder = work / "checkpoint"
    run = Run([options.binary, "make-checkpoint", "--quiet", "--shape", SHAPE, "--dtype", "f16", "--seed", "7", str(folder)])
    config = json.loads((folder / "config.json").read_text()) if run.code == 0 else {}
    same = all(config.get(key) == value for key, value in CONFIG.items())
    results.add("a checkpoint with this configuration", same, f"{run.seconds:.0f} s {run.errors.strip()}")
    return folder


def emit(results, options, work, checkpoint, tp):
    """A bundle of modules alone; how fast one core's weights are written is measured besides."""
    bundle = work / "bundle"
    words = ["compile", str(checkpoint), "-o", str(bundle), "--target", "inf2", "--dtype", "bf16", "--tp", str(tp)]
    command = [options.binary, *words, "--emit-only", "--quiet"]
    run = Run(command, work, GROWING)
    detail = f"{run.seconds:.0f} s, {run.cpu:.0f} s of CPU, {run.anonymous / 1e6:.0f} MB anonymous, {COMPILE_BYTES / 1e6:.0f} at most {run.errors.strip()}"
    results.add(f"memory of compile --emit-only, tp {tp}", run.code == 0 and 0 < run.anonymous <= COMPILE_BYTES, detail)
    if run.code != 0 or tp > 1:
        return bundle
    # In turns: a disk that others share is fast for a while, then slow.
    ours, disk = run.growing_seconds or float("inf"), disk_seconds(bundle / "weights.bin")
    again = Run(command + ["--force"], work, GROWING)
    ours, disk = ours + (again.growing_seconds or float("inf")), disk + disk_seconds(bundle / "weights.bin")
    size, share = 2 * (bundle / "weights.bin").stat().st_size, disk / ours
    detail = f"{size / ours / 1e6:.0f} MB/s, dd {size / disk / 1e6:.0f} MB/s: {share:.0%}, {DISK_SHARE:.0%} at least"
    results.add("writing weights", share >= DISK_SHARE, detail)
    return bundle


def literal_bytes(data, module):
    """Of the largest constant of a module."""
    module.ParseFromString(data)
    literals = [one.literal for computation in module.computations for one in computation.instructions if one.HasField("literal")]
    return max(4 * len(one.s32s) + 4 * len(one.f32s) + len(one.bf16s) for one in literals)


def parse(results, bundle, found, tp):
    module = module_class()()
    files = {path.stem: path.read_bytes() for path in sorted((bundle / "hlo").glob("*.pb"))}
    named = {one["name"] for one in found["modules"]}
    results.add(f"modules in the bundle, tp {tp}", set(files) == named, f"{len(files)}")
    largest = max(map(len, files.values()))
    results.add(f"the largest module in the bundle, tp {tp}", largest <= MODULE_BYTES, f"{largest} bytes")
    literal = max(literal_bytes(data, module) for data in files.values())
    detail = f"{literal} bytes, {LITERAL_BYTES} at most"
    results.add(f"the largest literal, tp {tp}", 0 < literal <= LITERAL_BYTES, detail)
    tensors = json.loads((bundle / "manifest.json").read_text())["tensors"]
    others = tuple(f".r{rank}" for rank in range(1, tp))  # what all share and what rank 0 has are a core's
    weights = sum(tensor["bytes"] for name, tensor in tensors.items() if not name.endswith(others))
    planned = found["memory"]["weight_bytes"]
    detail = f"{weights} bytes, planned {planned}"
    results.add(f"a core's weights in the bundle are those of the plan, tp {tp}", weights == planned, detail)


def finish(results, options, work, bundle):
    """NEFFs by the stand-in, taken back."""
    neffs = work / "neffs"
    neffs.mkdir()
    for path in sorted((bundle / "hlo").glob("*.pb")):
        words = ["compile", str(path), "--framework", "XLA", "--target", "inf2", "--output", str(neffs / f"{path.stem}.neff")]
        subprocess.run([options.compiler, *words], cwd=neffs, check=True, stderr=subprocess.DEVNULL)
    run = Run([options.binary, "finish", str(bundle), "--neffs", str(neffs), "--quiet"])
    detail = f"{run.seconds:.0f} s, {run.anonymous / 1e6:.0f} MB anonymous {run.errors.strip()}"
    results.add("finish", run.code == 0 and run.anonymous <= COMPILE_BYTES, detail)


def load(results, options, bundle, found):
    """Loads the first encoder, whose run is made to fail, and measures what the host holds for it."""
    name = "encode-b1-s32-t256"
    module = next(one for one in found["modules"] if one["name"] == name)
    device = module["weight_bytes"] + module["state_bytes"]
    request = json.dumps({"input_ids": [4, 5, 6, 2], "num_beams": 4, "max_length": 4})
    source = bundle.parent / "requests.jsonl"
    source.write_text(request + "\n")
    words = ["generate", str(bundle), str(source), "--device", "emulated", "--quiet"]
    run = Run([options.binary, *words], environment={"EMULATED_NRT": "nrt_execute@1=1006"})
    host = run.anonymous - device
    reached = "nrt_execute" in run.errors + run.output and run.anonymous > device
    detail = f"{host / 1e6:.0f} MB beside {device / 1e9:.2f} GB of device tensors, {LOAD_BYTES / 2**30:.0f} GiB at most"
    results.add(f"memory of the host, {name} loaded", reached and host <= LOAD_BYTES, f"{detail} {run.errors.strip()[-200:]}")


def full(results, options, work, found):
    checkpoint = make(results, options, work)
    for tp in TPS:
        bundle = emit(results, options, work, checkpoint, tp)
        if not (bundle / "manifest.json").exists():
            continue
        parse(results, bundle, found[tp], tp)
        if tp > 1:
            subprocess.run(["rm", "-r", str(bundle)], check=True)
    subprocess.run(["rm", "-r", str(checkpoint)], check=True)
    if (bundle / "manifest.json").exists():
        finish(results, options, work, bundle)
        load(results, options, bundle, found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/release/neuroglot"))
    parser.add_argument("--compiler", default=str(ROOT / "build/release/emulated-neuronx-cc"))
    parser.add_argument("--quick", action="store_true", help="the configurations alone")
    parser.add_argument("--work", default=os.environ.get("TMPDIR", "/var/tmp"), help="folder for the checkpoint")
    options = parser.parse_args()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="check-emission-", dir=options.work) as folder:
        work = Path(folder)
        found = analyses(results, options, work)
        if not options.quick and found:
            full(results, options, work, found)
    print(f"emission: {results.passed} passed, {results.failed} failed")
    sys.exit(3 if results.failed else 0)


if __name__ == "__main__":
    main()
