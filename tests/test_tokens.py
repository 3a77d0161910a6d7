"""Token counts and the text that is cut, against what the real tokenizers do when they truncate."""

import logging
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer, T5Tokenizer

from batchgen.errors import Refused
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.rows.tokens import Encoder, Texts, TokenCounter
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


def texts(prompts, prompt_2=None, prompt_3=None, negative=""):
    """The same second and third prompt and negative prompt for all."""
    others = {"prompt_2": prompt_2, "prompt_3": prompt_3, "negative_prompt_2": None, "negative_prompt_3": None}
    columns = {name: [text] * len(prompts) for name, text in others.items()}
    return Texts(prompt=prompts, negative_prompt=[negative] * len(prompts), **columns)


def count(counter, prompt, prompt_2=None, prompt_3=None, negative="", length=64):
    return counter.count(texts([prompt], prompt_2, prompt_3, negative), [length]).to_pylist()[0]


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
    found = counter.count(texts([text] * 3), [16, 32, 512]).to_pylist()
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


class Listening:
    """A tokenizer that remembers what it was asked."""

    def __init__(self, tokenizer):
        self.backend_tokenizer, self.asked = self, []
        self._backend = tokenizer.backend_tokenizer
        self.no_truncation, self.no_padding = self._backend.no_truncation, self._backend.no_padding

    def encode_batch(self, texts):
        self.asked.extend(texts)
        return self._backend.encode_batch(texts)


def test_equal_texts_are_encoded_once(references):
    clip_l = Listening(references["clip_l"])
    counter = TokenCounter(Encoder(clip_l), Encoder(references["clip_g"]), Encoder(references["t5"]))
    counter.count(texts(["a cat", "a dog"] * 2500), [16] * 5000)
    assert sorted(clip_l.asked) == ["", "a cat", "a dog"]


@pytest.mark.parametrize("name", ["negative_prompt", "negative_prompt_2", "negative_prompt_3"])
def test_each_encoder_reads_its_own_negative_prompt(counter, name):
    read = replace(texts(["a cat"]), **{name: ["ugly " * 300]})
    [row] = counter.count(read, [64]).to_pylist()
    assert (row["negative_overflow"], row["overflow_clip_l"], row["overflow_t5"]) == (True, False, False)


def test_the_table_has_the_columns_of_the_schema(counter):
    assert counter.count(texts([]), []).schema == pa.schema(TOKEN_FIELDS)


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
        "import sys\nfrom batchgen.job.presets import DEMO_CHECKPOINT\n"
        "from batchgen.rows.tokens import Texts, TokenCounter\nimport batchgen.manifest.sources\n"
        "texts = Texts(**{name: ['a'] for name in Texts.__dataclass_fields__})\n"
        "TokenCounter.load(DEMO_CHECKPOINT).count(texts, [16])\n"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
