"""Token counts and the text that is cut, against what the real tokenizers do when they truncate."""

import logging
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer, T5Tokenizer

from batchgen.errors import Refused
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.rows.tokens import TokenCounter
from batchgen.schema import TOKEN_FIELDS

WORDS = "a red circle left of two blue squares on a white background"
TEXTS = [
    "",
    " ",
    "a cat",
    WORDS,
    " ".join([WORDS] * 12),
    "🙂" * 60,
    "🙂 a cat 👩‍👩‍👧‍👦 " * 30,
    "中文提示 " * 80,
    "cafe\u0301 ÉMIGRÉ ﬁ ½ " * 40,
    "tabs\tand\nlines  and   spaces " * 40,
    "!" * 100,
    "</s> <|endoftext|> <|startoftext|> <pad> <unk> a cat " * 20,
    "<|endoftext|>" * 100,
    "</s>" * 100,
    "x" * 400,
    "(((masterpiece:1.2))), [[ugly]], {0.__class__} %s ${HOME} " * 15,
]
ODD_PIECES = [WORDS, "🙂", "</s>", "<|endoftext|>", "!", "中文", "e\u0301", "\n", " ", "<extra_id_0>"]
ODD_TEXTS = st.lists(st.sampled_from(ODD_PIECES) | st.text(max_size=8), max_size=60).map(" ".join)


@pytest.fixture(scope="module")
def counter():
    return TokenCounter.load(DEMO_CHECKPOINT)


@pytest.fixture(scope="module")
def references():
    """The tokenizers as the pipeline uses them, with the columns that they answer for."""
    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
    return {
        "clip_l": CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer"),
        "clip_g": CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer_2"),
        "t5": T5Tokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer_3"),
    }


def count(counter, prompt, prompt_2=None, prompt_3=None, negative="", length=64):
    return counter.count([prompt], [prompt_2], [prompt_3], [negative], [length]).to_pylist()[0]


def check_against(tokenizer, name, text, found, limit):
    """All three columns of one encoder against the tokenizer itself."""
    everything = tokenizer(text, return_offsets_mapping=True)
    kept = tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
    assert found[f"tokens_{name}"] == len(everything.input_ids)
    assert found[f"overflow_{name}"] == (len(everything.input_ids) > limit)
    cut = found[f"truncated_{name}"]
    if len(everything.input_ids) <= limit:
        assert cut is None
        return
    assert text.endswith(cut)
    seen = len(text) - len(cut)
    assert kept.input_ids[:-1] == everything.input_ids[: limit - 1]
    assert all(start <= seen for start, _ in kept.offset_mapping)
    lost = everything.offset_mapping[limit - 1 : -1]
    assert lost[0][0] == seen  # the first character that is not wholly seen
    assert all(start >= seen for start, _ in lost)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("length", [1, 2, 16, 77, 256])
def test_counts_and_cuts_are_those_of_the_tokenizers(counter, references, text, length):
    found = count(counter, text, length=length)
    for name, tokenizer in references.items():
        check_against(tokenizer, name, text, found, length if name == "t5" else 77)


@settings(max_examples=60, deadline=None)
@given(ODD_TEXTS)
def test_no_text_fools_the_counter(counter, references, text):
    found = count(counter, text, length=16)
    for name, tokenizer in references.items():
        check_against(tokenizer, name, text, found, 16 if name == "t5" else 77)


@pytest.mark.parametrize("name", ["clip_l", "clip_g", "t5"])
def test_kept_and_cut_text_are_the_whole_prompt(counter, references, name):
    """Decoding what a truncating tokenizer keeps gives the prompt without what we say is cut."""
    text, limit = " ".join([WORDS] * 12), 64 if name == "t5" else 77
    kept = references[name](text, truncation=True, max_length=limit).input_ids
    decoded = references[name].decode(kept, skip_special_tokens=True)
    cut = count(counter, text, length=64)[f"truncated_{name}"]
    assert decoded.split() == text[: -len(cut)].split()


def test_exactly_the_limit_is_not_cut(counter):
    word = "red "
    for words, overflow in ((75, False), (76, True)):
        found = count(counter, word * words)
        assert (found["tokens_clip_l"], found["overflow_clip_l"]) == (words + 2, overflow)
        assert found["truncated_clip_l"] == ("red " if overflow else None)


def test_each_encoder_reads_its_own_prompt(counter):
    alone = count(counter, "a red circle")
    both = count(counter, "a red circle", prompt_2=WORDS, prompt_3=WORDS + " " + WORDS)
    assert both["tokens_clip_l"] == alone["tokens_clip_l"]
    assert both["tokens_clip_g"] > alone["tokens_clip_g"]
    assert both["tokens_t5"] > count(counter, WORDS)["tokens_t5"]
    assert count(counter, "a red circle", prompt_2="", prompt_3="") == alone  # `prompt_2 or prompt`


def test_t5_limits_differ_by_row(counter):
    text = " ".join([WORDS] * 4)
    found = counter.count([text] * 3, [None] * 3, [None] * 3, [""] * 3, [16, 32, 512]).to_pylist()
    assert [row["overflow_t5"] for row in found] == [True, True, False]
    assert len(found[0]["truncated_t5"]) > len(found[1]["truncated_t5"])
    assert found[2]["truncated_t5"] is None
    assert len({row["tokens_t5"] for row in found}) == 1


def test_what_the_model_was_not_trained_on_is_flagged(counter):
    found = count(counter, "red circle " * 200, length=512)
    assert (found["overflow_t5"], found["t5_over_256"]) == (False, True)


@pytest.mark.parametrize(("negative", "overflow"), [("", False), ("ugly", False), ("ugly " * 100, True)])
def test_negative_prompts_overflow_too(counter, negative, overflow):
    assert count(counter, "a cat", negative=negative, length=512)["negative_overflow"] == overflow


def test_equal_texts_are_encoded_once(counter, monkeypatch):
    asked = []
    backend = counter._clip_l._backend

    class Listening:
        def encode_batch(self, texts):
            asked.extend(texts)
            return backend.encode_batch(texts)

    monkeypatch.setattr(counter._clip_l, "_backend", Listening())
    many = 2500
    counter.count(["a cat", "a dog"] * many, [None] * 2 * many, [None] * 2 * many, [""] * 2 * many, [16] * 2 * many)
    assert sorted(asked) == ["", "a cat", "a dog"]


def test_the_table_has_the_columns_of_the_schema(counter):
    assert counter.count([], [], [], [], []).schema == pa.schema(TOKEN_FIELDS)


def test_without_t5_nothing_overflows_it(tmp_path):
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / name).symlink_to(DEMO_CHECKPOINT / name)
    found = count(TokenCounter.load(tmp_path), "red " * 300)
    assert (found["tokens_t5"], found["overflow_t5"], found["truncated_t5"]) == (0, False, None)
    assert found["overflow_clip_l"]


def test_missing_and_damaged_tokenizers_are_named(tmp_path):
    with pytest.raises(Refused, match="there is no tokenizer"):
        TokenCounter.load(tmp_path)
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer_config.json").write_text("not json")
    with pytest.raises(Refused, match="tokenizer cannot be read"):
        TokenCounter.load(tmp_path)


def test_counting_needs_neither_torch_nor_ray():
    code = (
        "import sys\nfrom batchgen.models.presets import DEMO_CHECKPOINT\nfrom batchgen.tokens import TokenCounter\n"
        "import batchgen.manifest, batchgen.manifest.sources\n"
        "TokenCounter.load(DEMO_CHECKPOINT).count(['a'], [None], [None], [''], [16])\n"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
