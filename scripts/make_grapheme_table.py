#!/usr/bin/env python3
"""Writes src/text/grapheme_table.inc from Unicode 16 (PyPI: unicodedataplus==16.0.0.post1), the
version of the unicode-segmentation crate inside tokenizers 0.22 (transformers 4.57)."""
import pathlib

import unicodedataplus as unicode

CLASSES = ["Control", "Extend", "Linker", "Prepend", "SpacingMark", "L", "V", "T", "Regional",
           "Pictographic", "Consonant"]


# Unassigned default-ignorables are Control too; unicodedataplus knows assigned characters only.
IGNORABLE = {0x2065, *range(0xFFF0, 0xFFF9), 0xE0000, *range(0xE0002, 0xE0020),
             *range(0xE0080, 0xE0100), *range(0xE01F0, 0xE1000)}


def break_class(char):
    if ord(char) in IGNORABLE:
        return "Control"
    if unicode.is_extended_pictographic(char):
        return "Pictographic"
    conjunct = unicode.indic_conjunct_break(char)
    if conjunct in ("Consonant", "Linker"):
        return conjunct
    name = unicode.grapheme_cluster_break(char)
    return {"Regional_Indicator": "Regional"}.get(name, name)


def rows(name):
    """The ranges of one class as lines of at most 100 columns."""
    ranges = []
    for code in range(0x80, 0x110000):  # ASCII, ZWJ and ZWNJ are written out in the code
        if break_class(chr(code)) != name or code in (0x200C, 0x200D):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    line = f"{{{name}, {{"
    for first, last in ranges:
        item = f"{{0x{first:X}, 0x{last:X}}}, "
        if len(line) + len(item) > 100:
            yield line.rstrip()
            line = ""
        line += item
    yield line.rstrip(", ") + "}},"


def main():
    assert unicode.unidata_version == "16.0.0", unicode.unidata_version
    lines = [line for name in CLASSES for line in rows(name)]
    head = "// Made by scripts/make_grapheme_table.py from Unicode 16.0.0: class, {first, last}…\n"
    path = pathlib.Path(__file__).parent.parent / "src/text/grapheme_table.inc"
    path.write_text(head + "\n".join(lines) + "\n")
    print(len(lines), "lines")


if __name__ == "__main__":
    main()
