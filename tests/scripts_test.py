"""Do the scripts that guard the tree see what they are there to see?"""
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import check_docs  # noqa: E402
import check_layers  # noqa: E402
import check_tokenizer_speed  # noqa: E402
import mutants  # noqa: E402
import shared  # noqa: E402
import size_report  # noqa: E402


def tree(files):
    """A temporary folder with `files` {path: text}; removed when the result is collected."""
    folder = tempfile.TemporaryDirectory()
    for name, text in files.items():
        path = Path(folder.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class CheckLayers(unittest.TestCase):
    TABLE = """
```
tools      → translate backends base
translate  → backends/backend.h tensor base    (never models; `backend.h` only declares)
models     → tensor (a remark) base
backends/X → backends/backend.h backends/xla(neuron) kernels(cpu) base
kernels    → (nothing; <cstdint>, intrinsics)
tensor     → base
```
"""
    FILES = {
        "ARCHITECTURE.md": TABLE,
        "CMakeLists.txt": "set_source_files_properties(src/kernels/avx2.cc PROPERTIES X y)",
        "src/base/error.h": "#include <string>\n",
        "src/tensor/tensor.h": '#include "base/error.h"\n',
        "src/models/m.cc": '#include "tensor/tensor.h"\n',
        "src/backends/backend.h": "",
        "src/backends/backend.cc": '#include "backends/cpu/run.h"\n',
        "src/backends/cpu/run.h": '#include "backends/backend.h"\n#include "kernels/kernels.h"\n',
        "src/backends/xla/emit.h": "",
        "src/backends/neuron/run.cc": '#include "backends/xla/emit.h"\n',
        "src/kernels/kernels.h": "#include <cstdint>\n",
        "src/kernels/body.inc": '#include <cstddef>\n#include "kernels/kernels.h"\n',
        "src/kernels/avx2.cc": '#include <immintrin.h>\n#include "kernels/body.inc"\n',
        "src/kernels/generic.cc": '#include <cmath>\n#include "kernels/kernels.h"\n',
        "src/kernels/avx2_test.cc": '#include "models/m.h"\n',
        "src/translate/session.cc": '#include "backends/backend.h"\n#include "tensor/tensor.h"\n',
        "src/tools/main.cc": '#include "backends/cpu/run.h"\n#include "translate/session.h"\n',
        "src/translate/session.h": "",
    }

    def problems(self, **changed):
        files = dict(self.FILES)
        for name, text in changed.items():
            files[name] = text
        with tree(files) as folder:
            return check_layers.check(Path(folder))[1]

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.problems(), [])

    def test_each_planted_include_is_found(self):
        planted = {
            "src/base/up.h": '#include "tensor/tensor.h"',            # upwards
            "src/translate/t.cc": '#include "models/m.h"',            # not in the row
            "src/translate/u.cc": '#include "backends/cpu/run.h"',    # only backend.h is allowed
            "src/backends/neuron/k.cc": '#include "kernels/kernels.h"',  # kernels are cpu's
            "src/backends/cpu/x.cc": '#include "backends/xla/emit.h"',
            "src/backends/cpu/d/y.cc": '#include "backends/neuron/run.cc"',
            "src/kernels/k.cc": '#include "base/error.h"',
            "src/tensor/missing.cc": '#include "tensor.h"',           # not a path below src/
            "src/nowhere/n.cc": "",                                   # a folder without a row
        }
        for name, text in planted.items():
            # The header that is included must exist, or its absence would be what is found.
            problems = self.problems(**{"src/models/m.h": "", name: text})
            self.assertEqual(len(problems), 1, (name, problems))
            self.assertIn(name, problems[0])

    def test_files_for_one_instruction_set_include_nothing_that_instantiates(self):
        for name in ("src/kernels/avx2.cc", "src/kernels/body.inc", "src/kernels/kernels.h"):
            problems = self.problems(**{name: "#include <algorithm>\n" + self.FILES[name]})
            self.assertEqual(problems, [f"{name}:1: <algorithm> in a file for one instruction set"])

    def test_a_cycle_in_the_table_is_found(self):
        table = "```\ntensor → base\nbase → tensor\n```\n"
        with tree({**self.FILES, "ARCHITECTURE.md": table}) as folder:
            self.assertIn("has a cycle", "\n".join(check_layers.check(Path(folder))[1]))

    def test_a_page_without_a_table_is_refused(self):
        with self.assertRaises(SystemExit):
            check_layers.read_table("```\nno arrows\n```\n")


class SizeReport(unittest.TestCase):
    SOURCE = '''
namespace ng {
namespace {
constexpr Row kRows[] = {{1, "{"}, {2, '}'}};
struct Team {
  int spin = 3;
  std::vector<int> list{1, 2};
  void help() {
    while (true) {

      auto f = [&](int x) { return x; };  // }
    }
  }
};
enum class Kind { A, B };
}  // namespace
#define OP(x) { x
template <class T>
Pool<T>::Pool(int n) : team_{std::make_unique<Team>()}, n_{n} {
  a();
}
auto size(const Shape& s = {}) const -> std::vector<int> {
  return R"(}}})";
}
const auto kLambda = [](int x) {
  return x;
};
extern "C" int plain(void) { return 0; }
bool operator==(const A& a, const B& b) noexcept {
  return a.x == 1'000 &&
         b.y;
}
}  // namespace ng
'''

    def test_functions_are_told_from_other_braces(self):
        found = [(name, size) for _, name, size in size_report.functions(self.SOURCE)]
        self.assertEqual(found, [("help", 3), ("Pool<T>::Pool", 1), ("size", 1), ("lambda", 1),
                                 ("plain", 0), ("operator==", 2)])

    def report(self, files, step=1):
        with tree(files) as folder, contextlib.redirect_stdout(io.StringIO()):
            return size_report.report(Path(folder), step)

    def test_limits_hold_and_one_above_is_found(self):
        def function(lines):
            return "void f() {\n" + "  g();\n" * lines + "}\n"
        self.assertEqual(self.report({"src/a/a.cc": function(40)}), [])
        self.assertEqual(len(self.report({"src/a/a.cc": function(41)})), 1)
        self.assertEqual(self.report({"src/a/a.cc": "int x;\n" * 400}), [])
        self.assertEqual(len(self.report({"src/a/a_test.cc": "int x;\n" * 401})), 1)
        self.assertEqual(len(self.report({"tests/tracers/t.cc": function(41)})), 1)
        self.assertEqual(len(self.report({"benchmarks/b.cc": "int x;\n" * 401})), 1)
        python = "def f():\n\n" + "    g()\n"
        self.assertEqual(self.report({"scripts/s.py": python + "    g()\n" * 39}), [])
        self.assertEqual(len(self.report({"scripts/s.py": python + "    g()\n" * 40})), 1)

    def test_the_budget_counts_all_but_tests(self):
        files = {f"src/a/f{i}.cc": "int x;\n" * 400 for i in range(10)}
        tests = {f"src/a/f{i}_test.cc": "int x;\n" * 400 for i in range(3)}
        tests["tests/t.cc"] = tests["benchmarks/b.cc"] = tests["scripts/s.py"] = "x = 1\n"
        self.assertEqual(self.report({**files, **tests}), [])
        problems = self.report({**files, "src/a/more.inc": "int y;\n"})
        self.assertEqual(problems, ["4001 lines of C++, the budget of step 1 is 4000"])
        self.assertEqual(self.report({**files, "src/a/more.inc": "int y;\n"}, step=2), [])

    def test_a_nineteenth_noun_is_found(self):
        page = "## Glossary\n\n| noun | is |\n|---|---|\n"
        for i in range(18):
            page += f"| Noun{i} | x |\n"
        tail = "\n## Layers\n\n| other | table |\n"
        self.assertEqual(self.report({"ARCHITECTURE.md": page + tail}), [])
        self.assertEqual(self.report({"ARCHITECTURE.md": page + "| One | x |\n" + tail}),
                         ["19 nouns, at most 18"])


def shell(function, text):
    """What a function of scripts/check.sh prints about a log."""
    with tempfile.NamedTemporaryFile("w") as log:
        log.write(text)
        log.flush()
        return subprocess.run(
            ["bash", "-c", f'source <(sed -n "/^{function}() {{/,/^}}/p" {ROOT}/scripts/check.sh); {function} "$0"',
             log.name], capture_output=True, text=True, check=True).stdout


class CheckShell(unittest.TestCase):
    def test_single_tests_are_counted_and_a_skip_is_no_pass(self):
        gtest = "[  PASSED  ] 5 tests.\n[  SKIPPED ] 2 tests, listed below:\n[  FAILED  ] A.B (3 ms)\n"
        for text, counts in (
                ("whatever\n", "0 0 0"), (gtest, "5 1 2"), ("demo: 3 passed, 1 failed\n", "3 1 0"),
                ("tokenizer speed: 8 passed, 0 failed\n", "8 0 0"),
                ("demo: 0 passed, 0 failed, 1 skipped\n", "0 0 1"), ("4 passed, 2 failed, 3 skipped\n", "4 2 3"),
                ("Ran 9 tests in 1 s\n\nOK\n", "9 0 0"), ("Ran 9 tests in 1 s\n\nOK (skipped=2)\n", "7 0 2"),
                ("Ran 9 tests in 1 s\n\nFAILED (failures=1, errors=2, skipped=3)\n", "3 3 3")):
            self.assertEqual(shell("count", text).strip(), counts, text)

    def test_an_excerpt_keeps_seeds_and_versions_and_leaves_progress_out(self):
        head = "python 3.11, torch 2.13.0, transformers 4.57.6; seeds 200 and 7\n"
        body = "".join(f"ok {i}\n" for i in range(30))
        log = "WARNING: x\n" + head + body + "100 cases, 5 s\n" + "2000 cases in 9 s, 2000 counted\nlast\n"
        self.assertEqual(shell("excerpt", log), head + "".join(f"ok {i}\n" for i in range(21, 30)) +
                         "2000 cases in 9 s, 2000 counted\nlast\n")
        self.assertEqual(shell("excerpt", head + "last\n"), head + "last\n")


class Shared(unittest.TestCase):
    def need(self, *paths, ci):
        """(exit code or None, what was printed)"""
        with contextlib.redirect_stdout(io.StringIO()) as out, unittest.mock.patch.dict(os.environ, {"CI": ci}):
            try:
                shared.need("demo", *paths)
            except SystemExit as end:
                return end.code, out.getvalue()
            return None, out.getvalue()

    def test_what_is_absent_fails_in_ci_and_is_skipped_elsewhere(self):
        here, absent = ROOT / "README.md", ROOT / "no/such"
        self.assertEqual(self.need(here, ci="true"), (None, ""))
        code, text = self.need(here, absent, ci="true")
        self.assertEqual((code, shell("count", text).strip()), (3, "0 1 0"))
        self.assertIn(f"{absent} is absent", text)
        code, text = self.need(absent, here, ci="")
        self.assertEqual((code, shell("count", text).strip()), (0, "0 0 1"))
        self.assertIn(f"skipped: {absent} is absent", text)

    def test_failures_before_what_is_absent_stay_failures(self):
        with contextlib.redirect_stdout(io.StringIO()) as out, unittest.mock.patch.dict(os.environ, {"CI": ""}):
            failed, skipped = shared.absent("modules", ROOT / "no/such")
            with self.assertRaises(SystemExit) as end:
                shared.finish("modules", 4, 2 + failed, skipped)
        self.assertEqual((end.exception.code, shell("count", out.getvalue()).strip()), (3, "4 2 1"))

    def test_a_tokenizer_below_three_million_characters_a_second_is_slow(self):
        rates = [("a", 3e6), ("b", 2.9e6), ("c", float("nan"))]
        measured = {"benchmarks": [{"name": name, "characters/s": rate} for name, rate in rates] + [{"name": "d"}]}
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(check_tokenizer_speed.slow(measured), ["b", "c", "d"])


class CheckDocs(unittest.TestCase):
    PROGRAM = """#!/bin/sh
case "$1" in
  --help) printf 'Usage: neuroglot\\n\\nOptions:\\n  -h,--help\\n\\n'
          printf 'Subcommands:\\n  translate  Text to text\\n  verify  Check\\n' ;;
  translate) case "$2" in --help) echo '  --from TEXT  -o,--output FILE' ;; *) echo "une gare" ;; esac ;;
  verify) case "$2" in --help) echo '  --json' ;; *) exit 3 ;; esac ;;
esac
"""
    README = """
Run `neuroglot translate --from eng_Latn` and see `src/a.cc`, `docs/`, `a.cc`, `b/c.json`,
[docs](docs/more.md), [web](https://example.org/x), `docs/*.md`, `--json`, `cmake --preset dev`.

```console
$ echo x > kept
$ echo "Where is it?" | neuroglot translate models/demo \\
    --from eng_Latn -o -
une maison
```

<!-- output checked -->
```console
$ cat kept; neuroglot translate models/demo
$ yes | head -n 1 > /dev/null
x
une   g…e
```

<!-- not run: takes hours -->
```console
$ neuroglot verify huge --json
```
"""

    def problems(self, **changed):
        files = {"README.md": self.README, "docs/more.md": "", "src/a.cc": "", "models/demo/x": "",
                 "build/release/neuroglot": self.PROGRAM, **changed}
        with tree(files) as folder, contextlib.redirect_stdout(io.StringIO()):
            program = Path(folder) / "build/release/neuroglot"
            program.chmod(0o755)
            return check_docs.check(Path(folder).resolve())

    def test_true_pages_pass(self):
        self.assertEqual(self.problems(), [])

    def test_each_untruth_is_found(self):
        untruths = {
            "```console\n$ neuroglot verify x\n```": "exit status 3",
            "```console\n$ false | true\n```": "exit status 1",
            "```console\nneuroglot translate\n```": "no line begins with",
            "<!-- output checked -->\n```console\n$ echo a b\nb a\n```": "does not print: b a",
            "<!-- not run: -->\n```console\n$ false\n```": "exit status 1",  # no reason given
            "`src/b.cc`": "src/b.cc is not in the tree",
            "`backends/cpu/run.cc`": "not in the tree",
            "`docs/*.txt`": "not in the tree",
            "[x](docs/none.md)": "leads nowhere",
            "`--jsno`": "no option --jsno",
            "`neuroglot verify --from x`": "neuroglot verify has no option --from",
            "`neuroglot explain`": "no command 'explain'",
            "```\nneuroglot translate [--to X]\n```": "translate has no option --to",
            "<!-- not run: x -->\n```console\n$ a && neuroglot verify \\\\\n  --jsn\n```": "--jsn",
        }
        for text, wanted in untruths.items():
            text = text.replace("\\\\", "\\")
            problems = self.problems(**{"docs/more.md": text + "\n"})
            self.assertEqual(len(problems), 1, (text, problems))
            self.assertIn(wanted, problems[0])
            self.assertTrue(problems[0].startswith("docs/more.md:"), problems)

    LIMITS = """
| what | limit | tested by |
|---|---|---|
| beams | 64 | `Options.InRange`, `CommandLine.test_beams` |
| `a` rows | 8 | `Refusal.Names` |
"""
    TESTS = {"src/a/a_test.cc": "TEST(Options, InRange) {}\nTEST_P(Refusal,\n       Names) {}\n",
             "tests/x.py": "class Other:\n    def test_other(self):\n        pass\n\n\n"
                           "class CommandLine(Base):\n    def test_beams(self):\n        pass\n"}

    def test_every_limit_names_a_test_that_exists(self):
        def limits(text):
            return self.problems(**self.TESTS, **{"docs/limits.md": text})
        self.assertEqual(limits(self.LIMITS), [])
        for old, new, wanted in ((" `Refusal.Names` |", " none |", "docs/limits.md:5: `a` rows: names no test"),
                                 ("Refusal.Names", "Refusal.Name", "there is no test Refusal.Name"),
                                 ("CommandLine.test_beams", "Other.test_beams", "beams: there is no test"),
                                 ("| 8 | `Refusal.Names` |", "| 8 |", "names no test")):
            problems = limits(self.LIMITS.replace(old, new))
            self.assertEqual(len(problems), 1, (new, problems))
            self.assertIn(wanted, problems[0])


class Mutants(unittest.TestCase):
    def test_each_changes_one_place_of_its_source(self):
        for mutant in mutants.MUTANTS:
            text = (ROOT / mutant.file).read_text()
            self.assertEqual(text.count(mutant.old), 1, mutant.name)
            self.assertNotEqual(mutant.old, mutant.new, mutant.name)

    def test_they_are_twenty_at_least_and_each_is_another(self):
        names = {mutant.name for mutant in mutants.MUTANTS}
        changes = {(mutant.file, mutant.old, mutant.new) for mutant in mutants.MUTANTS}
        self.assertEqual(len(names), len(mutants.MUTANTS))
        self.assertEqual(len(changes), len(mutants.MUTANTS))
        self.assertGreaterEqual(len(names), 20)


if __name__ == "__main__":
    unittest.main()
