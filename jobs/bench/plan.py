"""What planning costs: seconds and memory for 100,000 and 1,000,000 image rows of generated prompts.

Each size is planned, files written, by a process of its own; a third one plans a handful of rows, and its time is the
start-up that is subtracted (of both short ones, the median of three runs). Prints a table, then one JSON line with
cost_ratio (seconds per row of the larger over the smaller's; 1 is perfect, 1.2 is allowed), driver_rss_gib (of the
larger) and rows_per_s.

    python jobs/bench/plan.py [--rows 100000 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # what is measured is what lies beside this file
SAMPLES = 4
SIZES = [(96, 96), (64, 128), (128, 64)]
WORDS = ["a", "red", "blue", "green", "circle", "square", "star", "left", "right", "of", "above", "on", "white", "two"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, default=SAMPLES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one, arguments.samples)))
        return
    start_up, small = median(64), median(arguments.rows[0])
    large = in_a_process(arguments.rows[1])
    print(f"start-up {start_up['seconds']:.1f} s")
    costs = []
    for run in (small, large):
        costs.append((run["seconds"] - start_up["seconds"]) / run["rows"])
        print(
            f"{run['rows']:>9} rows: {run['seconds']:6.1f} s, {costs[-1] * 1e6:.1f} µs a row after start-up, "
            f"{run['shards']} shards, driver {run['driver_rss_gib']:.2f} GiB, plan {run['plan_mb']:.0f} MB"
        )
    result = {
        "cost_ratio": round(costs[1] / costs[0], 3),
        "driver_rss_gib": round(large["driver_rss_gib"], 3),
        "rows_per_s": round(1 / costs[1]),
        "start_up_s": round(start_up["seconds"], 2),
        "runs": [small, large],
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


def median(rows: int) -> dict[str, float]:
    """The middle one of three runs: start-up varies by a second, which is a quarter of what 100,000 rows take."""
    return sorted((in_a_process(rows) for _ in range(3)), key=lambda run: run["seconds"])[1]


def in_a_process(rows: int, samples: int = SAMPLES) -> dict[str, float]:
    """Plan in a new process, so that its peak memory is its own. Raises if it fails."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--one", str(rows), "--samples", str(samples)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def measure(rows: int, samples: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "prompts")
        write_manifest(manifest, rows // samples)
        started = time.perf_counter()
        # Imports are part of what a person waits for, so they are measured with the rest.
        from batchgen.job.file import job_from
        from batchgen.plan.graph import make_plan
        from batchgen.plan.preflight import prepare

        job = job_from(
            {
                "input": {"path": str(manifest)},
                "model": {"preset": "demo"},
                "sampling": {"num_images_per_prompt": samples},
                "output": {"path": f"{folder}/out"},
            }
        )
        run, summary = make_plan(prepare(job))
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(folder, "out").rglob("*") if path.is_file())
        assert summary.images == rows // samples * samples
        return {
            "rows": summary.images,
            "seconds": seconds,
            "shards": run.plans[0].shards,
            "driver_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "plan_mb": size / 1e6,
        }


def write_manifest(folder: Path, prompts: int) -> None:
    """Files of 50,000 different prompts of 5 to 40 words, three sizes in random order; at least two files."""
    folder.mkdir()
    chosen = random.Random(0)
    per_file = min(50_000, max(1, prompts // 2))
    for start in range(0, prompts, per_file):
        count = min(per_file, prompts - start)
        sizes = [chosen.choice(SIZES) for _ in range(count)]
        table = pa.table(
            {
                "prompt": [
                    f"{start + i} " + " ".join(chosen.choices(WORDS, k=chosen.randint(5, 40))) for i in range(count)
                ],
                "height": pa.array([height for height, _ in sizes], pa.int32()),
                "width": pa.array([width for _, width in sizes], pa.int32()),
                "category": [chosen.choice(["shape", "count", "relation"]) for _ in range(count)],
            }
        )
        pq.write_table(table, folder / f"prompts-{start:08}.parquet", row_group_size=10_000)


if __name__ == "__main__":
    main()
