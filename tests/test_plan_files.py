"""The files of a plan do not say how they came about: in one piece or several, packed on the way or not."""

from itertools import groupby

import pyarrow as pa
import pytest

from batchgen.plan import files, graph
from batchgen.plan.graph import PIECE, make_plan, read_and_expand, unpacked
from batchgen.plan.preflight import prepare
from batchgen.rows.expand import expand_or_complain
from batchgen.rows.tokens import TokenCounter
from batchgen.run.index import from_table, to_table
from batchgen.run.plans import to_parquet


@pytest.fixture
def prepared(make_job):
    rows = [{"prompt": f"p{i % 9}", "height": 32 * (1 + i % 2), "width": 32} for i in range(24)]
    return prepare(make_job(rows, model={"batch_size": 1}, output={"images_per_shard": 2}))


def test_an_index_that_was_held_file_by_file_is_that_of_all_shards(prepared, monkeypatch):
    monkeypatch.setattr(files, "SHARDS_PER_FILE", 3)
    run, _ = make_plan(prepared)
    (plan,) = run.plans
    shards = run.shards(plan)
    assert [shard.number for shard in shards] == list(range(12))
    assert len({shard.file for shard in shards}) == 4
    assert run.store.read(f"{plan.directory}/{plan.index.path}") == to_parquet(to_table(shards))
    assert from_table(to_table(shards)) == shards


def test_the_rows_of_a_file_are_those_of_its_shards_whole_or_in_part(prepared, monkeypatch):
    monkeypatch.setattr(files, "SHARDS_PER_FILE", 3)
    run, _ = make_plan(prepared)
    (plan,) = run.plans
    for _, group in groupby(run.shards(plan), key=lambda shard: shard.file):
        here = list(group)
        for some in (here, here[1:], here[::2]):
            one_by_one = pa.concat_tables(run.rows(plan, shard) for shard in some)
            assert run.rows_of_file(plan, some).equals(one_by_one)


@pytest.mark.parametrize("most", [graph.PACK_BYTES, 1])
def test_what_goes_through_ray_packed_comes_out_as_it_went_in(prepared, monkeypatch, most):
    from batchgen.job.presets import DEMO_CHECKPOINT

    monkeypatch.setattr(graph, "PACK_BYTES", most)
    monkeypatch.setattr("batchgen.rows.expand.PART_ROWS", 5)
    pieces = prepared.sources.items
    went_in = [*expand_or_complain(pieces[0], prepared.expansion, TokenCounter.load(DEMO_CHECKPOINT))]
    packs = [
        *read_and_expand(
            pa.table({PIECE: [0]}), pieces=pieces, expansion=prepared.expansion, tokenizers=str(DEMO_CHECKPOINT)
        )
    ]
    came_out = [found for pack in packs for found in unpacked(pack)]
    assert {piece for piece, _ in came_out} == {0}
    assert pa.concat_tables(table for _, table in came_out).equals(pa.concat_tables(went_in))
    assert len(packs) == (len(went_in) if most == 1 else 1)
    assert len(went_in) > 1
