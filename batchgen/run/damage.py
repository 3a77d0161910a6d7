"""What reading a damaged or crafted file raises, as one kind of error. Knows pyarrow and JSON, no file of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

DAMAGED = (ValueError, OSError)
_ODD = (pa.ArrowException, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError)


@contextmanager
def found_damaged() -> Iterator[None]:
    """Whatever a file's bytes make pyarrow, json or our own reading raise becomes ValueError.

    The store's own errors pass: a missing file is OSError, and one that cannot be reached Infrastructure.
    """
    try:
        yield
    except DAMAGED:
        raise
    except _ODD as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
