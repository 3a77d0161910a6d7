"""The command that looks at runs in a browser: view."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from batchgen.cli.program import app, console, errors, examples
from batchgen.words import say

PANEL = "Render and look"


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen view out/run",
        "batchgen view out/one out/other --blur-above 0.5",
        "batchgen view s3://bucket/run-17 --host 10.0.0.5",
    ),
)
def view(
    outs: Annotated[list[str], typer.Argument(help="Run directories: local paths or URLs.", metavar="OUT...")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8321,
    host: Annotated[
        str | None, typer.Option(help="An address of this machine, for others: whoever has the token in the URL.")
    ] = None,
    blur_above: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Blur pictures whose score of NSFW is above this.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Look at runs in a browser: a grid to filter, compare and mark. Ctrl-C ends it."""
    from batchgen.view.server import serve

    def ready(url: str) -> None:
        say(console(), f"{url}  (Ctrl-C ends it)")
        if not no_browser and _has_screen():  # without one, Python would look for a browser of the terminal
            import webbrowser

            webbrowser.open(url)

    with errors():
        unsaved = serve(outs, ready, port=port, host=host, blur_above=blur_above)
        if unsaved:
            say(console(), f"note: {unsaved} marks are gone; none of them is in a selection.")


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
