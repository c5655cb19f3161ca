"""Do results arrive whole, or is it said that they did not, wherever they go and come from? (After a release build.)"""
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

from command_line import DEMO, LANGUAGES, NEUROGLOT, Demo, run, safetensors, setUpModule, tearDownModule  # noqa: F401

LINES = b"I like tea.\nWhy?\n"


def shell(script, *arguments):
    """(exit code, standard output, standard error) of a script that calls "$@"."""
    done = subprocess.run(["sh", "-c", script, "sh", *map(str, arguments)], capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


class Outputs(Demo):
    def command(self, *options):
        return [NEUROGLOT, "translate", self.bundle, *LANGUAGES, *options]

    def test_what_is_no_regular_file_is_written_as_it_is(self):
        expected, _ = self.translate(LINES)
        fifo = self.own / "fifo"
        os.mkfifo(fifo)
        with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
            self.translate(LINES, "-o", fifo)
            self.assertEqual(reader.stdout.read(), expected)
        self.assertEqual([path.name for path in self.own.iterdir()], ["fifo"])
        with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
            self.translate(LINES, "--stats", fifo)
            self.assertIn("peak_rss_bytes", json.loads(reader.stdout.read()))
        safetensors(self.own / "in", input_ids=[[5, 2]], decoder_input_ids=[[2]])
        forward = ("forward", self.bundle, "--input", self.own / "in", "--output")
        run(*forward, self.own / "out")
        self.assertEqual(run(*forward, "-")[1], (self.own / "out").read_bytes())
        stdout = self.own / "stdout"
        stdout.symlink_to("/proc/self/fd/1")  # as /dev/stdout is
        for name in ("-", stdout):
            self.assertEqual(self.translate(LINES, "-o", name)[0], expected)
        (self.own / "log").write_bytes(b"before\n")
        code, _, error = shell(f'printf "I like tea.\\nWhy?\\n" | "$@" -o {stdout} >> {self.own / "log"}',
                               *self.command())
        self.assertEqual((code, (self.own / "log").read_bytes()), (0, b"before\n" + expected), error)

    def test_a_link_stays_and_its_target_is_replaced(self):
        (self.own / "link").symlink_to("target")
        for _ in range(2):
            expected = self.translate(LINES)[0]
            self.translate(LINES, "-o", self.own / "link")
            self.assertTrue((self.own / "link").is_symlink())
            self.assertEqual((self.own / "target").read_bytes(), expected)

    def test_two_writers_of_one_file_both_end_well(self):
        def begin(line):
            process = subprocess.Popen(self.command("-o", self.own / "out"), stdin=subprocess.PIPE)
            process.stdin.write(line)
            return process
        writers = [begin(b"Why?\n"), begin(b"I like tea.\n")]
        killed = begin(b"x\n")
        while len(list(self.own.iterdir())) < 3:
            time.sleep(0.01)
        killed.kill()
        killed.communicate()
        for writer, line in zip(writers, (b"Why?\n", b"I like tea.\n")):
            writer.communicate()
            self.assertEqual(writer.returncode, 0)
            self.assertEqual((self.own / "out").read_bytes(), self.translate(line)[0])
        self.translate(LINES, "-o", self.own / "out")
        self.assertEqual([path.name for path in self.own.iterdir()], ["out"])  # and nothing of the killed one

    def test_results_that_are_lost_are_told(self):
        full = "standard output cannot be written: No space left on device\n"
        closed = "standard output cannot be written: Bad file descriptor\n"
        run("languages", DEMO)  # so that the cache has something to list
        for arguments in (("languages",), ("languages", self.bundle), ("inspect", self.bundle), ("cache", "list"),
                          ("inspect", self.bundle, "--graph", "decode"), ("--help",), ("translate", "--help"),
                          ("verify", self.bundle, "--json", "--quiet", "--sentences", 1)):
            code, _, error = shell('"$@" > /dev/full', NEUROGLOT, *arguments)
            self.assertEqual((code, error), (1, "neuroglot: " + full), arguments)
            self.assertEqual(shell('"$@" >&-', NEUROGLOT, *arguments)[::2], (1, "neuroglot: " + closed), arguments)

    def test_closed_descriptors_are_nobodys_file(self):
        (self.own / "in").write_bytes(LINES)
        expected = self.translate(LINES)[0]
        code, out, _ = shell('"$@" <&- 2>&-', *self.command(self.own / "in"))
        self.assertEqual((code, out), (0, expected))
        code, out, error = shell('"$@" <&-', *self.command())
        self.assertEqual((code, out, error),
                         (1, b"", "neuroglot: standard input cannot be read: Bad file descriptor\n"))
        code, _, _ = shell('"$@" <&- >&- 2>&-', *self.command("-o", self.own / "out", self.own / "in"))
        self.assertEqual((code, (self.own / "out").read_bytes()), (0, expected))

    def test_messages_that_are_lost_change_nothing(self):
        (self.own / "in").write_bytes(b"a\xff\n" + LINES)
        expected = self.translate(b"a\xff\n" + LINES)[0]
        code, out, _ = shell('"$@" 2>/dev/full', *self.command(self.own / "in"))
        self.assertEqual((code, out), (0, expected))
        for arguments, wanted in ((("tokenize", self.bundle, "--lang", "xx"), 1), (("translate",), 1),
                                  (("compile", DEMO, "-o", self.own / "b"), 0), (("generate", self.bundle), 1)):
            self.assertEqual(shell('echo x | "$@" 2>/dev/full', NEUROGLOT, *arguments)[0], wanted, arguments)

    def test_a_reader_that_left_ends_it_quietly_also_where_sigpipe_is_ignored(self):
        done = subprocess.run(f"trap '' PIPE; yes 'I like tea.' | head -3000 | {NEUROGLOT} translate {self.bundle} "
                              "--from eng_Latn --to fra_Latn --quiet | head -1", shell=True, check=True,
                              capture_output=True)
        self.assertEqual(done.stdout.count(b"\n"), 1)
        self.assertNotIn(b"neuroglot", done.stderr)
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([NEUROGLOT, "languages"], stdout=writing, stderr=subprocess.PIPE, check=False,
                              restore_signals=False)  # Python ignores SIGPIPE
        os.close(writing)
        self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, b""))


class Inputs(Demo):
    def test_lines_before_an_unreadable_file_are_answered(self):
        (self.own / "a").write_bytes(LINES)
        (self.own / "folder").mkdir()
        out, error = self.translate(b"", self.own / "a", self.own / "folder", self.own / "a", code=1)
        self.assertEqual(out, self.translate(LINES)[0])
        self.assertTrue(error.endswith("folder: cannot be read: Is a directory\n"), error)

    def test_a_fifo_without_a_writer_holds_nothing_back(self):
        (self.own / "a").write_bytes(LINES)
        os.mkfifo(self.own / "fifo")
        with subprocess.Popen([NEUROGLOT, "translate", self.bundle, *LANGUAGES, self.own / "a", self.own / "fifo"],
                              stdout=subprocess.PIPE, bufsize=0) as process:
            for count in (2, 1):
                self.assertTrue(select.select([process.stdout], [], [], 30)[0])
                self.assertEqual(process.stdout.read(1 << 16).count(b"\n"), count)
                if count == 2:
                    with open(self.own / "fifo", "wb") as fifo:
                        fifo.write(b"Why?\n")
            self.assertEqual((process.stdout.read(), process.wait()), (b"", 0))


class Verify(Demo):
    def test_an_unwritable_bundle_is_verified_as_well(self):
        bundle = self.own / "bundle"
        shutil.copytree(self.bundle, bundle)
        (bundle / "verification.json").unlink(missing_ok=True)
        (bundle / "verification.json").mkdir()  # root may write whatever its permissions are
        verify = ("verify", bundle, "--sentences", 1)
        code, _, error = run(*verify)
        self.assertEqual(code, 0, error)
        self.assertRegex(error, "warning: .*verification.json")
        with open(bundle / "weights.bin", "r+b") as file:
            file.write(b"\x55")
        self.assertEqual(run(*verify)[0], 3)

    def test_every_kind_of_damage_is_found_at_level_bytes(self):
        def edit(name):
            return lambda bundle: (bundle / name).write_bytes((bundle / name).read_bytes().replace(b"1", b"2", 1))

        def shorten(bundle):
            os.truncate(bundle / "weights.bin", 1000)

        def without_hash(bundle):
            (bundle / "manifest.sha256").unlink()

        cases = {name: edit(name) for name in ("graphs/decode.txt", "tokenizer/tokenizer.bin", "manifest.json")}
        for name, damage in {**cases, "weights.bin": shorten, "manifest.sha256": without_hash}.items():
            bundle = self.own / name.replace("/", "_")
            shutil.copytree(self.bundle, bundle)
            damage(bundle)
            code, out, error = run("verify", bundle, "--json", "--quiet")
            self.assertEqual(code, 3, (name, error))
            report = json.loads(out)
            self.assertEqual([(found["level"], found["where"]) for found in report["findings"]], [("bytes", name)])
            self.assertFalse(report["ok"])
            self.assertIn(f"level bytes: {name}", error)
            self.assertEqual(json.loads((bundle / "verification.json").read_text()), report)
            code, _, error = run("inspect", bundle, "--check", "--quiet")
            self.assertEqual(code, 3)
            self.assertIn(name, error)
            self.assertEqual(run("languages", bundle)[0], 1)
        hostile = self.own / "weights.bin"  # hashed anew: no damage, and refused
        shutil.copytree(self.bundle, hostile, dirs_exist_ok=True)
        manifest = json.loads((self.bundle / "manifest.json").read_text())
        for change in ({"files": {"graphs/decode.txt": {"bytes": "x"}}}, {"files": [1]}, {"weights": {"bytes": {}}},
                       {"files": {"../../x": 1}}):
            text = json.dumps({**manifest, **change})
            (hostile / "manifest.json").write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            (hostile / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
            for command in (("verify", hostile), ("inspect", hostile, "--check")):
                self.assertEqual(run(*command)[0], 1, change)
        other = self.own / "manifest.json"  # of another version: no damage
        (other / "manifest.json").write_text(json.dumps({**manifest, "version": 1}))
        for command in (("verify", other), ("inspect", other, "--check")):
            code, _, error = run(*command)
            self.assertEqual(code, 1)
            self.assertIn("version 1", error)

    def test_inspect_check_finds_one_changed_byte(self):
        bundle = self.own / "bundle"
        shutil.copytree(self.bundle, bundle)
        self.assertEqual(run("inspect", bundle, "--check", "--quiet")[0], 0)
        with open(bundle / "weights.bin", "r+b") as file:
            file.seek(100_000)
            byte = file.read(1)
            file.seek(100_000)
            file.write(bytes([byte[0] ^ 1]))
        code, out, error = run("inspect", bundle, "--check", "--quiet")
        self.assertEqual((code, out), (3, b""))
        self.assertTrue(re.search("level bytes: .*weights.bin: '.*' does not have the hash", error), error)


if __name__ == "__main__":
    unittest.main()
