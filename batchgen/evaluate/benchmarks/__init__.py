"""The benchmarks that batchgen knows, one file each. Each says how it is read, placed, checked and scored."""

from __future__ import annotations

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark
from batchgen.evaluate.benchmarks.geneval import GENEVAL
from batchgen.words import nearest

BENCHMARKS: tuple[Benchmark, ...] = (GENEVAL,)


def benchmark_named(name: str) -> Benchmark:
    """Raises Refused, with those that there are."""
    names = [one.name for one in BENCHMARKS]
    if name not in names:
        raise Refused(f"benchmark {name!r} is not known.{nearest(name, names)} There are {', '.join(names)}.")
    return BENCHMARKS[names.index(name)]
