"""Is `translate` one line in, one line out, whatever the lines hold? (After a release build.)"""
import json
import random
import re
import select
import shutil
import subprocess
import time
import unittest

from command_line import DEMO, LANGUAGES, NEUROGLOT, Demo, run, setUpModule, tearDownModule  # noqa: F401


BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
PARTS = [b"I like tea", b"the house", b".", b" ", b"  ", b"\t", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80",
         "\u2028é\u3000字😀\x85".encode(), "\u2028".encode(), b"</s>", b"fra_Latn", b"\x0b\x0c\x1c", b"Tom likes tea. " * 9]


def random_lines(seed, count):
    chance = random.Random(seed)
    lines = [b"".join(chance.choices(PARTS, k=chance.randrange(6))) for _ in range(count)]
    return lines + [b"x" * 400, "字".encode() * 90, b"", b" \0\t", b"\r", b"last"]


class Lines(Demo):
    def test_one_line_in_one_line_out_whatever_it_holds(self):
        lines = random_lines(5, 250)
        out, error = self.translate(b"\n".join(lines), "--max-source-tokens", 40)
        answers = out.split(b"\n")
        self.assertEqual((len(answers), answers.pop()), (len(lines) + 1, b""))
        for line, answer in zip(lines, answers):
            ending = b"\r" if line.endswith(b"\r") else b""
            self.assertTrue(answer.endswith(ending), line)
            text = line[:len(line) - len(ending)].decode("utf-8", "replace").replace("\0", " ")
            if not text.strip(BLANKS):
                self.assertEqual(answer, line)
                continue
            answer = answer[:len(answer) - len(ending)].decode()
            self.assertTrue(answer.startswith(text[:len(text) - len(text.lstrip(BLANKS))]), line)
            self.assertTrue(answer.endswith(text[len(text.rstrip(BLANKS)):]), line)
        invalid = [i + 1 for i, line in enumerate(lines) if "\ufffd" in line.decode("utf-8", "replace")]
        self.assertEqual([int(n) for n in re.findall(r"warning: line (\d+): invalid UTF-8", error)], invalid)
        self.assertIn("source tokens: translated in", error)
        for i in random.Random(6).sample(range(len(lines)), 8):  # alone, and with an end
            self.assertEqual(self.translate(lines[i] + b"\n", "--max-source-tokens", 40)[0],
                             answers[i] + b"\n")
        quiet = self.translate(b"\n".join(lines), "--max-source-tokens", 40, "--quiet")
        self.assertEqual(quiet, (out, ""))

    def test_a_cut_line_is_its_pieces_joined_by_a_space(self):
        sentence = b"Tom likes tea."
        most = len(run("tokenize", self.bundle, "--lang", "eng_Latn", stdin=sentence)[1].split())
        whole, error = self.translate(b" ".join([sentence] * 7) + b"\n", "--max-source-tokens", most)
        piece, quiet = self.translate(sentence + b"\n", "--max-source-tokens", most)
        self.assertIn(f"warning: line 1: more than {most} source tokens: translated in 7 pieces", error)
        self.assertEqual((whole, quiet), (b" ".join([piece[:-1]] * 7) + b"\n", ""))

    def test_files_are_one_input(self):
        parts = [b"One tea.\nTwo teas.", b"Where is Tom?\n", b"", b"\nThe end"]
        names = []
        for i, part in enumerate(parts):
            (self.own / str(i)).write_bytes(part)
            names.append("-" if i == 1 else self.own / str(i))
        out, _ = self.translate(parts[1], *names)
        together, _ = self.translate(b"One tea.\nTwo teas.\nWhere is Tom?\n\nThe end")
        self.assertEqual(out, together)

    def test_jsonl_keeps_ids_of_every_type(self):
        ids = [None, True, 0, -1.5, 12345678901234567890, "x\u2028\0", "", [1, [None]], {"b": {}, "a": 1}]
        requests = [{"id": id, "text": f"I like tea {i}. "} for i, id in enumerate(ids)]
        bad = [{"id": [1], "text": "x", "extra": 1}, {"id": {}}, {"id": None, "text": 5},
               {"id": 4, "text": "x", "to": "klingon"}]
        last = [{"text": " \u3000"}, {"text": "two\nlines", "from": "eng_Latn", "to": "eng_Latn"}]
        every = requests + bad + last
        out, error = self.translate("\n".join(map(json.dumps, every)).encode(), "--jsonl", code=1)
        answers = [json.loads(line) for line in out.split(b"\n")[:-1]]
        self.assertEqual(len(answers), len(every))
        for request, answer in zip(every, answers):
            self.assertEqual(("id" in answer, answer.get("id")), ("id" in request, request.get("id")))
            self.assertEqual(set(answer) - {"id"}, {"error"} if request in bad else {"translations"})
        plain, _ = self.translate("\n".join(r["text"] for r in requests).encode())
        self.assertEqual([a["translations"][0]["text"] for a in answers[:len(ids)]],
                         plain.decode().split("\n")[:-1])
        self.assertEqual(answers[-2]["translations"][0]["text"], " \u3000")
        for answer in answers[:len(ids)]:
            self.assertEqual(set(answer["translations"][0]), {"text", "score", "finish_reason"})
        self.assertTrue(error.endswith("4 of 15 lines failed: 10, 11, 12, 13\n"), error)

    def test_a_numbers_id_comes_back_as_it_was_written(self):
        numbers = ("0", "-0", "1.0", "1.10", "1E2", "123456789012345678901234567890", "-1e-7", "0.1e1")
        lines = [f'{{"text": "id", "x\\"": 1, "id" : {n} }}' for n in numbers]
        lines += [f'{{"a": {{"id": 5}}, "\\u0069d":\t{n}}}' for n in numbers]
        lines += [f'{{"id":{n},"text":"Why?"}}' for n in numbers]
        out, _ = self.translate("\n".join(lines).encode(), "--jsonl", code=1)
        found = [re.match(r'\{"id":([^,]+),"(error|translations)":', line).groups() for line in out.decode().splitlines()]
        self.assertEqual(found, [(n, what) for what in ("error", "error", "translations") for n in numbers])
        for line in out.splitlines():
            json.loads(line)

    def test_jsonl_reads_invalid_utf8_and_nul_as_text_does(self):
        lines = [b'{"id": "\xff", "text": "I like\0 tea\xc3."}', b'{"id": 7, "text": "Why?"}', b'\xff']
        out, error = self.translate(b"\n".join(lines), "--jsonl", code=1)
        answers = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([answer.get("id") for answer in answers], ["\ufffd", 7, None])
        plain, _ = self.translate(b"I like\0 tea\xc3.\n")
        self.assertEqual(answers[0]["translations"][0]["text"].encode() + b"\n", plain)
        self.assertEqual(re.findall(r"warning: line (\d+): invalid UTF-8 is read as U\+FFFD", error), ["1", "3"])

    def test_blank_lines_are_answered_as_documented(self):
        blanks = b"\n  \t\n \xc2\xa0\r\n"
        self.assertEqual(self.translate(blanks)[0], blanks)
        self.assertEqual(self.translate(blanks, "--scores")[0], b"0\t\n0\t  \t\n0\t \xc2\xa0\r\n")
        self.assertEqual(self.translate(b" \n", "--beam", 2, "--n-best", 2)[0], b"1 |||   ||| 0\n" * 2)
        out, error = self.translate(b" \n\n", "--jsonl", code=1)
        self.assertEqual([set(json.loads(line)) for line in out.splitlines()], [{"error"}] * 2)
        self.assertTrue(error.endswith("2 of 2 lines failed: 1, 2\n"))
        out, _ = self.translate(b'{"text": " "}\n', "--jsonl")
        self.assertEqual(json.loads(out), {"translations": [{"text": " ", "score": 0, "finish_reason": "eos"}]})
        code, out, _ = run("generate", self.bundle, stdin=b" \n")
        self.assertEqual((code, set(json.loads(out))), (1, {"error"}))

    def test_n_best_and_scores_are_printed_as_promised(self):
        lines = [b"I like tea.", b"", b"  Where is Tom?\r"]
        plain = self.translate(b"\n".join(lines), "--beam", 3)[0].decode().split("\n")
        scored = self.translate(b"\n".join(lines), "--beam", 3, "--scores")[0].decode().split("\n")
        for n in (1, 3):
            out = self.translate(b"\n".join(lines), "--beam", 3, "--n-best", n)[0].decode().split("\n")[:-1]
            self.assertEqual(len(out), n * len(lines))
            found = [re.fullmatch(r"(\d+) \|\|\| (.*) \|\|\| (\S+?)(\r?)", line, re.S).groups() for line in out]
            self.assertEqual([int(number) for number, *_ in found], sorted([1, 2, 3] * n))
            for i, line in enumerate(plain[:-1]):
                scores = [float(score) for _, _, score, _ in found[i * n:(i + 1) * n]]
                self.assertEqual(scores, sorted(scores, reverse=True))
                _, text, score, ending = found[i * n]
                self.assertEqual((text + ending, f"{score}\t{text}{ending}"), (line, scored[i]))

    def test_an_output_file_is_whole_or_not_there(self):
        target = self.own / "out.txt"
        out, _ = self.translate(b"I like tea.\nWhy?\n")
        shown, _ = self.translate(b"I like tea.\nWhy?\n", "-o", target)
        self.assertEqual((shown, target.read_bytes()), (b"", out))
        shown, error = self.translate(b"Why?\n", "-o", target, "-", self.own / "missing", code=1)
        self.assertEqual((shown, target.read_bytes()), (b"", out))  # as it was
        self.assertIn("missing: cannot be opened: No such file or directory", error)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([NEUROGLOT, "translate", self.bundle, *LANGUAGES], input=b"Why?", stdout=full,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (1, "neuroglot: standard output cannot be written: No space left on device\n"))
        self.translate(b"", "-o", self.own / "no/where", code=1)
        lines = b'{"text": "I like tea."}\nbad\n'
        self.translate(lines, "--jsonl", "-o", target, code=1)
        self.assertEqual(len(target.read_bytes().splitlines()), 2)  # what failed is in its place
        process = subprocess.Popen([NEUROGLOT, "translate", self.bundle, *LANGUAGES, "-o", self.own / "b"],
                                   stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdin.write(b"I like tea.\n" * 2000)
        process.kill()
        process.communicate()
        self.assertFalse((self.own / "b").exists())
        self.assertEqual([p.name for p in self.own.iterdir() if p.suffix != ".partial"], ["out.txt"])

    def test_what_is_complete_comes_out_when_input_pauses(self):
        with subprocess.Popen([NEUROGLOT, "translate", self.bundle, *LANGUAGES], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, bufsize=0) as process:
            # The first waits for the model too. The pause that is promised has 50 ms; a busy machine gets 2 s.
            for line, most in ((b"I like tea.\n", 30), (b"Why?\nA half", 2), (b" line.\n", 2)):
                begin = time.monotonic()
                process.stdin.write(line)
                self.assertTrue(select.select([process.stdout], [], [], most)[0], f"{line}: nothing in {most} s")
                print(f"{line}: {(time.monotonic() - begin) * 1000:.0f} ms")
                self.assertEqual(process.stdout.read(1 << 16).count(b"\n"), 1)
            process.stdin.close()
            self.assertEqual(process.stdout.read(), b"")

    def test_memory_does_not_grow_with_the_length_of_a_pipe(self):
        found = []
        for count in (2_000, 200_000):  # 20 MB of blank lines: the model rests
            done = subprocess.run(f"yes '{' ' * 99}' | head -n {count} | {NEUROGLOT} translate {self.bundle} "
                                  f"{' '.join(LANGUAGES)} --stats {self.own}/stats | wc -l", shell=True,
                                  capture_output=True, check=True)
            self.assertEqual(int(done.stdout), count, done.stderr)
            found.append(json.loads((self.own / "stats").read_text()))
        for key in ("anonymous_bytes", "peak_rss_bytes"):
            self.assertLess(found[1][key] - found[0][key], 4 << 20, key)

    def test_the_peak_of_memory_is_not_that_of_whoever_started_it(self):
        ballast = bytearray(300 << 20)
        run("translate", self.bundle, *LANGUAGES, "--stats", self.own / "stats", stdin=b"\n")
        self.assertLess(json.loads((self.own / "stats").read_text())["peak_rss_bytes"], len(ballast))

    def test_a_result_cut_by_max_length_says_so(self):
        model = self.own / "model"
        shutil.copytree(DEMO, model)
        config = json.loads((model / "generation_config.json").read_text())
        (model / "generation_config.json").write_text(json.dumps({**config, "max_length": 5}))
        code, out, error = run("translate", model, *LANGUAGES, "--jsonl", stdin=b'{"text": "I like black tea."}')
        self.assertEqual(code, 0, error)
        self.assertEqual(json.loads(out)["translations"][0]["finish_reason"], "length")
        self.assertIn("warning: line 1: a translation was ended by max_length", error)

    def test_stats_have_their_keys_and_count_tokens_once(self):
        lines = b"I like tea.\nWhere is Tom?\n\n"
        ids = run("tokenize", self.bundle, "--lang", "eng_Latn", stdin=lines.rstrip())[1].split()
        counts = set()
        for repeat in (None, 1, 3):
            times = () if repeat is None else ("--repeat", repeat, "--warmup", 1)
            self.translate(lines, "--stats", self.own / "stats", *times)
            stats = json.loads((self.own / "stats").read_text())
            self.assertEqual(set(stats), {"device", "load_seconds", "tokenize_seconds", "generate_seconds", "input_tokens",
                                          "output_tokens", "peak_rss_bytes", "anonymous_bytes"})
            for key in ("tokenize_seconds", "generate_seconds"):
                self.assertEqual(len(stats[key]) if repeat else type(stats[key]), repeat or float)
            counts.add((stats["input_tokens"], stats["output_tokens"]))
        self.assertEqual([count for count, _ in counts], [len(ids)])
        for command in (("generate", self.bundle), ("translate", self.bundle, *LANGUAGES)):
            self.assertEqual(run(*command, "--stats", self.own / "stats")[0], 0)
            stats = json.loads((self.own / "stats").read_text())
            self.assertEqual((stats["tokenize_seconds"], stats["generate_seconds"]), (0, 0))


if __name__ == "__main__":
    unittest.main()
