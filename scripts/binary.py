"""How is `neuroglot` run? Its command line only: requests in as JSON Lines, tensors as safetensors."""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from safetensors.numpy import load_file, save_file

from reference import Answer

TIMEOUT = 900  # seconds for one call
# XLA's CPU client takes its pool's size from NPROC, else from the machine. Each rank that waits in an all-reduce
# holds one of the pool's threads: with as few as there are cores here, ranks wait for each other forever.
PLUGIN_THREADS = "32"


class BinaryFailed(Exception):
    """The binary ended otherwise than well; the message ends with what it said."""


class Binary:
    """The binary with its cache in a folder of ours."""

    def __init__(self, path, work, backend):
        self.path, self.work, self.backend = path, Path(work), backend

    def generate(self, model, requests, options=()):
        """One line of output for each request, unparsed: they are compared as bytes, too."""
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        output = self.run(["generate", str(model), "-", *options], lines)
        answers = output.splitlines()
        if len(answers) != len(requests):
            raise BinaryFailed(f"generate answered {len(answers)} lines to {len(requests)} requests")
        return answers

    def generate_in_turn(self, model, windows, options=()):
        """The lines of output for each window of requests, all of one process, which gets a window when it
        has answered the one before: a window's requests run together, and with no others."""
        answers = []
        with tempfile.TemporaryFile("w+") as said:
            process = self.start(["generate", str(model), "-", *options], said)
            timer = threading.Timer(TIMEOUT, process.kill)
            timer.start()
            try:
                for requests in windows:
                    process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
                    process.stdin.flush()
                    answers.append([process.stdout.readline().rstrip("\n") for _ in requests])
                process.stdin.close()
            except BrokenPipeError:
                pass
            code = process.wait()
            timer.cancel()
            if code not in (0, 1) or len(answers) != len(windows) or not all(map(all, answers)):
                said.seek(0)
                raise BinaryFailed(f"generate exited with {code}: {said.read().strip()[-500:]}")
        return answers

    def forward(self, model, inputs, options=()):
        """{encoder_last_hidden_state, logits} of one batch."""
        source, target = self.work / "inputs.safetensors", self.work / "outputs.safetensors"
        target.unlink(missing_ok=True)
        save_file(inputs, source)
        self.run(["forward", str(model), "--input", str(source), "--output", str(target), *options], "")
        return load_file(target)

    def start(self, arguments, said):
        command, environment = self.call(arguments)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=said, text=True)

    def call(self, arguments):
        """The command with its environment."""
        environment = os.environ | {"NEUROGLOT_HOME": str(self.work / "cache"), "NPROC": PLUGIN_THREADS}
        return [self.path, *arguments, "--target", self.backend, "--quiet"], environment

    def run(self, arguments, text):
        command, environment = self.call(arguments)
        try:
            done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise BinaryFailed(f"{arguments[0]} did not end in {TIMEOUT} s") from error
        # 1 with all the lines there means that some of them are errors: those are judged one by one.
        if done.returncode not in ((0, 1) if arguments[0] == "generate" else (0,)):
            said = "\n".join(done.stderr.splitlines()[-5:])
            raise BinaryFailed(f"{arguments[0]} exited with {done.returncode}: {said}")
        if done.returncode == 1 and not done.stdout:
            raise BinaryFailed(f"{arguments[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout


def parse_answer(line):
    """An Answer, or the message of an answer that is an error."""
    try:
        fields = json.loads(line)
        if "error" in fields:
            return f"{fields['error']['code']}: {fields['error']['message']}"
        return Answer(fields["sequences"], fields.get("sequences_scores", []), fields["finish_reason"])
    except (ValueError, KeyError, TypeError) as error:
        return f"not an answer ({error!r}): {line[:200]}"
