"""Is a device that cannot be used said to be so? (After a release build.)"""
import json
import tempfile
import unittest
from pathlib import Path

from command_line import DEMO, LANGUAGES, ROOT, run

SIZES = ("--batch", "1", "--source-lengths", "8", "--target-length", "16", "--quiet")


class Devices(unittest.TestCase):
    """Bundles of modules and devices, without a plugin to run them."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.modules = Path(cls.folder.name) / "modules"
        code, _, error = run("compile", DEMO, "-o", cls.modules, "--target", "pjrt", *SIZES)
        assert code == 0, error

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def refused(self, *options, code=1):
        found, _, error = run("translate", *options, *LANGUAGES, stdin=b"I like tea.\n")
        self.assertEqual(found, code, error)
        return error

    def test_a_plugin_that_cannot_be_used_ends_with_2_and_never_with_the_cpu(self):
        self.assertIn("/none.so", self.refused(self.modules, "--device", "pjrt:/none.so", code=2))
        text = Path(self.folder.name) / "text.so"
        text.write_text("no library")
        self.assertIn("text.so", self.refused(self.modules, "--device", f"pjrt:{text}", code=2))

    def test_a_device_is_named_in_full_and_is_that_of_the_bundle(self):
        self.assertIn("say which plugin", self.refused(self.modules))
        self.assertIn("compiled for pjrt", self.refused(self.modules, "--device", "cpu"))
        for name in ("pjrt", "pjrt:", "cpu:x", "tpu", ""):
            self.assertIn("--device", self.refused(self.modules, "--device", name), name)
        for name in ("tpu", "inf2", "cpu:x"):
            self.assertIn(f"--device {name}: cpu, reference, pjrt:PLUGIN.so, neuron", self.refused(DEMO, "--device", name))

    def test_a_plugin_that_a_target_names_is_in_no_byte_of_the_bundle(self):
        other = Path(self.folder.name) / "other"
        code, _, error = run("compile", DEMO, "-o", other, "--target", "pjrt:/opt/own/plugin.so", "--target", "pjrt",
                             "--target", "pjrt:/opt/other.so", *SIZES)
        self.assertEqual(code, 0, error)
        files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
        self.assertIn(Path("manifest.json"), files)
        for name in files:
            self.assertEqual((other / name).read_bytes(), (self.modules / name).read_bytes(), name)
            self.assertNotIn(b"/opt/o", (other / name).read_bytes())
        self.assertIn("say which plugin", self.refused(self.modules, "--target", "pjrt:/opt/own/plugin.so"))
        self.assertIn('no target "pjrt:"', run("compile", DEMO, "-o", other, "--target", "pjrt:")[2])

    def test_options_of_fixed_shapes_are_refused_where_they_have_no_effect(self):
        for options in (("--beams", "8"), ("--tp", "2"), ("--target-length", "5"), ("--source-lengths", "64"),
                        ("--with-logits",), ("--topk", "zzz"), ("--beam-caches", "xyz")):
            words = f"{options[0]}: {self.modules} is a bundle, compiled already: leave it out"
            self.assertIn(words, self.refused(self.modules, "--device", "pjrt:/none.so", *options))
            for command in ("verify", "inspect"):
                self.assertIn(words, run(command, self.modules, *options)[2])
        for options in (("--tp", "2"), ("--topk", "host"), ("--batch", "1"), ("--beams", "2"), ("--with-logits",)):
            code, _, error = run("compile", DEMO, "-o", Path(self.folder.name) / "no", *options)
            self.assertEqual(code, 1, error)
            self.assertIn(f"{options[0]} is of targets with fixed shapes", error)
        self.assertIn("/none.so", self.refused(self.modules, "--device", "pjrt:/none.so", "--batch", "4", "--long", "cut",
                                               code=2))

    def test_sizes_that_no_module_can_have_and_default_lengths_above_them_are_said(self):
        for batch, length, words in (("1", "1", "from 2 to 8192"), ("1,8,", "16", "--batch 1,8,: whole numbers with")):
            code, _, error = run("analyze", DEMO, "--target", "inf2", "--batch", batch, "--target-length", length)
            self.assertEqual(code, 1, error)
            self.assertIn(words, error)
        self.assertEqual(run("analyze", DEMO, "--target", "inf2", "--batch", "2", "--target-length", "2")[0], 0)
        for length in ("199", "200"):  # 200: of generation_config.json
            code, _, error = run("compile", DEMO, "-o", Path(self.folder.name) / length, "--target", "pjrt",
                                 "--batch", "1", "--source-lengths", "8", "--target-length", length)
            self.assertEqual(code, 0, error)
            self.assertEqual("these defaults: max_length 200 is above --target-length" in error, length == "199")

    def test_modules_are_inspected_and_checked(self):
        code, out, error = run("inspect", self.modules, "--check", "--json")
        self.assertEqual(code, 0, error)
        report = json.loads(out)
        self.assertEqual(report["sizes"]["source"], 8)
        self.assertIn("decode-b1-s8-t16", report["module_bytes"])
        self.assertIn("graph decode-b1-s8-t16", run("inspect", self.modules, "--graph", "decode")[1].decode())
        self.assertIn("say which plugin", run("verify", self.modules)[2])

    def test_devices_are_listed_and_one_that_is_missing_is_no_error(self):
        code, out, error = run("devices", "--libnrt", "/none/libnrt.so.1")
        self.assertEqual(code, 0, error)
        lines = dict(line.split(maxsplit=1) for line in out.decode().splitlines())
        self.assertIn("threads", lines["cpu"])
        self.assertIn("not here: Neuron runtime /none/libnrt.so.1", lines["neuron"])
        self.assertIn("stand-in", lines["emulated"])
        library = ROOT / "build/release/libemulated-nrt.so"
        self.assertIn("1 cores visible", run("devices", "--libnrt", library)[1].decode())
        self.assertEqual(run("devices", "--device", "pjrt:/none.so")[0], 2)
        self.assertEqual(run("devices", "--device", "neuron")[0], 1)
