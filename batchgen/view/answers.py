"""What the server answers: the page and its files, and JSON of rows, groups, lines, one row, marks and selections.

Every answer is made in a thread of its own; the rows are read anew when the page is loaded and the runs have changed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchgen.errors import BatchgenError, Refused
from batchgen.run.directory import Run
from batchgen.view.marks import Marks
from batchgen.view.opened import Opened, Values
from batchgen.view.pictures import media_type
from batchgen.view.table import state

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
ASKING = ("rows", "groups", "lines", "details")  # of what is opened
TELLING = ("mark", "select")
BODY = 100_000  # bytes of a request
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


class Viewer:
    """runs: with their labels. Raises Refused where pictures are to be blurred and there is no score for it."""

    def __init__(self, runs: Sequence[tuple[str, Run]], blur_above: float | None = None) -> None:
        self.marks, self._lock = Marks(), threading.Lock()
        self.opened = Opened(runs, self.marks, 1, blur_above)
        if blur_above is not None and not self.opened.nsfw:
            places = " and ".join(str(run.store) for _, run in runs)
            raise Refused(f"--blur-above: {places}: no NSFW score is there. Make it: batchgen score OUT --with nsfw")

    def refresh(self) -> None:
        """Read the rows anew where the runs have others."""
        with self._lock:
            before = self.opened
            runs = [(label, Run.open(run.store)) for label, run in before.table.runs]
            if state(runs) != before.table.state:
                self.opened = Opened(runs, self.marks, before.edition + 1, before.blur_above)

    def of(self, values: Values) -> Opened:
        """Raises Refused where the page is of other rows."""
        opened = self.opened
        if values.get("edition") != str(opened.edition):
            raise Refused("the run has changed since this page was loaded: load it again.")
        return opened


def app(viewer: Viewer) -> Starlette:
    """Without the guard."""
    return Starlette(
        routes=[
            Route("/", _page(viewer)),
            Route("/page/{name}", _file),
            Route("/api/about", _answer(lambda values: viewer.opened.about())),
            *(Route(f"/api/{name}", _answer(_by(viewer, name))) for name in ASKING),
            *(Route(f"/api/{name}", _answer(_by(viewer, name)), methods=["POST"]) for name in TELLING),
            Route("/{size:str}/{key}/{shard:int}/{image_id}", _picture(viewer)),
        ]
    )


def _by(viewer: Viewer, name: str) -> Callable[[Values], Any]:
    """What the runs answer as they are opened at that moment."""
    return lambda values: getattr(viewer.of(values), name)(values)


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


def _answer(make: Callable[[Values], Any]) -> Any:
    """JSON of what is made of the values of a request, or of what is wrong with them."""

    async def answer(request: Request) -> Response:
        try:
            values = await _values(request)
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
            data = viewer.opened.picture(said["key"], said["shard"], said["image_id"], said["size"] == "small")
        except BatchgenError as error:
            return Response(str(error), 404, media_type="text/plain")
        return Response(data, media_type=media_type(data), headers=FOREVER)

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


def _folder() -> Any:
    return files(__package__) / "page"


def _content(name: str) -> bytes:
    data: bytes = (_folder() / name).read_bytes()
    return data
