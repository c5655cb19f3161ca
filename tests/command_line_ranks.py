"""Is a model compiled in parts for several devices, and do these, as stand-ins, say what one says? (After a
release build.)"""
import json
import unittest

from command_line import DEMO, LANGUAGES, ROOT
from own_home import OwnHome

COMPILER = ROOT / "build/release/emulated-neuronx-cc"
SIZES = ("--batch", "1", "--source-lengths", "16", "--target-length", "200", "--quiet", "--neuronx-cc", COMPILER)
TEXT = b"I like tea.\nWhere is Tom?\nThe house is very old.\n"


class Ranks(OwnHome):
    STDIN = TEXT

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bundle = cls.own / "two"
        code, _, error = cls.compiled(cls.bundle, "--tp", "2", "--target", "cpu")
        assert code == 0, error

    @classmethod
    def compiled(cls, out, *options):
        return cls.run_here("compile", DEMO, "-o", out, "--target", "inf2", *SIZES, *options)

    def translate(self, *options, code=0, **env):
        found, out, error = self.run_here("translate", self.bundle, *LANGUAGES, *options, **env)
        self.assertEqual(found, code, error)
        return out.decode() if code == 0 else error

    def test_two_cores_together_say_what_the_cpu_says(self):
        stats = self.own / "stats.json"
        said = self.translate("--device", "emulated", "--stats", stats, EMULATED_NRT_CORES="2")
        self.assertEqual(said, self.translate("--device", "cpu"))
        self.assertIn("2 cores together", json.loads(stats.read_text())["device"])

    def test_four_cores_are_two_replicas(self):
        lost = self.translate("--device", "emulated", "--batch", "1", code=2, EMULATED_NRT_CORES="4",
                              EMULATED_NRT="nrt_execute@20=5", NEURON_RT_EXEC_TIMEOUT="2")
        self.assertIn("NRT_TIMEOUT", lost)
        said = self.translate("--device", "emulated", "--batch", "1", EMULATED_NRT_CORES="4")
        self.assertEqual(said, self.translate("--device", "cpu"))

    def test_too_few_cores_are_named(self):
        self.assertIn("core 1: 1 are visible", self.translate("--device", "emulated", code=2))

    def test_modules_end_in_the_rank_and_weights_are_there_for_each(self):
        manifest = json.loads((self.bundle / "manifest.json").read_text())
        self.assertEqual(manifest["sizes"]["ranks"], 2)
        self.assertIn("hlo/decode-b1-s16-t200-r0.pb", manifest["files"])
        names = manifest["tensors"]
        self.assertIn("model.decoder.layers.0.fc1.weight.rows.transposed.r1", names)
        self.assertNotIn("model.decoder.layer_norm.weight.r0", names)
        code, _, error = self.run_here("inspect", self.bundle, "--check")
        self.assertEqual(code, 0, error)

    def test_it_verifies_and_takes_other_weights(self):
        code, out, error = self.run_here("verify", self.bundle, "--device", "emulated", "--reference", DEMO,
                                         "--sentences", "2", EMULATED_NRT_CORES="2")
        self.assertEqual(code, 0, out.decode() + error)
        before = (self.bundle / "manifest.sha256").read_bytes()
        code, _, error = self.run_here("replace-weights", self.bundle, DEMO)
        self.assertEqual(code, 0, error)
        self.assertEqual((self.bundle / "manifest.sha256").read_bytes(), before)

    def test_what_cannot_be_shared_is_refused_with_both_numbers(self):
        for options, words in (
            (("--tp", "3"), "--tp 3: does not divide the 4 attention heads"),
            (("--tp", "8"), "--tp 8: does not divide the 4 attention heads"),
            (("--tp", "65"), "65"),
            (("--tp", "2", "--cpu-ops", "embed"), "--tp 2: module encode-b1-s16-t200-r0 would be cut"),
        ):
            out = self.own / "refused"
            code, _, error = self.compiled(out, *options)
            self.assertEqual(code, 1, error)
            self.assertIn(words, error)
            self.assertFalse(out.exists())

    def test_the_same_options_give_the_same_bytes(self):
        again = self.own / "again"
        code, _, error = self.compiled(again, "--tp", "2", "--target", "cpu")
        self.assertEqual(code, 0, error)
        self.assertEqual((again / "manifest.sha256").read_bytes(), (self.bundle / "manifest.sha256").read_bytes())


if __name__ == "__main__":
    unittest.main()
