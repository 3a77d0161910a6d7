"""Scores of CLIPs against formulas and preprocessing that are written out by hand."""

import math
import shutil

import numpy as np
import pytest
import torch
from transformers import CLIPModel

from batchgen.errors import Refused
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scorers.models import find_model
from batchgen.evaluate.wanted import Wanted
from tests.models.clips import RATIOS, cosine, cropped, padded, tiny_clip

PROMPT = "a red circle on two blue squares"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("models") / "Tiny-Clip")


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in RATIOS]


def scores(kind, directory, pictures, prompts):
    scorer = make_scorer(Wanted(kind, str(directory)))
    scorer.load("cpu")
    rows = [{"prompt": prompt} for prompt in prompts]
    prepared = [scorer.prepare(picture, row) for picture, row in zip(pictures, rows, strict=True)]
    return scorer.score(prepared, rows), prepared, scorer


@pytest.mark.parametrize(
    ("kind", "preprocessing", "formula", "prefix", "name"),
    [
        ("clip", cropped, lambda cos: 100 * cos, "", "clip-w32p8-32px-100cos"),
        ("clip-original", cropped, lambda cos: 2.5 * max(cos, 0), "A photo depicts ", "clip-w32p8-32px-2.5cos"),
        ("pickscore", cropped, lambda cos: math.exp(3.5) * cos, "", "tiny-clip-scaledcos"),
        ("hps", padded, lambda cos: cos, "", "tiny-clip-cos"),
    ],
)
def test_the_numbers_are_those_of_the_formula(directory, pictures, kind, preprocessing, formula, prefix, name):
    found, prepared, scorer = scores(kind, directory, pictures, [PROMPT] * len(pictures))
    assert scorer.about.scorer == name
    assert scorer.about.weights_sha256 == find_model(str(directory)).sha256
    for picture, ready, score in zip(pictures, prepared, found, strict=True):
        by_hand = preprocessing(picture)
        np.testing.assert_allclose(ready, by_hand, atol=1e-5)
        assert score.score == pytest.approx(formula(cosine(directory, by_hand, prefix + PROMPT)), rel=1e-3)
    assert len({round(score.score, 4) for score in found}) > 1 or kind == "clip-original"


def test_each_picture_meets_its_own_prompt_and_neighbours_do_not_matter(directory, pictures):
    prompts = [PROMPT, "a green star", PROMPT, "one heart", "a green star"]
    together, prepared, scorer = scores("clip", directory, pictures, prompts)
    for ready, prompt, score in zip(prepared, prompts, together, strict=True):
        (alone,) = scorer.score([ready], [{"prompt": prompt}])
        assert alone.score == pytest.approx(score.score, rel=1e-5)
        assert score.score == pytest.approx(100 * cosine(directory, ready, prompt), rel=1e-3)


def test_a_prompt_that_is_too_long_is_cut_and_says_so(directory, pictures):
    long = " ".join([PROMPT] * 5)
    (score,), (ready,), _ = scores("clip", directory, pictures[:1], [long])
    assert score.score == pytest.approx(100 * cosine(directory, ready, long), rel=1e-3)
    assert score.detail["read"] == 20
    assert score.detail["tokens"] > 20


def test_the_benchmarks_prompt_is_judged(directory, pictures):
    scorer = make_scorer(Wanted("clip", str(directory)))
    scorer.load("cpu")
    row = {"prompt": f"{PROMPT}, studio photo", "benchmark_prompt": PROMPT}
    (score,) = scorer.score([scorer.prepare(pictures[0], row)], [row])
    assert score.score == pytest.approx(100 * cosine(directory, cropped(pictures[0]), PROMPT), rel=1e-3)


def test_other_weights_have_another_digest(directory, tmp_path):
    before = find_model(str(directory)).sha256
    other = shutil.copytree(directory, tmp_path / "other")
    assert find_model(str(other)).sha256 == before
    model = CLIPModel.from_pretrained(other)
    with torch.no_grad():
        model.logit_scale.add_(1)
    model.save_pretrained(other)
    assert find_model(str(other)).sha256 != before


def test_pickles_are_refused_and_say_what_to_do(tmp_path):
    (tmp_path / "HPS_v2.1_compressed.pt").write_bytes(b"")
    with pytest.raises(Refused, match=r"no config.json, \*.safetensors.*convert_scorer"):
        make_scorer(Wanted("hps", str(tmp_path)))
    with pytest.raises(Refused, match="hf download nobody/nothing"):
        make_scorer(Wanted("clip", "nobody/nothing"))


def test_weights_without_their_words_are_refused_and_say_where_these_are(directory, tmp_path):
    """As PickScore's are published."""
    bare = shutil.copytree(directory, tmp_path / "PickScore_v1")
    for file in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / file).unlink()
    names = "preprocessor_config.json tokenizer.json tokenizer_config.json"
    with pytest.raises(Refused, match=f"hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K {names} --local-dir DIR"):
        make_scorer(Wanted("pickscore", str(bare)))
    with pytest.raises(Refused, match=r"no tokenizer.json, tokenizer_config.json, .* the model that it was made from"):
        make_scorer(Wanted("clip", str(bare)))
    for file in names.split():
        shutil.copy(directory / file, bare)
    make_scorer(Wanted("pickscore", str(bare)))
