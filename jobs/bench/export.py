"""What it costs to export a run to WebDataset: a plain loop over `tarfile` against `batchgen export --to webdataset`.

The plain loop reads the same Parquet and writes the same members, with nothing else: no table, no receipt, no syncing
of the disk, and it cannot go on where it ended. It is the ceiling, and printed first. Both take turns in new processes;
imports are left out. The last line is JSON: export_share is batchgen's best rate over the plain loop's best (1 is as
fast, 0.8 the goal), as one exports by default, with the prompt and the origin in each picture; export_share_bare is
without those, and then the tars are the same bytes.

    python jobs/bench/export.py [--images 100000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
SIDE, PER_SHARD, PER_TAR, DRAWN = 96, 500, 10_000, 64  # pixels; images of a data file, of a tar; pictures that repeat
NOISE = 3.0  # levels of 255
AGAIN = 100  # images of a prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURED[arguments.measure](arguments.folder)))
        return
    rates: dict[str, list[float]] = {name: [] for name in MEASURED}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store_run(folder, arguments.images)
        for _ in range(arguments.rounds):
            for name, found in rates.items():
                found.append(arguments.images / in_a_process(name, folder))
                print(f"{name}: {found[-1]:,.0f} images/s", flush=True)
            check_same(folder)
    best = {name: max(found) for name, found in rates.items()}
    result = {"export_share": best["batchgen"] / best["plain"], "export_share_bare": best["bare"] / best["plain"]}
    result |= {f"{name}_images_per_s": rate for name, rate in best.items()}
    rounded: dict[str, Any] = {name: round(value, 4) for name, value in result.items()}
    print(json.dumps(rounded | {"images": arguments.images, "cores": os.cpu_count()}))


def in_a_process(name: str, folder: Path) -> float:
    """Seconds that it took there."""
    shutil.rmtree(folder / name, ignore_errors=True)
    os.sync()  # what another wrote is not this one's to wait for
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def check_same(folder: Path) -> None:
    """The tars of the plain loop are, byte for byte, those of `--bare`."""
    tars = sorted(path.name for path in (folder / "plain").iterdir())
    assert tars == sorted(path.name for path in (folder / "bare").glob("*.tar")), "other tars"
    for name in tars:
        assert (folder / "plain" / name).read_bytes() == (folder / "bare" / name).read_bytes(), f"{name} differs"


def plain(folder: Path) -> float:
    """The loop that somebody would write who knows what is wanted."""
    import io
    import tarfile

    import pyarrow.parquet as pq

    from batchgen.export.public import public

    def new_tar(number: int) -> tarfile.TarFile:
        return tarfile.open(folder / f"plain/{number:05}.tar", "w", format=tarfile.USTAR_FORMAT)

    began, at, tar = time.perf_counter(), 0, None
    (folder / "plain").mkdir()
    for path in sorted((folder / "run/data").glob("*.parquet")):
        table = pq.read_table(path)
        said = json.loads(table.schema.metadata[b"batchgen"])["constants"]
        said["versions"] = json.dumps(said["versions"], sort_keys=True)
        shared = public({name: said[name] for name in SHARED})
        wanted = public(dict.fromkeys(table.column_names)).keys() - OWN
        for row in table.to_pylist():
            if at % PER_TAR == 0:
                if tar:
                    tar.close()
                tar = new_tar(at // PER_TAR)
            key, width, height = f"{at:09}", row["image_width"], row["image_height"]
            first = {
                "key": key, "caption": row["prompt"], "status": "success", "error_message": None,
                "width": width, "height": height, "original_width": width, "original_height": height,
            }  # fmt: skip
            rest = {name: value for name, value in row.items() if name in wanted}
            text = json.dumps({**first, **rest, **shared}, ensure_ascii=False)
            members = {"png": row["image"]["bytes"], "txt": row["prompt"].encode(), "json": text.encode()}
            for kind, data in members.items():
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            at += 1
    tar.close()
    return time.perf_counter() - began


OWN = {"key", "caption", "status", "error_message", "width", "height", "original_width", "original_height"}
SHARED = (
    "fingerprint",
    "plan",
    "model",
    "revision",
    "model_digest",
    "dtype",
    "settings",
    "device",
    "versions",
    "sigmas",
)


def batchgen(folder: Path, name: str = "batchgen") -> float:
    from batchgen.export.options import Options
    from batchgen.export.training import export_for_training
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    began = time.perf_counter()
    run = Run.open(Store.open(str(folder / "run")))
    export_for_training(run, str(folder / name), "webdataset", options=Options(bare=name == "bare"))
    return time.perf_counter() - began


MEASURED = {"plain": plain, "batchgen": batchgen, "bare": lambda folder: batchgen(folder, "bare")}


def store_run(folder: Path, images: int) -> None:
    """A finished run of drawn pictures, without a renderer."""
    from batchgen.finalize.proof import finalize
    from batchgen.job.file import job_from
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare
    from batchgen.run.ledger import Writer

    began = time.perf_counter()
    prompts = [json.dumps({"prompt": f"a red circle and {at} blue squares"}) for at in range(-(-images // AGAIN))]
    (folder / "prompts.jsonl").write_text("\n".join(prompts))
    job = {
        "input": {"path": f"{folder}/prompts.jsonl"},
        "model": {"preset": "fake"},
        "sampling": {"height": SIDE, "width": SIDE, "num_images_per_prompt": min(images, AGAIN)},
        "output": {"path": f"{folder}/run", "images_per_shard": PER_SHARD},
    }
    run = make_plan(prepare(job_from(job)))[0]
    pictures = drawn()
    with Writer(run.store) as ledger:
        for shard in run.shards(run.plans[0]):
            ledger.add(shard.number, store_shard(run, shard, pictures))
    finalize(run)
    size = sum(len(picture.data) for picture in pictures) / DRAWN
    print(f"{run.planned} images of {size:,.0f} bytes, stored in {time.perf_counter() - began:.0f} s", flush=True)


def drawn() -> list[Any]:
    from batchgen.demo.world import draw, random_scene
    from batchgen.run import images
    from batchgen.run.shard_file import EncodedPicture

    random, found = Random(0), list[Any]()
    for _ in range(DRAWN):
        pixels = noisy(draw(random_scene(random), SIDE, SIDE, random), found)
        values = {
            "batch_size": 1, "planned_batch_size": 1, "image_height": SIDE, "image_width": SIDE, "suspect": None,
            "pixel_sha256": images.pixel_sha256(pixels), "phash": images.phash(pixels), "render_seconds": 0.5,
            "attempt": 1,
        }  # fmt: skip
        found.append(EncodedPicture(images.encode(pixels, "png"), "", values))
    return found


def noisy(pixels: Any, found: Sequence[Any]) -> Any:
    """As pictures of a model are: a drawing alone compresses to a tenth of their bytes."""
    import numpy as np

    noise = np.random.default_rng(len(found)).normal(0, NOISE, pixels.shape)
    return (pixels + noise).clip(0, 255).round().astype(np.uint8)


def store_shard(run: Any, shard: Any, pictures: Sequence[Any]) -> Any:
    """Its entry of the ledger."""
    import io
    from dataclasses import replace

    from batchgen.run.directory import commit
    from batchgen.run.ledger import read_entry
    from batchgen.run.shard_file import Footer, build

    plan = run.plans[0]
    rows = run.rows(plan, shard)
    versions = {"torch": "2.9.0", "diffusers": "0.42.1", "transformers": "5.0.0", "batchgen": "0.1.0"}
    constants = plan.constants() | {"device": "none", "versions": versions, "sigmas": [1.0, 0.75, 0.5, 0.25, 0.0]}
    footer = Footer(
        shard=shard.number, plan=plan.plan, attempt_id=str(shard.number), attempt=1, finished_at=time.time(),
        images=len(rows), failures={}, constants=constants,
    )  # fmt: skip
    ids = rows["image_id"].to_pylist()
    named = [replace(pictures[at % DRAWN], path=f"{image_id}.png") for at, image_id in enumerate(ids)]
    data = build(rows, named, footer)
    commit(run.store, data, footer)
    return read_entry(io.BytesIO(data))


if __name__ == "__main__":
    main()
