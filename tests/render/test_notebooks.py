"""Every notebook runs from top to bottom, and is committed without outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, demo_out, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    cells = json.loads(path.read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            source = "".join(cell["source"]).replace("../out/demo", demo_out)
            exec(compile(source, path.name, "exec"), names)
    assert names["sheet"].size[0] > 0
