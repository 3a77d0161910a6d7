"""The benchmarks that batchgen knows, one file each. Each says how it is read, placed, checked and scored."""

from __future__ import annotations

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark
from batchgen.evaluate.benchmarks.corebench import COREBENCH
from batchgen.evaluate.benchmarks.dpg import DPG
from batchgen.evaluate.benchmarks.dsg import DSG
from batchgen.evaluate.benchmarks.genai_bench import GENAI_BENCH
from batchgen.evaluate.benchmarks.geneval import GENEVAL
from batchgen.evaluate.benchmarks.geneval2 import GENEVAL2
from batchgen.evaluate.benchmarks.longtext import LONGTEXT
from batchgen.evaluate.benchmarks.oneig import ONEIG
from batchgen.evaluate.benchmarks.partiprompts import PARTIPROMPTS
from batchgen.evaluate.benchmarks.t2i_compbench import T2I_COMPBENCH
from batchgen.evaluate.benchmarks.tiif import TIIF
from batchgen.evaluate.benchmarks.unigenbench import UNIGENBENCH
from batchgen.evaluate.benchmarks.wise import WISE, WISE_LEGACY
from batchgen.words import nearest

BENCHMARKS: tuple[Benchmark, ...] = (
    GENEVAL, GENEVAL2, DPG, GENAI_BENCH, T2I_COMPBENCH, ONEIG, UNIGENBENCH, TIIF, WISE, WISE_LEGACY, LONGTEXT,
    COREBENCH, PARTIPROMPTS, DSG,
)  # fmt: skip


def benchmark_named(name: str) -> Benchmark:
    """Raises Refused, with those that there are."""
    names = [one.name for one in BENCHMARKS]
    if name not in names:
        raise Refused(f"benchmark {name!r} is not known.{nearest(name, names)} There are {', '.join(names)}.")
    return BENCHMARKS[names.index(name)]
