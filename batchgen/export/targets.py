"""What `--to` can say. Knows names; what a target writes stands in its own file."""

from __future__ import annotations

from batchgen.errors import Refused
from batchgen.evaluate.benchmarks import BENCHMARKS, benchmark_named
from batchgen.export.benchmark_folder import BenchmarkFolder, plain
from batchgen.export.evalscope import Evalscope
from batchgen.export.layouts import NAMES
from batchgen.export.target import Target
from batchgen.finalize.card import model_name
from batchgen.run.directory import Run
from batchgen.words import nearest

OTHERS: tuple[Target, ...] = (Evalscope(),)


def target_named(name: str, run: Run) -> Target:
    """Raises Refused, with those that there are. Layouts that want the name of a model get that of the run's."""
    if name in [one.name for one in BENCHMARKS]:
        return BenchmarkFolder(benchmark_named(name), plain(model_name(run.plans[0])))
    for target in OTHERS:
        if target.name == name:
            return target
    names = [*NAMES, *(one.name for one in BENCHMARKS), *(one.name for one in OTHERS)]
    raise Refused(f"--to {name}: is not known.{nearest(name, names)} There are {', '.join(names)}.")
