"""What makes a run this run and no other."""

import pytest

from batchgen.errors import Refused, RunMismatch
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare


def test_quality_is_part_of_a_run_unless_it_is_what_the_format_takes_anyway(make_job):
    def found(**output):
        prepared = prepare(make_job(["a"], output=output))
        return prepared.fingerprint, prepared.facts.image_quality

    webp, usual = found(image_format="webp"), found(image_format="webp", image_quality=90)
    assert webp == usual == (webp[0], None)
    assert found(image_format="webp", image_quality=80) == (found(image_format="webp", image_quality=80)[0], 80)
    assert len({found(image_format="webp", image_quality=quality)[0] for quality in (80, 81, 90)}) == 3


def test_an_extension_is_refused_for_what_is_in_its_way_alone(make_job):
    """More images of each prompt may be added; another sampler may not."""
    make_plan(prepare(make_job(["a"])))
    both = {"height": 32, "width": 32, "num_images_per_prompt": 2, "sampler": "dpmpp_2m"}
    with pytest.raises(RunMismatch, match=r"sampling\.sampler: there") as error:
        prepare(make_job(["a", "b"], sampling=both), extend=True)
    assert "num_images_per_prompt" not in str(error.value)
    with pytest.raises(RunMismatch, match="num_images_per_prompt: there 1, now 2"):
        prepare(make_job(["a"], sampling=both))
    del both["sampler"]
    assert prepare(make_job(["a"], sampling=both), extend=True).extends


def test_a_size_that_only_a_second_pass_makes_too_large_names_it(make_job):
    with pytest.raises(Refused, match=r"none above 2048, which refine\.scale 2 enlarges"):
        prepare(make_job(["a"], sampling={"height": 2064, "width": 1024}, refine={"scale": 2}))
    assert prepare(make_job(["a"], sampling={"height": 1024, "width": 1024}, refine={"scale": 2})).job.refine
