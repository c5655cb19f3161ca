#!/usr/bin/env python3
"""What does the program answer to good lines, bad lines and wrong options? (After a release build.)"""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEUROGLOT = ROOT / "build/release/neuroglot"
DEMO = ROOT / "models/demo"
LANGUAGES = ("--from", "eng_Latn", "--to", "fra_Latn")


def run(*arguments, stdin=b"", env=None):
    """(exit code, standard output, standard error)"""
    done = subprocess.run([NEUROGLOT, *map(str, arguments)], input=stdin, capture_output=True,
                          env={**os.environ, **(env or {})}, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        os.environ["NEUROGLOT_HOME"] = cls.folder.name + "/home"
        cls.bundle = Path(cls.folder.name) / "demo"
        code, _, error = run("compile", DEMO, "-o", cls.bundle, "--quiet")
        assert code == 0, error

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_one_line_in_one_line_out(self):
        lines = b"Hello.\r\n\n  \t\n  Where is Tom?  \nlast line without end"
        code, out, _ = run("translate", self.bundle, *LANGUAGES, stdin=lines)
        self.assertEqual(code, 0)
        answer = out.split(b"\n")
        self.assertEqual(len(answer), 6)
        self.assertTrue(answer[0].endswith(b"\r"))
        self.assertEqual(answer[1:3], [b"", b"  \t"])
        self.assertTrue(answer[3].startswith(b"  ") and answer[3].endswith(b"  "))

    def test_invalid_utf8_and_nul_are_read_with_a_warning(self):
        code, out, error = run("translate", self.bundle, *LANGUAGES, stdin=b"a\xff\x00b\nfine\n")
        self.assertEqual((code, out.count(b"\n")), (0, 2))
        self.assertIn("line 1: invalid UTF-8", error)
        ids = [run("tokenize", self.bundle, stdin=text)[1] for text in (b"a\xffb\n", "a\ufffdb\n".encode())]
        self.assertEqual(*ids)

    def test_bad_json_lines_answer_in_their_place(self):
        lines = b'{"id": 1, "text": "Hello."}\nnonsense\n{"text": "x", "to": "klingon"}\n'
        code, out, error = run("translate", self.bundle, "--jsonl", *LANGUAGES, stdin=lines)
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(code, 1)
        self.assertEqual(answers[0]["id"], 1)
        self.assertIn("error", answers[1])
        self.assertIn("klingon", answers[2]["error"]["message"])
        self.assertTrue(error.endswith("2 of 3 lines failed: 2, 3\n"), error)

    def test_long_lines_are_cut_and_nothing_is_dropped(self):
        text = "Tom likes tea. " * 30
        code, out, error = run("translate", self.bundle, *LANGUAGES, "--max-source-tokens", 20,
                               stdin=text.encode() + b"\n")
        self.assertEqual(code, 0)
        self.assertIn("pieces", error)
        self.assertGreater(len(out), 100)

    def test_the_text_of_a_special_token_is_text(self):
        code, out, _ = run("tokenize", self.bundle, "--lang", "eng_Latn", stdin=b"</s> fra_Latn\n")
        self.assertEqual(code, 0)
        self.assertEqual(out.split().count(b"2"), 1)
        code, out, _ = run("tokenize", self.bundle, "--lang", "eng_Latn", "--special",
                           stdin=b"</s> fra_Latn\n")
        self.assertEqual(out.split().count(b"2"), 2)

    def test_results_do_not_depend_on_instruction_set_threads_and_batch(self):
        text = b"I like tea.\nThe house is very old.\nWhy?\n" * 5
        answers = set()
        for isa, threads, batch in (("generic", 1, 1), ("avx2", 2, 4), ("", 8, "auto")):
            code, out, error = run("translate", self.bundle, *LANGUAGES, "--beam", 3, "--scores",
                                   "--threads", threads, "--batch", batch, stdin=text,
                                   env={"NEUROGLOT_ISA": isa})
            if code == 1 and "NEUROGLOT_ISA" in error:
                print(f"skipped: {error.strip()}")
                continue
            self.assertEqual(code, 0, error)
            answers.add(out)
        self.assertEqual(len(answers), 1)

    def test_generate_answers_every_line_in_order(self):
        good = {"input_ids": [8048, 194, 4069, 2], "forced_bos_token_id": 8058}
        lines = [good, {**good, "num_beams": 3, "num_return_sequences": 2}, {"nonsense": 1},
                 {**good, "do_sample": True}]
        code, out, _ = run("generate", self.bundle,
                           stdin="".join(json.dumps(x) + "\n" for x in lines).encode())
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(code, 1)
        self.assertEqual(answers[0]["sequences"][0][:2], [2, 8058])
        self.assertNotIn("sequences_scores", answers[0])
        self.assertEqual(len(answers[1]["sequences_scores"]), 2)
        self.assertIn("nonsense", answers[2]["error"]["message"])
        self.assertIn("do_sample", answers[3]["error"]["message"])

    def test_usage_errors_exit_with_1_and_name_the_fix(self):
        for arguments, word in ((("translate", self.bundle), "--from"),
                                (("translate", self.bundle, "--from", "xx", "--to", "fra_Latn"),
                                 "xx"),
                                (("compile", DEMO, "-o", self.bundle), "--force"),
                                (("compile", "/nonexistent", "-o", "/tmp/x"), "/nonexistent"),
                                (("inspect", DEMO, "--graph", "encode", "--stage", "no"), "no"),
                                (("generate", self.bundle, "--batch", "0"), "--batch"),
                                (("translate", self.bundle, "--beam", "65"), "beam")):
            code, _, error = run(*arguments)
            self.assertEqual(code, 1, (arguments, error))
            self.assertIn(word, error)

    def test_verify_names_a_damaged_tensor_and_exits_with_3(self):
        damaged = Path(self.folder.name) / "damaged"
        subprocess.run(["cp", "-r", self.bundle, damaged], check=True)
        with open(damaged / "weights.bin", "r+b") as file:
            file.seek(100_000)
            byte = file.read(1)
            file.seek(100_000)
            file.write(bytes([byte[0] ^ 1]))
        code, _, error = run("verify", damaged, "--quiet")
        self.assertEqual(code, 3, error)
        self.assertIn("bytes", error)
        code, _, _ = run("verify", self.bundle, "--reference", DEMO, "--sentences", 2, "--quiet")
        self.assertEqual(code, 0)

    def test_inspect_prints_graphs_that_change_from_pass_to_pass(self):
        stages = [run("inspect", DEMO, "--graph", "decode", "--stage", stage)[1]
                  for stage in ("fuse", "pack")]
        self.assertTrue(all(text.startswith(b"graph decode") for text in stages))
        self.assertNotEqual(*stages)
        self.assertNotEqual(run("inspect", DEMO, "--graph", "decode", "--without", "fuse")[1],
                            stages[1])

    def test_stats_hold_times_and_counts(self):
        stats = Path(self.folder.name) / "stats.json"
        run("translate", self.bundle, *LANGUAGES, "--repeat", 2, "--warmup", 1, "--stats", stats,
            stdin=b"Hello.\n")
        told = json.loads(stats.read_text())
        self.assertEqual(len(told["generate_seconds"]), 2)
        self.assertGreater(told["output_tokens"], 0)

    def test_a_closed_pipe_ends_quietly(self):
        done = subprocess.run(f"yes 'I like tea.' | head -3000 | {NEUROGLOT} translate {self.bundle} "
                              "--from eng_Latn --to fra_Latn --quiet | head -1", shell=True,
                              capture_output=True, check=True)
        self.assertEqual((done.stdout.count(b"\n"), done.stderr), (1, b""))


if __name__ == "__main__":
    unittest.main()
