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

KNOWN_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$")
KNOWN_LENGTH, LENGTH = 8, 12  # of a secret in the environment: shorter ones may be words of a message
# Names of parameters whose values open something, and what a URL with credentials looks like: also a name without
# a password, where it is as long as a token. Arrow reads it too (RE2).
PARAMETER = (
    r"[\w.-]{0,40}(?:token|secret|signature|credential|password|passwd|(?:api|access|subscription|auth)[_-]?key(?:id)?)"
    r"|sig|auth|pwd"
)
SECRET_URL = rf"(?i)://[^\s/@:]*:[^\s@]*@|://[^\s/@:]{{16,}}@|[?&;](?:{PARAMETER}|key)="
SECRETS = [  # pattern, replacement
    (re.compile(r"://[^\s/@:]*:(?!\d+/)[^\s@]*@"), "://***@"),  # a secret key may hold slashes; a port is no secret
    (re.compile(r"://[^\s/@]+@"), "://***@"),
    (re.compile(rf"(?i)([?&;](?:{PARAMETER}))=[^&\s\"'#]+"), r"\1=***"),
    (re.compile(r"(?i)([?&;]key)=[^&\s\"'#]{8,}"), r"\1=***"),  # a short one is rather a name
    (re.compile(r"(?i)\b(x-(?:amz|goog)-[a-z-]+|signature|sig|awsaccesskeyid)=[^&\s\"']+"), r"\1=***"),
    (  # in files, headers and messages: DB_PASSWORD=..., "client_secret": "..."
        re.compile(
            r"(?i)((?:password|passwd|secret|session[_-]?token|(?:access|auth|refresh)[_-]?token"
            r"|(?:api|access|account|private)[_-]?key)[\"']?\s*[=:]\s*[\"']?)[^\s,;&}\"']+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)(token[\"']?\s*[=:]\s*[\"']?)[\w.~+/-]{12,}"), r"\1***"),
    (re.compile(r"(?i)\bbearer\s+\S+"), "Bearer ***"),
    (re.compile(r"\b([Bb]asic|BASIC)\s+(?=[\w+/]*(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9+/]{8,}=*"), r"\1 ***"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{4,}"), r"\1***"),
    (re.compile(r"\b(GOOG1)[0-9A-Z]{16,}"), r"\1***"),
    (  # Hugging Face, GitHub, GitLab, Slack, Groq, NVIDIA, Replicate, Stripe, Google
        re.compile(r"\b(hf_|gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|gsk_|nvapi-|r8_|[rs]k_live_|AIza)[\w-]{16,}"),
        r"\1***",
    ),
    (
        re.compile(r"\b(sk-)(?:(?:proj|ant|svcacct|admin|or)-[\w-]{16,}|[A-Za-z0-9]{20,})"),
        r"\1***",
    ),  # OpenAI and others
    (re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"), "eyJ***"),  # JSON Web Tokens
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"), "*** (private key)"),
]


def redact(text: str) -> str:
    """The text without credentials: of URLs, of headers, of well-known kinds, and whatever the environment keeps."""
    for name, value in os.environ.items():
        if len(value) >= (KNOWN_LENGTH if name in KNOWN_VARIABLES else LENGTH) and SECRET_VARIABLE.search(name):
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
