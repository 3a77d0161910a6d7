"""Parts that actors write are those that one process writes."""

import pytest

from batchgen.errors import Refused
from batchgen.export.options import Options
from batchgen.export.training import export_for_training
from batchgen.job import Cluster, Renderers
from tests.export.stored import files, stored

TWO = Cluster(renderers=Renderers(min_size=1, max_size=2))
ROWS = [{"prompt": f"picture {i}", "key": "theirs"} for i in range(24)]


def test_actors_write_what_one_process_does(ray_session, tmp_path):
    run = stored(tmp_path, ROWS)
    options = Options(shard_size=5)
    done = export_for_training(run, str(tmp_path / "out"), "webdataset", options=options, cluster=TWO)
    assert (done.tally.written, done.tally.images) == (15, 24)
    assert "webdataset has a column key of its own, and that of the table is left out" in done.notes
    export_for_training(run, str(tmp_path / "quiet"), "webdataset", options=options)
    assert files(tmp_path / "out") == files(tmp_path / "quiet")
    (tmp_path / "out" / "00001_stats.json").unlink()
    (tmp_path / "out" / "00001.tar").write_bytes(b"mine")
    with pytest.raises(Refused, match=r"00001\.tar: is there and is another file"):
        export_for_training(run, str(tmp_path / "out"), "webdataset", options=options, cluster=TWO)
