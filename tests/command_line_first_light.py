"""Does scripts/neuron-first-light.sh work with the stand-ins, and does it judge what it finds? (After a release
build.)"""
import json
import os
import subprocess
import unittest

from command_line import DEMO, ROOT
from own_home import OwnHome

SCRIPT = ROOT / "scripts/neuron-first-light.sh"
COMPILER = ROOT / "build/release/emulated-neuronx-cc"
# A program in neuroglot's place that answers at once, what the environment says.
ACTOR = """#!/bin/sh
case "$1" in
  compile)
    case "$*" in *"$FAIL"*) exit 2 ;; esac
    while [ $# -gt 0 ]; do [ "$1" != -o ] || { mkdir -p "$2/neff"; touch "$2/manifest.json" "$2/neff/one.neff"; }
      shift; done ;;
  neff) [ -f "$3" ] && echo "compiler         $BUILD" ;;
  verify) exit "$VERIFY" ;;
  translate)
    case "$*" in *"--device cpu"*) said=$CPU_SAYS ;; *) said=thé ;; esac
    printf '%s\\t%s\\n' -0.1 "$said" -0.2 gare "$AGAIN" "$said" ;;
esac
"""


class FirstLight(OwnHome):
    def first_light(self, *arguments, device="emulated", **env):
        env = {**os.environ, **self.env, "TARGET": "inf2", "DEVICE": device, "REPEAT": "1",
               "NEURONX_CC": str(COMPILER), **env}
        return subprocess.run([SCRIPT, *map(str, arguments)], env=env, capture_output=True, text=True, cwd=self.own)

    def report(self, name, code, *arguments, **env):
        done = self.first_light(DEMO, self.own / name, *arguments, **env)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return (self.own / name / "report.md").read_text()


class WithStandIns(FirstLight):
    def test_every_step_works_on_two_cores_and_is_in_the_report_of_a_relative_folder(self):
        (self.own / "model").symlink_to(DEMO)
        done = self.first_light("model", "here", EMULATED_NRT_CORES="2")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = (self.own / "here/report.md").read_text()
        self.assertIn(", bf16, ", report)
        self.assertEqual(report.count(": works, "), 9, report)
        self.assertEqual(report.count("modules against the interpreter"), 2, report)
        self.assertNotIn("not verified", report)
        self.assertEqual(report.count("the same as the CPU's"), 2, report)
        self.assertIn("sentences per second", report)
        self.assertIn("the cores of a killed program work", report)

    def test_in_float32_with_other_options_of_compile_too(self):
        report = self.report("options", 0, DTYPE="f32", COMPILE_OPTIONS="--beam-caches reorder")
        self.assertEqual(report.count(": works, "), 8, report)
        self.assertTrue(json.loads((self.own / "options/bundle/manifest.json").read_text())["sizes"]["reorder"])

    def test_a_step_that_fails_is_told_and_the_others_run(self):
        report = self.report("none", 1, NEURONX_CC="/none/neuronx-cc", PJRT_PLUGIN="/none/libneuronpjrt.so")
        self.assertEqual(report.count("\n## "), 9, report)
        self.assertIn("compile the smallest modules: FAILED (1)", report)
        self.assertIn("the PJRT plugin: FAILED (2)", report)
        self.assertEqual(self.first_light("/none").returncode, 1)


class Judgement(FirstLight):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.actor = cls.program("neuroglot", ACTOR)

    @classmethod
    def program(cls, name, text):
        path = cls.own / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def acted(self, name, **env):
        usual = {"NEUROGLOT": str(self.actor), "CPU_SAYS": "thé", "AGAIN": "-0.1", "VERIFY": "0", "FAIL": "of nothing",
                 "BUILD": "2.27.5334.0+abc"}
        return self.report(name, 1, **{**usual, **env})

    def test_verify_judges_and_another_text_fails_in_float32_alone(self):
        for dtype, says, verify, verdict in (
                ("bf16", "thé", "0", "works"), ("bf16", "café", "0", "works"), ("bf16", "thé", "3", "FAILED (3)"),
                ("f32", "thé", "0", "works"), ("f32", "café", "0", "FAILED (1)")):
            with self.subTest(dtype=dtype, says=says, verify=verify):
                report = self.acted("judged", DTYPE=dtype, CPU_SAYS=says, VERIFY=verify)
                self.assertIn(f"verify, and compare with the CPU: {verdict}", report)
                self.assertEqual("< café" in report, says == "café", report)

    def test_a_neff_of_another_compiler_and_a_sentence_with_two_scores_fail(self):
        report = self.acted("right")
        self.assertIn("what the NEFFs say: works", report)
        self.assertIn("load and run: works", report)
        report = self.acted("wrong", BUILD="2.26.1.0", AGAIN="-0.11")
        self.assertIn("what the NEFFs say: FAILED (1)", report)
        self.assertIn("load and run: FAILED (1)", report)

    def test_what_an_earlier_run_left_does_not_pass_for_this_ones(self):
        self.assertIn("what the NEFFs say: works", self.acted("twice"))
        self.assertIn("what the NEFFs say: FAILED (1)", self.acted("twice", FAIL="/bundle --force"))

    def test_versions_are_told_where_packages_are_rpms_and_no_driver_is(self):
        tools = self.own / "tools"
        tools.mkdir()
        self.program("tools/neuron-ls", "#!/bin/sh\necho no driver; exit 1\n")
        self.program("tools/dpkg-query", "#!/bin/sh\nexit 1\n")
        self.program("tools/rpm", "#!/bin/sh\necho \"$* aws-neuronx-runtime-lib-2.34.10\"\n")
        report = self.acted("rpm", device="neuron", PATH=f"{tools}:{os.environ['PATH']}")
        self.assertIn("versions: FAILED (1)", report)
        for line in ("no driver", "-qa aws-neuronx* aws-neuronx-runtime-lib-2.34.10", "Compiler version 2.27.5334.0"):
            self.assertIn(line, report)


if __name__ == "__main__":
    unittest.main()
