#!/usr/bin/env python3
"""How large is neuroglot, and is it within its budget?

Prints the lines of C++ in src/ without tests (comments too, blank lines not) a folder, and the counts
of nouns, ops and command line options. Stand-ins for AWS's programs judge ours and are no part of it: their lines
are told, and count as tests. Fails when the total is over the budget of the step being
built, or when anywhere, tests and Python included, a file has more than 400 lines or a function body
more than 40 that are not blank.
"""
import ast
import re
import sys
from collections import Counter
from pathlib import Path

STEP = 7
BUDGETS = {1: 4000, 2: 5500, 3: 9000, 4: 11500, 5: 14000, 6: 16000, 7: 25000}
STAND_INS = "emulated"
FILE_LINES, FUNCTION_LINES, NOUNS = 400, 40, 18
SUFFIXES = (".cc", ".h", ".inc", ".def")
FOLDERS = ("src", "tests", "benchmarks", "scripts")
TEST = re.compile(r"_test\.|/test_")  # x_test.cc, damage_for_test.h, test_run.h

TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\''
    r"|^[ \t]*#(?:\\\n|[^\n])*", re.M | re.S)


def blank_out(text):
    """`text` without comments, literals and preprocessor lines; line numbers stay."""
    def replace(match):
        mark = '""' if match[0][0] in "R\"'" else ""
        return mark + "\n" * match[0].count("\n")
    return TOKENS.sub(replace, text)


def kind_of(head, inside):
    """What a `{` after `head` opens: 'scope', 'function' or 'value' (an initialiser)."""
    if inside in ("function", "value"):
        return inside
    flat = head
    while re.search(r"\([^()]*\)", flat):  # parentheses say nothing but that they are there
        flat = re.sub(r"\([^()]*\)", "@", flat)
    if "@" not in flat or "(" in flat:
        is_scope = re.search(r"\b(namespace|extern|class|struct|union|enum)\b", flat)
        return "scope" if is_scope else "value"
    # A constructor's `: member_{` is an initialiser; its body follows `)`, `}` or nothing else.
    if re.search(r"@[^:]*(?<!:):(?!:).*[\w>]\s*$", flat, re.S):
        return "value"
    return "function"


def functions(text):
    """(line, name, lines of the body that are not blank) of every function of a file."""
    lines = text.splitlines()
    code = blank_out(text)
    stack, head, line, found = [("scope", 0, "")], "", 1, []
    for char in code:
        line += char == "\n"
        if char == "{":
            kind = kind_of(head, stack[-1][0])
            starts = kind == "function" and stack[-1][0] != "function"
            stack.append((kind, line if starts else 0, head))
            head = head if kind == "value" else ""
        elif char == "}" and len(stack) > 1:
            kind, start, title = stack.pop()
            if start:
                body = [l for l in lines[start:line - 1] if l.strip()]
                name = re.findall(r"([\w:~<>]+|operator\W+)\s*\(", title)
                found.append((start, name[0] if name else "lambda", len(body)))
            head = head + "}" if kind == "value" and stack[-1][0] == "scope" else ""
        elif char == ";" and head.count("(") == head.count(")"):
            head = ""
        else:
            head += char
    return found


def python_functions(text):
    """The same of Python; a docstring counts, as a comment inside a body does."""
    lines = text.splitlines()
    return [(node.lineno, node.name,
             sum(1 for line in lines[node.body[0].lineno - 1:node.end_lineno] if line.strip()))
            for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]


def too_long(name, text):
    """What is wrong with the sizes of one file."""
    count = len(text.splitlines())
    if count > FILE_LINES:
        yield f"{name}: {count} lines, at most {FILE_LINES}"
    for line, title, size in (python_functions if name.endswith(".py") else functions)(text):
        if size > FUNCTION_LINES:
            yield f"{name}:{line}: {title} has {size} lines, at most {FUNCTION_LINES}"


def report(root, step=STEP):
    """Prints the tables; returns the list of problems."""
    problems, folders = [], Counter()
    paths = [path for folder in FOLDERS for path in (root / folder).rglob("*")]
    for path in sorted(path for path in paths if path.suffix in (*SUFFIXES, ".py")):
        name, text = path.relative_to(root).as_posix(), path.read_text()
        if name.startswith("src/") and not TEST.search(name):
            folders["/".join(name.split("/")[1:-1])] += sum(1 for line in text.splitlines() if line.strip())
        problems += too_long(name, text)
    for folder in sorted(folders):
        print(f"{folders[folder]:7} {folder}{' (stand-ins: not in the sum)' * (folder == STAND_INS)}")
    folders.pop(STAND_INS, 0)
    print(f"{folders.total():7} lines of C++, budget {BUDGETS[step]} (step {step})")
    if folders.total() > BUDGETS[step]:
        problems.append(f"{folders.total()} lines of C++, the budget of step {step} is "
                        f"{BUDGETS[step]}")
    return problems + report_concepts(root)


def report_concepts(root):
    def matches(pattern, *names):
        files = [p for name in names for p in root.glob(name)]
        return [m for p in files for m in re.findall(pattern, p.read_text(), re.M)]
    ops = Counter(matches(r"^\s*OP\(.*\b(leaf|primitive|composite)\b", "src/ir/ops.def"))
    options = sorted(set(matches(r'"[^"]*(--[a-z][a-z-]+)', "src/tools/*.cc", "src/tools/*.h")))
    glossary = "".join(matches(r"^## Glossary$[^#]*", "ARCHITECTURE.md"))
    nouns = re.findall(r"^\| (.+?) \|", glossary, re.M)[1:]
    print(f"{ops.total():7} ops: " + ", ".join(f"{ops[kind]} {kind}" for kind in sorted(ops)))
    print(f"{len(options):7} command line options: {' '.join(options)}")
    print(f"{len(nouns):7} rows of nouns, at most {NOUNS}")
    return [f"{len(nouns)} nouns, at most {NOUNS}"] if len(nouns) > NOUNS else []


def main():
    problems = report(Path(__file__).parent.parent)
    print("\n".join(problems) + "\n" * bool(problems), end="")
    print(f"size_report: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
