"""The errors of batchgen. The fate of an error is its type, and its exit code is an attribute.

BatchgenError
├─ Refused            known before a GPU was used; carries every problem found        exit 2
├─ RunMismatch        the output directory belongs to another plan                    exit 4
├─ TooManyFailures    more rows failed than the job allows                            exit 3
├─ BudgetSpent        --max-gpu-hours are used; what is done is committed             exit 0
├─ Infrastructure     store, disk, cluster: run the same command again                exit 5
│  ├─ OtherPlan       a shard of another plan lies where ours should go               exit 4
│  └─ StoreRefused    the store said no: permissions, space, a missing bucket         exit 5
├─ OutOfMemory        the device could not hold this batch: split it and try again
└─ RendererBroken     the process cannot render any more: leave it, Ray starts another

Knows nothing about how an error is shown: the command line prints them, a renderer records them in the shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from batchgen.words import legible


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with what the user gave, said to the user.

    where: 'job.yaml: sampling.height' or 'prompts.parquet, row 17, column height'.
    message: what is wrong and what to write instead, one sentence each.
    code: stable upper-case name for rows that are skipped instead of refused ('NULL_PROMPT').
    """

    message: str
    where: str = ""
    code: str = ""

    def __str__(self) -> str:
        text = legible(f"{self.where}: {self.message}" if self.where else self.message)
        return text.replace("\n", "\n    ")  # a name with a line end must not look like a line of ours


class BatchgenError(Exception):
    """Whatever batchgen raises on purpose. `exit_code` is what the command line ends with.

    Its text may be shown, stored and sent: it holds no credentials and nothing that cannot be seen.
    """

    exit_code = 1

    def __str__(self) -> str:
        return legible(super().__str__())


class Refused(BatchgenError):
    """Mistakes found before any GPU was used, all of them in one error.

    problems: the first ones, at most 100. codes: how many there are in all of each code, where they are more.
    """

    exit_code = 2
    SHOWN = 100

    def __init__(self, problems: Sequence[Problem] | Problem | str, codes: Mapping[str, int] | None = None) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        found = [problems] if isinstance(problems, Problem) else list(problems)
        self.problems = tuple(found[: self.SHOWN])
        self.codes = Counter(codes) if codes else Counter(problem.code for problem in found)
        self.total = self.codes.total()
        super().__init__(self._text())

    @classmethod
    def together(cls, refusals: Sequence[Refused]) -> Refused:
        """One of several, with the counts of all; what two of them say in the same words is one problem."""
        found = [problem for refusal in refusals for problem in refusal.problems]
        once = list(dict.fromkeys(found))
        codes = sum((refusal.codes for refusal in refusals), Counter[str]())
        codes.subtract(problem.code for problem in found)
        codes.update(problem.code for problem in once)
        return cls(once, codes)

    def _text(self) -> str:
        if self.total == 1:
            return str(self.problems[0])
        lines = [f"{self.total} problems:", *(f"  - {problem}" for problem in self.problems)]
        if self.total > len(self.problems):
            lines.append(f"  ... and {self.total - len(self.problems)} more")
            if counts := ", ".join(f"{code}: {count}" for code, count in self.codes.most_common() if code):
                lines.append(f"In all: {counts}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type[Refused], tuple[tuple[Problem, ...], Counter[str]]]:
        return type(self), (self.problems, self.codes)


class RunMismatch(BatchgenError):
    """The output directory holds a run with another fingerprint."""

    exit_code = 4


class TooManyFailures(BatchgenError):
    """The run is complete, but more image rows failed than `errors.max_failed_fraction` allows."""

    exit_code = 3


class BudgetSpent(BatchgenError):
    """The GPU-hours of this session are used, as was asked for; the run is not complete.

    Exit code 0: whatever starts failed commands again would spend the budget once more, and again.
    """

    exit_code = 0


class Infrastructure(BatchgenError):
    """Something outside the rows failed. Nothing committed is lost; run the same command again."""

    exit_code = 5


def told(error: BatchgenError) -> dict[str, str]:
    """In the receipt of an actor that an error of ours ended: Ray would try again, and lose its words."""
    return {"broken": str(error), "kind": type(error).__name__}


def raise_told(receipt: dict[str, Any]) -> None:
    """Take what told() says out of a receipt, and raise it, as Refused or Infrastructure, where it says something."""
    broken, kind = receipt.pop("broken"), receipt.pop("kind")
    if broken is not None:
        raise (Refused if kind == "Refused" else Infrastructure)(broken)


class OtherPlan(Infrastructure):
    """A shard name is taken by another plan: two runs write to one directory."""

    exit_code = 4


class OutOfMemory(BatchgenError):
    """The device could not hold a batch of this size."""


class RendererBroken(BatchgenError):
    """The device context is unusable (a sticky CUDA error): only a new process helps."""


class StoreRefused(Infrastructure):
    """The store said no, and asking again will not change it: permissions, space, a missing bucket."""


class Refusals:
    """Collects what several checks refuse, so that all problems are said at once."""

    def __init__(self) -> None:
        self._found: list[Refused] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, refusal: Refused) -> None:
        self._found.append(refusal)

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Keep what the block refuses instead of raising it. What the block should have made is missing then."""
        try:
            yield
        except Refused as refusal:
            self.add(refusal)
        except StoreRefused as refusal:
            self.add(Refused(str(refusal)))

    def raise_any(self) -> None:
        """Raises Refused with all problems, where there are any."""
        if self._found:
            raise Refused.together(self._found)
