"""JSON that carries the sha256 of its own bytes in its first line, so that no changed byte is taken for an answer.

Knows no plans and no books. What was written before there were seals is told by its first key, and passes.
"""

from __future__ import annotations

import hashlib
import json
import re

KEY = "sha256"
_LINE = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def seal(data: bytes) -> bytes:
    """data: a JSON object as json.dumps(indent=1) writes it, with at least one key. The digest is of these bytes."""
    if not data.startswith(b"{\n"):
        raise ValueError("only an object of several lines can be sealed")
    return b'{\n "sha256": "' + hashlib.sha256(data).hexdigest().encode() + b'",\n' + data.removeprefix(b"{\n")


def unseal(data: bytes, unsealed: str) -> bytes:
    """What seal() was given. unsealed: the first key of what an earlier version wrote, without a seal.

    Raises ValueError where a byte has changed. Looking at the first key is what keeps a damaged seal from passing for
    none.
    """
    if match := _LINE.match(data):
        content = b"{\n" + data[match.end() :]
        if hashlib.sha256(content).hexdigest().encode() != match[1]:
            raise ValueError("its sha256 is not the one in its first line")
        return content
    said = json.loads(data)
    if not isinstance(said, dict) or next(iter(said), None) != unsealed:
        raise ValueError("its first line holds no sha256")
    return data
