#!/usr/bin/env python3
"""What is said of AWS Neuron before anybody has a device? (After a release build.)"""
import json
import tempfile
import unittest
from pathlib import Path

from command_line import DEMO, run

SMALL = ("--batch", "2", "--source-lengths", "8,16", "--target-length", "16")


class Analyze(unittest.TestCase):
    def test_the_demo_is_taken_whole(self):
        code, out, error = run("analyze", DEMO, "--target", "inf2", *SMALL, "--json")
        self.assertEqual((code, error), (0, ""))
        report = json.loads(out)
        self.assertEqual(report["support_percentage"], "100.00%")
        self.assertEqual(report["unsupported_operators"], [])
        self.assertIn("neuroglot_version", report)
        self.assertEqual([module["name"] for module in report["modules"]],
                         ["encode-b2-s8-t16", "encode-b2-s16-t16", "prefill-b2-s16-t16", "decode-b2-s16-t16"])
        code, out, error = run("analyze", DEMO, "--target", "trn2", *SMALL, "--topk", "host", "--with-logits",
                               "--dtype", "bf16")
        self.assertEqual((code, error), (0, ""))
        for words in (b"100.00 % of nodes", b"logits-b2-s16-t16", b"of 24 GiB", b"minutes"):
            self.assertIn(words, out)

    def test_a_configuration_is_enough(self):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config.json"
            config.write_text(json.dumps({**json.loads((DEMO / "config.json").read_text()),
                                          "activation_function": "gelu"}))
            code, out, _ = run("analyze", folder, "--target", "trn1", *SMALL)
            self.assertEqual(code, 0)
            self.assertIn(b"CPU fallback", out)
            self.assertIn(b"AwsNeuronErf", out)
            for text, words in (("[]", "must be a JSON object"), ("{", "config.json"), ("{}", "model_type"),
                                ('{"model_type":"m2m_100","d_model":-3}', "d_model")):
                config.write_text(text)
                code, _, error = run("analyze", folder, "--target", "trn1")
                self.assertEqual(code, 1, text)
                self.assertIn(words, error)

    def test_refuses_by_name(self):
        for arguments, word in ((("--target", "inf1"), "--target inf2"), ((), "--target"),
                                (("--target", "cpu"), "inf2 trn1 trn2"),
                                (("--target", "inf2", "--source-lengths", "8,x"), "--source-lengths")):
            code, _, error = run("analyze", DEMO, *arguments)
            self.assertEqual(code, 1, arguments)
            self.assertIn(word, error)


class PlanBuckets(unittest.TestCase):
    def plan(self, lines, *arguments):
        code, out, error = run("plan-buckets", *arguments, stdin=lines)
        self.assertEqual((code, error), (0, ""))
        return out.decode().splitlines()

    def test_lengths_and_text_say_the_same(self):
        text = ["Hello.", "How are you?", "", "I have never been to Boston, but I would like to go."] * 3
        ids = run("tokenize", DEMO, "--lang", "eng_Latn", stdin="\n".join(text).encode())[1].decode().splitlines()
        lengths = "".join(f"{len(line.split())}\n" for line, source in zip(ids, text) if source)
        by_lengths = self.plan(lengths.encode(), "--lengths", "-", "--graphs", "2")
        by_text = self.plan("\n".join(text).encode(), "--text", "-", "--model", DEMO, "--graphs", "2")
        self.assertEqual(by_lengths, by_text)
        self.assertEqual(len(by_lengths), 3)
        self.assertEqual(by_lengths[0].count(","), 1)

    def test_lengths_at_their_limits(self):
        self.assertEqual(self.plan(b"1\n1048576\r\n", "--lengths", "-", "--graphs", "64", "--max", "8192")[0],
                         "--source-lengths 3,8192")
        for line in (b"0", b"1048577", b"-3", b"", b"5 6", b"0x9", b"9" * 40, b"\xff", b"5\x00"):
            code, _, error = run("plan-buckets", "--lengths", "-", "--graphs", "2", stdin=b"7\n" + line + b"\n7\n")
            self.assertEqual(code, 1, line)
            self.assertIn("line 2", error)

    def test_refuses_by_name(self):
        for arguments, word in (((), "--graphs"), (("--graphs", "2"), "--text"), (("--graphs", "65"), "--graphs"),
                                (("--graphs", "2", "--lengths", "-", "--text", "-"), "one of"),
                                (("--graphs", "2", "--lengths", "-", "--model", DEMO), "--model"),
                                (("--graphs", "2", "--text", "-"), "--model"),
                                (("--graphs", "2", "--lengths", "-"), "no sources"),
                                (("--graphs", "2", "--lengths", "/nonexistent"), "/nonexistent")):
            code, _, error = run("plan-buckets", *arguments)
            self.assertEqual(code, 1, arguments)
            self.assertIn(word, error)


if __name__ == "__main__":
    unittest.main()
