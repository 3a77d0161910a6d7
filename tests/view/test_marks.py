"""Marks become selections that the other commands read."""

from batchgen.evaluate.selection import read_selection, select, selected, table_of


def test_what_is_kept_is_a_selection_that_others_read(client, scored):
    run = scored()
    one = client(run)
    ids = table_of(run)["image_id"]
    for number, mark in [(3, "keep"), (5, "keep"), (7, "keep"), (7, ""), (9, "drop")]:
        said = one.post("mark", number=str(number), mark=mark)
    assert said["marks"] == {"keep": 2, "drop": 1}
    assert one.numbers(marked="keep") == [3, 5]
    assert [row["mark"] for row in one.rows(offset=8, limit=2)["rows"]] == ["", "drop"]
    assert one.post("select", name="mine", what="kept") == {"saved": {"run": 2}}
    assert selected([run], "mine") == {ids[3], ids[5]}
    found = read_selection(run, "mine")
    assert (found.planned, found.chosen, found.images) == (16, 2, 2)
    assert found.where == "kept by hand in batchgen view"


def test_what_is_shown_but_dropped_is_left_out(client, scored):
    run = scored()
    one = client(run)
    rows = table_of(run)
    for number in (9, 10):
        one.post("mark", number=str(number), mark="drop")
    shown = one.numbers(where="guidance_scale > 2")
    one.post("select", name="most", what="shown", where="guidance_scale > 2")
    assert selected([run], "most") == {rows["image_id"][n] for n in shown if n not in (9, 10)}
    assert read_selection(run, "most").where.startswith("guidance_scale > 2, without ")


def test_a_selection_that_cannot_be_is_refused_with_the_reason(client, scored):
    run = scored()
    one = client(run)
    assert "mark some" in one.post("select", name="v1", what="kept")["error"]
    select(run, "guidance_scale > 2", "v1")
    one.post("mark", number="0", mark="keep")
    assert "another selection v1" in one.post("select", name="v1", what="kept")["error"]
    for name in ("", "../x", "A", "a/b"):
        assert "use small letters" in one.post("select", name=name, what="kept")["error"]
    assert [entry.path for entry in run.store.list("selections")] == ["selections/v1.json"]


def test_failures_cannot_be_kept(client, make_job):
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare
    from tests.in_process import render_here

    run = render_here(make_plan(prepare(make_job(["a", "fake:raise"], errors={"max_failed_fraction": 1.0})))[0])
    one = client(run)
    (failed,) = one.numbers(where="status = 'failed'")
    assert "failed" in one.post("mark", number=str(failed), mark="keep")["error"]
    one.post("select", name="all", what="shown")
    assert len(selected([run], "all")) == 1


def test_of_several_runs_each_has_its_part(client, scored):
    runs = [scored(out="one"), scored(out="two")]
    one = client(*runs)
    one.post("mark", number="1", mark="keep")
    assert one.post("select", name="v1", what="kept") == {"saved": {"one": 1, "two": 0}}
    assert selected(runs, "v1") == {table_of(runs[0])["image_id"][1]}


def test_what_is_sent_is_checked(client):
    one = client()
    headers = {"Origin": "http://127.0.0.1:8321"}
    for body in (b"", b"[]", b"nonsense", b'{"number": 3}', b'{"a": "' + b"x" * 200_000 + b'"}', b"\xff"):
        assert one.http.post("/api/mark", content=body, headers=headers).json()["error"]
    assert one.post("mark", number="0", mark="stolen")["error"]
    assert one.post("mark", number="16", mark="keep")["error"]
