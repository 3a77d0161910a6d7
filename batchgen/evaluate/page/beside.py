"""What a comparison's page tells beside its tables: cut prompts, and where everything comes from.

Rounds and words; makes no number of its own but the means of cut and whole prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from batchgen.evaluate.compared import Comparison
from batchgen.evaluate.tables import Table

CUT = ("truncated_clip_l", "truncated_clip_g", "truncated_t5")


def provenance(comparison: Comparison, command: str) -> list[tuple[str, str]]:
    found = [("made again by", command)]
    for cell in comparison.cells:
        said = f"{cell.model}, weights {cell.model_digest[:12]}, run {cell.fingerprint[:12]}"
        settings = ", ".join(f"{name} {value}" for name, value in cell.settings.items())
        versions = ", ".join(f"{name} {value}" for name, value in cell.versions.items())
        found.append((cell.name, f"{said}; {settings}; {versions}"))
    for ranking in comparison.rankings:
        about = ranking.about
        weights = f", weights {about.weights_sha256[:12]}" if about.weights_sha256 else ""
        source = f", from {about.source}" if about.source else ""
        settings = "".join(f", {name} {value}" for name, value in about.settings.items())
        found.append((f"scorer {about.scorer}", f"version {about.version}{weights}{source}{settings}"))
    licences = comparison.aligned.prompts[["benchmark", "benchmark_sha256", "benchmark_licence"]].drop_duplicates()
    for benchmark, sha256, licence in licences.dropna(subset=["benchmark"]).itertuples(index=False):
        found.append((f"benchmark {benchmark}", f"prompts {str(sha256)[:12]}, licence {licence}"))
    return found


def cut_prompts(comparison: Comparison, facts: Sequence[pd.DataFrame]) -> Table:
    """Images of prompts that an encoder read to the end, and of those that were cut. facts: of each run by image_id."""
    rows = []
    for ranking in comparison.rankings:
        scores = comparison.values[ranking.about.scorer]
        for at, cell in enumerate(comparison.cells):
            given = pd.Series(scores[:, at], comparison.aligned.ids[:, at]).dropna()
            own = facts[cell.number].reindex(given.index)
            is_cut = own[list(CUT)].notna().any(axis=1)
            cut, whole = given[is_cut], given[~is_cut]
            if len(cut):
                means = [f"{part.mean():.4g} (n {len(part)})" if len(part) else "none" for part in (cut, whole)]
                rows.append([f"{cell.name}, {ranking.about.scorer}", *means])
    note = "Other prompts, so that this is no effect of cutting alone: long prompts also ask for more."
    return Table("Prompts that an encoder did not read to the end", ("", "cut", "whole"), rows, [note])
