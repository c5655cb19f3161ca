"""Writes tokenizer.json and tokenizer_config.json of a model directory that has SentencePiece's file alone.

    .venv/check/bin/python scripts/make_demo_tokenizer.py models/demo

The hub's NLLB tokenizers say which id each added token has: the languages right behind the pieces, <mask>
after them. Without that transformers puts <mask> first and every language is one off from the weights.
"""

import json
import sys
from pathlib import Path

from transformers import NllbTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # fairseq's four


def entry(content):
    is_mask = content == "<mask>"
    flags = {"lstrip": is_mask, "normalized": is_mask, "rstrip": False, "single_word": False, "special": True}
    return {"content": content} | flags


def main():
    folder = Path(sys.argv[1])
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("added_tokens_decoder", None)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    path.write_text(json.dumps(config))
    behind = NllbTokenizerFast.from_pretrained(folder).backend_tokenizer.get_vocab_size(with_added_tokens=False)
    added = dict(enumerate(SPECIAL)) | dict(enumerate([*config["additional_special_tokens"], "<mask>"], behind))
    config["added_tokens_decoder"] = {str(number): entry(content) for number, content in added.items()}
    path.write_text(json.dumps(config, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(NllbTokenizerFast.from_pretrained(folder).backend_tokenizer.to_str())


if __name__ == "__main__":
    main()
