#!/usr/bin/env python3
"""What does the program answer to good lines, bad lines and wrong options? (After a release build.)"""
import json
import os
import random
import shutil
import struct
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


def safetensors(path, **tensors):
    """Writes rows of ids as s32."""
    header, data = {}, b""
    for name, rows in tensors.items():
        flat = [item for row in rows for item in row]
        end = len(data) + 4 * len(flat)
        header[name] = {"dtype": "I32", "shape": [len(rows), len(rows[0])], "data_offsets": [len(data), end]}
        data += struct.pack(f"<{len(flat)}i", *flat)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def setUpModule():
    global FOLDER, BUNDLE
    FOLDER = tempfile.TemporaryDirectory()
    os.environ["NEUROGLOT_HOME"] = FOLDER.name + "/home"
    BUNDLE = Path(FOLDER.name) / "demo"
    code, _, error = run("compile", DEMO, "-o", BUNDLE, "--quiet")
    assert code == 0, error


def tearDownModule():
    FOLDER.cleanup()


class Demo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bundle = BUNDLE
        cls.folder = FOLDER

    def setUp(self):
        self.own = Path(tempfile.mkdtemp(dir=self.folder.name))

    def translate(self, stdin, *options, code=0):
        """(standard output, standard error)"""
        found, out, error = run("translate", self.bundle, *LANGUAGES, *options, stdin=stdin)
        self.assertEqual(found, code, error)
        return out, error


class CommandLine(Demo):
    def test_paths_that_cannot_be_used_are_the_users_errors(self):
        loop = self.own / "loop"
        loop.symlink_to(loop)
        for path in ("x" * 300, "y/" * 2500, loop, loop / "model", self.own / ("z" * 300)):
            for command in (["inspect", path], ["translate", path, *LANGUAGES],
                            ["compile", DEMO, "-o", path if path != loop else loop / "out", "--quiet"]):
                code, _, error = run(*command)
                self.assertEqual(code, 1, error)
                self.assertNotIn("internal", error)
                self.assertLess(len(error), 12000)

    def test_forward_does_not_ask_for_generation_options(self):
        model = self.own / "model"
        shutil.copytree(DEMO, model)
        generation = json.loads((model / "generation_config.json").read_text())
        (model / "generation_config.json").write_text(json.dumps({**generation, "do_sample": True}))
        code, _, error = run("compile", model, "-o", self.own / "bundle")
        self.assertEqual(code, 0)
        self.assertIn('"do_sample" is true', error)
        safetensors(self.own / "in", input_ids=[[4, 5, 2]], decoder_input_ids=[[2]])
        code, _, error = run("forward", self.own / "bundle", "--input", self.own / "in",
                             "--output", self.own / "out")
        self.assertEqual(code, 0, error)
        code, _, error = run("generate", self.own / "bundle", stdin=b'{"input_ids": [4, 2]}\n')
        self.assertEqual(code, 1)
        self.assertIn('"do_sample" is true', error)

    def test_text_commands_name_m2m100s_files(self):
        model = self.own / "model"
        code, _, error = run("make-checkpoint", "--shape", "tiny", model)
        self.assertEqual(code, 0, error)
        (model / "tokenizer.json").unlink()
        (model / "vocab.json").write_text("{}")
        code, out, error = run("generate", model, stdin=b'{"input_ids": [4, 2], "max_length": 3}\n')
        self.assertEqual(code, 0, error)
        self.assertIn("vocab.json and sentencepiece.bpe.model are M2M100's", error)
        code, _, error = run("translate", model, *LANGUAGES, stdin=b"x\n")
        self.assertEqual(code, 1)
        self.assertIn("M2M100's vocab.json and sentencepiece.bpe.model, which are not read", error)

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

    def test_the_demo_model_answers_in_the_language_asked_for(self):
        for code, wanted in (("fra", "J'aimerais une tasse de thé."), ("spa", "Me gustaría una taza de té.")):
            options = ["--from", "eng_Latn", "--to", f"{code}_Latn"]
            found = run("translate", self.bundle, *options, stdin=b"I would like a cup of tea.\n")[1].decode()
            self.assertEqual(found, wanted + "\n")

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
        good = {"input_ids": [8047, 194, 4069, 2], "forced_bos_token_id": 8057}
        lines = [good, {**good, "num_beams": 3, "num_return_sequences": 2}, {"nonsense": 1},
                 {**good, "do_sample": True}]
        code, out, _ = run("generate", self.bundle,
                           stdin="".join(json.dumps(x) + "\n" for x in lines).encode())
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(code, 1)
        self.assertEqual(answers[0]["sequences"][0][:2], [2, 8057])
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
                                (("bogus",), 'there is no command "bogus"; the commands are compile, '),
                                (("forward", self.bundle, "--batch", "2"), "--batch"),
                                (("translate", self.bundle, "--beam", "65"), "beam"),
                                (("inspect", DEMO, "--graph", "encode", "--json"), "--json"),
                                (("inspect", self.bundle, "--graph", "encode", "--check"), "--check"),
                                (("inspect", DEMO, "--stage", "fuse"), "--graph"),
                                (("inspect", DEMO, "--without", "fuse"), "--graph"),
                                (("inspect", DEMO, "--check"), "--check"),
                                (("inspect", self.bundle, "--dtype", "bf16"), "--dtype bf16"),
                                (("generate", self.bundle, "--target", "reference"), "--target"),
                                (("detokenize", self.bundle, "--lang", "xx"), "xx"),
                                (("tokenize", self.bundle, "--dialect", "sentencepiece", "--special"), "--special")):
            code, _, error = run(*arguments)
            self.assertEqual(code, 1, (arguments, error))
            self.assertIn(word, error)

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

    def test_forward_and_verify_tell_stats_too(self):
        stats = self.own / "stats.json"
        safetensors(self.own / "in", input_ids=[[8047, 194, 2]], decoder_input_ids=[[2, 8057]])
        forward = ("forward", self.bundle, "--input", self.own / "in", "--output")
        self.assertEqual(run(*forward, self.own / "once")[0], 0)
        code, _, error = run(*forward, self.own / "twice", "--warmup", 1, "--repeat", 2, "--stats", stats)
        self.assertEqual(code, 0, error)
        self.assertEqual((self.own / "once").read_bytes(), (self.own / "twice").read_bytes())
        told = json.loads(stats.read_text())
        self.assertEqual((len(told["generate_seconds"]), told["input_tokens"], told["output_tokens"]), (2, 3, 2))
        self.assertIn("cpu (", told["device"])
        code, _, error = run("verify", self.bundle, "--sentences", 1, "--stats", stats)
        self.assertEqual(code, 0, error)
        self.assertIn("kernels: 1 of 1 sentences, ", error)
        told = json.loads(stats.read_text())
        self.assertGreater(told["generate_seconds"], 0)
        self.assertGreater(min(told["input_tokens"], told["peak_rss_bytes"], told["anonymous_bytes"]), 0)

    def test_a_plugin_is_given_hlo_or_mlir(self):
        self.assertEqual(run("compile", DEMO, "-o", self.own / "b", "--target", "pjrt", "--quiet", "--batch", 1,
                             "--source-lengths", 8, "--target-length", 8)[0], 0)
        for form, wanted in (("text", (1, "NEUROGLOT_PJRT_FORMAT=text: hlo or mlir")), ("mlir", (2, "/nonexistent"))):
            code, _, error = run("generate", self.own / "b", "--device", "pjrt:/nonexistent", stdin=b"",
                                 env={"NEUROGLOT_PJRT_FORMAT": form})
            self.assertEqual(code, wanted[0], error)
            self.assertIn(wanted[1], error)

    def test_help_says_what_a_command_takes(self):
        self.assertRegex(run("compile", "--help")[1].decode(), r"MODEL_DIR TEXT REQUIRED +checkpoint directory")
        self.assertIn("BUNDLE or MODEL_DIR", run("verify", "--help")[1].decode())

    def test_options_at_their_limits(self):
        for option, good, bad, word in (("--beam", (1, 64), (65, -1, 0, "0x2", "02", "+2", "2.0", ""), "64"),
                                        ("--n-best", (1, 2), (0, 3, 65), "--n-best"),
                                        ("--max-source-tokens", (3, 8192), (2, 8193), "8192")):
            beams = () if option == "--beam" else ("--beam", 2)
            for value in good:
                self.translate(b"Tea.\n", *beams, option, value)
            for value in bad:
                out, error = self.translate(b"Tea.\n", *beams, option, value, code=1)
                self.assertEqual(out, b"")
                self.assertIn(word, error)
        _, error = self.translate(b"Tea.\n", "--beam", 2, "--n-best", 3, code=1)
        self.assertIn("--n-best 3 needs at least as many beams, there are 2: add --beam 3", error)

    def test_forward_refuses_masks_that_leave_nothing_or_are_bool(self):
        target = self.own / "out"
        safetensors(self.own / "in", input_ids=[[5, 2]], attention_mask=[[0, 0]], decoder_input_ids=[[2]])
        forward = ("forward", self.bundle, "--input", self.own / "in", "--output", target)
        code, _, error = run(*forward)
        self.assertEqual((code, target.exists()), (1, False), error)
        self.assertIn("a source has no ids that count", error)
        data = (self.own / "in").read_bytes()
        header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
        header["attention_mask"].update(dtype="BOOL", data_offsets=[8, 10])
        header["decoder_input_ids"]["data_offsets"] = [10, 14]
        text = json.dumps(header).encode()
        (self.own / "in").write_bytes(struct.pack("<Q", len(text)) + text + data[-20:-12] + b"\1\1" + data[-4:])
        code, _, error = run(*forward)
        self.assertEqual((code, target.exists()), (1, False), error)
        self.assertIn("attention_mask", error)

    def test_numbers_beyond_their_limits_are_refused_and_not_cut(self):
        for option, value in (("--seed", 1 << 63), ("--seed", -1), ("--seed", 10 ** 30), ("--shards", 1 << 64)):
            code, _, error = run("make-checkpoint", "--shape", "tiny", option, value, self.own / "out")
            self.assertEqual((code, (self.own / "out").exists()), (1, False))
            self.assertIn(f"{option}: {value} is no whole number from ", error)

    def test_tokenize_and_detokenize_tell_of_every_bad_line(self):
        code, _, error = run("tokenize", self.bundle, stdin=b"fine\na\xff\n")
        self.assertEqual((code, error), (0, "warning: line 2: invalid UTF-8 is read as U+FFFD\n"))
        vocabulary = json.loads(run("inspect", self.bundle, "--json")[1])["vocabulary"]
        code, out, error = run("detokenize", self.bundle, stdin=f"8047\n{vocabulary}\n{vocabulary - 1}\n".encode())
        self.assertEqual((code, out.count(b"\n")), (1, 3))
        self.assertIn(f"error: line 2: {vocabulary} is no token id: the vocabulary has {vocabulary}\n", error)
        self.assertTrue(error.endswith("1 of 3 lines failed: 2\n"))

    def test_forward_takes_rows_at_the_limit(self):
        run("make-checkpoint", "--shape", "tiny", self.own / "tiny", "--quiet")  # 74 MB of logits
        for name, other in (("input_ids", "decoder_input_ids"), ("decoder_input_ids", "input_ids")):
            for length in (8192, 8193):
                (self.own / "out").unlink(missing_ok=True)
                rows = {name: [[5] * length], other: [[2]]}
                if name == "input_ids":
                    rows["attention_mask"] = [[1] + [0] * (length - 1)]
                safetensors(self.own / "in", **rows)
                code, _, error = run("forward", self.own / "tiny", "--input", self.own / "in", "--output",
                                     self.own / "out", "--quiet")
                self.assertEqual(code, int(length > 8192), error)
                self.assertEqual((self.own / "out").exists(), length <= 8192)
                if length > 8192:
                    self.assertIn(f"'{name}': rows of 8193 ids, at most 8192", error)
                (self.own / "out").unlink(missing_ok=True)

    def test_forward_leaves_no_half_written_file(self):
        safetensors(self.own / "in", input_ids=[[5]], decoder_input_ids=[[99999]])
        code, _, error = run("forward", self.bundle, "--input", self.own / "in", "--output", self.own / "out")
        self.assertEqual((code, [path.name for path in self.own.iterdir()]), (1, ["in"]), error)
        self.assertIn("decoder_input_ids: element 0 is 99999", error)

    def test_lines_at_the_limit(self):
        most = 16 << 20
        lines = [b" " * most, b" " * (most + 1), b" " * (3 * most), b"Tea."]
        out, error = self.translate(b"\n".join(lines), code=1)
        answers = out.split(b"\n")
        self.assertEqual([len(answer) for answer in answers[:3]], [most, 0, 0])
        self.assertNotEqual(answers[3], b"")
        self.assertIn("line 2: is longer than 16 MiB: split it", error)
        self.assertTrue(error.endswith("2 of 4 lines failed: 2, 3\n"))
        request = b'{"input_ids": [8047, 194, 2], "max_length": 4}'
        request += b" " * (most - len(request))
        code, out, _ = run("generate", self.bundle, stdin=request + b"\n" + request + b" \n")
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((code, len(answers)), (1, 2))
        self.assertIn("sequences", answers[0])
        self.assertIn("is longer than 16 MiB: split it", answers[1]["error"]["message"])

    def test_generate_refuses_by_name(self):
        vocabulary = json.loads(run("inspect", self.bundle, "--json")[1])["vocabulary"]
        good = {"input_ids": [8047, 194, 2], "max_length": 4}
        all_but = lambda n: {**good, "num_beams": 4, "suppress_tokens": list(range(vocabulary - n))}
        cases = ((good, None), ({**good, "do_sample": True}, '"do_sample" is true: sampling is not'),
                 ({**good, "do_sample": False}, None), ({**good, "top_k": 5}, 'unknown field "top_k"'),
                 ("[" * 32 + "]" * 32, "must be a JSON object"), ("[" * 33 + "]" * 33, "deeper than 32"),
                 (all_but(8), None), (all_but(3), "fewer than the 4 beams"),
                 ({**good, "max_length": 2, "num_beams": 2, "num_return_sequences": 2, "forced_bos_token_id": 8057},
                  "only 1 sequences could be made"),
                 ({**good, "input_ids": [vocabulary]}, f"the vocabulary has {vocabulary}"),
                 ("", "is not valid JSON"), ('{"a": "\udcff\udcc0"}', "is not valid JSON"))
        lines = [case if isinstance(case, str) else json.dumps(case) for case, _ in cases]
        code, out, error = run("generate", self.bundle,
                               stdin="\n".join(lines).encode("utf-8", "surrogateescape"))
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((code, len(answers)), (1, len(cases)))
        for answer, (case, message) in zip(answers, cases):
            if message is None:
                self.assertEqual(set(answer), {"sequences", "finish_reason"} | (
                    {"sequences_scores"} if "num_beams" in case else set()))
            else:
                self.assertEqual(set(answer["error"]), {"code", "message"})
                self.assertIn(message, answer["error"]["message"])
        bad = [str(i + 1) for i, (_, message) in enumerate(cases) if message]
        self.assertTrue(error.endswith(f"{len(bad)} of {len(cases)} lines failed: {', '.join(bad)}\n"), error)

    def test_generate_answers_every_line_of_anything(self):
        chance = random.Random(4)
        valid = b'{"input_ids": [8047, 194, 2], "max_length": 3}'
        lines = [valid]
        for _ in range(300):
            line = bytearray(valid)
            for _ in range(chance.randrange(4)):
                line[chance.randrange(len(line))] = chance.randrange(256)
            lines.append(bytes(line).replace(b"\n", b" "))
        code, out, error = run("generate", self.bundle, "--quiet", stdin=b"\n".join(lines))
        answers = [json.loads(line) for line in out.splitlines()]
        failed = [i + 1 for i, answer in enumerate(answers) if "error" in answer]
        self.assertEqual((code, len(answers)), (1, len(lines)))
        self.assertTrue(50 < len(failed) < 300)
        self.assertTrue(error.splitlines()[-1].startswith(f"{len(failed)} of {len(lines)} lines failed: "))

    def test_a_closed_pipe_ends_quietly(self):
        done = subprocess.run(f"yes 'I like tea.' | head -3000 | {NEUROGLOT} translate {self.bundle} "
                              "--from eng_Latn --to fra_Latn --quiet | head -1", shell=True,
                              capture_output=True, check=True)
        self.assertEqual((done.stdout.count(b"\n"), done.stderr), (1, b""))


if __name__ == "__main__":
    unittest.main()
