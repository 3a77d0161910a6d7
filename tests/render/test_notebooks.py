"""Every notebook runs from top to bottom, and is committed without outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent.parent / "notebooks").glob("*.ipynb"))


def code_of(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    assert all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in code_of(path))


@pytest.fixture
def run_notebook(demo_out, tmp_path, monkeypatch):
    """Executes the cells of a notebook in this process, with the demonstration in its place; returns their names."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def run(name):
        names = {}
        (path,) = [path for path in NOTEBOOKS if path.stem == name]
        for cell in code_of(path):
            source = "".join(cell["source"]).replace("../out/demo", demo_out).replace("../out", str(tmp_path))
            exec(compile(source, path.name, "exec"), names)
        return names

    return run


def test_every_notebook_has_a_test():
    assert [path.stem for path in NOTEBOOKS] == ["build_manifest", "look_at_a_run", "train_on_a_run"]


def test_looking_at_a_run(run_notebook):
    names = run_notebook("look_at_a_run")
    assert names["sheet"].size[0] > 0
    assert len(names["images"]) == (names["rows"]["status"] == "ok").sum()


def test_building_a_manifest(run_notebook, tmp_path):
    done = run_notebook("build_manifest")["done"]
    assert "24 images" in done.stdout, "three prompts, four cells, two pictures each"
    assert sorted(path.name for path in (tmp_path / "captions").iterdir()) == ["job.yaml", "prompts.parquet"]


def test_training_on_a_run(run_notebook):
    names = run_notebook("train_on_a_run")
    assert len(names["before"]) < len(names["rows"]) == len(names["before"]) + len(names["after"])
    assert names["right"] > len(names["rows"]) / 2
