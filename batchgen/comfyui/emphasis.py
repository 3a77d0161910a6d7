"""ComfyUI's marks in a prompt: (words:1.2), \\( and \\), embedding:name, {one|another}.

`plain` takes weights and escapes out as comfy/sd1_clip.py does (token_weights). Knows text only.
"""

from __future__ import annotations

import re

EMBEDDING = re.compile(r"\bembedding:\S+")
CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}")  # of which ComfyUI's page picks one before it runs
WEIGHT = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*\Z")
LONGEST = 32  # characters of a weight; nobody writes more
ESCAPED = re.compile(r"\\([()])")


def plain(text: str) -> tuple[str, list[str]]:
    """The text as its encoders read it, and what it lost by that, in words."""
    marked: list[str] = []
    without, weights = _without_weights(text)
    if weights:
        marked.append("weights in brackets")
    if EMBEDDING.search(without):
        marked.append("an embedding: (a file, which is left out)")
        without = EMBEDDING.sub("", without)
    if CHOICE.search(without):
        marked.append("a choice in braces (all of it stays)")
    return without, marked


def _without_weights(text: str) -> tuple[str, bool]:
    """Without the brackets that pair up, and the number at the end of what they hold. One pass, however deep."""
    pairs = _pairs(text)
    dropped: set[int] = set()
    for start, end in pairs:
        dropped |= {start, end}
        colon = text.rfind(":", max(start + 2, end - LONGEST), end)
        if colon > 0 and WEIGHT.match(text[colon + 1 : end]):
            dropped.update(range(colon, end))
    kept = "".join(char for at, char in enumerate(text) if at not in dropped)
    return ESCAPED.sub(r"\1", kept), bool(pairs)


def _pairs(text: str) -> list[tuple[int, int]]:
    """Positions of brackets that open and close each other; escaped ones are letters."""
    open_at: list[int] = []
    found: list[tuple[int, int]] = []
    for at, char in enumerate(text):
        if char not in "()" or (at and text[at - 1] == "\\"):
            continue
        if char == "(":
            open_at.append(at)
        elif open_at:
            found.append((open_at.pop(), at))
    return found
