"""Is a device that cannot be used said to be so? (After a release build.)"""
import json
import tempfile
import unittest
from pathlib import Path

from command_line import DEMO, LANGUAGES, ROOT, run


class Devices(unittest.TestCase):
    """Bundles of modules and devices, without a plugin to run them."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.modules = Path(cls.folder.name) / "modules"
        code, _, error = run("compile", DEMO, "-o", cls.modules, "--target", "pjrt", "--batch", "1",
                             "--source-lengths", "8", "--target-length", "16", "--quiet")
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
