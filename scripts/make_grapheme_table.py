#!/usr/bin/env python3
"""Writes src/text/grapheme_table.inc from Unicode 16 (PyPI: unicodedataplus==16.0.0.post1), the
version of the unicode-segmentation crate inside tokenizers 0.22 (transformers 4.57)."""
import pathlib
import textwrap

import unicodedataplus as unicode

CLASSES = ["Control", "Extend", "Linker", "Prepend", "SpacingMark", "L", "V", "T", "Regional",
           "Pictographic", "Consonant"]


# unicodedataplus knows assigned characters only; these are given a class before their assignment.
IGNORABLE = {0x2065, *range(0xFFF0, 0xFFF9), 0xE0000, *range(0xE0002, 0xE0020),
             *range(0xE0080, 0xE0100), *range(0xE01F0, 0xE1000)}
PICTOGRAPHIC = {*range(0x1F000, 0x1FB00), *range(0x1FC00, 0x1FFFE)}


def break_class(char):
    if ord(char) in IGNORABLE:
        return "Control"
    if ord(char) in PICTOGRAPHIC and unicode.category(char) == "Cn":
        return "Pictographic"
    if unicode.is_extended_pictographic(char):
        return "Pictographic"
    conjunct = unicode.indic_conjunct_break(char)
    if conjunct in ("Consonant", "Linker"):
        return conjunct
    name = unicode.grapheme_cluster_break(char)
    return {"Regional_Indicator": "Regional"}.get(name, name)


def rows(name):
    """One class: for each of its ranges, in hexadecimal, the step from the last one's end to its begin
    and, after a +, how many more it holds."""
    codes = [code for code in range(0x80, 0x110000)  # ASCII, ZWJ and ZWNJ are written out in the code
             if break_class(chr(code)) == name and code not in (0x200C, 0x200D)]
    items, last = [], 0
    while codes:
        more = next((i for i, code in enumerate(codes) if code != codes[0] + i), len(codes)) - 1
        items.append(f"{codes[0] - last:X}" + (f"+{more:X}" if more else ""))
        last, codes = codes[more], codes[more + 1:]
    lines = textwrap.wrap(" ".join(items), 96)
    yield f"{{{name},"
    yield from (f'"{line}{" " if line is not lines[-1] else ""}"' for line in lines)
    yield "},"


def main():
    assert unicode.unidata_version == "16.0.0", unicode.unidata_version
    lines = [line for name in CLASSES for line in rows(name)]
    head = "// Made by scripts/make_grapheme_table.py from Unicode 16.0.0: class, its ranges.\n"
    head += "// clang-format off\n"
    path = pathlib.Path(__file__).parent.parent / "src/text/grapheme_table.inc"
    path.write_text(head + "\n".join(lines) + "\n")
    print(len(lines), "lines")


if __name__ == "__main__":
    main()
