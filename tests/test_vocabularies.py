"""The words that batchgen carries are those that Google and OpenAI published, and every tokenizer counts alike."""

from __future__ import annotations

import hashlib
import json

import pytest

from batchgen.columns import TEXTS
from batchgen.job import Model
from batchgen.rows.tokens import Texts, TokenCounter
from batchgen.weights.carried import assemble, find
from batchgen.weights.vocabularies import CLIP_MERGES, T5_PIECES, clip_files, t5_files, t5_pieces

SPIECE = (
    "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"  # Google's file, as SD3's tokenizer_3 has it
)
CONVERTED = "652ffdfc379606bad8edfb653f92dcf28e2e5dbf1cdfe50d685d29b2cad12dd6"  # tokenizer.json beside it
# Counted with that directory, the special token at the end included.
TOKENS = {
    "": 1,
    "  a   cat  ": 4,
    "A cat. " * 60: 181,
    "ein naïver Kater im Café, über 9 000 €": 16,
    "中文提示": 3,
    "🙂 ½ ﬁ Ａ": 8,
    "</s> <extra_id_0> <pad>": 4,
    "x" * 400: 202,
    "tabs\tand\nlines": 5,
}
PARTS = ("tokenizer", "tokenizer_2", "tokenizer_3")


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return assemble(find(Model(), None, PARTS, frozenset()))


def test_t5s_words_are_googles_file():
    assert hashlib.sha256(t5_pieces()).hexdigest() == SPIECE


def test_t5s_words_for_the_tokenizers_library_are_those_of_the_hub():
    made = json.loads(t5_files()["tokenizer.json"])
    assert hashlib.sha256(json.dumps(made, indent=2, ensure_ascii=False).encode()).hexdigest() == CONVERTED


def test_t5_reads_a_prompt_as_published(assembled):
    from transformers import T5Tokenizer  # several seconds

    tokenizer = T5Tokenizer.from_pretrained(assembled / "tokenizer_3", local_files_only=True)
    ids = tokenizer("a photo of a cat holding a sign that says hello world").input_ids
    assert ids == [3, 9, 1202, 13, 3, 9, 1712, 3609, 3, 9, 1320, 24, 845, 21820, 296, 1]
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (32100, 512, 0)


def count(directory):
    columns = {name: [""] * len(TOKENS) for name in TEXTS} | {"prompt": list(TOKENS)}
    texts = Texts(**columns)
    return TokenCounter.load(directory).count(texts, [256] * len(texts))


def test_counts_are_those_of_a_directory_of_ones_own(assembled, tmp_path):
    """A directory as the hub's, with the published files and no config of batchgen's beside T5's words."""
    for part, files in zip(PARTS, (clip_files(), clip_files(), t5_files()), strict=True):
        (tmp_path / part).mkdir()
        for name, data in files.items():
            (tmp_path / part / name).write_bytes(data)
    counted = count(assembled)
    assert counted["tokens_t5"].to_pylist() == list(TOKENS.values())
    assert counted == count(tmp_path)


def test_each_has_its_licence():
    assert "MERCHANTABILITY" in CLIP_MERGES.with_name("clip_merges.LICENSE").read_text()
    licence = T5_PIECES.with_name("t5_spiece.LICENSE").read_text()
    assert "Google" in licence
    assert "Apache License, Version 2.0" in licence
    assert SPIECE in licence
