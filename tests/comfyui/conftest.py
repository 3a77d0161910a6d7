"""Importing a workflow as the command does, in a folder of its own, and reading back what it wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from batchgen.cli import app

WORKFLOWS = Path(__file__).parent / "workflows"


@dataclass(frozen=True)
class Written:
    """code, output: of the command. sections, rows: of job file and table. losses: node → what is lost there."""

    code: int
    output: str
    text: str
    sections: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def losses(self) -> dict[str, str]:
        """By the id of the node; several of one node are joined."""
        losses: dict[str, str] = {}
        for line in " ".join(self.output.split()).split(" - node ")[1:]:
            id, _, what = line.partition(" ")
            losses[id] = f"{losses.get(id, '')} {what}".strip()
        return losses


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output
    return done.exit_code, done.output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: paths in a job file count from there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def imported(folder):
    """imported(workflow, *options): a file's name, or what stands in one; must succeed."""

    def run(workflow, *options) -> Written:
        path = WORKFLOWS / workflow if isinstance(workflow, str) else folder / "workflow.json"
        if not isinstance(workflow, str):
            path.write_text(json.dumps(workflow))
        code, output = command("import", "comfyui", path, *options)
        assert code == 0, output
        text = (folder / "job.yaml").read_text()
        rows = [json.loads(line) for line in (folder / "job-prompts.jsonl").read_text().splitlines()]
        written = Written(code, output, text, yaml.safe_load(text), rows)
        for name in ("job.yaml", "job-prompts.jsonl"):
            (folder / name).rename(folder / f"last-{name}")  # so that a test may import again
        return written

    return run


@pytest.fixture
def refused(folder):
    """refused(content, *says): exit code 2, these words, nothing written. content: bytes, text, or for JSON."""

    def run(content, *says, options=()) -> str:
        path = folder / "workflow.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        code, output = command("import", "comfyui", path, *options)
        assert code == 2, output
        flat = " ".join(output.split())
        for text in says:
            assert text in flat, output
        assert sorted(file.name for file in folder.iterdir()) == ["workflow.json"]
        return output

    return run


@pytest.fixture
def simple():
    """simple(**changes): the shortest workflow of text to image in API format; changes: node_3={"cfg": 1} and so on."""

    def make(**changes) -> dict[str, Any]:
        nodes: dict[str, Any] = {
            "1": _node("CheckpointLoaderSimple", ckpt_name="sd3.5_medium.safetensors"),
            "2": _node("CLIPTextEncode", text="a cat", clip=["1", 1]),
            "3": _node("CLIPTextEncode", text="a dog", clip=["1", 1]),
            "4": _node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
            "5": _node(
                "KSampler",
                seed=7,
                steps=28,
                cfg=4.5,
                sampler_name="euler",
                scheduler="normal",
                denoise=1,
                model=["1", 0],
                positive=["2", 0],
                negative=["3", 0],
                latent_image=["4", 0],
            ),
            "6": _node("VAEDecode", samples=["5", 0], vae=["1", 2]),
            "7": _node("SaveImage", filename_prefix="cat", images=["6", 0]),
        }
        for name, inputs in changes.items():
            id = name.removeprefix("node_")
            kind = inputs.pop("class_type", None)
            if kind is not None:
                nodes[id] = _node(kind, **inputs)
            else:
                nodes[id]["inputs"] |= inputs
        return nodes

    return make


def _node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}
