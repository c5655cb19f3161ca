"""Is a checkpoint compiled for AWS Neuron, run by the stand-in, and is what fails said to? (After a
release build.)"""
import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from command_line import DEMO, LANGUAGES, ROOT
from own_home import OwnHome

COMPILER = ROOT / "build/release/emulated-neuronx-cc"
SIZES = ("--batch", "1,2", "--source-lengths", "16,32", "--target-length", "32", "--quiet")
SMALL = ("--batch", "1", "--source-lengths", "16", "--target-length", "32", "--quiet")
MODULES = ("encode-b1-s16-t32", "prefill-b1-s16-t32", "decode-b1-s16-t32")


class Neuron(OwnHome):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bundle = cls.own / "bundle"
        code, _, error = cls.run_here("compile", DEMO, "-o", cls.bundle, "--target", "inf2", "--jobs", "2",
                                      "--neuronx-cc", COMPILER, *SIZES)
        assert code == 0, error

    def refused(self, code, *arguments, **env):
        found, _, error = self.run_here(*arguments, stdin=b"I like tea.\n", **env)
        self.assertEqual(found, code, error)
        self.assertNotIn("internal", error)
        return error

    def emitted(self, name, target="inf2"):
        """A bundle whose modules are compiled elsewhere, and the commands for that."""
        bundle = self.own / name
        code, out, error = self.run_here("compile", DEMO, "-o", bundle, "--target", target, "--emit-only", *SMALL)
        self.assertEqual(code, 0, error)
        return bundle, out.decode()


class Compile(Neuron):
    def test_a_bundle_holds_a_neff_for_every_module_and_says_who_made_them(self):
        manifest = json.loads((self.bundle / "manifest.json").read_text())
        self.assertEqual(manifest["targets"], ["inf2"])
        self.assertEqual(manifest["compiler"], {"build": "emulated-2.27.5334.0+emulated", "arguments": []})
        for module in manifest["modules"]:
            self.assertIn(f"neff/{module['name']}.neff", manifest["files"])
        code, _, error = self.run_here("inspect", self.bundle, "--check")
        self.assertEqual(code, 0, error)

    def test_what_it_will_take_is_said_before_it_begins(self):
        arguments = [word for word in SMALL if word != "--quiet"]
        code, _, error = self.run_here("compile", DEMO, "-o", self.own / "told", "--target", "trn2",
                                       "--neuronx-cc", COMPILER, *arguments)
        self.assertEqual(code, 0, error)
        self.assertLess(error.index("device memory of a core: "), error.index("3 modules for trn2, 1 at a time"))
        self.assertLess(error.index("minutes"), error.index("encode-b1-s16-t32: compiled"))

    def test_errors_of_the_compiler_end_with_2_and_its_last_lines(self):
        out = self.own / "failed"
        compile_it = ("compile", DEMO, "-o", out, "--target", "trn1", "--neuronx-cc", COMPILER, *SMALL)
        for fault, words in (("exit=70", ("an injected failure", "does not take the module", MODULES[0])),
                             ("signal=9", ("ran out of memory",)), ("nothing", (MODULES[0],)),
                             ("garbage", ("NEFF",))):
            error = self.refused(2, *compile_it, EMULATED_NEURONX_CC=fault)
            for word in words:
                self.assertIn(word, error)
            self.assertFalse(out.exists())
        self.assertIn("no-such", self.refused(2, *compile_it, "--compiler-args", "--no-such-flag"))
        code, _, error = self.run_here(*compile_it)  # nothing that failed is kept
        self.assertEqual(code, 0, error)

    def test_a_compiler_that_is_missing_is_the_users_matter(self):
        compile_it = ("compile", DEMO, "-o", self.own / "none", "--target", "inf2", *SMALL)
        self.assertIn("is not in $PATH", self.refused(1, *compile_it, PATH="/none"))
        self.assertIn("/none/cc", self.refused(1, *compile_it, "--neuronx-cc", "/none/cc"))
        self.assertIn("does not tell a version", self.refused(2, *compile_it, "--neuronx-cc", "/bin/false"))

    def test_inf1_names_inf2_and_options_of_neuron_are_refused_elsewhere(self):
        self.assertIn("--target inf2", self.refused(1, "compile", DEMO, "-o", self.own / "x", "--target", "inf1"))
        for option in (("--emit-only",), ("--jobs", "2"), ("--neuronx-cc", "x"), ("--compiler-args", "x")):
            self.assertIn(option[0], self.refused(1, "compile", DEMO, "-o", self.own / "x", *option))
        both = ("--target", "inf2", "--emit-only", "--jobs", "2")
        self.assertIn("--emit-only", self.refused(1, "compile", DEMO, "-o", self.own / "x", *both))
        self.assertIn("compile it into a bundle", self.refused(1, "translate", DEMO, *LANGUAGES, "--target", "inf2"))


class Cores(Neuron):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bundle = cls.own / "cores"
        code, _, error = cls.run_here("compile", DEMO, "-o", cls.bundle, "--target", "inf2", "--neuronx-cc", COMPILER,
                                      "--batch", "1,2", "--source-lengths", "16", "--target-length", "200", "--quiet")
        assert code == 0, error

    LINES = b"".join(b"I like %s.\n" % word for word in (b"tea", b"milk", b"the sea", b"my dog", b"you", b"it"))

    def translate(self, *options, lines=LINES, cores="2", **env):
        stats = self.own / "stats.json"
        code, out, error = self.run_here("translate", self.bundle, "--device", "emulated", *LANGUAGES, "--stats", stats,
                                         *options, stdin=lines, EMULATED_NRT_CORES=cores, **env)
        return code, out.decode().splitlines(), error, json.loads(stats.read_text())

    def test_replicas_share_the_lines(self):
        code, alone, error = self.run_here("translate", self.bundle, "--device", "emulated", *LANGUAGES, stdin=self.LINES)
        self.assertEqual(code, 0, error)
        code, lines, error, _ = self.translate()
        self.assertEqual(code, 0, error)
        self.assertEqual(lines, alone.decode().splitlines())
        slow = "nrt_execute@1=3000ms,nrt_execute@1=1006,nrt_execute@2=1006"  # the second run is another core's
        error = self.translate(EMULATED_NRT=slow)[2]
        self.assertIn("core 0: Neuron", error)
        self.assertIn("core 1: Neuron", error)

    def test_a_run_that_fails_answers_its_lines_and_the_core_goes_on(self):
        whole = self.translate()[1]
        for cores, status, name in (("1", 1006, "NRT_EXEC_OOB"), ("1", 1003, "WITH_NUM_ERR"), ("2", 1006, "_OOB")):
            code, lines, error, _ = self.translate("--batch", "1", cores=cores, EMULATED_NRT=f"nrt_execute@9={status}")
            self.assertEqual(code, 2, error)
            self.assertEqual(lines.count(""), 1, lines)
            self.assertEqual([line for line in lines if line], [line for line, mine in zip(whole, lines) if mine])
            self.assertIn(name, error)
            self.assertIn("1 of 6 lines failed", error)
            self.assertNotIn("lost", error)

    def test_where_every_core_is_lost_every_line_is_answered(self):
        for cores in ("1", "2"):
            asked = b"".join(b'{"id": %d, "text": "Why?"}\n' % i for i in range(6))
            code, lines, error, _ = self.translate("--batch", "1", "--jsonl", lines=asked, cores=cores,
                                                   EMULATED_NRT="nrt_execute@4+=1202")
            self.assertEqual(code, 2, error)
            answers = [json.loads(line) for line in lines]
            self.assertEqual([answer["id"] for answer in answers], list(range(6)))
            self.assertIn("every device is lost: ", answers[5]["error"]["message"])

    def test_a_core_that_nobody_needed_takes_over(self):
        code, lines, error, _ = self.translate("--batch", "1", lines=b"Why?\nI like tea.\n",
                                               EMULATED_NRT="nrt_execute@3=1202")
        self.assertEqual((code, len(lines), lines.count("")), (2, 2, 1), error)

    def test_a_core_that_fails_answers_its_lines_and_the_other_goes_on(self):
        code, lines, error, _ = self.translate(EMULATED_NRT="nrt_execute@9=1202")
        self.assertEqual(code, 2, error)
        self.assertIn("a device failed: core ", error)
        lost = lines.count("")
        self.assertTrue(1 <= lost <= 3, lines)
        self.assertIn(f"{lost} of 6 lines failed", error)
        whole = self.translate()[1]
        self.assertEqual([line for line in lines if line], [line for line, mine in zip(whole, lines) if mine])


class Long(Neuron):
    TEXT = b"I like tea and milk and the sea and my dog and the garden and the house and the red car.\n" * 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.both = cls.own / "both"
        code, _, error = cls.run_here("compile", DEMO, "-o", cls.both, "--target", "inf2", "--target", "cpu",
                                      "--neuronx-cc", COMPILER, *SMALL[:-3], "--target-length", "200", "--quiet")
        assert code == 0, error

    def translate(self, bundle, *options):
        return self.run_here("translate", bundle, "--device", "emulated", *LANGUAGES, *options, stdin=self.TEXT)

    def test_a_source_that_no_module_takes_is_cut_or_runs_on_the_cpu_or_fails(self):
        code, cut, error = self.translate(self.both)
        self.assertEqual(code, 0, error)
        self.assertIn("translated in 2 pieces", error)
        code, by_cpu, error = self.translate(self.both, "--long", "cpu")
        self.assertEqual((code, error), (0, ""))
        self.assertEqual(by_cpu, self.run_here("translate", self.both, "--device", "cpu", *LANGUAGES, stdin=self.TEXT)[1])
        self.assertNotEqual(by_cpu, cut)
        code, out, error = self.translate(self.both, "--long", "error")
        self.assertEqual((code, out), (1, b"\n\n\n"))
        self.assertIn("source ids, the bundle's modules take 16", error)

    def test_the_cpu_must_be_a_target(self):
        code, _, error = self.translate(self.bundle, "--long", "cpu")
        self.assertEqual(code, 1)
        self.assertIn("compile it with --target cpu besides", error)
        self.assertIn("cut, cpu or error", self.refused(1, "translate", self.bundle, "--device", "emulated", *LANGUAGES,
                                                        "--long", "yes"))


class NeffInfo(Neuron):
    def test_prints_the_header_and_refuses_what_is_none(self):
        neff = next((self.bundle / "neff").iterdir())
        code, out, error = self.run_here("neff", "info", neff)
        self.assertEqual(code, 0, error)
        self.assertIn("a stand-in: HLO, no machine code", out.decode())
        self.assertIn("is no NEFF", self.refused(1, "neff", "info", DEMO / "config.json"))
        self.assertIn("/none.neff", self.refused(1, "neff", "info", "/none.neff"))


class Finish(Neuron):
    def compiled_elsewhere(self, bundle, commands):
        """Runs the printed commands with the stand-in: a directory of NEFFs."""
        folder = Path(tempfile.mkdtemp(dir=self.own))
        shutil.copytree(bundle / "hlo", folder / "hlo")
        (folder / "neuronx-cc").symlink_to(COMPILER)
        for line in commands.splitlines():
            subprocess.run(f"PATH={folder}:$PATH {line}", shell=True, cwd=folder, check=True, capture_output=True)
        return folder

    def test_what_was_compiled_elsewhere_makes_the_same_bundle(self):
        bundle, commands = self.emitted("elsewhere")
        self.assertEqual(len(commands.splitlines()), 3)
        self.assertIn("finish", self.refused(1, "translate", bundle, *LANGUAGES, "--device", "emulated"))
        neffs = self.compiled_elsewhere(bundle, commands)
        code, _, error = self.run_here("finish", bundle, "--neffs", neffs, "--quiet")
        self.assertEqual(code, 0, error)
        here = self.own / "here"
        code, _, error = self.run_here("compile", DEMO, "-o", here, "--target", "inf2", "--neuronx-cc", COMPILER, *SMALL)
        self.assertEqual(code, 0, error)
        manifests = [json.loads((path / "manifest.json").read_text()) for path in (bundle, here)]
        for manifest in manifests:  # the file's name is in a NEFF
            manifest["files"] = {name: row["bytes"] for name, row in manifest["files"].items()}
        self.assertEqual(*manifests)
        self.assertEqual((bundle / "weights.bin").read_bytes(), (here / "weights.bin").read_bytes())
        self.assertEqual(self.run_here("inspect", bundle, "--check")[0], 0)

    def test_a_build_that_is_no_version_is_taken_and_the_arguments_are_kept(self):
        bundle = self.own / "named"
        code, out, error = self.run_here("compile", DEMO, "-o", bundle, "--target", "inf2", "--emit-only",
                                         "--compiler-args", "--enable-fast-loading-neuron-binaries", *SMALL)
        self.assertEqual(code, 0, error)
        neffs = self.compiled_elsewhere(bundle, out.decode())
        for neff in neffs.glob("*.neff"):
            whole = neff.read_bytes()
            neff.write_bytes(whole[:40] + b"release/x@6c66f4b".ljust(128, b"\0") + whole[168:])
        code, _, error = self.run_here("finish", bundle, "--neffs", neffs, "--quiet")
        self.assertEqual(code, 0, error)
        manifest = json.loads((bundle / "manifest.json").read_text())
        self.assertEqual(manifest["compiler"], {"build": "release/x@6c66f4b",
                                                "arguments": ["--enable-fast-loading-neuron-binaries"]})
        self.assertEqual(self.run_here("inspect", bundle, "--check")[0], 0)

    def test_neffs_that_are_none_are_refused_and_the_bundle_stays(self):
        bundle, commands = self.emitted("refused")
        before = (bundle / "manifest.json").read_bytes()
        good = self.compiled_elsewhere(bundle, commands)
        finish = ("finish", bundle, "--neffs", good)
        neff = good / f"{MODULES[2]}.neff"
        whole = neff.read_bytes()
        build = whole.replace(b"emulated-2.27", b"emulated-2.26", 1)
        real = whole[:40] + b"2.27.5334.0+0abc".ljust(128, b"\0") + whole[168:]
        for damaged, word in ((b"x", "header"), (whole[:-1], "cut short"), (b"\0" * 2000, "header"),
                              (build, "older"), (real, "emulated")):
            neff.write_bytes(damaged)
            self.assertIn(word, self.refused(1, *finish))
        neff.unlink()
        self.assertIn(f"{MODULES[2]}.neff: is missing", self.refused(1, *finish))
        self.assertIn("--neffs", self.refused(1, "finish", bundle))
        self.assertIn("Neuron target", self.refused(1, "finish", self.cpu(), "--neffs", good))
        self.assertEqual((bundle / "manifest.json").read_bytes(), before)
        self.assertEqual([path.name for path in self.own.glob(".refused*")], [])

    def cpu(self):
        path = self.own / "cpu"
        self.assertEqual(self.run_here("compile", DEMO, "-o", path, "--quiet")[0], 0)
        return path


class Run(Neuron):
    TEXT = b"I like tea.\nThe house is very old.\nWhere is Tom?\nWhy?\nI would like a cup of tea.\n"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.long = cls.own / "long"
        code, _, error = cls.run_here("compile", DEMO, "-o", cls.long, "--target", "trn2", "--neuronx-cc", COMPILER,
                                      "--batch", "1,4", "--source-lengths", "16,32", "--target-length", "200",
                                      "--beams", "3", "--quiet")
        assert code == 0, error

    def translate(self, *options, **env):
        return self.run_here("translate", self.long, "--device", "emulated", *LANGUAGES, *options,
                             stdin=self.TEXT, **env)

    def test_beams_that_are_put_in_order_say_what_histories_say(self):
        ordered = self.own / "ordered"
        code, _, error = self.run_here("compile", DEMO, "-o", ordered, "--target", "inf2", "--neuronx-cc", COMPILER,
                                       "--batch", "1,4", "--source-lengths", "16,32", "--target-length", "200",
                                       "--beams", "3", "--beam-caches", "reorder", "--quiet")
        self.assertEqual(code, 0, error)
        for options in (("--beam", "1"), ("--beam", "3", "--n-best", "3"), ("--beam", "2", "--batch", "1")):
            found = self.run_here("translate", ordered, "--device", "emulated", *LANGUAGES, *options, stdin=self.TEXT)
            self.assertEqual(found, self.translate(*options), options)
        self.assertIn("--beam-caches x", self.refused(1, "compile", DEMO, "-o", ordered, "--target", "inf2",
                                                          "--beam-caches", "x"))

    def test_the_stand_in_chooses_the_cpus_words(self):
        for options in (("--beam", "1"), ("--beam", "3", "--n-best", "2"), ("--batch", "1")):
            code, expected, _ = self.run_here("translate", DEMO, *LANGUAGES, *options, "--quiet", stdin=self.TEXT)
            self.assertEqual(code, 0)
            stats = self.own / "stats.json"
            code, found, error = self.translate(*options, "--stats", stats)
            self.assertEqual(code, 0, error)
            words = lambda text: [line.rsplit("|||", 1)[0] for line in text.decode().splitlines()]
            self.assertEqual(words(found), words(expected), options)
            told = json.loads(stats.read_text())
            self.assertEqual(told["device"], "emulated trn2 (libnrt 2.34.10.0)")
            self.assertGreater(sum(told["executions"].values()), 1)

    def test_with_ops_on_the_cpu_the_same_words_come_and_who_ran_what_is_told(self):
        expected = self.run_here("translate", DEMO, *LANGUAGES, "--beam", "2", stdin=self.TEXT)[1]
        for ops in ("attend,project_top_k", "linear", "layer_norm,embed"):
            bundle, stats = self.own / ops, self.own / "stats.json"
            code, _, error = self.run_here("compile", DEMO, "-o", bundle, "--target", "inf2", "--cpu-ops", ops,
                                           "--neuronx-cc", COMPILER, "--jobs", "2", "--batch", "5", "--beams", "2",
                                           "--source-lengths", "32", "--target-length", "200")
            self.assertEqual(code, 0, error)
            self.assertIn("since --cpu-ops", error)
            code, _, error = self.run_here("inspect", bundle, "--check")
            self.assertEqual(code, 0, error)
            code, found, error = self.run_here("translate", bundle, "--device", "emulated", *LANGUAGES, "--beam", "2",
                                               "--stats", stats, stdin=self.TEXT)
            self.assertEqual((code, found), (0, expected), error)
            told = json.loads(stats.read_text())
            self.assertEqual(set(told["backends"]), set(told["executions"]))
            self.assertEqual({who.split()[0] for who in told["backends"].values()}, {"cpu", "emulated"})

    def test_faults_of_the_device_end_with_2_or_are_waited_for(self):
        code, expected, error = self.translate()
        self.assertEqual(code, 0, error)
        for fault in ("nrt_execute@3=7", "nrt_load@2=1005", "nrt_tensor_write@9=7", "nrt_unload@1=1"):
            code, found, error = self.translate(EMULATED_NRT=fault)
            self.assertEqual((code, found), (0, expected), error)
        for fault, words in (("nrt_init@1=6", "NRT_HW_ERROR"), ("nrt_execute@3=1006", "NRT_EXEC_OOB"),
                             ("nrt_execute@3=1201", "start the program again"), ("nrt_load@2=10", "the runtime is the older"),
                             ("nrt_tensor_read@2=4", "too little memory"), ("nrt_execute@1+=1005", "10 times")):
            code, _, error = self.translate(EMULATED_NRT=fault)
            self.assertEqual(code, 2, error)
            self.assertIn(words, error)
        code, _, error = self.translate(EMULATED_NRT_MEMORY="1000000")
        self.assertEqual(code, 2, error)
        self.assertIn("MB are used", error)

    def test_the_device_is_the_bundles_and_nothing_falls_back(self):
        translate = ("translate", self.long, *LANGUAGES)
        self.assertIn("/none/libnrt.so.1", self.refused(2, *translate))
        self.assertIn("/none/libnrt.so.1", self.refused(2, *translate, "--device", "neuron"))
        self.assertIn("/other.so", self.refused(2, *translate, "--libnrt", "/other.so"))
        emulated = ROOT / "build/release/libemulated-nrt.so"
        self.assertIn("--device emulated", self.refused(1, *translate, "--libnrt", emulated))
        self.assertIn("neuron or emulated", self.refused(1, *translate, "--device", "cpu"))
        self.assertIn("--libnrt", self.refused(1, *translate, "--device", "emulated", "--libnrt", "x"))
        self.assertIn("inf2, trn1 or trn2", self.refused(1, "translate", DEMO, *LANGUAGES, "--target", "cpu", "--device", "neuron"))
        self.assertIn("neuron:x", self.refused(1, *translate, "--device", "neuron:x"))
        self.assertIn("NEURON_LOGICAL_NC_CONFIG=2",
                      self.refused(1, *translate, "--device", "emulated", NEURON_LOGICAL_NC_CONFIG="1"))


if __name__ == "__main__":
    unittest.main()
