"""The prompts that cells make of a table's columns, and complaints about rows in which one has no text.

Knows prompt rows and templates; which image row gets which prompt `grid` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.columns import TEXTS
from batchgen.errors import Problem, Refused
from batchgen.job import Job
from batchgen.job.wording import Wording
from batchgen.manifest.checks import check_text, flagged
from batchgen.manifest.sources import Sources
from batchgen.manifest.values import Rows, without
from batchgen.words import nearest


def refuse_unknown_columns(job: Job, table: Sources) -> None:
    """Raises Refused where a swept prompt is made of a column that the table does not have, or that is no text."""
    known = [name for name in table.columns if name in TEXTS]
    known += [field.name for field in table.extras if pa.types.is_string(field.type)]
    asked = dict.fromkeys(name for text in job.sweep.values_of("prompt") for name in Wording.of(text).columns)
    problems = [
        Problem(f"the table has no text column {name!r}.{nearest(name, known)} There are: {', '.join(known)}.",
                "sweep.prompt")
        for name in asked
        if name not in known
    ]  # fmt: skip
    if problems:
        raise Refused(problems)


def prompts_of(rows: Rows, texts: Sequence[str | None]) -> Mapping[str | None, pa.Array]:
    """The prompt of every row for each text of sweep.prompt; None is the row's own. Complains where there is none."""
    found: dict[str | None, pa.Array] = {None: rows.ours["prompt"]}
    for text in dict.fromkeys(text for text in texts if text is not None):
        found[text] = rows.ours["prompt"] if text == "prompt" else _made(rows, text)
    return found


def _made(rows: Rows, text: str) -> pa.Array:
    wording, pieces = Wording.of(text), []
    for literal, column in wording.parts:
        pieces.append(pa.repeat(pa.scalar(literal), len(rows)))
        if column is not None:
            pieces.append(_values(rows, column))
    made = pc.binary_join_element_wise(*pieces, "")
    return check_text(rows, " and ".join(wording.columns), made)


def _values(rows: Rows, column: str) -> pa.Array:
    values = rows.ours[column] if column in rows.ours else rows.extras[column]
    missing = pc.or_(values.is_null(), pc.equal(pc.utf8_trim_whitespace(values), "").fill_null(False))
    for row in flagged(missing):
        if not rows.complaints.mentions(row, column):
            text = "is empty, and sweep.prompt makes a prompt of it: write what the image shows"
            rows.complaints.about(row, column, "EMPTY_PROMPT", text)
    return without(values, np.asarray(missing))
