"""How was the demo model of models/demo made?

    .venv/check/bin/python scripts/train_demo.py PAIRS OUT

PAIRS holds eng-fra.tsv.xz, eng-deu.tsv.xz, eng-spa.tsv.xz (English TAB other, as packed from Tatoeba by
www.manythings.org/anki). The script cleans and splits the pairs, trains a SentencePiece model and then a
small M2M100 on the CPU, both directions of every pair in one epoch, and leaves in OUT a checkpoint in
the layout of NLLB-200 with float16 weights. About an hour and a half on two cores; `--steps 5` is a trial
of the whole path. The same seeds do not give the same weights on another machine: sums differ in order.
"""

import argparse
import collections
import hashlib
import lzma
import math
import random
import re
import time
import unicodedata
from pathlib import Path

import sentencepiece
import torch
import torch.nn.functional as F
from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration, NllbTokenizerFast

ENGLISH = "eng_Latn"
PIECES = 8000  # of SentencePiece; the vocabulary adds one fairseq id, 202 languages, <mask> and 2 unused rows
MOST_WORDS, MOST_TOKENS = 40, 60  # longer sentences are left out
DROPOUT, LABEL_SMOOTHING, CLIP = 0.03, 0.1, 1.0
PEAK_RATE, WARMUP = 1.5e-3, 600
AVERAGED = 0.85  # the final weights are the mean over the steps after this share of them …
AVERAGED_EVERY = 50  # … taken this often


# --- sentence pairs ------------------------------------------------------------------------------


def clean(text):
    return " ".join(unicodedata.normalize("NFC", text).split())


def part_of(english):
    """dev, test or train by a hash of the English side, so that no sentence is in two parts."""
    bucket = int(hashlib.sha256(english.lower().encode()).hexdigest(), 16) % 200
    return {0: "dev", 1: "test"}.get(bucket, "train")


def read_pairs(folder, languages):
    """{part: [(language, English, other)]}, shuffled, without repeats and overlong sentences."""
    parts = {"train": [], "dev": [], "test": []}
    for language in languages:
        seen = set()
        with lzma.open(folder / f"eng-{language[:3]}.tsv.xz", "rt", encoding="utf-8") as lines:
            for line in lines:
                english, other = (clean(field) for field in line.rstrip("\n").split("\t")[:2])
                short = max(len(english.split()), len(other.split())) <= MOST_WORDS
                if english and other and short and (english, other) not in seen:
                    seen.add((english, other))
                    parts[part_of(english)].append((language, english, other))
    shuffle = random.Random(7)
    for name, pairs in parts.items():
        shuffle.shuffle(pairs)
        print(f"{name}: {len(pairs)} pairs", dict(collections.Counter(language for language, _, _ in pairs)))
    return parts


def make_tokenizer(pairs, out):
    """Trains SentencePiece as NLLB's was (BPE, nmt_nfkc) and wraps it as transformers does."""
    sentences = dict.fromkeys(english for _, english, _ in pairs)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences, *(other for _, _, other in pairs)]),
        model_prefix=str(out / "sentencepiece.bpe"),
        vocab_size=PIECES,
        model_type="bpe",
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    (out / "sentencepiece.bpe.vocab").unlink()
    tokenizer = NllbTokenizerFast(vocab_file=str(out / "sentencepiece.bpe.model"), model_max_length=1024)
    tokenizer.save_pretrained(out)
    return tokenizer


# --- batches -------------------------------------------------------------------------------------


def encode(tokenizer, pairs):
    """Both directions of every pair: (source ids, target ids), each `[language] tokens </s>`."""
    sides = [tokenizer([pair[side] for pair in pairs], add_special_tokens=False).input_ids for side in (1, 2)]
    english = tokenizer.convert_tokens_to_ids(ENGLISH)
    examples = []
    for (language, _, _), left, right in zip(pairs, *sides):
        if max(len(left), len(right)) <= MOST_TOKENS:
            ours = [english, *left, tokenizer.eos_token_id]
            theirs = [tokenizer.convert_tokens_to_ids(language), *right, tokenizer.eos_token_id]
            examples += [(ours, theirs), (theirs, ours)]
    return examples


def batches(examples, tokens, shuffle):
    """Lists of examples of similar lengths, each at most `tokens` with its padding, in random order."""
    blurred = {id(example): len(example[1]) + shuffle.random() * 2 for example in examples}
    groups, longest = [[]], 0
    for example in sorted(examples, key=lambda e: (blurred[id(e)], len(e[0]))):
        longest = max(longest, *map(len, example))
        if groups[-1] and longest * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            longest = max(map(len, example))
        groups[-1].append(example)
    shuffle.shuffle(groups)
    return groups


def pad(rows, filler):
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def loss_of(model, examples, smoothing):
    """Summed loss over the target tokens, their count, and the plain negative log-likelihood."""
    config = model.config
    source = pad([source for source, _ in examples], config.pad_token_id)
    target = pad([target for _, target in examples], config.pad_token_id)
    start = torch.full((len(examples), 1), config.decoder_start_token_id)
    logits = model(
        input_ids=source,
        attention_mask=source.ne(config.pad_token_id).long(),
        decoder_input_ids=torch.cat([start, target[:, :-1]], 1),
        use_cache=False,
    ).logits.flatten(0, 1)
    counts = target.flatten().ne(config.pad_token_id)
    logits, wanted = logits[counts], target.flatten()[counts]
    loss = F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing)
    with torch.no_grad():
        plain = F.cross_entropy(logits, wanted, reduction="sum").item() if smoothing else loss.item()
    return loss, len(wanted), plain


# --- the model -----------------------------------------------------------------------------------


def make_model(tokenizer):
    config = M2M100Config(
        vocab_size=len(tokenizer) + 2,
        d_model=256,
        encoder_layers=4,
        decoder_layers=3,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=1024,
        dropout=DROPOUT,
        attention_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        tokenizer_class="NllbTokenizer",
        **special_ids(tokenizer),
    )
    model = M2M100ForConditionalGeneration(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not model.lm_head:
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        model.model.shared.weight.normal_(0, config.d_model**-0.5)
        model.model.shared.weight[config.pad_token_id] = 0
    model.generation_config = GenerationConfig(max_length=200, **special_ids(tokenizer))
    return model


def special_ids(tokenizer):
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }


class Mean:
    """The running mean of a model's weights."""

    def __init__(self):
        self.weights, self.count = {}, 0

    def add(self, model):
        self.count += 1
        for name, value in model.state_dict().items():
            mean = self.weights.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / self.count


def rate(step, steps):
    """Linear warm-up, then down to nothing."""
    return PEAK_RATE * min((step + 1) / WARMUP, 1) * (1 - step / steps) ** 0.75


def train(model, examples, dev, options):
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    shuffle, mean, begin = random.Random(1), Mean(), time.monotonic()
    todo, seen, likelihood = [], 0, 0.0
    model.train()
    for step in range(options.steps):
        todo = todo or batches(examples, options.batch_tokens, shuffle)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options.steps)
        loss, tokens, plain = loss_of(model, todo.pop(), LABEL_SMOOTHING)
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen, likelihood = seen + tokens, likelihood + plain
        if (step + 1) % 100 == 0 or step + 1 == options.steps:
            seconds, perplexity = time.monotonic() - begin, math.exp(likelihood / seen)
            print(f"step {step + 1} of {options.steps}: perplexity {perplexity:.2f}, {seconds:.0f} s", flush=True)
            seen, likelihood = 0, 0.0
        if step + 1 == options.steps or (step >= AVERAGED * options.steps and step % AVERAGED_EVERY == 0):
            mean.add(model)
    model.load_state_dict(mean.weights)
    model.eval()
    with torch.no_grad():
        sums = [loss_of(model, group, 0)[1:] for group in batches(dev, 6000, shuffle)]
    print(f"dev perplexity {math.exp(sum(s for _, s in sums) / sum(n for n, _ in sums)):.2f}")


# --- how good it is ------------------------------------------------------------------------------


@torch.no_grad()
def translate(model, tokenizer, texts, source, target):
    tokenizer.src_lang, results = source, []
    for first in range(0, len(texts), 64):
        inputs = tokenizer(texts[first : first + 64], return_tensors="pt", padding=True)
        forced = tokenizer.convert_tokens_to_ids(target)
        ids = model.generate(**inputs, forced_bos_token_id=forced, max_length=MOST_TOKENS)
        results += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return results


def matches(found, wanted, most):
    """For n-grams of 1…most items: (matching, found, wanted) counts summed over the sentences."""
    totals = [[0, 0, 0] for _ in range(most)]
    for left, right in zip(found, wanted):
        for n in range(1, most + 1):
            grams = [collections.Counter(tuple(s[i : i + n]) for i in range(len(s) - n + 1)) for s in (left, right)]
            for place, count in enumerate((grams[0] & grams[1], *grams)):
                totals[n - 1][place] += count.total()
    return totals


def bleu(found, wanted):
    """BLEU on words and punctuation, as a percentage."""
    words = [[re.findall(r"\w+|[^\w\s]", text) for text in texts] for texts in (found, wanted)]
    totals = matches(*words, 4)
    if not all(match for match, _, _ in totals):
        return 0.0
    precision = sum(math.log(match / ours) for match, ours, _ in totals) / 4
    return 100 * math.exp(precision + min(0, 1 - totals[0][2] / totals[0][1]))


def chrf(found, wanted):
    """chrF2 of up to 6 characters without blanks, as a percentage."""
    totals = matches(*[[text.replace(" ", "") for text in texts] for texts in (found, wanted)], 6)
    precision = sum(match / max(1, ours) for match, ours, _ in totals) / 6
    recall = sum(match / max(1, theirs) for match, _, theirs in totals) / 6
    return 100 * 5 * precision * recall / max(1e-9, 4 * precision + recall)


def evaluate(model, tokenizer, pairs, languages, sentences):
    for language in languages:
        sides = [[pair[side] for pair in pairs if pair[0] == language][:sentences] for side in (1, 2)]
        for source, target, (texts, wanted) in ((ENGLISH, language, sides), (language, ENGLISH, sides[::-1])):
            found = translate(model, tokenizer, texts, source, target)
            scores = f"BLEU {bleu(found, wanted):.1f}, chrF {chrf(found, wanted):.1f}"
            print(f"{source} → {target}: {scores} over {len(found)} sentences", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, help="folder of eng-xxx.tsv.xz")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--languages", nargs="+", default=["fra_Latn", "deu_Latn", "spa_Latn"])
    parser.add_argument("--steps", type=int, default=5400)
    parser.add_argument("--batch-tokens", type=int, default=3200, help="of a step, padding included")
    parser.add_argument("--sentences", type=int, default=600, help="to translate for each direction at the end")
    options = parser.parse_args()
    torch.manual_seed(1)
    options.out.mkdir(parents=True)

    parts = read_pairs(options.pairs, options.languages)
    tokenizer = make_tokenizer(parts["train"], options.out)
    model = make_model(tokenizer)
    print(f"{model.num_parameters()} parameters")
    train(model, encode(tokenizer, parts["train"]), encode(tokenizer, parts["dev"]), options)
    model.half().save_pretrained(options.out)
    evaluate(model.float(), tokenizer, parts["test"], options.languages, options.sentences)


if __name__ == "__main__":
    main()
