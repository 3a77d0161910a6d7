"""Members of a tar, byte for byte as `tarfile` writes them, without a time, a user or a group.

Headers are made here from one that tarfile made: with three small members for each image, making each of them anew is
most of the work of an export.
"""

from __future__ import annotations

import tarfile
from typing import BinaryIO

SIZE, SUM = slice(124, 135), slice(148, 156)  # fields of a header, POSIX.1-1988
CHECKED = 8 * ord(" ")  # what the field of the sum itself counts
LARGEST = 8**11 - 1  # bytes of a member


class Tar:
    """Writes into a file that is open. Names are ASCII of at most 100 letters."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        empty = bytearray(tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT))
        empty[SUM] = bytes(8)
        empty[SIZE] = bytes(11)
        self._sum = sum(empty) + CHECKED
        self._header = empty

    def add(self, name: str, data: bytes) -> None:
        if len(data) > LARGEST:
            raise ValueError(f"{name}: a member of {len(data)} bytes does not fit in a tar")
        size = b"%011o" % len(data)
        called = name.encode("ascii")
        header = self._header.copy()
        header[0 : len(called)] = called
        header[SIZE] = size
        header[SUM] = b"%06o\0 " % (self._sum + sum(called) + sum(size))
        self._file.write(header)
        self._file.write(data)
        if rest := len(data) % tarfile.BLOCKSIZE:
            self._file.write(bytes(tarfile.BLOCKSIZE - rest))

    def close(self) -> None:
        """The end of the archive, in whole records. Leaves the file open."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        if rest := self._file.tell() % tarfile.RECORDSIZE:
            self._file.write(bytes(tarfile.RECORDSIZE - rest))
