"""What a picture should show: the benchmark's own prompt, whatever the template that it was rendered with.

Of one row, and of all rows of a table. Knows two columns, and no benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

OWN, RENDERED = "benchmark_prompt", "prompt"


def asked(row: Mapping[str, Any]) -> str:
    """A row of a run. A null may be NaN, as pandas has it."""
    prompt = row.get(OWN)
    return str(row[RENDERED] if pd.isna(prompt) else prompt)


def asked_of_all(rows: pd.DataFrame) -> pd.Series[Any]:
    """Of each row of a table."""
    return rows[OWN].fillna(rows[RENDERED]) if OWN in rows else rows[RENDERED]
