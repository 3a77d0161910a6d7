"""What makes a run this run and no other."""

from batchgen.plan.preflight import prepare


def test_quality_is_part_of_a_run_unless_it_is_what_the_format_takes_anyway(make_job):
    def found(**output):
        prepared = prepare(make_job(["a"], output=output))
        return prepared.fingerprint, prepared.facts.image_quality

    webp, usual = found(image_format="webp"), found(image_format="webp", image_quality=90)
    assert webp == usual == (webp[0], None)
    assert found(image_format="webp", image_quality=80) == (found(image_format="webp", image_quality=80)[0], 80)
    assert len({found(image_format="webp", image_quality=quality)[0] for quality in (80, 81, 90)}) == 3
