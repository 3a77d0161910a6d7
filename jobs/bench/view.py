"""How long `batchgen view` takes from a request to the first row, of a run of 1,000,000 images.

Makes a small run with the fake renderer, then as many rows of metadata/ as asked for: prompts, names and digests of
their own, pictures that repeat. Each number is of a server of its own, which is up and whose first page is shown, but
for the first; before it is taken, the files of the run are dropped from the page cache.

    view_first_row_s    the page, what it asks first, and the first 100 rows
    view_filter_s       a filter over two columns, to its first 100 rows
    view_search_s       a search in all prompts
    view_scroll_s       100 rows from nine tenths of the table on
    view_order_s        all rows by another column
    view_picture_s      a small picture of a row in the middle
    start_s, rss_gib    of the server, until it answers and at its end, the largest of all

Prints them, and the last line is JSON.

    python jobs/bench/view.py [--rows 1000000] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # what is measured is what lies beside this file
PART, SHARD = 50_000, 1000  # rows of a file of metadata/, and of one of data/
WORDS = ["red", "blue", "green", "circle", "square", "star", "left", "right", "above", "two", "white", "small", "large"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        out = make(Path(folder), arguments.rows)
        result: dict[str, Any] = {"rows": arguments.rows, "cores": os.cpu_count()}
        result["make_s"] = round(time.monotonic() - began, 1)
        print(f"{arguments.rows} rows made in {result['make_s']} s", flush=True)
        for name, ask in asked(arguments.rows).items():
            found = measured(out, name, ask)
            result |= {key: max(value, result.get(key, 0)) for key, value in found.items()}
            print(f"{name} {result[name]}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def make(folder: Path, rows: int) -> Path:
    """A finished run with so many rows, whose books are proven."""
    from batchgen.finalize.card import dataset_card
    from batchgen.finalize.metadata import Totals
    from batchgen.finalize.success import Success
    from batchgen.run.directory import Run
    from batchgen.run.layout import CARD, SUCCESS, data_path, plan_json
    from batchgen.run.plans import PlanFile, digest, to_parquet
    from batchgen.run.sealed import seal

    run, table, picture = small_run(folder)
    run.store.replace(plan_json(0), seal(replace(run.plans[0], images=rows).to_json()))
    run = Run.open(run.store)
    random, parts = np.random.default_rng(0), []
    for first in range(0, rows, PART):
        made = repeated(table, min(PART, rows - first), first, random)
        path, data = f"metadata/part-{len(parts):05}.parquet", to_parquet(made)
        run.store.replace(path, data)
        parts.append(PlanFile(path, digest(data), len(made)))
        pictures = pa.array([{"bytes": picture, "path": "x.png"}] * len(made))
        pq.write_table(
            pa.table({"image": pictures, "image_id": made["image_id"]}),
            f"{run.store.url}/{data_path(first // PART)}",
            row_group_size=SHARD,
        )
    totals = Totals(images=rows)
    card = dataset_card(run, totals).encode()
    run.store.replace(CARD, card)
    success = Success(totals=totals, plans=[run.plans[0].plan], metadata=parts, card=digest(card))
    run.store.replace(SUCCESS, success.to_json())
    return Path(run.store.url)


def small_run(folder: Path) -> tuple[Any, pa.Table, bytes]:
    """The run, its metadata, and one of its pictures."""
    from batchgen.job.file import job_from
    from batchgen.look.results import Results
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare
    from tests.in_process import render_here

    manifest = folder / "prompts.jsonl"
    lines = [{"prompt": f"a star {i}", "category": f"kind {i % 7}"} for i in range(64)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = job_from(
        {
            "input": {"path": str(manifest)},
            "model": {"preset": "fake"},
            "sampling": {"height": 96, "width": 96},
            "output": {"path": str(folder / "run")},
        }
    )
    run = render_here(make_plan(prepare(job))[0])
    (folder / "run" / "metadata").rename(folder / "small")
    table = pq.read_table(folder / "small").combine_chunks()
    row = table.slice(0, 1).to_pylist()[0]
    picture: bytes = Results(run.store.url).stored(row)["image"][0].as_py()["bytes"]
    return run, table, picture


def repeated(table: pa.Table, rows: int, first: int, random: np.random.Generator) -> pa.Table:
    """Rows of this table again and again, where what is each row's own is made anew."""
    made = table.take(pa.array(np.arange(rows) % len(table)))
    words = random.integers(0, len(WORDS), (rows, 12))
    prompts = [f"{' '.join(WORDS[word] for word in line)} {first + at}" for at, line in enumerate(words)]
    own = {
        "image_id": digits(random, rows, 32),
        "prompt_id": digits(random, rows, 32),
        "pixel_sha256": digits(random, rows, 64),
        "phash": digits(random, rows, 16),
        "prompt": prompts,
        "seed": random.integers(0, 2**32, rows),
        "render_seconds": random.random(rows),
        "shard": np.full(rows, first // PART),
        "file": [f"data/shard-{first // PART:06}.parquet"] * rows,
    }
    for name, values in own.items():
        at = made.schema.get_field_index(name)
        made = made.set_column(at, made.schema.field(at), pa.array(values, made.schema.field(at).type))
    return made


def digits(random: np.random.Generator, rows: int, length: int) -> list[str]:
    text = random.bytes(rows * length // 2).hex()
    return [text[at : at + length] for at in range(0, len(text), length)]


class Server:
    """`batchgen view` in a process of its own."""

    def __init__(self, out: Path) -> None:
        command = [sys.executable, "-m", "batchgen", "view", str(out), "--port", "0", "--no-browser"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[0].rstrip("/")
        self.edition = 0

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=600) as answer:
            data: bytes = answer.read()
            return data

    def page(self) -> None:
        """What a browser asks for before its first row."""
        self.get("/")
        self.edition = json.loads(self.get("/api/about"))["edition"]

    def rows(self, **values: Any) -> dict[str, Any]:
        asked = {"offset": 0, "limit": 100, "edition": self.edition} | values
        found: dict[str, Any] = json.loads(self.get(f"/api/rows?{urlencode(asked)}"))
        return found

    def rss_gib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**20

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()


def asked(rows: int) -> dict[str, Callable[[Server], Any]]:
    """What is measured, by its key."""

    def first(server: Server) -> None:
        server.page()
        assert server.rows()["count"] == rows

    def picture(server: Server) -> None:
        (row,) = server.rows(offset=rows // 2, limit=1)["rows"]
        assert server.get(f"/small/{row['picture']}").startswith(b"\xff\xd8")

    return {
        "view_first_row_s": first,
        "view_filter_s": lambda server: server.rows(where="category = 'kind 3' and render_seconds > 0.5"),
        "view_search_s": lambda server: server.rows(search="two White"),
        "view_scroll_s": lambda server: server.rows(offset=rows * 9 // 10),
        "view_order_s": lambda server: server.rows(order="render_seconds", descending=1),
        "view_picture_s": picture,
    }


def measured(out: Path, name: str, ask: Callable[[Server], Any]) -> dict[str, Any]:
    began = time.monotonic()
    server = Server(out)
    try:
        started = time.monotonic() - began
        if name != "view_first_row_s":
            server.page()
            server.rows()
        drop(out)
        began = time.monotonic()
        ask(server)
        seconds = time.monotonic() - began
        return {name: round(seconds, 3), "start_s": round(started, 2), "rss_gib": round(server.rss_gib(), 2)}
    finally:
        server.end()


def drop(out: Path) -> None:
    """Files that are read next come from the disk."""
    os.sync()
    for path in out.rglob("*.parquet"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
