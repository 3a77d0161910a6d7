"""Serves the page of some runs, until it is ended: on this machine alone, or for whoever has the token.

Knows addresses and sockets, and nothing of what is answered.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import duckdb  # noqa: F401 - before the first filter needs it
import uvicorn

from batchgen.errors import Refused
from batchgen.evaluate import expression
from batchgen.evaluate.labels import labelled
from batchgen.view.answers import Viewer, app
from batchgen.view.guard import Guard, names_of

PORT = 8321
HERE = "127.0.0.1"


def serve(
    outs: Sequence[str],
    ready: Callable[[str], None],
    *,
    port: int = PORT,
    host: str | None = None,
    blur_above: float | None = None,
) -> int:
    """Serve until Ctrl-C; returns how many marks are in no selection. ready: is told the address.

    port: 0 takes any that is free. host: of this machine, for others, who need the token in the address. Raises Refused
    where there is no run, or nothing can listen there.
    """
    viewer = Viewer(labelled(outs), blur_above)
    token = None if host is None else secrets.token_urlsafe(24)
    names, addresses = names_of(host or HERE)
    with _listening(host or HERE, port) as listener:
        at = listener.getsockname()[1]
        guard = Guard(app(viewer), names, addresses, token)
        config = uvicorn.Config(
            guard,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        shown = f"[{host}]" if host and ":" in host else host or HERE
        ready(f"http://{shown}:{at}/" + (f"?token={token}" if token else ""))
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            Server(config).run(sockets=[listener])
    return 0 if viewer.marks.saved else sum(viewer.marks.counts().values())


class Server(uvicorn.Server):
    """Ends at once, also where somebody waits for an expression."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        expression.stop()
        super().handle_exit(sig, frame)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise Refused(f"{host}:{port}: cannot be listened on ({error.strerror}). Another one: --port 0") from error
