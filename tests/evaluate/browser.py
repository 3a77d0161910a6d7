"""A page in a headless Chromium, driven over its debugging port on 127.0.0.1: what it says, what it asks for.

A step is an expression of JavaScript, or one of Press, Screen and Shot.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run", "about:blank"]


@dataclass(frozen=True)
class Press:
    """A key, as the browser calls it: 'k', 'Enter', 'ArrowDown'."""

    key: str


@dataclass(frozen=True)
class Screen:
    """The window from here on, and whether its user prefers dark pages."""

    width: int
    height: int
    dark: bool = False


@dataclass(frozen=True)
class Shot:
    """A picture of the window, as PNG."""

    path: Path


Step = str | Press | Screen | Shot
CODES = {
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def until(condition: str) -> str:
    """An expression that is true as soon as a condition is, and false if that takes too long."""
    return (
        "(async () => { for (let i = 0; i < 400; i++) { if (" + condition + ") return true; "
        "await new Promise((done) => setTimeout(done, 25)); } return false; })()"
    )


class Seen:
    """answers: of the expressions, in order. complaints: what the console says. requests: URLs but the page's own."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []


def visit(page: Path | str, profile: Path, steps: list[Step]) -> Seen:
    """Open the page, a file or a URL, and take one step after the other."""
    process = subprocess.Popen(
        [CHROMIUM, f"--user-data-dir={profile}", *FLAGS], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        for line in process.stderr:
            if "DevTools listening on " in line:
                url = page if isinstance(page, str) else page.as_uri()
                return asyncio.run(_visit(line.split(" on ")[1].strip(), url, steps))
        raise AssertionError("Chromium did not start")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def _visit(endpoint: str, url: str, steps: list[Step]) -> Seen:
    seen, number = Seen(), 0
    port = endpoint.split("/")[2]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{port}/json") as answer:
            target = next(one for one in await answer.json() if one["type"] == "page")
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:

            async def call(method: str, until: str | None = None, **parameters: Any) -> Any:
                nonlocal number
                number += 1
                mine, result, waiting = number, None, {"answer", until} - {None}
                await socket.send_str(json.dumps({"id": mine, "method": method, "params": parameters}))
                while waiting:
                    message = json.loads((await socket.receive(timeout=60)).data)
                    if message.get("id") == mine:
                        assert "error" not in message, message
                        result = message["result"]
                        waiting.discard("answer")
                    _take(seen, message, url)
                    waiting.discard(message.get("method"))
                return result

            for domain in ("Runtime", "Log", "Network", "Page"):
                await call(f"{domain}.enable")
            await call("Page.navigate", until="Page.loadEventFired", url=url)
            for step in steps:
                if isinstance(step, str):
                    found = await call("Runtime.evaluate", expression=step, returnByValue=True, awaitPromise=True)
                    assert "exceptionDetails" not in found, found
                    seen.answers.append(found["result"].get("value"))
                else:
                    await _act(call, step)
    return seen


async def _act(call: Callable[..., Awaitable[Any]], step: Press | Screen | Shot) -> None:
    if isinstance(step, Press):
        code = CODES.get(step.key)
        named = {"windowsVirtualKeyCode": code} if code else {"text": step.key}
        await call("Input.dispatchKeyEvent", type="keyDown", key=step.key, **named)
        await call("Input.dispatchKeyEvent", type="keyUp", key=step.key, **named)
    elif isinstance(step, Screen):
        size = {"width": step.width, "height": step.height, "deviceScaleFactor": 1, "mobile": False}
        await call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if step.dark else "light"}
        await call("Emulation.setEmulatedMedia", features=[scheme])
    else:
        taken = await call("Page.captureScreenshot", format="png")
        step.path.write_bytes(base64.b64decode(taken["data"]))


def _take(seen: Seen, message: dict[str, Any], url: str) -> None:
    method, said = message.get("method"), message.get("params", {})
    if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        seen.complaints.append(json.dumps(said)[:500])
    if method == "Network.requestWillBeSent":
        asked = said["request"]["url"]
        if asked != url and not asked.startswith(("data:", "blob:")):
            seen.requests.append(asked)
