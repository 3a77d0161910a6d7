"""What a run holds, as lines of a table of Markdown: prompts, samples, seeds, sizes, cells, cut text, failures.

Knows totals and plans; opens no picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from batchgen.finalize.metadata import Totals
from batchgen.run.directory import Run
from batchgen.words import visible

OVERFLOW = {
    "overflow_clip_l": "longer than CLIP-L reads (77 tokens)",
    "overflow_clip_g": "longer than CLIP-G reads (77 tokens)",
    "overflow_t5": "longer than T5 reads (max_sequence_length)",
    "t5_over_256": "beyond the 256 T5 tokens of SD3.5's training",
    "negative_overflow": "with a negative prompt that is cut",
}
KINDS = {"first": "first planned", "extension": "added by an extension", "retry": "tried again after they failed"}
MOST_SIZES = 30  # lines; of many aspect ratios the rest are counted


def contents(run: Run, totals: Totals) -> Iterator[tuple[str, str]]:
    """(what, how much) of each line."""
    yield "prompts", str(max(totals.prompts.values(), default=0))
    yield "samples", f"up to {totals.samples} of a prompt{'' if run.cells == ['default'] else ' in each cell'}"
    if totals.seeds:
        yield "seeds", _seeds(run, totals)
    yield from (("size (height × width)", f"{name}: {count} images") for name, count in _sizes(totals.sizes))
    if run.cells != ["default"]:
        yield from (("cell", f"{in_table(cell)}: {totals.cells[cell]} images") for cell in run.cells)
    for name, said in OVERFLOW.items():
        if totals.overflow[name]:
            yield "overflow", f"{totals.overflow[name]} images {said}"
    if totals.suspect:
        yield "suspect", f"{totals.suspect} images look wrong, such as one flat colour: column `suspect`"
    yield from (("failed", f"{in_table(code)}: {count}") for code, count in sorted(totals.codes.items()))
    if len(run.plans) > 1:
        yield from (("plan", f"{plan.images} images, {KINDS[plan.kind]}") for plan in run.plans)


def _seeds(run: Run, totals: Totals) -> str:
    """Where they come from, by each of the plans, and which there are."""
    said = [plan.stored["sampling"] for plan in run.plans]
    listed = [f"listed {', '.join(map(str, one['seeds']))}" for one in said if one.get("seeds")]
    derived = [f"derived from {one['seed']}, prompt and sample" for one in said if not one.get("seeds")]
    low, high = totals.seeds
    reach = str(low) if low == high else f"{low} to {high}"
    return f"{reach}; {' and '.join(dict.fromkeys([*listed, *derived]))}, where a row names none"


def _sizes(sizes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    yield from ordered[:MOST_SIZES]
    if rest := ordered[MOST_SIZES:]:
        yield f"{len(rest)} others", sum(count for _, count in rest)


def in_table(value: object) -> str:
    """As it may stand in a table of Markdown."""
    return visible(str(value)).replace("|", "\\|")
