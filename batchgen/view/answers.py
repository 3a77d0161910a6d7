"""What the server answers: the page and its files, and JSON of rows, groups, lines, one row, marks and selections.

Every answer is made in a thread of its own; the rows are read anew when the page is loaded and the runs have changed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchgen.errors import BatchgenError, Refused
from batchgen.run.directory import Run
from batchgen.view import shown
from batchgen.view.asked import Asked, number
from batchgen.view.choice import Choices
from batchgen.view.held import Held
from batchgen.view.lines import NONE, Lines, lines
from batchgen.view.marks import Marks, select
from batchgen.view.pictures import Album, media_type
from batchgen.view.table import Table, state

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
MOST_ROWS = 500  # in one answer
BODY = 100_000  # bytes of a request
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


class Viewer:
    """runs: with their labels. blur_above: of scores of NSFW; None where pictures are shown as they are."""

    def __init__(self, runs: Sequence[tuple[str, Run]], blur_above: float | None = None) -> None:
        self.marks = Marks()
        self._runs, self._lock, self._edition = list(runs), threading.Lock(), 0
        self._read(self._runs)
        self._blur_above = blur_above
        if blur_above is not None and not self._nsfw:
            places = " and ".join(str(run.store) for _, run in self._runs)
            raise Refused(f"--blur-above: {places}: no NSFW score is there. Make it: batchgen score OUT --with nsfw")

    def _read(self, runs: list[tuple[str, Run]]) -> None:
        self.table = Table(runs)
        self.choices = Choices(self.table, self.marks)
        self._lines = Held[Lines](100_000_000, lambda found: found.nbytes)
        self._album = Album([run for _, run in runs])
        self._nsfw = shown.nsfw_column(list(self.table.types))
        self._edition += 1

    def refresh(self) -> None:
        """Read the rows anew where the runs have others."""
        with self._lock:
            runs = [(label, Run.open(run.store)) for label, run in self._runs]
            if state(runs) != self.table.state:
                self._read(runs)

    def about(self, values: dict[str, str]) -> dict[str, Any]:
        return {
            "edition": self._edition,
            "runs": [label for label, _ in self.table.runs],
            "rows": len(self.table),
            "planned": sum(run.planned for _, run in self.table.runs),
            "columns": shown.columns(self.table),
            "nsfw": self._nsfw,
            "blur_above": self._blur_above,
            "marks": self.marks.counts(),
        }

    def rows(self, values: dict[str, str]) -> dict[str, Any]:
        asked = self._asked(values)
        numbers = self.choices.numbers(asked)
        window = numbers[slice(*_window(values))]
        column = asked.order or asked.group
        return {"count": len(numbers), "rows": shown.rows(self.table, self.marks, window, column, self._nsfw)}

    def groups(self, values: dict[str, str]) -> dict[str, Any]:
        found = self.choices.groups(self._asked(values))
        return {"groups": [{"value": shown.plain(group.value), "count": group.count} for group in found]}

    def lines(self, values: dict[str, str]) -> dict[str, Any]:
        asked = self._asked(values)
        table, numbers = self.table, self.choices.numbers(asked)
        found = self._lines.get((asked, len(numbers)), lambda: lines(table, numbers))
        window = found.numbers[slice(*_window(values))]
        flat = window[window != NONE]
        rows = dict(zip(flat.tolist(), shown.rows(table, self.marks, flat, "", self._nsfw), strict=True))
        return {
            "count": len(found.numbers),
            "images": len(numbers),
            "columns": found.columns,
            "rows": [[rows.get(int(one)) for one in line] for line in window],
        }

    def details(self, values: dict[str, str]) -> dict[str, Any]:
        return shown.details(self.table, number(values, "number", len(self.table)))

    def mark(self, values: dict[str, str]) -> dict[str, Any]:
        row = self.table.take(
            np.array([number(values, "number", len(self.table))]), ["image_id", "status"]
        ).to_pylist()[0]
        if row["status"] != "ok":
            raise Refused("this image failed: there is no picture to keep.")
        label, _ = self.table.runs[self.table.run_of(int(values["number"]))]
        self.marks.put(label, row["image_id"], values.get("mark", ""))
        return {"marks": self.marks.counts()}

    def select(self, values: dict[str, str]) -> dict[str, Any]:
        asked = self._asked(values)
        all_shown = values.get("what") == "shown"
        shown_rows = self.choices.numbers(asked) if all_shown else None
        saved = select(self.table, self.marks, values.get("name", ""), shown_rows, asked.words)
        return {"saved": saved}

    def picture(self, key: str, shard: int, image_id: str, small: bool) -> Response:
        if key not in self.table.keys:
            raise Refused("there is no such picture.")
        run = self.table.keys.index(key)
        try:
            data = (self._album.small if small else self._album.stored)(run, shard, image_id)
        except ValueError as error:
            raise Refused(f"{image_id}: {error}") from error
        return Response(data, media_type="image/jpeg" if small else media_type(data), headers=FOREVER)

    def _asked(self, values: dict[str, str]) -> Asked:
        return Asked.of(values, self.table.types, len(self.table))

    def check(self, values: dict[str, str]) -> None:
        """Raises Refused where the page is of other rows."""
        if values.get("edition") != str(self._edition):
            raise Refused("the run has changed since this page was loaded: load it again.")


def app(viewer: Viewer) -> Starlette:
    """Without the guard."""
    asking = {name: getattr(viewer, name) for name in ("rows", "groups", "lines", "details")}
    telling = {name: getattr(viewer, name) for name in ("mark", "select")}
    return Starlette(
        routes=[
            Route("/", _page(viewer)),
            Route("/page/{name}", _file),
            Route("/api/about", _answer(lambda values: None, viewer.about)),
            *(Route(f"/api/{name}", _answer(viewer.check, make)) for name, make in asking.items()),
            *(Route(f"/api/{name}", _answer(viewer.check, make), methods=["POST"]) for name, make in telling.items()),
            Route("/{size:str}/{key}/{shard:int}/{image_id}", _picture(viewer)),
        ]
    )


def _page(viewer: Viewer) -> Callable[[Request], Response]:
    def page(request: Request) -> Response:
        try:
            viewer.refresh()
        except BatchgenError as error:
            return Response(str(error), 503, media_type="text/plain")
        return Response(_content("page.html"), media_type="text/html")

    return page


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    kind = TYPES.get(name.rpartition(".")[2])
    if kind is None or name not in {entry.name for entry in _folder().iterdir()}:
        return Response(status_code=404)
    return Response(_content(name), media_type=kind)


def _answer(check: Callable[[dict[str, str]], None], make: Callable[[dict[str, str]], Any]) -> Any:
    """JSON of what is made of the values of a request, or of what is wrong with them."""

    async def answer(request: Request) -> Response:
        try:
            values = await _values(request)
            await run_in_threadpool(check, values)
            return JSONResponse(await run_in_threadpool(make, values))
        except Refused as error:  # no error of the network: browsers would tell it their consoles
            return JSONResponse({"error": str(error)})
        except BatchgenError as error:
            return JSONResponse({"error": str(error)}, 503)

    return answer


def _picture(viewer: Viewer) -> Callable[[Request], Response]:
    def picture(request: Request) -> Response:
        said = request.path_params
        if said["size"] not in ("small", "whole"):
            return Response(status_code=404)
        try:
            return viewer.picture(said["key"], said["shard"], said["image_id"], said["size"] == "small")
        except BatchgenError as error:
            return Response(str(error), 404, media_type="text/plain")

    return picture


async def _values(request: Request) -> dict[str, str]:
    """Texts by name, of the address or of a JSON object."""
    if request.method == "GET":
        return dict(request.query_params)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY:
            raise Refused("that is too long.")
    try:
        said = json.loads(body)
    except ValueError as error:
        raise Refused("that is no JSON.") from error
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise Refused("that is no object of texts.")
    return said


def _window(values: dict[str, str]) -> tuple[int, int]:
    offset, limit = number(values, "offset", 10**12), number(values, "limit", MOST_ROWS + 1)
    return offset, offset + limit


def _folder() -> Any:
    return files(__package__) / "page"


def _content(name: str) -> bytes:
    data: bytes = (_folder() / name).read_bytes()
    return data
