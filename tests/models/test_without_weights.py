"""`batchgen plan` of a preset where its weights are out of reach: it counts tokens all the same, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RevisionNotFoundError

from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.plan.graph import survey
from batchgen.plan.preflight import prepare
from batchgen.weights import hub
from batchgen.weights.carried import TRANSFORMERS

# In the way of PartiPrompts, and of DPG-Bench, whose prompts are longer than CLIP and T5 read.
TABLE = "Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tconcepts\na corgi, 3 hats\tAnimals\tQuantity\t\n"
DENSE = " ".join(f"a red lantern number {number} hangs above the stone bridge," for number in range(30))
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from batchgen.cli import main; main()"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job(**model): of the table, on a machine that has no weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "prompts.tsv").write_text(TABLE)

    def make(**model):
        place = {"path": str(tmp_path / "prompts.tsv"), "columns": {"Prompt": "prompt"}}
        return job_from({"input": place, "model": model, "output": {"path": str(tmp_path / "run")}})

    return make


def unreachable(monkeypatch, error):
    def answer(*args, **named):
        raise error

    monkeypatch.setattr(hub.HfApi, "model_info", answer)


def response(kind, status):
    import httpx2

    return kind("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co")))


def run(tmp_path, command, values):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    places = {"HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, command, str(tmp_path / "job.yaml")],
        capture_output=True,
        text=True,
        env=os.environ | places,
    )


def test_the_command_on_a_machine_without_weights_hub_or_torch(tmp_path):
    (tmp_path / "prompts.tsv").write_text(TABLE)
    rows = [{"item_id": "0", "text": DENSE}, {"item_id": "1", "text": "a cat"}]
    (tmp_path / "dense.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"model": {"preset": "sd3.5-medium"}, "output": {"path": str(tmp_path / "run")}}
    table = values | {"input": {"path": str(tmp_path / "prompts.tsv"), "columns": {"Prompt": "prompt"}}}
    dense = values | {"input": {"path": str(tmp_path / "dense.jsonl"), "columns": {"text": "prompt"}}}

    done = run(tmp_path, "plan", table)
    assert done.returncode == 0, done.stderr
    assert "2 images of 2 prompts, model stabilityai/stable-diffusion-3.5-medium" in done.stdout
    assert "note: the weights of stabilityai/stable-diffusion-3.5-medium were not looked at" in done.stdout
    assert "`hf download stabilityai/stable-diffusion-3.5-medium`" in done.stdout

    done = run(tmp_path, "plan", dense)
    assert done.returncode == 0, done.stderr
    assert len(DENSE.split()) == 300
    assert "1 images longer than T5 reads (max_sequence_length)" in done.stdout
    assert "1 images longer than CLIP-L reads (77 tokens)" in done.stdout

    done = run(tmp_path, "render", dense)
    assert done.returncode == 2
    assert "run `hf download stabilityai/stable-diffusion-3.5-medium` where there is a network" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", sorted(TRANSFORMERS))
def test_every_preset_is_counted_and_none_is_rendered(job, monkeypatch, preset):
    unreachable(monkeypatch, OfflineModeIsEnabled("offline"))
    wanted = job(preset=preset)
    prepared = prepare(wanted, look_only=True)
    [note] = prepared.notes
    assert note.startswith(f"the weights of {wanted.model.pretrained_model_name_or_path} were not looked at, and ")
    assert survey(prepared).images == 2
    with pytest.raises(Refused, match="hf download"):
        prepare(wanted)


def test_a_gated_model(job, monkeypatch):
    unreachable(monkeypatch, response(GatedRepoError, 401))
    [note] = prepare(job(), look_only=True).notes
    assert note.endswith("stable-diffusion-3.5-medium, then run `hf auth login`.")


def test_a_job_without_t5_counts_none(job, monkeypatch):
    unreachable(monkeypatch, ConnectionError("no route"))
    prepared = prepare(job(text_encoder_3=None), look_only=True)
    assert len(prepared.notes) == 1
    assert not (prepared.model.tokenizers / "tokenizer_3").exists()


def test_what_is_wrong_with_the_job_itself_is_still_refused(job, monkeypatch):
    """A revision that the hub knows not of, and a fine-tune, whose tokenizers batchgen cannot know."""
    unreachable(monkeypatch, response(RevisionNotFoundError, 404))
    with pytest.raises(Refused, match="has no revision v9"):
        prepare(job(revision="v9"), look_only=True)
    unreachable(monkeypatch, ConnectionError("no route"))
    with pytest.raises(Refused, match="hf download somebody/sd3-fine-tune"):
        prepare(job(pretrained_model_name_or_path="somebody/sd3-fine-tune"), look_only=True)


def test_a_run_that_lies_there_is_left_alone(job, monkeypatch, make_job):
    """Whether it is this job's, its weights' digest would say; a mismatch is not claimed."""
    from batchgen.plan.graph import make_plan

    make_plan(prepare(make_job(["a"])))
    unreachable(monkeypatch, ConnectionError("no route"))
    prepared = prepare(job(), look_only=True)
    assert prepared.run is None
    assert "holds a run; without the weights it cannot be told whether it is this job's" in prepared.notes[1]
    assert survey(prepared).images == 2
