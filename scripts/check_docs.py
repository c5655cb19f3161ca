#!/usr/bin/env python3
"""Is what the pages say true of the tree and of the program?

- Every ```console block of README.md and docs/*.md runs: lines that begin with `$ ` are commands (a
  final backslash continues them), and each must succeed. The blocks of a page run in order in one
  temporary folder that has models/ in it and build/release on PATH. The line before a block may say
    <!-- not run: REASON -->    the block is left out, and the reason printed
    <!-- output checked -->     the block's other lines must appear in the output, in order; blanks
                                count once and … stands for anything
- An option after `neuroglot COMMAND`, or in a code span of its own, must be one of the program's
  (`neuroglot COMMAND --help`).
- A path in a code span or a link must be in the tree.
- Every row of docs/limits.md ends with the tests that hold the limit, and they exist.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDERS = ("src", "docs", "tests", "scripts", "benchmarks", "models", "testdata", ".ci")
SUFFIXES = (".cc", ".h", ".inc", ".def", ".py", ".sh", ".md")
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
SECONDS = 600
# Every part of a pipeline must succeed, or end because nobody reads on (head).
SHELL = 'all() { for s; do [ "$s" = 0 ] || [ "$s" = 141 ] || exit "$s"; done; }; set -u'


def fenced(text):
    """(line, language, line before, body) of every fenced block."""
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", text, re.M | re.S):
        before = text[:match.start()].rstrip().rsplit("\n", 1)[-1]
        yield text.count("\n", 0, match.start()) + 1, match[1], before, match[2]


def spans(text):
    """(line, text) of every code span outside of fenced blocks."""
    blank = re.sub(r"^```.*?^```\s*?$", lambda m: "\n" * m[0].count("\n"), text,
                   flags=re.M | re.S)
    for match in re.finditer(r"`([^`\n]+)`", blank):
        yield blank.count("\n", 0, match.start()) + 1, match[1]


def split_block(body):
    """The commands of a console block, and its other lines."""
    commands, shown, open_line = [], [], False
    for line in body.splitlines():
        if open_line:
            commands[-1] += "\n" + line
        elif line.startswith("$ "):
            commands.append(line[2:])
        elif line.strip():
            shown.append(line)
        open_line = (open_line or line.startswith("$ ")) and line.endswith("\\")
    return commands, shown


def missing_line(shown, output):
    """The first line of `shown` that does not appear in order in `output`, or None."""
    rest = " ".join(output.split())
    for line in shown:
        parts = re.split(r"…|\.\.\.", " ".join(line.split()))
        match = re.search(".*?".join(re.escape(part) for part in parts), rest)
        if not match:
            return line
        rest = rest[match.end():]
    return None


def run_block(body, folder, environment):
    """Runs one block; returns (what went wrong or None, its output)."""
    commands, shown = split_block(body)
    if not commands:
        return "no line begins with `$ `", ""
    try:
        script = SHELL + "".join(f'\n{command}\nall "${{PIPESTATUS[@]}}"' for command in commands)
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, timeout=SECONDS,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return f"runs longer than {SECONDS} s", ""
    if done.returncode != 0:
        return f"exit status {done.returncode}: {done.stdout[-2000:]}", done.stdout
    line = missing_line(shown, done.stdout) if shown else None
    return (f"does not print: {line}\n{done.stdout[-2000:]}" if line else None), done.stdout


def run_page(root, name, text):
    """Runs the console blocks of one page; yields what is wrong."""
    environment = dict(os.environ, PATH=f"{root}/build/release:{os.environ['PATH']}")
    with tempfile.TemporaryDirectory() as folder:
        environment["NEUROGLOT_HOME"] = f"{folder}/cache"
        if (root / "models").is_dir():
            os.symlink(root / "models", f"{folder}/models")
        for line, language, before, body in fenced(text):
            if language != "console":
                continue
            excuse = re.search(r"not run: *(?!-->)(\S.*?) *(-->|$)", before)
            if excuse:
                print(f"{name}:{line}: not run: {excuse[1]}")
                continue
            if "output checked" not in before:
                body = "\n".join("$ " + command for command in split_block(body)[0])
            problem, _ = run_block(body, folder, environment)
            print(f"{name}:{line}: {'failed' if problem else 'runs'}")
            if problem:
                yield f"{name}:{line}: {problem}"


class Program:
    """The options and commands that the binary's help names."""

    def __init__(self, binary):
        self.binary, self.helps = binary, {}
        section = re.search(r"^(?:Subcommands|Commands):\n((?:[ \t]+.*\n?|\n)*)", self.help(""), re.M)
        self.commands = re.findall(r"^  (\S+)", section[1] if section else "", re.M)

    def help(self, command):
        if command not in self.helps:
            call = [str(self.binary)] + ([command] if command else []) + ["--help"]
            done = subprocess.run(call, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                                  check=False)
            self.helps[command] = done.stdout + done.stderr
        return self.helps[command]

    def options(self, command):
        return set(OPTION.findall(self.help(command)))

    def all_options(self):
        return set().union(*(self.options(command) for command in ["", *self.commands]))

    def problems(self, text):
        """What is wrong with the calls of neuroglot in one command line."""
        for call in re.split(r"\s\|\s|&&|;|\|\|", text.replace("\\\n", " ")):
            words = re.match(r"\s*(?:[A-Z_]+=\S*\s+)*(?:\S*/)?neuroglot\s+(.*)", call, re.S)
            if not words:
                continue
            command = re.match(r"[a-z][\w-]*", words[1])
            name = command[0] if command else ""
            if name and name not in self.commands:
                yield f"neuroglot has no command '{name}'"
                continue
            for option in OPTION.findall(re.sub(r"'[^']*'|\"[^\"]*\"", "", words[1])):
                if option not in self.options(name) | self.options(""):
                    yield f"neuroglot {name} has no option {option}"


def check_options(program, name, text):
    for line, language, _, body in fenced(text):
        lines = split_block(body)[0] if language == "console" else body.splitlines()
        for command in lines:
            yield from (f"{name}:{line}: {problem}" for problem in program.problems(command))
    for line, span in spans(text):
        for problem in program.problems(span):
            yield f"{name}:{line}: {problem}"
        alone = re.match(r"--[a-z][\w-]*", span)
        if alone and alone[0] not in program.all_options():
            yield f"{name}:{line}: neuroglot has no option {alone[0]}"


def is_path(text):
    if not re.fullmatch(r"[\w.*/-]+", text) or "/" not in text or text.startswith(("../", "/")):
        return False
    return text.split("/")[0] in FOLDERS or text.endswith(SUFFIXES)


def check_paths(root, name, text):
    places = (root, root / "src", (root / name).parent)
    for line, span in spans(text):
        if is_path(span) and not any(any(place.glob(span.rstrip("/"))) for place in places):
            yield f"{name}:{line}: {span} is not in the tree"
    for match in re.finditer(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in match[1] and not ((root / name).parent / match[1]).exists():
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name}:{line}: the link {match[1]} leads nowhere"


def tests_of(root):
    """The names of all tests: Suite.Name of GoogleTest, Class.test_name of unittest."""
    names = set()
    for page in [*root.glob("src/**/*_test.cc"), *root.glob("tests/*_test.cc")]:
        names |= {".".join(found) for found in
                  re.findall(r"^TEST(?:_[FP])?\((\w+),\s*(\w+)\)", page.read_text(), re.M)}
    for page in root.glob("tests/*.py"):
        for part in re.split(r"^class ", page.read_text(), flags=re.M)[1:]:
            names |= {f"{re.match(r'[A-Za-z0-9_]+', part)[0]}.{test}"
                      for test in re.findall(r"^    def (test_\w+)", part, re.M)}
    return names


def check_limits(root, name, text):
    tests = tests_of(root)
    for match in re.finditer(r"^\|(?!-)(.*)\|$", text, re.M):
        if text[match.end():].startswith("\n|-"):
            continue  # the head of a table
        cells = [cell.strip() for cell in match[1].split("|")]
        line = text.count("\n", 0, match.start()) + 1
        named = re.findall(r"`([^`]+)`", cells[-1])
        if not named:
            yield f"{name}:{line}: {cells[0]}: names no test"
        yield from (f"{name}:{line}: {cells[0]}: there is no test {test}"
                    for test in named if test not in tests)


def check(root):
    binary = root / "build/release/neuroglot"
    if not binary.exists():
        return [f"{binary} is missing: cmake --preset release && cmake --build --preset release"]
    if not (root / "README.md").exists():
        return ["README.md is missing"]
    program, problems = Program(binary), []
    run = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    read = [root / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md") if (root / name).exists()]
    for page in run + read:
        name, text = page.relative_to(root).as_posix(), page.read_text()
        problems += check_paths(root, name, text)
        problems += check_options(program, name, text)
        if name == "docs/limits.md":
            problems += check_limits(root, name, text)
        if page in run:
            problems += run_page(root, name, text)
    return problems


def main():
    problems = check(Path(__file__).parent.parent.resolve())
    print("\n".join(problems) + "\n" * bool(problems), end="")
    print(f"check_docs: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
