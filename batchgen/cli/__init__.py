"""The command line: parse, call, print, exit code. No logic of its own, no heavy import before a command needs it."""

from batchgen.cli import beginnings, runs
from batchgen.cli.program import Interrupted, app, main

# isort: split
from batchgen.cli import looking  # below the others in --help

# isort: split
from batchgen.cli import evaluations, exports

__all__ = ["Interrupted", "app", "beginnings", "evaluations", "exports", "looking", "main", "runs"]
