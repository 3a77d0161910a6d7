"""What every command shares: the program, its arguments, errors as one message and an exit code.

Imports nothing heavy; a command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from batchgen.errors import BatchgenError


class Program(TyperGroup):
    """Says in one sentence which option has a value that cannot be."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            command = error.ctx.command_path if error.ctx else "batchgen"
            _fail(f"{command}: {error.format_message().rstrip('.')}. All options: {command} --help", 2)


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
JobFile = Annotated[Path, typer.Argument(help="Job file, YAML.", metavar="JOB.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set sampling.num_inference_steps=28"),
]
RunPath = Annotated[str, typer.Argument(help="Run directory: local path or URL.", metavar="OUT")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as one line of JSON.")]


def examples(*commands: str) -> str:
    """Of a command, below its options; a blank line keeps each on a line of its own."""
    return "\n\n".join(["Examples:", *commands])


def _say_version(asked: bool) -> None:
    if asked:
        import batchgen

        print(f"batchgen {batchgen.__version__}")
        raise typer.Exit


@app.callback()
def batchgen_itself(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Turn a table of prompts into a dataset of images.

    Running a command again continues where it ended.
    """


class Interrupted(BaseException):
    """SIGTERM came. Not an Exception: nothing on the way may swallow it."""


INTERRUPTIONS = {130: "Interrupted", 143: "Ended by SIGTERM"}  # exit code: what is said


@contextmanager
def errors() -> Iterator[None]:
    """Errors of ours and interruptions become one message and an exit code; anything else is a bug and shows itself."""
    before = signal.signal(signal.SIGTERM, _raise_interrupted)
    try:
        yield
    except BaseException as error:
        if (code := _interruption(error)) is not None:
            _fail(f"{INTERRUPTIONS[code]}. Run the same command again to continue.", code)
        if isinstance(error, BatchgenError):
            _fail(str(error), error.exit_code)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _interruption(error: BaseException | None) -> int | None:
    """The exit code where this began as an interruption: one in the middle of a wait makes other errors on its way."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt | Interrupted):
            return 130 if isinstance(error, KeyboardInterrupt) else 143
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr if code else sys.stdout, flush=True)
    raise typer.Exit(code)


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a prompt must not break a console that is not UTF-8
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Ray's workers are many; one thread each is enough
    app()
