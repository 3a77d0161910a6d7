"""Who may ask, and what a browser may do with the answer: in front of everything that the server answers.

A page of somebody else that is open in the same browser can send requests to this machine. So the name of the host is
checked, which a page that rebinds its own name to 127.0.0.1 cannot say; requests that another page makes are refused;
and where others can reach the server at all, a token is asked for. Knows nothing of runs.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
NEW = (0, "a new cookie")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """hosts: names by which the server may be called; any address too, if `addresses`. token: without one, everybody
    who reaches the server may ask."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], addresses: bool = False, token: str | None = None) -> None:
        self._app, self._hosts, self._addresses, self._token = app, set(hosts), addresses, token
        self._cookie = cookie_of(token or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, why = self._refusal(scope)
        new = (status, why) == NEW

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if new:
                    headers.append("Set-Cookie", f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        answer = PlainTextResponse(why, status) if status else self._app
        await answer(scope, receive, sent)

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """Status and reason; status 0: it may be answered; NEW: with a new cookie."""
        headers = Headers(scope=scope)
        host = headers.getlist("host")
        if len(host) != 1 or not self._is_ours(host[0]):
            return 421, "This server has another name. Use the address that batchgen view printed.\n"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and scope["path"] != "/":
            return 403, "Another page asked for this.\n"
        if scope["method"] not in ("GET", "HEAD") and headers.get("origin") != f"{scope['scheme']}://{host[0]}":
            return 403, "Another page sent this.\n"
        if self._token is None:
            return 0, ""
        if scope["path"] == "/" and scope["method"] == "GET":
            said = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._is_token(said):
                return NEW
        if self._is_token(self._said(headers)):
            return 0, ""
        return 401, "Open the address that batchgen view printed, with its token.\n"

    def _said(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _is_token(self, said: str) -> bool:
        return secrets.compare_digest(said.encode(), (self._token or "").encode())

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or (self._addresses and _is_address(name))


def cookie_of(token: str) -> str:
    """The name of its cookie: browsers do not tell the ports of a machine apart, and two servers may run there."""
    return "batchgen_view_" + hashlib.sha256(token.encode()).hexdigest()[:8]


def _is_address(name: str) -> bool:
    """Of a machine, not a name: no page can make one lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def names_of(host: str) -> tuple[list[str], bool]:
    """By which names a server that listens on a host is called, and whether by any address."""
    everywhere = _is_address(host) and ipaddress.ip_address(host).is_unspecified
    own = [socket.gethostname().lower(), socket.getfqdn().lower()] if everywhere else []
    return [*LOOPBACK, host.lower(), *own], everywhere
