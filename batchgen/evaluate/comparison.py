"""Compare runs, and the cells of their sweeps, by the scores that they have.

Brings runs, scores and statistics together; the numbers are made in `ranking`, and tables of them in `tables`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from batchgen.errors import Refused
from batchgen.evaluate.aligned import Aligned, align
from batchgen.evaluate.compared import Comparison
from batchgen.evaluate.interaction import with_interactions
from batchgen.evaluate.ranking import rank
from batchgen.evaluate.scored import Scored
from batchgen.evaluate.scores import Scores, read_scores, scorer_names
from batchgen.evaluate.weighing import Floats
from batchgen.run.directory import Run
from batchgen.words import nearest


def compare(
    runs: Sequence[tuple[str, Run]],
    scorers: Sequence[str] | None = None,
    baseline: str | None = None,
    all_pairs: bool = False,
    selection: set[str] | None = None,
) -> Comparison:
    """runs: each with its label. scorers: whose scores; without it all that every run has. selection: image_ids.

    baseline: the cell that all others are tested against, the first one where nothing is said; all_pairs: each against
    each instead. Raises Refused, with everything that is in the way.
    """
    problems = [*_same_labels(runs), *_both(baseline, all_pairs)]
    names, lacking = _names(runs, scorers)
    problems += lacking
    scores = [read_scores(run.store, names) for _, run in runs] if not lacking else []
    problems += _made_otherwise(runs, scores, names)
    aligned = None
    try:
        aligned = align(runs, selection)
        column = _column(aligned, baseline)
    except Refused as refusal:
        problems.append(str(refusal))
    if problems or aligned is None:
        raise Refused("\n".join(problems))
    scored = [Scored(aligned, scores[0][name].about, matrix(aligned, [of[name] for of in scores])) for name in names]
    useless = [one.about.scorer for one in scored if not len(one.used)]
    scored = [one for one in scored if len(one.used)]
    if not scored:
        raise Refused(
            f"No prompt has a score of {', '.join(useless)} for all its images in all cells. Score what is missing: "
            "batchgen score."
        )
    ranked = tuple(rank(one, None if all_pairs else column) for one in scored)
    comparison = Comparison(
        cells=aligned.cells,
        baseline=None if all_pairs else aligned.cells[column].name,
        rankings=ranked,
        aligned=aligned,
        values={one.about.scorer: one.values for one in scored},
        left_out=tuple(_left_out(aligned, scored, useless, selection)),
    )
    return with_interactions(comparison)


def matrix(aligned: Aligned, scores: Sequence[Scores]) -> Floats:
    """The score of each image, (images, cells), NaN where there is none. scores: of each run."""
    found = np.full(aligned.ids.shape, np.nan)
    for at, cell in enumerate(aligned.cells):
        table = scores[cell.number].table
        known = dict(zip(table["image_id"], table["score"].astype(float), strict=True))
        found[:, at] = [known.get(image_id, np.nan) for image_id in aligned.ids[:, at]]
    return np.where(np.isfinite(found), found, np.nan)


def _same_labels(runs: Sequence[tuple[str, Run]]) -> Iterator[str]:
    labels = [label for label, _ in runs]
    if not runs:
        yield "There is no run to compare. Name at least one."
    if double := sorted({label for label in labels if labels.count(label) > 1}):
        yield f"Several runs are called {', '.join(double)}: give each a name of its own."


def _both(baseline: str | None, all_pairs: bool) -> Iterator[str]:
    if all_pairs and baseline is not None:
        yield f"A baseline ({baseline}) and all pairs are two families of tests: choose one."


def _names(runs: Sequence[tuple[str, Run]], wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The scorers to compare by, and what is in the way."""
    there = {str(run.store): scorer_names(run.store) for _, run in runs}
    common = [name for name in next(iter(there.values()), []) if all(name in names for names in there.values())]
    names = common if wanted is None else [*dict.fromkeys(wanted)]
    lacking = [
        f"{run}: has no scores of {', '.join(missing)}; there are {', '.join(have) or 'none'}. "
        f"Make them: batchgen score {run} --with ..."
        for run, have in there.items()
        if (missing := [name for name in names if name not in have])
    ]
    if there and not names:
        listed = "; ".join(f"{run}: {', '.join(have) or 'none'}" for run, have in there.items())
        lacking.append(f"No scorer has scored all runs ({listed}). Make scores: batchgen score OUT --with ...")
    return names, lacking


def _made_otherwise(
    runs: Sequence[tuple[str, Run]], scores: Sequence[Mapping[str, Scores]], names: Sequence[str]
) -> Iterator[str]:
    """Scores of one name that are not of one scale or model."""
    for name in names if scores else []:
        first = asdict(scores[0][name].about)
        for (_, run), of in zip(runs, scores, strict=True):
            here = asdict(of[name].about)
            differing = [key for key in here if here[key] != first[key] and key != "source"]
            if differing:
                said = ", ".join(f"{key} {first[key]!r} and {here[key]!r}" for key in differing)
                yield (
                    f"{name} is not the same in {runs[0][1].store} and {run.store}: {said}. "
                    "Score both with the same one, or leave it out."
                )


def _column(aligned: Aligned, baseline: str | None) -> int:
    """Where the baseline stands: by the cell's name, or what is unique of it."""
    if baseline is None:
        return 0
    cells = aligned.cells
    for names in ([cell.name for cell in cells], [cell.cell for cell in cells], [cell.run for cell in cells]):
        if names.count(baseline) == 1:
            return names.index(baseline)
    known = [cell.name for cell in cells]
    raise Refused(f"baseline {baseline!r} is none of: {', '.join(known)}.{nearest(baseline, known)}")


def _left_out(
    aligned: Aligned, scored: Sequence[Scored], useless: Sequence[str], selection: set[str] | None
) -> Iterator[str]:
    """Sentences for people. useless: scorers by which nothing can be compared."""
    for name in useless:
        yield f"{name}: is left out, as no prompt has its scores for all images in all cells."
    if aligned.by != "prompt and seed":
        yield "A run does not know its seeds: images of a prompt are paired by their numbers."
    if selection is not None:
        yield f"Only images of the selection are compared ({int(aligned.partnered.sum())} of each cell)."
    for run, count in aligned.skipped.items():
        if count:
            yield f"{run}: {'1 row' if count == 1 else f'{count} rows'} of the table could not be rendered."
    for cell in aligned.cells:
        if cell.unpartnered:
            yield f"{cell.name}: {cell.unpartnered} of {cell.planned} images have no partner in every other cell."
        if cell.repeated:
            yield f"{cell.name}: {_images(cell.repeated)} left out, of the prompt and the seed of another one."
        if cell.failed:
            yield f"{cell.name}: {_images(cell.failed)} failed."
    for one in scored:
        if len(one.used) < one.expected:
            yield f"{one.about.scorer}: {len(one.used)} of {one.expected} prompts are scored in all cells."


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
