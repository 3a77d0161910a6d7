"""What is shown to people: durations, sizes, the nearest right word, and text without secrets or control characters.

Knows no file and no setting.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SECRETS = [  # pattern, replacement
    (re.compile(r"://[^\s/@:]*:(?!\d+/)[^\s@]*@"), "://***@"),  # a secret key may hold slashes; a port is no secret
    (re.compile(r"://[^\s/@]+@"), "://***@"),
    (re.compile(r"(?i)\b(x-(?:amz|goog)-[a-z-]+|signature|sig|awsaccesskeyid|access_token)=[^&\s\"']+"), r"\1=***"),
    (re.compile(r"(?i)\b(aws_secret_access_key|aws_session_token)([\"']?\s*[=:]\s*)[^\s,}]+"), r"\1\2***"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{4,}"), r"\1***"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), "hf_***"),
    (re.compile(r"(?i)\bbearer\s+\S+"), "Bearer ***"),
]


def redact(text: str) -> str:
    """The text without credentials: userinfo and signatures in URLs, access keys, tokens."""
    for variable in SECRET_VARIABLES:
        if len(value := os.environ.get(variable, "")) >= 8:
            text = text.replace(value, "***")
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


def visible(text: str) -> str:
    """One line, with what cannot be seen spelled out: a name must not move a cursor, turn text round or start lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def legible(text: str) -> str:
    """Lines for people, on a terminal or in a log: no credentials, nothing that cannot be seen."""
    return "\n".join(map(visible, redact(text).split("\n")))


def duration(seconds: float) -> str:
    """'4 s', '12 min', '3 h 20 min', '2 d 4 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """'4 B', '21.3 GB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that is most like this one, or nothing."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean x?' or nothing."""
    close = closest(word, known)
    return f" Did you mean {close}?" if close else ""


def is_unicode(text: str) -> bool:
    """False where it holds half of a surrogate pair, as JSON escapes can spell it and no UTF-8 can hold it."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def is_plain(text: str) -> bool:
    """Neither half a surrogate pair nor a control character but tab and line ends, as for prompts in a manifest."""
    return is_unicode(text) and not any(character < " " and character not in "\t\n\r" for character in text)


def say(console: Console, text: str) -> None:
    """One line, whatever names are in it: no markup, no colours, no wrapping inside a path. Commands print by this."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)
