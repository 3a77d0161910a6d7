"""licence.py: what the files of weights say of their licence, what their preset says, and nothing else."""

from __future__ import annotations

import pytest

from batchgen import report
from batchgen.cost import estimate
from batchgen.job import Model
from batchgen.plan.graph import survey
from batchgen.plan.preflight import prepare
from batchgen.run.found_model import FoundModel
from batchgen.weights.licence import COMMUNITY, OWN, UNKNOWN, Licence, find_licence, known_licence
from batchgen.weights.locate import locate


def here(tmp_path, card=None, **files):
    """Weights in a directory of this machine."""
    if card is not None:
        (tmp_path / "README.md").write_text(f"---\n{card}\n---\n# Weights\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return FoundModel(str(tmp_path), None, "digest")


MEDIUM, OTHER = Model(preset="sd3.5-medium"), Model(preset="diffusers", pretrained_model_name_or_path="x/y")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("license: mit", Licence("mit")), ("license: [openrail++]", Licence("openrail++")),
        ("license: other\nlicense_name: flux-1-dev\nlicense_link: https://bfl.ai/licence",
         Licence("other", "flux-1-dev", "https://bfl.ai/licence")),
        ("license: other\nlicense_name: stabilityai-ai-community\nlicense_link: LICENSE.md", COMMUNITY),
        ("license: mit\nbase_model: stabilityai/stable-diffusion-3.5-large", COMMUNITY),
        ("license: other\nlicense_name: a\nlicense_link: LICENSE.md", Licence("other", "a")),
        ("license: 'a b | c'", UNKNOWN), ("license: {a: b}", UNKNOWN), ("{", UNKNOWN), ("- a", UNKNOWN),
    ],
)  # fmt: skip
def test_the_card_beside_the_weights_says_it(tmp_path, card, expected):
    assert find_licence(OTHER, here(tmp_path, card)) == expected


def test_without_a_card_it_is_the_file_the_preset_or_unknown(tmp_path):
    assert find_licence(OTHER, here(tmp_path)) == UNKNOWN
    assert find_licence(MEDIUM, here(tmp_path)) == COMMUNITY
    assert find_licence(OTHER, here(tmp_path, LICENSE="MIT")) == Licence("other", "see-LICENSE-beside-the-weights")
    assert find_licence(MEDIUM, FoundModel("stabilityai/stable-diffusion-3.5-medium", "0" * 40, "d")) == COMMUNITY
    assert find_licence(OTHER, FoundModel("stabilityai/stable-diffusion-3.5-large", "0" * 40, "d")) == COMMUNITY
    assert find_licence(OTHER, FoundModel("x/y", "0" * 40, "d")) == UNKNOWN
    assert find_licence(MEDIUM, FoundModel("/models/tune.safetensors", None, "d")) == COMMUNITY
    for preset in ("demo", "fake"):
        assert find_licence(Model(preset=preset), locate(Model(preset=preset))) == OWN


@pytest.mark.parametrize("licence", [COMMUNITY, UNKNOWN, OWN, Licence("other", "flux-1-dev", "https://bfl.ai/licence")])
def test_a_plan_keeps_it(licence):
    found = FoundModel(
        "x/y", None, "d", licence=licence.to_dict(), refiner=FoundModel("z", None, "e", licence={"id": "mit"})
    )
    again = FoundModel.from_dict(found.to_dict())
    assert known_licence(again, "diffusers") == licence
    assert known_licence(again.refiner, "diffusers") == Licence("mit")


def test_a_plan_of_before_is_told_by_name_and_preset():
    assert "licence" not in FoundModel("x/y", None, "d").to_dict()
    assert known_licence(FoundModel("x/y", None, "d"), "sd3.5-large") == COMMUNITY
    assert known_licence(FoundModel("x/y", None, "d"), "diffusers") == UNKNOWN
    assert known_licence(FoundModel("fake", None, "d"), "fake") == OWN


def test_what_is_quoted_is_all_three_points():
    said = "\n".join(COMMUNITY.quotes)
    for words in ("less than US $1,000,000", "any foundational generative AI model", "https://stability.ai/use-policy"):
        assert words in said
    assert COMMUNITY.link == "https://stability.ai/community-license-agreement"


def test_plan_says_it_and_names_no_place(make_job, console, tmp_path):
    prepared = prepare(make_job(["a"]))
    report.print_plan(console, prepared, survey(prepared), estimate.lines(prepared.job, survey(prepared), None, "job"))
    assert "\nlicence of the model: apache-2.0: batchgen's own" in console.file.getvalue()


def test_the_card_quotes_it(make_job):
    import yaml

    from batchgen.finalize.card import dataset_card
    from batchgen.plan.graph import make_plan

    run = make_plan(prepare(make_job(["a"])))[0]
    run.plans[0].model.licence.update(COMMUNITY.to_dict())
    card = dataset_card(run)
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["license_name"]) == ("other", "stabilityai-ai-community")
    assert front["license_link"] == COMMUNITY.link
    assert all(f"\n- {quote}" in card for quote in COMMUNITY.quotes)
    assert "This is quoted and no advice" in card
