"""The ten commands at the head of docs/evaluation.md, typed one after the other; GenEval's scorer is stood in for."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.look import doctor
from batchgen.run.directory import Run
from batchgen.storage.store import Store
from tests.test_docs import ROOT, blocks

SMALL = ["--set", "sampling.num_inference_steps=4", "--set", "sampling.height=64", "--set", "sampling.width=64"]


def judged(folder):
    """Lines as evaluate_images.py writes them: what a picture shows is made up of its file's size."""
    for image in sorted(folder.glob("*/*/samples/*.png")):
        record = (image.parents[1] / "metadata.jsonl").read_text()
        row = json.loads(record)
        line = {"filename": str(image), "tag": row["tag"], "prompt": row["prompt"], "reason": "", "details": "{}"}
        yield json.dumps(line | {"correct": image.stat().st_size % 2 == 0, "metadata": record})


@pytest.mark.usefixtures("ray_session")
def test_ten_commands_from_prompt_file_to_table(tmp_path, monkeypatch):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    lines = blocks(ROOT / "docs" / "evaluation.md", "")[0].splitlines()
    assert len(lines) == 10
    said = {}
    for line in lines:
        program, name, *words = shlex.split(line)
        assert program == "batchgen"
        if "results.jsonl" in words:
            Path("results.jsonl").write_text("\n".join(judged(Path("out/for-geneval"))))
        done = CliRunner().invoke(app, [name, *words, *(SMALL if name == "render" else [])])
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception}"
        said[line] = done.output
    assert "48 planned = 48 images + 0 failed" in said[lines[3]]
    assert "GenEval" in said[lines[5]]
    assert "48 images have a score, 0 have none" in said[lines[6]]
    assert "48 images" in said[lines[7]]
    assert "To look at it: comparison.html" in said[lines[9]]
    assert Path("comparison.html").read_text().count("data:image/jpeg") == 48
    assert doctor.examine(Run.open(Store.open("out/geneval"))).problems == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "comparison.html", "geneval.parquet", "job.yaml", "out", "results.jsonl", "tests",
    ], "and nothing beside what was asked for"  # fmt: skip
