"""Scores by an image-text model: its probabilities written out by hand, and a benchmark's rules on its answers."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scorers.questions import Question, questions_of, spellings, verdict
from batchgen.evaluate.wanted import Wanted

WORDS = "<pad> <image> <unk> Yes yes No no one two 2 1 One Two Does this figure show Please answer or . Is there a red"
WORDS += ' circle star many How are ? Answer in word " "?'
TEMPLATE = (
    "{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}<image> {% else %}{{ c.text }}{% endif %}"
)
TEMPLATE += "{% endfor %}{% endfor %}"
DOGS = [
    {"id": 1, "question": "Is there a red circle ?", "answer": "Yes", "parents": []},
    {"id": 2, "question": "How many circle are there ?", "answer": "two", "parents": [1]},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Llava with random weights and words of its own."""
    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(WORDS.split()))}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=16),
        text_config=LlamaConfig(
            **sizes,
            num_key_value_heads=4,
            vocab_size=len(tokenizer),
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.ndim > 1 else 1)
    folder = tmp_path_factory.mktemp("models") / "Tiny-Llava"
    model.save_pretrained(folder, safe_serialization=True)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    LlavaProcessor(
        processor, tokenizer, patch_size=16, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in [(64, 64), (40, 96), (90, 30)]
    ]


def by_hand(directory, picture, question):
    """Probabilities of the token after the question, by one plain forward pass."""
    model = LlavaForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    image = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)(picture, return_tensors="pt")[
        "pixel_values"
    ]
    ids = tokenizer("<image> " * 4 + question)["input_ids"]  # 2 × 2 patches
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), pixel_values=image).logits[0, -1].numpy().astype(np.float64)
    weights = np.exp(logits - logits.max())
    return dict(zip(tokenizer.convert_ids_to_tokens(range(len(weights))), weights / weights.sum(), strict=True))


def scored(kind, directory, pictures, rows):
    scorer = make_scorer(Wanted(kind, str(directory)))
    scorer.load("cpu")
    return scorer, scorer.score([scorer.prepare(*pair) for pair in zip(pictures, rows, strict=True)], rows)


def test_vqascore_is_the_probability_of_yes_among_all_words(directory, pictures):
    rows = [{"prompt": prompt} for prompt in ("a red circle", "two star", "a star in a red circle")]
    scorer, found = scored("vqascore", directory, pictures, rows)
    assert scorer.about.scorer == "vqascore-tiny-llava"
    for picture, row, score in zip(pictures, rows, found, strict=True):
        question = f'Does this figure show "{row["prompt"]}"? Please answer Yes or No.'
        assert score.score == pytest.approx(by_hand(directory, picture, question)["Yes"], rel=1e-3)
    assert len({round(score.score, 5) for score in found}) == 3


def test_questions_are_asked_one_by_one(directory, pictures):
    rows = [{"prompt": "p", "questions": json.dumps(DOGS[: 1 + i % 2])} for i in range(3)]
    _, found = scored("soft-questions", directory, pictures, rows)
    for picture, row, score in zip(pictures, rows, found, strict=True):
        asked = json.loads(row["questions"])
        first = by_hand(directory, picture, f"{DOGS[0]['question']} Answer in one word.")
        second = by_hand(directory, picture, f"{DOGS[1]['question']} Answer in one word.")
        right = [first["Yes"] + first["yes"], second["two"] + second["Two"] + second["2"]][: len(asked)]
        if len(right) == 2 and max(first, key=first.get) not in ("Yes", "yes"):
            right[1] = 0.0
        assert score.score == pytest.approx(np.mean(right), rel=1e-3)
        assert score.detail["geometric_mean"] == pytest.approx(np.prod(right) ** (1 / len(right)), rel=1e-3)
    _, hard = scored("questions", directory, pictures[:1], rows[:1])
    first = by_hand(directory, pictures[0], f"{DOGS[0]['question']} Answer in one word.")
    assert hard[0].score == float(max(first, key=first.get) in ("Yes", "yes"))


def test_a_child_counts_nothing_without_its_parent():
    asked = [Question("1", "", "yes", ()), Question("2", "", "yes", ("1",)), Question("3", "", "yes", ("2",))]
    answers = [(0.2, False), (0.9, True), (0.8, True)]
    assert verdict(asked, answers, soft=False).score == pytest.approx(1 / 3)  # DSG: what was answered counts
    assert verdict(asked, answers, soft=False, fall_together=True).score == 0.0  # DPG: it falls with its parent
    soft = verdict(asked, answers, soft=True)
    assert soft.score == pytest.approx((0.2 + 0 + 0.8) / 3)
    assert soft.detail["zeroed"] == ["2"]
    assert verdict(asked, [(0.9, True)] * 3, soft=True).detail["geometric_mean"] == pytest.approx(0.9)


def test_an_answer_is_known_in_all_its_spellings():
    assert set(spellings("Yes")) == {"yes", " yes", "Yes", " Yes"}
    assert set(spellings("four")) == {"four", " four", "Four", " Four", "4", " 4"}


def test_a_row_without_questions_has_no_score():
    with pytest.raises(ValueError, match="has no questions"):
        questions_of({"prompt": "p", "questions": None})
