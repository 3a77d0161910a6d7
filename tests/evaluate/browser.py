"""A page in a headless Chromium, driven over its debugging port on 127.0.0.1: what it says, what it asks for."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run", "about:blank"]


class Seen:
    """answers: of the expressions, in order. complaints: what the console says. requests: URLs but the page's own."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []


def visit(page: Path, profile: Path, expressions: list[str]) -> Seen:
    """Open the page and evaluate JavaScript in it, one expression after the other."""
    process = subprocess.Popen(
        [CHROMIUM, f"--user-data-dir={profile}", *FLAGS], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        for line in process.stderr:
            if "DevTools listening on " in line:
                return asyncio.run(_visit(line.split(" on ")[1].strip(), page.as_uri(), expressions))
        raise AssertionError("Chromium did not start")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def _visit(endpoint: str, url: str, expressions: list[str]) -> Seen:
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
            for expression in expressions:
                found = await call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
                assert "exceptionDetails" not in found, found
                seen.answers.append(found["result"].get("value"))
    return seen


def _take(seen: Seen, message: dict[str, Any], url: str) -> None:
    method, said = message.get("method"), message.get("params", {})
    if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        seen.complaints.append(json.dumps(said)[:500])
    if method == "Network.requestWillBeSent":
        asked = said["request"]["url"]
        if asked != url and not asked.startswith(("data:", "blob:")):
            seen.requests.append(asked)
