#!/usr/bin/env python3
"""Does every #include in src/ keep to the layer table of ARCHITECTURE.md?

The table is the fenced block whose lines read `folder → allowed allowed …`. Its forms:
  name             the folder src/name and what is below it
  name/file.h      that one header
  name(a,b)        only for the folders a and b of a row `…/X`
  folder/X → …     every folder in `folder`, and the files that lie in `folder` itself
  (a remark)       after a blank: ignored
A folder without a row that others may include, may itself include nothing.
A file may always include its own folder; tests may include anything. Files that CMakeLists.txt
compiles for one instruction set each (set_source_files_properties), and what they include, may include
only kernels.h, other .inc files, <cstddef>, <cstdint> and intrinsics: whatever else they
instantiate, the linker may hand to the whole program.
"""
import re
import sys
from pathlib import Path

ISA_INCLUDE = re.compile(
    r'<cstddef>|<cstdint>|<immintrin\.h>|<arm_(neon|sve)\.h>|"kernels/kernels\.h"|"[\w/]+\.inc"')
TEST = re.compile(r"_test\.|^test_")  # x_test.cc, damage_for_test.h, test_run.h


def read_table(text):
    """{folder: [entry, …]} of the layer table."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        rows = {}
        for line in block.splitlines():
            match = re.match(r"([\w/]+)\s*→(.*)", line)
            if match:
                rows[match[1]] = re.sub(r"\s\([^)]*\)", "", match[2]).split()
        if rows:
            for name in {name for entries in rows.values() for name in entries}:
                if re.fullmatch(r"\w+", name) and f"{name}/X" not in rows:
                    rows.setdefault(name, [])
            return rows
    raise SystemExit("check_layers: ARCHITECTURE.md has no block of lines `folder → allowed …`")


def find_row(table, folder):
    """The row that governs src/`folder`, or None."""
    parts = folder.split("/")
    for depth in range(len(parts), 0, -1):
        name = "/".join(parts[:depth])
        for key in (name, f"{'/'.join(parts[:depth - 1])}/X" if depth > 1 else "", f"{name}/X"):
            if key in table:
                return key
    return None


def is_allowed(entry, included, folder):
    match = re.fullmatch(r"(.+)\((.+)\)", entry)
    if match:
        entry = match[1]
        if folder.split("/")[-1] not in match[2].split(","):
            return False
    if re.search(r"\.\w+$", entry):
        return included == entry
    return included.startswith(entry.replace("/X", "") + "/")


def find_cycle(table):
    """A path of folders from one back to itself, or None. Single headers end a path."""
    def edges(row):
        for entry in table[row]:
            target = find_row(table, entry.split("(")[0])
            if target and target != row and not entry.endswith(".h"):
                yield target

    def walk(row, path):
        if row in path:
            return path[path.index(row):] + [row]
        return next((found for to in edges(row) if (found := walk(to, path + [row]))), None)

    return next((found for row in table if (found := walk(row, []))), None)


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*(<[^>]+>|"[^"]+")', line)
        if match:
            yield number, match[1]


def check_file(source, path, table):
    """What is wrong with the includes of one file, as 'line: message'."""
    folder = path.parent.relative_to(source).as_posix()
    row = find_row(table, folder)
    if row is None:
        yield f"1: the layer table has no row for '{folder}'"
        return
    for number, name in includes(path):
        if name.startswith("<"):
            continue
        included = name.strip('"')
        if not (source / included).is_file():
            yield f"{number}: {name} is not a path below src/"
        elif not included.startswith(folder + "/") and not any(
                is_allowed(entry, included, folder) for entry in table[row]):
            yield f"{number}: '{folder}' may not include {name} (row '{row}')"


def isa_files(root):
    """The files compiled for one instruction set each, and all that they include."""
    cmake = (root / "CMakeLists.txt").read_text()
    found, todo = set(), re.findall(r"set_source_files_properties\(\s*(src/\S+\.cc)", cmake)
    while todo:
        path = root / todo.pop()
        if path.is_file() and path not in found:
            found.add(path)
            todo += ["src/" + name.strip('"') for _, name in includes(path) if name[0] == '"']
    return sorted(found)


def check(root):
    table = read_table((root / "ARCHITECTURE.md").read_text())
    problems = []
    cycle = find_cycle(table)
    if cycle:
        problems.append(f"ARCHITECTURE.md: the layer table has a cycle: {' → '.join(cycle)}")
    source = root / "src"
    files = sorted(p for p in source.rglob("*")
                   if p.suffix in (".cc", ".h", ".inc") and not TEST.search(p.name))
    for path in files:
        problems += [f"{path.relative_to(root)}:{p}" for p in check_file(source, path, table)]
    for path in isa_files(root):
        problems += [f"{path.relative_to(root)}:{number}: {name} in a file for one instruction set"
                     for number, name in includes(path) if not ISA_INCLUDE.fullmatch(name)]
    return files, problems


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    files, problems = check(root)
    print("\n".join(problems) + "\n" * bool(problems), end="")
    print(f"check_layers: {len(files)} files, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
