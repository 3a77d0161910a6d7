"""A run in an object store is looked at as one on a disk is; what is marked becomes a selection there."""

from batchgen.evaluate.labels import labelled
from batchgen.evaluate.selection import selected, table_of
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.view.answers import Viewer
from tests.in_process import render_here
from tests.view.conftest import Client


def test_a_run_on_s3_is_looked_at_and_marked(make_job, s3_url: str) -> None:
    job = make_job([f"prompt {i}" for i in range(6)], output={"path": f"{s3_url}/run"})
    run = render_here(make_plan(prepare(job))[0])
    one = Client(Viewer(labelled([run.store.url])))
    rows = table_of(run)
    assert [row["id"] for row in one.rows()["rows"]] == rows["image_id"].tolist()
    assert one.numbers(where="prompt = 'prompt 4'", order="seed") == [4]
    row = one.rows(offset=3, limit=1)["rows"][0]
    assert one.http.get(f"/small/{row['picture']}").content.startswith(b"\xff\xd8")
    assert dict(one.get("details", number=3)["facts"])["image_id"] == row["id"]
    one.post("mark", number="3", mark="keep")
    one.post("select", name="v1", what="kept")
    assert selected([run], "v1") == {row["id"]}
