"""Does one bundle serve several targets, and does it take a fine-tune's weights? (After a release build.)"""
import json
import os
import random
import shutil
import struct
import subprocess
import time
import unittest

from command_line import DEMO, LANGUAGES, NEUROGLOT, ROOT
from own_home import OwnHome

COMPILER = ROOT / "build/release/emulated-neuronx-cc"
SIZES = ("--batch", "1,2", "--source-lengths", "16", "--target-length", "200", "--quiet", "--neuronx-cc", COMPILER)
TARGETS = ("cpu", "pjrt", "inf2", "trn2")
TEXT = b"I like tea.\nWhere is Tom?\nThe house is very old.\n"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fine_tune(folder):
    """The demo with other weights."""
    shutil.copytree(DEMO, folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    chooser = random.Random(1)
    for _ in range(20000):  # the lowest byte of a number
        at = start + 4 * chooser.randrange((len(data) - start) // 4)
        data[at] ^= chooser.randrange(1, 256)
    path.write_bytes(data)
    (folder / "generation_config.json").write_text((DEMO / "generation_config.json").read_text() + "\n")
    return folder


class Targets(OwnHome):
    STDIN = TEXT

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bundle = cls.compiled("all", *TARGETS)

    @classmethod
    def compiled(cls, name, *targets, model=DEMO):
        words = [word for target in targets for word in ("--target", target)]
        sizes = SIZES if {"inf2", "trn2"} & set(targets) else SIZES[:-2] if "pjrt" in targets else ("--quiet",)
        code, _, error = cls.run_here("compile", model, "-o", cls.own / name, *words, *sizes)
        assert code == 0, error
        return cls.own / name

    def translate(self, *options, code=0):
        found, out, error = self.run_here("translate", self.bundle, *LANGUAGES, *options)
        self.assertEqual(found, code, error)
        return out if code == 0 else error


class OneBundle(Targets):
    def test_every_target_finds_in_it_what_a_bundle_of_its_own_has(self):
        files, weights = contents(self.bundle), set()
        tensors = json.loads(files["manifest.json"])["tensors"]
        for target in TARGETS:
            own = contents(self.compiled(target, target))
            for name, data in own.items():
                if name.split("/")[0] in ("graphs", "hlo", "neff"):
                    stem, end = name.rsplit(".", 1)
                    self.assertEqual(files.get(f"{stem}.{target}.{end}", files.get(name)), data, (target, name))
            for name, row in json.loads(own["manifest.json"])["tensors"].items():
                self.assertEqual(tensors[name]["sha256"], row["sha256"])
                weights.add(name)
        self.assertEqual(set(tensors), weights)  # each once, and no other
        self.assertEqual(self.run_here("inspect", self.bundle, "--check", "--quiet")[0], 0)

    def test_its_bytes_do_not_depend_on_the_order_of_the_targets(self):
        again = self.compiled("again", *reversed(TARGETS), "cpu")
        self.assertEqual(contents(again), contents(self.bundle))

    def test_every_device_gives_the_demos_text(self):
        code, expected, _ = self.run_here("translate", DEMO, *LANGUAGES, "--quiet")
        self.assertEqual((code, len(expected.splitlines())), (0, 3))
        for options, device in ((("--device", "cpu"), "cpu"), (("--target", "cpu"), "cpu"),
                                (("--device", "emulated", "--target", "inf2"), "emulated inf2"),
                                (("--device", "emulated", "--target", "trn2"), "emulated trn2")):
            stats = self.own / "stats.json"
            self.assertEqual(self.translate(*options, "--stats", stats), expected)
            self.assertTrue(json.loads(stats.read_text())["device"].startswith(device))

    def test_a_target_that_is_missing_or_not_said_ends_with_1_and_those_present(self):
        everything = "cpu, inf2, pjrt, trn2"
        self.assertIn(f"compiled for {everything}: say which", self.translate(code=1))
        self.assertIn(f"compiled for {everything}", self.translate("--device", "reference", code=1))
        self.assertIn(everything, self.translate("--target", "trn1", code=1))
        for device in ("neuron", "emulated"):
            self.assertIn("inf2, trn2: say which", self.translate("--device", device, code=1))
        self.assertIn("compiled for cpu, pjrt: say which", self.translate("--target", "cpu", "--target", "pjrt", code=1))
        for target, device in (("cpu", "neuron"), ("inf2", "cpu")):
            error = self.translate("--target", target, "--device", device, code=1)
            self.assertIn("take a device of these (neuron or emulated for inf2, trn1 and trn2) and of --target", error)
        self.assertIn("pjrt:PLUGIN.so", self.translate("--target", "pjrt", code=1))
        self.assertIn("/none.so", self.translate("--device", "pjrt:/none.so", code=2))

    def test_verify_and_inspect_take_their_part_of_it(self):
        code, out, error = self.run_here("verify", self.bundle, "--device", "cpu", "--reference", DEMO, "--quiet")
        self.assertEqual(code, 0, error)
        self.assertIn("nodes are the interpreter's", out.decode())
        report = json.loads(self.run_here("inspect", self.bundle, "--json")[1])
        self.assertEqual(report["targets"], sorted(TARGETS))
        self.assertGreater(report["decode_flops_per_token"], 0)
        for name in ("decode-b1-s16-t200", "decode-b1-s16-t200.pjrt"):
            self.assertGreater(report["module_bytes"][name], 0)
        self.assertIn("say which", self.run_here("inspect", self.bundle, "--graph", "decode")[2])
        for target, name in (("cpu", "graph decode\n"), ("pjrt", "graph decode-b1-s16-t200\n")):
            self.assertIn(name, self.run_here("inspect", self.bundle, "--graph", "decode", "--target", target)[1].decode())

    def test_where_ops_are_the_cpus_every_target_has_the_same_cut_and_takes_other_weights(self):
        ops = ("--cpu-ops", "attend,embed")
        for name, model in (("cut", DEMO), ("fresh", fine_tune(self.own / "tuned-cut"))):
            words = [word for target in ("cpu", "pjrt", "inf2") for word in ("--target", target)]
            code, _, error = self.run_here("compile", model, "-o", self.own / name, *words, *ops, *SIZES)
            self.assertEqual(code, 0, error)
        expected = self.run_here("translate", DEMO, *LANGUAGES, "--quiet")[1]
        code, found, error = self.run_here(  # replicas: states on the CPU are of each
            "translate", self.own / "cut", "--device", "emulated", *LANGUAGES, "--batch", "1", EMULATED_NRT_CORES="2")
        self.assertEqual((code, found), (0, expected), error)
        for device in (("--device", "emulated"), ("--target", "cpu")):
            code, out, error = self.run_here("verify", self.own / "cut", *device, "--reference", DEMO, "--quiet")
            self.assertEqual(code, 0, error)
            self.assertIn("nodes are the interpreter's", out.decode())
        code, _, error = self.run_here("replace-weights", self.own / "cut", self.own / "tuned-cut", "--quiet")
        self.assertEqual(code, 0, error)
        cut, fresh = contents(self.own / "cut"), contents(self.own / "fresh")
        self.assertEqual({name for name in cut if cut[name] != fresh.get(name)} - {"verification.json"}, set())
        manifest = json.loads(fresh["manifest.json"])
        self.assertEqual(manifest["cpu_ops"], ["attend", "embed"])
        code, _, error = self.run_here("compile", DEMO, "-o", self.own / "no", "--target", "inf2", *ops, *SIZES,
                                       "--beam-caches", "reorder")
        self.assertEqual(code, 1)
        self.assertIn("--beam-caches reorder is not for modules that --cpu-ops cuts where states are used", error)

    def test_what_is_compiled_elsewhere_is_taken_back_target_by_target(self):
        bundle = self.own / "elsewhere"
        words = ("--target", "inf2", "--target", "trn2", "--target", "cpu", "--emit-only")
        code, out, error = self.run_here("compile", DEMO, "-o", bundle, *words, *SIZES[:-2])
        self.assertEqual(code, 0, error)
        lines = out.decode().splitlines()
        self.assertEqual(len(lines), 2 * len(json.loads((bundle / "manifest.json").read_text())["modules"]))
        neffs = self.own / "neffs"
        shutil.copytree(bundle / "hlo", neffs / "hlo")
        (neffs / "neuronx-cc").symlink_to(COMPILER)
        finish = ("finish", bundle, "--neffs", neffs, "--quiet")
        for line in lines:
            self.assertIn(".neff: is missing", self.run_here(*finish)[2])
            subprocess.run(f"PATH={neffs}:$PATH {line}", shell=True, cwd=neffs, check=True, capture_output=True)
        code, _, error = self.run_here(*finish)
        self.assertEqual(code, 0, error)
        self.assertEqual(self.run_here("inspect", bundle, "--check", "--quiet")[0], 0)
        expected = self.translate("--device", "cpu")
        for target in ("inf2", "trn2"):
            code, found, error = self.run_here("translate", bundle, *LANGUAGES, "--device", "emulated", "--target", target)
            self.assertEqual((code, found), (0, expected), error)


class ReplaceWeights(Targets):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tuned = fine_tune(cls.own / "tuned")

    def test_it_gives_the_bundle_that_compiling_gives(self):
        fresh = contents(self.compiled("fresh", *TARGETS, model=self.tuned))
        bundle = self.own / "replaced"
        shutil.copytree(self.bundle, bundle)
        neffs = {name for name in fresh if name.startswith("neff/")}
        self.assertEqual(len(neffs), 2 * 6)  # two targets, six modules
        shutil.rmtree(self.own / "home")  # where NEFFs are kept: none is compiled
        code, _, error = self.run_here("replace-weights", bundle, self.tuned, "--quiet")
        self.assertEqual(code, 0, error)
        self.assertFalse((self.own / "home/neffs").exists())
        self.assertEqual(contents(bundle), fresh)

    def test_another_shape_is_refused_by_name_and_the_bundle_stays(self):
        other = self.own / "other"
        code, _, error = self.run_here("make-checkpoint", other, "--shape", "tiny", "--quiet")
        self.assertEqual(code, 0, error)
        before = contents(self.bundle)
        for model, word in ((other, "config.json: \"d_model\" is "), (self.bundle, "give the checkpoint directory"),
                            (self.own / "none", "no such directory")):
            code, _, error = self.run_here("replace-weights", self.bundle, model)
            self.assertEqual(code, 1, error)
            self.assertIn(word, error)
        self.assertIn("is no bundle", self.run_here("replace-weights", self.tuned, self.tuned)[2])
        self.assertEqual(contents(self.bundle), before)

    def test_one_that_is_killed_leaves_the_bundle(self):
        bundle = self.own / "killed"
        shutil.copytree(self.bundle, bundle)
        before, wanted = contents(bundle), None
        command = [NEUROGLOT, "replace-weights", bundle, self.tuned, "--quiet"]
        cut = 0
        for milliseconds in range(5, 500, 30):
            running = subprocess.Popen(command, env={**os.environ, **self.env})
            time.sleep(milliseconds / 1000)
            running.kill()
            running.communicate()
            found = contents(bundle)
            if found != before:
                wanted = wanted or contents(self.compiled("whole", *TARGETS, model=self.tuned))
                self.assertEqual(found, wanted)
                break
            cut += len(list(self.own.glob(".killed.*"))) > 0
        self.assertGreater(cut, 0, "none was killed while it wrote")
        self.assertEqual(self.run_here(*command[1:])[0], 0)
        self.assertEqual(list(self.own.glob(".killed.*")), [])  # nor is anything left of the killed


if __name__ == "__main__":
    unittest.main()
