#!/usr/bin/env python3
"""Writes what a long check found into docs/verification.md: scripts/record.py TITLE < text

The section `## TITLE` is replaced by standard input, or added at the end. The commit, the machine
and the date stand below its title.
"""
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path


def replace_section(page, title, body):
    """`page` with the section `## title` holding `body`."""
    section = f"## {title}\n\n{body.strip()}\n\n"
    pattern = rf"^## {re.escape(title)}\n.*?(?=^## |\Z)"
    if re.search(pattern, page, re.M | re.S):
        return re.sub(pattern, lambda _: section, page, flags=re.M | re.S).rstrip() + "\n"
    return page.rstrip() + "\n\n" + section.rstrip() + "\n"


def where_and_when(root):
    git = lambda *words: subprocess.run(["git", *words], cwd=root, capture_output=True, text=True,
                                        check=False).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/verification.md")
    commit = git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    cpus = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")] or [platform.machine()]
    return (f"Commit {commit or 'unknown'}; {time.strftime('%Y-%m-%d', time.gmtime())}; "
            f"{len(os.sched_getaffinity(0))} CPUs ({cpus[0]}).")


def main():
    root = Path(__file__).parent.parent
    page = root / "docs/verification.md"
    text = page.read_text() if page.exists() else (
        "# Verification\n\nWhat `make check-full` measured last; each section is written by its script.\n")
    page.parent.mkdir(exist_ok=True)
    page.write_text(replace_section(text, sys.argv[1],
                                    where_and_when(root) + "\n\n" + sys.stdin.read()))


if __name__ == "__main__":
    main()
