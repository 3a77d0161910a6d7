"""The demo's three tokenizers: CLIP's byte-level BPE twice, T5's unigram, with small vocabularies of prompt words.

The same version of `tokenizers` writes the same files. Knows nothing of weights.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5Tokenizer

SEED = 3

WORDS = {
    "colours": "red orange yellow green blue purple pink brown black white grey golden silver cyan magenta turquoise",
    "shapes": "circle square triangle cube sphere cylinder cone star heart ring pyramid spiral",
    "numbers": "one two three four five six seven eight nine ten a the some many several",
    "relations": """
        on under above below beside behind between near inside in front of next to left of right of on top of
        against around across from with without
    """,
    "adjectives": """
        small large tiny huge old new young shiny wooden metal glass stone soft hard round flat tall short bright
        dark warm cold quiet busy empty full broken ancient modern beautiful detailed colourful realistic abstract
        minimal dramatic misty sunny rainy snowy cloudy wet dry sharp blurry vintage elegant simple
    """,
    "nouns": """
        cat dog horse bird fish cow sheep elephant bear zebra giraffe person man woman child boy girl car bus train
        truck boat bicycle motorcycle airplane bench chair table couch bed lamp clock vase bottle cup bowl plate
        fork knife spoon book phone laptop keyboard apple banana orange pear cake pizza sandwich carrot bread cheese
        egg tree flower leaf grass mountain river lake sea beach forest desert field garden street city village
        house castle bridge tower church window door roof wall road sky cloud sun moon star rain snow fire light
        shadow mirror painting photo photograph portrait landscape drawing sketch illustration poster render scene
        view background style watercolour oil pencil ink camera lens robot astronaut dragon knight wizard king queen
        ship island waterfall lighthouse market kitchen room library museum hat coat dress shoe shirt glove umbrella
        bag balloon kite ball toy guitar piano violin drum newspaper letter word sign text number line pattern
        texture fabric paper sand water ice smoke steam glass coffee tea wine milk honey
    """,
    "verbs": """
        standing sitting lying running walking jumping flying swimming sleeping eating drinking holding wearing
        looking playing reading painting made covered filled surrounded lit floating hanging growing glowing
    """,
}


def sentences(count: int = 6000) -> Iterator[str]:
    """Lower-case English in the shape of prompts, the same every time."""
    pick, words = random.Random(SEED).choice, {kind: text.split() for kind, text in WORDS.items()}
    colours, shapes, numbers, relations, adjectives, nouns, verbs = words.values()
    for _ in range(count):
        first, second = f"{pick(numbers)} {pick(colours)} {pick(shapes)}", f"{pick(colours)} {pick(nouns)}"
        yield f"{first} {pick(relations)} {pick(numbers)} {second}"
        yield f"a {pick(nouns)} of {pick(numbers)} {pick(adjectives)} {pick(nouns)}s {pick(verbs)} {pick(relations)} it"
        yield f"{pick(adjectives)} {pick(nouns)}, {pick(adjectives)} {pick(nouns)} and {pick(nouns)}, {second}."


def clip_vocabulary(size: int = 1100) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE laid out as CLIP's: 256 bytes from "!" on, the same at a word's end, merges, two specials."""
    words = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")  # CLIPTokenizer, transformers 5.23
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # "!" sorts first and becomes id 0, as in CLIP
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(sentences(), trainer)
    merges = [(first, second) for first, second in json.loads(trained.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(first + second for first, second in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def t5_vocabulary(merges: list[tuple[str, str]]) -> list[tuple[str, float]]:
    """Unigram pieces with their scores: whole words, pieces of words, every printable ASCII letter.

    Counted, not trained: the Unigram trainer of `tokenizers` 0.23 gives other scores in every process.
    """
    counts = Counter(word for sentence in sentences() for word in re.findall("[a-z]+", sentence))
    total = sum(counts.values())
    specials = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}  # ids 0, 1, 2, as T5Tokenizer expects
    letters = {chr(code): -15.0 for code in range(33, 127)}
    pieces = {(first + second).removesuffix("</w>"): -14.0 for first, second in merges}
    words = {"▁" + word: round(math.log(count / total), 3) for word, count in counts.items()}
    return list((specials | {"▁": -3.0} | letters | pieces | words).items())


def tokenizers() -> tuple[CLIPTokenizer, CLIPTokenizer, T5Tokenizer]:
    vocabulary, merges = clip_vocabulary()
    first = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="<|endoftext|>", model_max_length=77)
    second = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="!", model_max_length=77)  # as in SD3
    return first, second, T5Tokenizer(vocab=t5_vocabulary(merges), extra_ids=0, model_max_length=512)
