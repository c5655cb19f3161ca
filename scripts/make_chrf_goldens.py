#!/usr/bin/env python3
"""Writes testdata/chrf_goldens.jsonl: what sacrebleu says of random texts.

    python scripts/make_chrf_goldens.py > testdata/chrf_goldens.jsonl

Needs sacrebleu 2.6.0. A line is a corpus: hypotheses, as many references, and their chrF2++.
"""
import json
import random

from sacrebleu.metrics import CHRF

WORDS = ("the", "The", "house", "houses", "is", "old", "(old)", "old.", ".", "...", "\"quoted\"", "don't", "-", "a",
         "Straße", "café", "дом", "домом,", "今日は雨が降っています。", "यह", "किताब", "¿Dónde?", "😀", "😀!", "٣", "x" * 9)
BLANKS = (" ", " ", " ", " ", "  ", "\t", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "\u200b")


def text(chance):
    return "".join(chance.choice(WORDS) + chance.choice(BLANKS) for _ in range(chance.randrange(9)))


def changed(chance, given):
    """A text near another: some characters gone, doubled or moved."""
    letters = list(given)
    for _ in range(chance.randrange(5)):
        if letters:
            at = chance.randrange(len(letters))
            letters[at:at + 1] = chance.choice(([], [letters[at]] * 2, [chance.choice("aeо. ")]))
    return "".join(letters)


def main():
    chance = random.Random(1)
    metric = CHRF(word_order=2)
    for number in range(120):
        references = [text(chance) for _ in range(1 + number % 4)]
        near = number % 3 > 0
        hypotheses = [changed(chance, one) if near else text(chance) for one in references]
        score = metric.corpus_score(hypotheses, [references]).score
        print(json.dumps({"hypotheses": hypotheses, "references": references, "score": score}))


if __name__ == "__main__":
    main()
