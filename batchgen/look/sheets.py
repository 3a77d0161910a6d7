"""A contact sheet that somebody asked for: as PNG or as HTML, in the run or in a file of theirs.

Knows which of the two a name means; what stands on them `contact_sheet` and `contact_page` know.
"""

from __future__ import annotations

from pathlib import Path

from batchgen.errors import Refused
from batchgen.look import contact_page, contact_sheet
from batchgen.run.directory import Run
from batchgen.storage.store import Store


def draw_to(run: Run, file: Path | None, most: int, by: str | None = None) -> str:
    """Where it lies. file: None is the sheet of the run itself. Raises Refused where there is no picture."""
    if file is not None and file.suffix not in (".png", ".html"):
        raise Refused(f"--out {file}: write a name that ends in .png or .html.")
    if file is not None and run.store.is_local and _is_among_tables(Path(run.store.url), file.resolve().parent):
        raise Refused(f"--out {file}: lies among the run's own files. Write it to {run.store}, or elsewhere.")
    nothing = Refused(f"{run.store}: has no picture yet to look at.")
    if file is None:
        if (path := contact_sheet.write(run, most, by)) is None:
            raise nothing
        return path
    data = contact_page.page_of(run, most, by) if file.suffix == ".html" else contact_sheet.sheet(run, most, by)
    if data is None:
        raise nothing
    Store.open(str(file.parent.resolve())).replace(file.name, data)
    return str(file)


def _is_among_tables(out: Path, folder: Path) -> bool:
    """Whether a folder is one of a run's, where readers of its tables would meet a picture."""
    return out.resolve() in folder.parents
