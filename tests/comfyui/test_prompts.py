"""Prompts, and values that other nodes hold: what stands in the table, and what is said to be lost."""

from __future__ import annotations

import pytest

from batchgen.comfyui.prompts import plain


def test_without_guidance_no_negative_is_read(imported, simple):
    nodes = simple(node_5={"cfg": 1, "negative": ["8", 0]})
    nodes["8"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["2", 0]}}
    job = imported(nodes)
    assert "negative_prompt" not in job.sections["sampling"]
    assert job.losses == {}


def test_negatives_of_each_encoder(imported, simple):
    texts = {"clip_l": "a", "clip_g": "b", "t5xxl": "c", "clip": ["1", 1]}
    job = imported(simple(node_3={"class_type": "CLIPTextEncodeSD3", **texts}))
    negatives = {key: text for key, text in job.sections["sampling"].items() if "negative" in key}
    assert negatives == {"negative_prompt": "a", "negative_prompt_2": "b", "negative_prompt_3": "c"}


def test_an_encoder_without_a_text_is_said(imported, simple):
    texts = {"clip_l": "", "clip_g": "b", "t5xxl": "b", "clip": ["1", 1]}
    job = imported(simple(node_2={"class_type": "CLIPTextEncodeSD3", **texts}))
    assert job.rows == [{"prompt": "b", "seed": 7}]
    assert "its clip_l is empty and others are not" in job.losses["2"]


def test_combined_and_timed_prompts(imported, simple):
    nodes = simple(
        node_5={"positive": ["8", 0]},
        node_8={"class_type": "ConditioningCombine", "conditioning_1": ["9", 0], "conditioning_2": ["3", 0]},
        node_9={"class_type": "ConditioningSetTimestepRange", "start": 0.0, "end": 0.5, "conditioning": ["2", 0]},
    )
    job = imported(nodes)
    assert job.rows[0]["prompt"] == "a cat"
    assert "Only that of node 2 (CLIPTextEncode) is written" in job.losses["3"]
    assert "the prompt is read in steps 1 to 14 of 28 only" in job.losses["9"]


def test_long_and_empty_prompts(imported, simple):
    assert "has 60 words" in imported(simple(node_2={"text": "word " * 60})).losses["2"]
    assert "the prompt is empty, which batchgen does not render" in imported(simple(node_2={"text": " "})).losses["2"]


def test_values_from_other_nodes(imported, simple):
    nodes = simple(
        node_4={"width": ["8", 0]},
        node_8={"class_type": "PrimitiveInt", "value": 768},
        node_2={"text": ["9", 0]},
        node_9={"class_type": "StringConstant", "string": "a horse"},
        node_5={"seed": ["10", 0]},
        node_10={"class_type": "Seed (rgthree)", "seed": 99},
    )
    job = imported(nodes)
    assert job.sections["sampling"]["width"] == 768
    assert job.rows == [{"prompt": "a horse", "seed": 99}]
    assert job.losses == {}


def test_an_image_that_cannot_be_read_does_not_stop_another(imported, simple):
    job = imported(simple(node_9={"class_type": "PreviewImage", "images": ["99", 0]}))
    assert len(job.rows) == 1
    assert "its image is left out: node 9 (PreviewImage): its input images is linked to node 99" in job.losses["9"]


@pytest.mark.parametrize(
    ("text", "words", "marked"),
    [
        ("a (red:1.3) cat", "a red cat", True),
        ("((very)) red", "very red", True),
        ("(a (b:0.5) c:1.2)", "a b c", True),
        ("a \\(dog\\) cat", "a (dog) cat", False),
        ("(dog: big)", "dog: big", True),
        ("at 10:30 :) and (", "at 10:30 :) and (", False),
        ("(" * 50_000 + "x" + ")" * 50_000, "x", True),
        ("(" * 50_000, "(" * 50_000, False),
    ],
)
def test_marks_in_a_prompt(text, words, marked):
    assert plain(text) == (words, ["weights in brackets"] if marked else [])


def test_a_negative_that_is_zeros_in_all_steps(imported, simple):
    nodes = simple(
        node_5={"negative": ["8", 0]}, node_8={"class_type": "ConditioningZeroOut", "conditioning": ["3", 0]}
    )
    job = imported(nodes)
    sampling = job.sections["sampling"]
    assert (sampling["negative_prompt"], sampling["negative_prompt_stop"], job.losses) == ("", 0.0, {})


def test_a_negative_that_is_zeros_before_its_text_is_told(imported, simple):
    nodes = simple(
        node_5={"negative": ["8", 0]},
        node_8={"class_type": "ConditioningCombine", "conditioning_1": ["9", 0], "conditioning_2": ["3", 0]},
        node_9={"class_type": "ConditioningSetTimestepRange", "start": 0.0, "end": 0.5, "conditioning": ["10", 0]},
        node_10={"class_type": "ConditioningZeroOut", "conditioning": ["3", 0]},
    )
    job = imported(nodes)
    assert "negative_prompt_stop" not in job.sections["sampling"]
    assert "guides against embeddings of zeros (steps 1 to 14 of 28)" in job.losses["10"]
