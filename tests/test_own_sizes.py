"""Sizes of a checkpoint of one's own: its positions are the limit, and what its preset was trained for is a warning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from batchgen import report
from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.graph import survey
from batchgen.plan.preflight import prepare


@pytest.fixture
def checkpoint(tmp_path):
    """The demo checkpoint at another place, where nobody knows what it was trained for; large files are links."""
    return Path(shutil.copytree(DEMO_CHECKPOINT, tmp_path / "mine", copy_function=lambda a, b: Path(b).symlink_to(a)))


@pytest.fixture
def job(tmp_path, checkpoint):
    """job(side, *rows, **sections): pictures of side × side with that checkpoint, said to be an SD3.5 Medium."""

    def make(side, *rows, model=None, **sections):
        (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows or [{"prompt": "a cat"}])))
        values = {
            "input": {"path": str(tmp_path / "prompts.jsonl")},
            "model": {"preset": "sd3.5-medium", "pretrained_model_name_or_path": str(checkpoint)} | (model or {}),
            "sampling": {"height": side, "width": side, "skip_guidance_layers": [1]},
            "output": {"path": str(tmp_path / "run")},
        }
        return job_from(values | sections)

    return make


def positions(checkpoint, count):
    file = checkpoint / "transformer/config.json"
    config = json.loads(file.read_text()) | {"pos_embed_max_size": count}
    file.unlink()
    file.write_text(json.dumps(config))


def refusal(job):
    with pytest.raises(Refused) as refused:
        survey(prepare(job))
    return str(refused.value)


def test_a_size_that_the_preset_was_not_trained_for_is_a_warning(job, console):
    rows = [{"prompt": "a cat"}, {"prompt": "a dog"}, {"prompt": "a sea", "height": 512, "width": 512}]
    prepared = prepare(job(192, *rows))
    summary = survey(prepared)
    assert (summary.images, summary.beyond_training) == (3, 2)
    report.print_plan(console, prepared, summary, [])
    printed = console.file.getvalue()
    assert "2 images have a size that sd3.5-medium was not trained for (sides that make 65,536 to 2,097,152" in printed


def test_a_strip_is_a_warning_too(job, console):
    summary = survey(prepare(job(512, {"prompt": "a coast", "height": 64, "width": 512})))
    assert summary.beyond_training == 1


def test_a_size_within_its_training_needs_no_warning(job, console):
    prepared = prepare(job(512))
    summary = survey(prepared)
    report.print_plan(console, prepared, summary, [])
    assert "was not trained for" not in console.file.getvalue()


def test_the_limit_is_how_far_positions_reach(job, checkpoint):
    assert "528 × 528 cannot be made: write sides of 16 to 512 pixels (pos_embed_max_size" in refusal(job(528))
    assert "528 × 64: write sides of 16 to 512" in refusal(job(512, {"prompt": "x", "height": 528, "width": 64}))
    assert "are 0 × 64: write sides of 16" in refusal(job(512, {"prompt": "x", "height": 0, "width": 64}))
    positions(checkpoint, 12)
    assert survey(prepare(job(192))).images == 1
    assert "208 × 208 cannot be made: write sides of 16 to 192 pixels" in refusal(job(208))


def test_a_second_pass_must_fit_too(job, checkpoint):
    assert survey(prepare(job(256, refine={"scale": 2.0}))).images == 1
    assert "272 × 272 cannot be made: write sides of 16 to 256 pixels" in refusal(job(272, refine={"scale": 2.0}))


def test_a_second_checkpoint_has_a_limit_of_its_own(job, checkpoint, tmp_path):
    other = Path(shutil.copytree(checkpoint, tmp_path / "other", symlinks=True))
    positions(other, 20)
    refine = {"scale": 1.0, "model": {"preset": "sd3.5-medium", "pretrained_model_name_or_path": str(other)}}
    assert survey(prepare(job(320, refine=refine))).images == 1
    assert "336 × 336 cannot be made: write sides of 16 to 320 pixels" in refusal(job(336, refine=refine))


def test_a_preset_keeps_its_own_limits(job):
    own = {"preset": "demo", "pretrained_model_name_or_path": str(DEMO_CHECKPOINT)}
    assert survey(prepare(job(32, model=own))).beyond_training == 0
    assert "16 × 16 cannot be made: write sides that make 1,024 to 262,144 pixels" in refusal(job(16, model=own))


def test_of_a_config_that_says_nothing_the_presets_limits_hold(job, checkpoint):
    positions(checkpoint, None)
    assert "192 × 192 cannot be made: write sides that make 65,536 to 2,097,152 pixels" in refusal(job(192))
