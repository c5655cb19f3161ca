#!/usr/bin/env python3
"""Writes testdata/tokenizer_goldens.jsonl: what transformers' NLLB tokenizer and SentencePiece make of
short texts with the demo model's files. Run in .venv/check; versions stand in the first line."""
import json
from pathlib import Path

import sentencepiece
import transformers

ROOT = Path(__file__).resolve().parent.parent
TEXTS = """Hello world.|  two  blanks  in  front and  behind  |trailing newline\n|\u00a0no-break\u00a0space\u00a0|
tab\there|Ünïcödé: naïve café, œuvre, straße|don't — “quoted” … ellipsis|１２３ ＡＢＣ ｱｲｳ ㍿ ㌔|ﬁ ligature ﬂ|
e\u0301 combining, Å A\u030a|한국어 \u1112\u1161\u11ab|今日は雨が降っています。|यह किताब बहुत अच्छी है।|ड़ी दुख|
مرحبا بالعالم|שלום עולם|Добрый вечер, друзья!|สวัสดีชาวโลก เขาไม่ได้พูดสักคำ|👩‍👩‍👧‍👦 🇫🇷 ☕️|zero\u200bwidth\u200djoin\ufeff|
\u2581 lower block \u2581\u2581|<s> </s> <unk> <pad> eng_Latn fra_Latn<mask>x|   |▁|x|xx  yy   zz|a\u0000b|\u0001\u0002|
3.14159 × 10² ≈ 1⁄2 ½ № ™ ℃|https://example.org/?q=a&b=c#d|CamelCaseIdentifier_with_underscores|AAAAAAAAAAAAAAAAAAAAAAAA|
\ud55c\uae00 \u3131\u3132 \u1100\u1161|ก็ กำ กํา|ᾳ ᾼ Ὦ|Ⅷ ⅷ ① ⑳ ㊙|𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕠|\u0958\u0959|ﷺ ﷲ|Ǆ ǅ ǆ|\u1e9b\u0323|Nǐ hǎo""".replace("\n", "").split("|")
TEXTS += ["", "line\nbreak\r\nboth", "trailing blank ", " leading", "a" * 300, "word " * 40]


def main():
    model = ROOT / "models/demo"
    hf = transformers.AutoTokenizer.from_pretrained(model, src_lang="eng_Latn")
    spm = sentencepiece.SentencePieceProcessor(model_file=str(model / "sentencepiece.bpe.model"))
    with open(ROOT / "testdata/tokenizer_goldens.jsonl", "w", encoding="utf-8") as out:
        versions = {"transformers": transformers.__version__,
                    "sentencepiece": sentencepiece.__version__}
        out.write(json.dumps(versions) + "\n")
        for text in TEXTS:
            ids = hf(text).input_ids
            plain = hf(text, split_special_tokens=True).input_ids
            out.write(json.dumps({
                "text": text, "special": ids, "ids": plain,
                "decoded": hf.decode(ids, skip_special_tokens=True,
                                     clean_up_tokenization_spaces=False),
                "sentencepiece": [i + 1 if i else 3 for i in spm.encode(text)],
            }, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
