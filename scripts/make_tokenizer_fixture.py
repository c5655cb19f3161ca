#!/usr/bin/env python3
"""Makes testdata/tokenizer/: a small NLLB-like tokenizer and what transformers 4.57.6 and
SentencePiece 0.2 do with odd texts. Needs the packages of scripts/requirements-check.txt.

Files: sentencepiece.bpe.model (BPE, a character map of a few rules), tokenizer_config.json with the
ids of fairseq's layout, tokenizer.json as transformers' own converter makes it, goldens.json."""
import io
import json
import os
import pathlib
import random
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import sentencepiece  # noqa: E402
from sentencepiece import sentencepiece_model_pb2  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata/tokenizer"
TEXT = """The small red house stands beside the river, and the children play there in the summer.
She said that the weather would be better tomorrow; we should wait until the rain has stopped.
A neural network translates one language into another, word by word, sentence by sentence.
What time does the next train leave? It leaves at seven, from the second platform.
La petite maison rouge se trouve au bord de la rivière, et les enfants y jouent en été.
Elle a dit que le temps serait meilleur demain ; nous devrions attendre la fin de la pluie.
À quelle heure part le prochain train ? Il part à sept heures, du deuxième quai.
Das kleine rote Haus steht am Fluss, und die Kinder spielen dort im Sommer.
Sie sagte, dass das Wetter morgen besser würde; wir sollten warten, bis der Regen aufhört.
Wann fährt der nächste Zug ab? Er fährt um sieben Uhr vom zweiten Gleis.
La casa roja pequeña está junto al río, y los niños juegan allí en verano.
नदी के किनारे छोटा लाल घर है और बच्चे गर्मी में वहाँ खेलते हैं।
अगली ट्रेन कब निकलती है? वह सात बजे दूसरे प्लेटफ़ॉर्म से निकलती है।
河边有一座小红房子，孩子们夏天在那里玩。下一班火车什么时候开？
البيت الأحمر الصغير يقع بجانب النهر، والأطفال يلعبون هناك في الصيف.""".split("\n")
# What the character map replaces, in hexadecimal as SentencePiece's rule files have it.
RULES = {"\t": " ", "\n": " ", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\u0001": "", "\u2026": "...",
         "\ufb01": "fi", "e\u0301": "\u00e9", "u\u0308": "\u00fc", "\uff21": "A", "\ufdfa": "a b c d e f",
         "\u0e33": "\u0e4d\u0e32", "\uff1f": "?", "\u0958": "\u0915\u093c", "\u00a9": "c", "\u00b4": " \u0301"}
ODD = list(RULES) + ["\u0301", "\u200d", "\u200c", "\u2581", "\u2581\u2581", "  ", "   ", " ", "\u2028", "\u0600",
                     "\U0001f600", "\U0001f468\u200d\U0001f469", "\uac00\u11a8", "\u0915\u094d\u0937", "\u0000",
                     "</s>", "<s>", "<unk>", "<pad>", "<mask>", "fra_Latn", "eng_Latn", "_Latn", "zz", "\u2603\u2604",
                     "a\u0301\u0323", "\u1100\u1161\u11a8", "\u00a9\u200d", "\u0323"]


def train():
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder, "rules.tsv")
        code = lambda text: " ".join(f"{ord(c):X}" for c in text)  # noqa: E731
        rules.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in RULES.items()))
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT), model_writer=model, model_type="bpe", vocab_size=420,
            character_coverage=1.0, normalization_rule_tsv=str(rules), num_threads=1)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.trainer_spec.ClearField("input")
    return proto.SerializeToString(deterministic=True)


def write_tokenizer():
    (OUT / "sentencepiece.bpe.model").write_bytes(train())
    (OUT / "config.json").write_text('{"model_type": "m2m_100", "tokenizer_class": "NllbTokenizer"}\n')
    pieces = len(sentencepiece.SentencePieceProcessor(str(OUT / "sentencepiece.bpe.model")))
    def token(content, **flags):
        return {"content": content, "lstrip": False, "normalized": False, "rstrip": False,
                "single_word": False, "special": True, **flags}
    added = [token(content) for content in ("<s>", "<pad>", "</s>", "<unk>")]
    config = {"added_tokens_decoder": {str(i): added[i] for i in range(4)}}
    for place, code in enumerate(FAIRSEQ_LANGUAGE_CODES):
        config["added_tokens_decoder"][str(pieces + 1 + place)] = token(code)
    config["added_tokens_decoder"][str(pieces + 203)] = token("<mask>", lstrip=True, normalized=True)
    (OUT / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        AutoTokenizer.from_pretrained(OUT).save_pretrained(folder)
        made = json.loads(pathlib.Path(folder, "tokenizer.json").read_text())
    (OUT / "tokenizer.json").write_text(json.dumps(made, ensure_ascii=False) + "\n")


def odd_texts():
    rng = random.Random(7)
    texts = ["", " ", "   ", "a", "\u2581", "Hello  world ", *TEXT, *ODD]
    for _ in range(250):
        text = rng.choice(TEXT + [""] * 8)[:60]
        for _ in range(rng.randint(1, 6)):
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice(ODD) + text[at:]
        texts.append(text)
    return texts


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(OUT)
    processor = sentencepiece.SentencePieceProcessor(str(OUT / "sentencepiece.bpe.model"))
    rows = []
    for text in odd_texts():
        special = tokenizer(text, add_special_tokens=False).input_ids
        pieces = processor.encode(text)
        rows.append({
            "text": text, "special": special,
            "plain": tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids,
            "sentencepiece": [i + 1 if i else 3 for i in pieces],
            "decoded": tokenizer.decode(special, skip_special_tokens=True),
            "shown": tokenizer.decode(special, skip_special_tokens=False),
            "sentencepiece_decoded": processor.decode(pieces)})
    with open(OUT / "goldens.json", "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")
    print(len(rows), "texts,", len(tokenizer), "tokens")


if __name__ == "__main__":
    main()
