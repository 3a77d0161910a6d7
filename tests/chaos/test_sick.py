"""800 healthy rows, four renderers, one of them sick in each way. tests/test_sick_renderers.py is the short version."""

import pyarrow.parquet as pq
import pytest

from batchgen.look import doctor
from tests.test_sick_renderers import HEALTHY, crew, failures, planned

__all__ = ["crew", "planned"]  # fixtures


@pytest.mark.parametrize("way", ["raise", "oom", "nan", "start", "broken"])
def test_all_of_800_rows_are_rendered(planned, crew, way):
    sections = {"output": {"images_per_shard": 16}, "model": {"batch_size": 8}}
    run, prepared = planned([f"fake:slow=0.002 {i}" for i in range(800)], **sections)
    crew(run, prepared, {"gpu sick": way} | HEALTHY)
    assert failures(run) == set()
    assert pq.read_table(run.store.url + "/data").num_rows == 800
    assert [
        problem for problem in doctor.examine(run).problems if not problem.startswith(("_SUCCESS", "metadata"))
    ] == []
