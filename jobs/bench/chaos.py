"""What a run survives, counted. Prints one JSON line for each part.

--part flips: random bit flips and cuts over every file of a finished run but its markers of attempts, one at a time,
each looked at by doctor, status, finalize and batchgen.open. Counts flips, unnoticed and tracebacks; both must be 0.

    python jobs/bench/chaos.py --part flips [--flips 5000]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), action="append", help="all parts, unless one is named")
    parser.add_argument("--flips", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for part in arguments.part or PARTS:
        print(json.dumps(PARTS[part](arguments)), flush=True)


def flips(arguments: argparse.Namespace) -> dict[str, int]:
    from tests.flips import a_run, flip

    with tempfile.TemporaryDirectory() as folder:
        found = flip(a_run(Path(folder), "bench"), arguments.flips, arguments.seed)
    for line in [*found.unnoticed[:10], *found.tracebacks[:10]]:
        print(line, file=sys.stderr)
    return {"flips": found.flips, "unnoticed": len(found.unnoticed), "tracebacks": len(found.tracebacks)}


PARTS = {"flips": flips}


if __name__ == "__main__":
    main()
