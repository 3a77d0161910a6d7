"""Expressions of users over a table: SQL of DuckDB that can reach no file and no network, and has a limit of time.

Knows tables of Arrow, and no runs.
"""

from __future__ import annotations

import difflib
import json
import re
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from batchgen.errors import Refused
from batchgen.words import visible

if TYPE_CHECKING:
    import duckdb

TABLE = "images"  # what an expression sees
PATIENCE_S = 60.0
SETTINGS = (
    "memory_limit = '2GB'",
    "python_enable_replacements = false",
    "enable_external_access = false",
    "lock_configuration = true",
)
SHOWN, LINE = 5, 110  # of columns: how many are near enough, and letters of a line
_RUNNING = set["duckdb.DuckDBPyConnection"]()


@contextmanager
def matching(table: pa.Table, where: str, columns: Sequence[str] = ()) -> Iterator[duckdb.DuckDBPyRelation]:
    """The rows for which an expression is true, to be sorted and read inside the block.

    columns: those that a message names, where the table has not all of them. Raises Refused for an expression that
    cannot be used, and where all of it takes too long.
    """
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.register(TABLE, table)
        _lock(connection)
        watch = threading.Timer(PATIENCE_S, connection.interrupt)
        watch.start()
        _RUNNING.add(connection)
        try:
            # A relation takes one expression and no statement: nothing can be closed, ended or commented out in it.
            yield connection.table(TABLE).filter(duckdb.SQLExpression(where))
        except duckdb.InterruptException as error:
            raise Refused(f"the expression took more than {PATIENCE_S:.0f} s: write a simpler one.") from error
        except duckdb.Error as error:
            said = visible(str(error).splitlines()[0])
            names = [visible(str(name)) for name in columns or table.column_names]
            raise Refused(
                f"{visible(where)!r} cannot be used: {said}\n{_what_there_is(said, names)}\nText stands in single "
                "quotes: cell = 'default'."
            ) from error
        finally:
            _RUNNING.discard(connection)
            watch.cancel()


def is_of_one_row(where: str) -> bool:
    """Whether an expression looks at no row but its own. False too for one that cannot be read."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        _lock(connection)
        text = f"SELECT 1 FROM {TABLE} WHERE ({where}\n)"  # is parsed, and never run
        ((parsed,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    return not json.loads(parsed)["error"] and not re.search(r'"class":\s*"SUBQUERY"', parsed)


def stop() -> None:
    """End all expressions of this process, as if they had taken too long: whoever asked is about to leave."""
    for connection in _RUNNING.copy():
        connection.interrupt()


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    for setting in SETTINGS:
        connection.execute(f"SET {setting}")


def _what_there_is(said: str, columns: Sequence[str]) -> str:
    """The columns, those first that are most like the name which an error says, and the rest in lines of a width."""
    asked = re.search(r'"([^"]+)"', said)
    like = difflib.get_close_matches(asked[1], columns, n=SHOWN, cutoff=0.4) if asked else []
    nearest = [f"Nearest: {', '.join(like)}."] if like else []
    rest = ", ".join(name for name in columns if name not in like)
    return "\n".join([*nearest, *textwrap.wrap(f"The {'other ' if like else ''}columns are {rest}.", LINE)])
