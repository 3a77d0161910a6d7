"""Rows by their numbers: filtered, searched, ordered, grouped, side by side, alike; and what is refused."""

import json

import pytest

from batchgen.errors import Refused
from batchgen.evaluate import expression
from batchgen.evaluate.scores import About, write_part
from batchgen.evaluate.selection import table_of
from batchgen.finalize.proof import finalize
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.layout import SUCCESS, data_path
from tests.in_process import render_here
from tests.one_colour import commit_shard

STRANGE = [
    "<img src=x onerror=alert(1)>",
    "\u202eturned\nround",
    "'; drop table images; --",
    "日本語 🙂 é",
    "fake:raise <b>",
]


def test_rows_come_by_their_numbers(client):
    one = client(prompts=30)
    ids = Results(one.viewer.opened.table.runs[0][1].store.url).to_pandas()["image_id"].tolist()
    assert one.get("about")["rows"] == 60
    whole = one.rows()
    assert [row["id"] for row in whole["rows"]] == ids
    assert whole["count"] == 60
    assert [row["id"] for row in one.rows(offset=55, limit=10)["rows"]] == ids[55:]
    assert one.rows(offset=1000, limit=10)["rows"] == []


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({"where": "guidance_scale > 2"}, lambda rows: rows["guidance_scale"] > 2),
        (
            {"where": "score_oracle > 5 and category = 'kind 1'"},
            lambda rows: (rows["score_oracle"] > 5) & (rows["category"] == "kind 1"),
        ),
        ({"search": "PROMPT 1"}, lambda rows: rows["prompt"].str.contains("prompt 1")),
        ({"search": "prompt .*"}, lambda rows: rows["prompt"] == ""),
        (
            {"search": "prompt 1", "where": "guidance_scale < 2"},
            lambda rows: rows["prompt"].str.contains("prompt 1") & (rows["guidance_scale"] < 2),
        ),
        ({"where": "seed = (select max(seed) from images)"}, lambda rows: rows["seed"] == rows["seed"].max()),
    ],
)  # fmt: skip
def test_a_filter_sees_what_select_sees(client, asked, chosen):
    one = client(prompts=12)
    rows = table_of(one.viewer.opened.table.runs[0][1])
    assert one.numbers(**asked) == rows.index[chosen(rows)].tolist()


@pytest.mark.parametrize(
    "where",
    [
        "image_id in (select content from read_text('{file}'))",
        "exists (select * from read_csv('/etc/passwd'))",
        "exists (select * from '{file}')",
        "true) union select * from (select 1",
        "true; COPY images TO '{file}.copy'",
        "COPY images TO '{file}.copy'",
        "true; ATTACH '{file}.db'",
        "true; INSTALL httpfs",
        "exists (select * from read_csv('http://127.0.0.1:9/'))",
        "getenv('HOME') is not null",
        "true; SET enable_external_access = true",
        "seed in (select seed from shown)",
    ],
)
def test_an_expression_reaches_nothing_else(client, tmp_path, where):
    file = tmp_path / "secret.txt"
    file.write_text("secret")
    one = client()
    before = sorted(tmp_path.rglob("*"))
    said = one.rows(where=where.format(file=file))
    assert "cannot be used" in said["error"]
    assert sorted(tmp_path.rglob("*")) == before
    assert one.rows()["count"] == 16, "the server goes on"


def test_an_expression_ends(client, monkeypatch):
    monkeypatch.setattr(expression, "PATIENCE_S", 0.2)
    slow = "(select count(*) from range(100000000) a, range(1000000) b where a.range % 7 = b.range % 11) > 0"
    assert "took more than" in client().rows(where=slow)["error"]


@pytest.mark.parametrize(
    "asked",
    [
        {"offset": "-1"}, {"offset": "1e3"}, {"offset": "٣"}, {"limit": "501"}, {"limit": "x"}, {"near": "99999"},
        {"bits": "65", "near": "0"}, {"order": "nosuch"}, {"group": "nosuch"}, {"marked": "stolen"},
        {"where": "x" * 10_001}, {"where": "nosuch > 3"}, {"edition": "7"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(client, asked):
    assert client().rows(**asked)["error"]


def test_a_wrong_name_is_told_the_nearest(client):
    assert "Nearest: guidance_scale" in client().rows(where="guidance > 3")["error"]


def test_order_and_groups(client):
    one = client(prompts=9)
    rows = table_of(one.viewer.opened.table.runs[0][1])
    down = rows.sort_values("score_oracle", ascending=False, kind="stable").index.tolist()
    assert one.numbers(order="score_oracle", descending="1") == down
    grouped = rows.sort_values(["category", "score_oracle"], kind="stable").index.tolist()
    assert one.numbers(order="score_oracle", group="category") == grouped
    counts = rows["category"].value_counts()
    groups = one.get("groups", group="category")["groups"]
    assert groups == [{"value": name, "count": int(counts[name])} for name in ("kind 0", "kind 1")]
    assert one.get("groups", group="error_code")["groups"] == [{"value": None, "count": 18}]
    assert [group["value"] for group in one.get("groups", group="settings")["groups"]] == [
        rows["settings"][0][:299] + "…"
    ]
    for name in one.viewer.opened.table.types:
        assert len(one.numbers(order=name)) == 18
        assert len(one.numbers(order=name, group=name, descending="1")) == 18


def test_too_many_groups_are_refused(client, monkeypatch):
    monkeypatch.setattr("batchgen.view.choice.MOST_GROUPS", 5)
    assert "at most 5" in client().get("groups", group="image_id")["error"]


def test_cells_stand_side_by_side_with_one_seed(client):
    one = client(prompts=["a", "a", "b"])
    said = one.get("lines", offset=0, limit=10)
    assert said["columns"] == ["guidance_scale=1.0", "guidance_scale=4.5"]
    assert said["count"] == 3
    for line in said["rows"]:
        left, right = line
        assert (left["prompt"], left["seed"]) == (right["prompt"], right["seed"])
        assert (left["cell"], right["cell"]) == tuple(said["columns"])
    few = one.get("lines", offset=0, limit=10, where="cell = 'guidance_scale=1.0' or prompt = 'b'")
    assert [[row is not None for row in line] for line in few["rows"]] == [[True, False], [True, False], [True, True]]
    assert one.get("lines", offset=0, limit=10, where="false") == {"count": 0, "images": 0, "columns": [], "rows": []}


def test_a_prompt_that_repeats_with_its_seed_has_a_line_for_each_time(client, make_job):
    rows = [{"prompt": text, "seed": 7} for text in ("a", "a", "b")]
    run = render_here(make_plan(prepare(make_job(rows, sweep={"guidance_scale": [1.0, 4.5]})))[0])
    said = client(run).get("lines", offset=0, limit=10)
    assert [[row["prompt"] for row in line] for line in said["rows"]] == [["a", "a"], ["a", "a"], ["b", "b"]]
    assert len({row["id"] for line in said["rows"] for row in line}) == 6


def test_rows_of_many_pieces_come_in_the_order_that_is_asked_for(client, monkeypatch):
    monkeypatch.setattr("batchgen.finalize.proof.ROWS_PER_PART", 5)
    one = client(prompts=11)
    rows = table_of(one.viewer.opened.table.runs[0][1])
    assert len(one.viewer.opened.table._pieces) == 5
    down = rows.sort_values("seed", ascending=False, kind="stable")
    found = one.rows(order="seed", descending="1")["rows"]
    assert [row["id"] for row in found] == down["image_id"].tolist()
    assert [row["seed"] for row in found] == [str(seed) for seed in down["seed"]]
    assert [dict(one.get("details", number=n)["facts"])["image_id"] for n in (4, 5, 21)] == [
        rows["image_id"][n] for n in (4, 5, 21)
    ]


def test_several_runs_are_one_table(client, scored):
    one = client(scored(prompts=4), scored(prompts=6, out="other", scores=False, sweep={}))
    about = one.get("about")
    assert about["runs"] == ["run", "other"]
    assert about["rows"] == 8 + 6
    assert one.rows(where="run = 'other'")["count"] == 6
    assert one.rows(where="score_oracle is null")["count"] == 6
    said = one.get("lines", offset=0, limit=10)
    assert said["columns"] == ["run: guidance_scale=1.0", "run: guidance_scale=4.5", "other"]
    assert [sum(row is not None for row in line) for line in said["rows"]] == [3, 3, 3, 3, 1, 1]
    assert {"run", "other"} == {dict(one.get("details", number=n)["facts"])["run"] for n in (0, 13)}


def test_near_duplicates_are_those_of_brute_force(client):
    one = client(prompts=12)
    rows = table_of(one.viewer.opened.table.runs[0][1])
    hashes = [int(text, 16) for text in rows["phash"]]
    for bits in (0, 20, 30, 64):
        distances = [bin(hashes[5] ^ value).count("1") for value in hashes]
        expected = sorted((distance, number) for number, distance in enumerate(distances) if distance <= bits)
        assert one.numbers(near=5, bits=bits) == [number for _, number in expected]


def test_failures_and_strange_prompts(client):
    one = client(prompts=STRANGE, sweep={}, scores=False, errors={"max_failed_fraction": 1.0})
    rows = {row["prompt"]: row for row in one.rows()["rows"]}
    assert rows["<img src=x onerror=alert(1)>"]["picture"]
    assert "\\u202eturned\\nround" in rows
    failed = rows["fake:raise <b>"]
    assert (failed["picture"], failed["failed"]) == (None, "RENDER_ERROR")
    details = one.get("details", number=failed["number"])
    assert details["code"] is None
    assert "error_message" in dict(details["facts"])
    assert "nothing is like it" in one.rows(near=failed["number"])["error"]
    assert one.http.get("/").headers["content-type"].startswith("text/html")
    assert "onerror" not in one.http.get("/").text


def test_details_are_all_that_show_knows(client):
    from batchgen.look import show

    one = client()
    run = one.viewer.opened.table.runs[0][1]
    row = one.rows(offset=3, limit=1)["rows"][0]
    said = one.get("details", number=3)
    known = Results(run.store.url).row(row["id"])
    score = json.dumps(table_of(run)["score_oracle"][3])
    assert sorted(map(tuple, said["facts"])) == sorted([*show.facts(known), ("score_oracle", score)])
    assert said["code"] == show.snippet(known)


def test_truncated_text_is_marked(client):
    one = client(prompts=["short", "word " * 300], sweep={})
    (row,) = one.rows(where="truncated_t5 is not null")["rows"]
    assert row["cut"] == ["clip_l", "clip_g", "t5"]
    assert len(row["prompt"]) == 300
    details = one.get("details", number=row["number"])
    assert details["prompt"].endswith(details["cut"]["t5"])


def test_pictures_are_small_or_as_stored(client):
    one = client()
    row = one.rows()["rows"][0]
    whole, small = (one.http.get(f"/{size}/{row['picture']}") for size in ("whole", "small"))
    results = Results(one.viewer.opened.table.runs[0][1].store.url)
    assert whole.content == results.stored(results.row(row["id"]))["image"][0].as_py()["bytes"]
    assert whole.headers["content-type"] == "image/png"
    assert small.headers["content-type"] == "image/jpeg"
    assert "immutable" in small.headers["cache-control"]
    key = row["picture"].split("/")[0]
    for wrong in (f"{key}/0/{'0' * 32}", f"{key}/999/{row['id']}", f"0/0/{row['id']}", f"{key}/0/..%2f..%2f_SUCCESS"):
        assert one.http.get(f"/small/{wrong}").status_code == 404, wrong
    assert one.http.get(f"/huge/{row['picture']}").status_code == 404


def test_other_runs_have_other_addresses_of_pictures(client, scored):
    first, second = (client(scored(out=name)).rows()["rows"][0] for name in ("one", "two"))
    assert first["id"] == second["id"]
    assert first["picture"] != second["picture"], "browsers keep pictures by their address"


def test_a_run_that_is_not_finished_shows_what_is_committed(client, make_job):
    run = make_plan(prepare(make_job([f"prompt {i}" for i in range(12)], output={"images_per_shard": 4})))[0]
    (plan,) = run.plans
    first, *rest = run.shards(plan)
    empty = client(run)
    assert empty.get("about")["rows"] == 0
    assert empty.rows(search="prompt", where="seed > 1") == {"count": 0, "rows": []}
    assert empty.get("lines", offset=0, limit=10)["count"] == 0
    commit_shard(run, plan, first)
    one = client(run)
    about = one.get("about")
    assert (about["rows"], about["planned"]) == (4, 12)
    assert all(one.http.get(f"/small/{row['picture']}").status_code == 200 for row in one.rows()["rows"])
    for shard in rest:
        commit_shard(run, plan, shard, failed=[True, False, False, False])
    assert one.rows()["count"] == 4, "until the page is loaded again"
    assert one.http.get("/").status_code == 200
    assert "load it again" in one.rows()["error"], "of a page that was loaded before"
    one.edition = one.get("about")["edition"]
    assert one.rows()["count"] == 12
    assert one.rows(where="status = 'failed'")["count"] == 2
    finalize(run)
    one.http.get("/")
    one.edition = one.get("about")["edition"]
    assert one.rows()["count"] == 12


def test_new_scores_are_there_when_the_page_is_loaded_again(client, scored):
    run = scored()
    one = client(run)
    ids = table_of(run)["image_id"]
    write_part(run.store, About(scorer="my-own", version="1"), [{"image_id": ids[2], "score": 0.5}])
    one.http.get("/")
    one.edition += 1
    assert one.numbers(where="score_my_own > 0") == [2]


def test_pictures_are_blurred_by_a_score_that_is_there(client, scored):
    run = scored()
    with pytest.raises(Refused, match="no NSFW score is there"):
        client(run, blur_above=0.5)
    ids = table_of(run)["image_id"]
    write_part(run.store, About(scorer="nsfw-model", version="1"), [{"image_id": ids[1], "score": 0.9}])
    one = client(run, blur_above=0.5)
    about = one.get("about")
    assert (about["nsfw"], about["blur_above"]) == ("score_nsfw_model", 0.5)
    assert [row["nsfw"] for row in one.rows(limit=3)["rows"]] == [None, 0.9, None]


def test_a_damaged_run_is_said_and_not_thrown(client, scored, tmp_path):
    run = scored()
    one = client(run)
    row = one.rows()["rows"][0]
    path = tmp_path / "run" / data_path(0)
    path.write_bytes(b"nothing")
    answer = one.http.get(f"/small/{row['picture']}")
    assert answer.status_code == 404
    (tmp_path / "run" / SUCCESS).unlink()
    assert one.http.get("/").status_code == 503


def test_numbers_that_javascript_has_not_are_texts(client, make_job):
    rows = [{"prompt": "a", "big": 2**62, "seed": 2**32 - 1}, {"prompt": "b", "big": 5}]
    one = client(render_here(make_plan(prepare(make_job(rows)))[0]))
    assert [row["value"] for row in one.rows(order="big")["rows"]] == [5, str(2**62)]
    assert one.rows(where="big > 5")["rows"][0]["seed"] == str(2**32 - 1)
    assert one.rows(order="sigmas")["rows"][0]["value"].startswith("[")
