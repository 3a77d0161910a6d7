"""Which image a name in somebody's scores means: a path of an export, whatever folders stand before it.

Knows the records of a run's exports; not whose scores they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from batchgen.errors import Refused
from batchgen.evaluate.exported import Record
from batchgen.evaluate.prompt_file import WrongFile


class Images:
    """Which image a path shows, by the records of a run's exports. of: a folder of them that alone was scored."""

    def __init__(self, records: Sequence[Record], of: str | None = None) -> None:
        folders = {root for record in records for root in record.roots if root}
        of = next((root for root in folders if of and f"/{of.rstrip('/')}".endswith(f"/{root}")), of)
        prefix = f"{of}/" if of else ""
        self._known: dict[tuple[str, int], set[str]] = {}
        orders = set[tuple[str, ...]]()
        for record in records:
            for root in record.roots:
                start = f"{root}/" if root else ""
                inside = [one for one in record.shows if one.path.startswith(start) and one.path.startswith(prefix)]
                for one in inside:
                    for path in {one.path.removeprefix(start), one.path, f"{record.dest}/{one.path}"}:
                        self._known.setdefault((path, one.tile), set()).add(one.image_id)
                orders.add(tuple(dict.fromkeys(one.path.removeprefix(start) for one in inside)))
        self._tiles = 1 + max((tile for _, tile in self._known), default=0)
        if not self._known:
            roots = sorted({root for record in records for root in record.roots})
            raise Refused(f"the export has no folder {of!r} with images; its folders are {', '.join(roots)}.")
        self.paths: tuple[str, ...] = max(orders, key=len)

    def named(self, path: str, tile: int | None = 0) -> str | None:
        """The image that a path shows, whatever folders stand before it. Raises WrongFile where there are several."""
        if tile is None:
            if any(self.named(path, other) for other in range(1, self._tiles)):
                raise WrongFile(
                    f"it scores {path} as a whole, which shows several images: that is a score of a prompt, and of no "
                    "image. Export one image a prompt, with a selection"
                )
            tile = 0
        parts = PurePosixPath(path.replace("\\", "/")).parts
        for start in range(len(parts)):
            whole = str(PurePosixPath(*parts[start:]))
            found = self._known.get((whole, tile))
            if found and len(found) > 1:
                raise WrongFile(f"{path} may be an image of several cells: name one with its folder, --of FOLDER")
            if found:
                return next(iter(found))
        return None
