"""Scores lie beside the run they belong to, once, and those of two makers are not mixed."""

import pytest

from batchgen.errors import Refused
from batchgen.evaluate.scores import (
    About,
    begin,
    read_scores,
    scored_shards,
    scorer_names,
    shard_path,
    write_part,
    write_shard,
)
from batchgen.storage.store import Store

CLIP = About(scorer="clip", version="1", weights_sha256="ab", low=0.0, high=100.0)


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "run"))


def row(image_id, score=1.0, **values):
    return {"image_id": image_id, "score": score, **values}


def test_what_is_written_is_read(store):
    begin(store, CLIP)
    assert write_shard(store, "clip", 3, [row("a", 21.5, detail="{}"), row("b", None, error="ValueError: no")])
    write_part(store, About(scorer="geneval", version="af4902f", source="results.jsonl"), [row("a", 0.0)])
    assert scorer_names(store) == ["clip", "geneval"]
    assert scored_shards(store, "clip") == {3}
    found = read_scores(store)
    assert found["clip"].about == CLIP
    assert found["clip"].table["score"].tolist()[0] == 21.5
    assert found["clip"].table["score"].isna().tolist() == [False, True]
    assert found["geneval"].about.source == "results.jsonl"


def test_a_shard_is_scored_once(store):
    begin(store, CLIP)
    assert write_shard(store, "clip", 3, [row("a", 1.0)])
    assert not write_shard(store, "clip", 3, [row("a", 2.0)])
    assert read_scores(store)["clip"].table["score"].tolist() == [1.0]


def test_the_same_file_twice_is_one_part(store):
    about = About(scorer="geneval", version="af4902f")
    assert write_part(store, about, [row("a")]) == write_part(store, about, [row("a")])
    assert len(read_scores(store)["geneval"].table) == 1


def test_scores_of_other_weights_are_not_mixed(store):
    begin(store, CLIP)
    begin(store, CLIP)
    with pytest.raises(Refused, match=r"weights_sha256: there 'ab', now 'cd'[\s\S]*--name clip-2"):
        begin(store, About(scorer="clip", version="1", weights_sha256="cd", low=0.0, high=100.0))


def test_a_name_is_no_path(store):
    with pytest.raises(Refused, match="cannot be a scorer's name"):
        begin(store, About(scorer="../data", version="1"))


def test_what_is_missing_or_damaged_is_said(store):
    with pytest.raises(Refused, match="has no scores of clip; there are none"):
        read_scores(store, ["clip"])
    begin(store, CLIP)
    store.create(shard_path("clip", 1), b"PAR1 and no more")
    with pytest.raises(Refused, match="is damaged"):
        read_scores(store)
