"""The Python of all pages runs as it stands, on the demonstration that this folder renders once."""

import pytest

from batchgen.demo import PROMPTS
from tests.test_docs import DOCS, ROOT, blocks, name_of

PAGES = [page for page in [ROOT / "README.md", *DOCS] if blocks(page, "python")]


@pytest.fixture
def beside(demo_out, tmp_path, monkeypatch):
    """A folder with a table in prompts.jsonl and a run of it in out/demo."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo").symlink_to(demo_out)
    (tmp_path / "prompts.jsonl").write_bytes(PROMPTS.read_bytes())


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_it_runs(page):
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), {})


@pytest.mark.usefixtures("beside")
def test_what_it_gives_is_the_run():
    opened, read, rendered = ({}, {}, {})
    for code, names in zip(blocks(ROOT / "docs/output.md", "python"), (opened, read, rendered), strict=True):
        exec(code, names)
    images, metadata = read["images"], read["metadata"]
    assert len(opened["frame"]) == len(opened["dataset"]) == len(images) == len(metadata) == 28
    assert images[0]["image"].size == (images[0]["width"], images[0]["height"])
    assert opened["picture"].size == tuple(opened["frame"][["width", "height"]].iloc[0])
    sizes = metadata.groupby(["height", "width"]).size().to_dict()
    assert {row[:2]: row[2] for row in read["by_size"].fetchall()} == sizes
    assert set(rendered["results"].to_pandas()["image_id"]) == set(metadata["image_id"])
