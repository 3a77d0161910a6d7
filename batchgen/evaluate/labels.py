"""What runs are called where several are compared: the last parts of their places, as many as tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

from batchgen.errors import Refused
from batchgen.run.directory import Run


def labelled(outs: Sequence[str]) -> list[tuple[str, Run]]:
    """Each run with its label. Raises Refused, with all places that hold no run or are named twice."""
    problems, runs = list[str](), list[Run]()
    for out in outs:
        try:
            runs += Run.all_at(out).values()  # of a job with several models: each
        except Refused as refusal:
            problems.append(str(refusal))
    places = [run.store.url for run in runs]
    problems += [f"{place}: is named twice." for place in dict.fromkeys(places) if places.count(place) > 1]
    if problems:
        raise Refused("\n".join(problems))
    return list(zip(labels([str(run.store) for run in runs]), runs, strict=True))


def labels(places: Sequence[str]) -> list[str]:
    """Of distinct places."""
    parts = [place.replace("://", "/").strip("/").split("/") for place in places]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-count:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return list(places)
