"""Renderers on devices of one's choice, in threads of this process: the driver's real loop without Ray."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batchgen.engines.fake import DEVICE, SICK
from batchgen.rendering import graph, worker
from batchgen.rendering.progress import Display, Tally
from batchgen.rendering.receipt import Receipt
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.run.directory import Run
from batchgen.run.doubts import mark
from tests.in_process import calls


class Died(BaseException):
    """What stands for the end of a renderer's process."""


def crew_of(monkeypatch: pytest.MonkeyPatch, console: Any) -> Callable[..., Run]:
    """→ crew(run, prepared, devices): render what is missing on these devices, {name: way of being sick, or ""}."""

    def die(code: int) -> None:
        raise Died

    monkeypatch.setattr(worker.os, "_exit", die)
    monkeypatch.setattr(worker, "ASK_S", 0.01)
    monkeypatch.setattr(worker, "QUIET_S", 1.0)  # a busy machine may begin nothing for so long
    monkeypatch.setattr(graph, "gpus_per_renderer", lambda cluster: 1.0)

    def render(run: Run, prepared: Any, devices: dict[str, str]) -> Run:
        def actor(orders: Orders, device: str) -> RenderShard:
            monkeypatch.setenv(DEVICE, device)
            monkeypatch.setenv(SICK, devices[device])
            return RenderShard(orders)

        def receipts_of(job: Any, shards: list[Any], orders: Orders) -> Iterator[Receipt]:
            # A renderer that stands aside comes to nothing while it starts, so Ray gives it no shard.
            working = [device for device in devices if mark(f"{socket.gethostname()} {device}") not in orders.aside]
            actors = {device: actor(orders, device) for device in working}
            todo: queue.SimpleQueue[int] = queue.SimpleQueue()
            done: queue.SimpleQueue[list[Receipt] | None] = queue.SimpleQueue()
            for shard in shards:
                todo.put(shard.number)

            def serve(device: str) -> None:
                try:
                    while True:
                        number = todo.get_nowait()
                        while True:
                            try:
                                done.put(calls(actors[device], number))
                                break
                            except Died:  # Ray starts another process there, and gives it the same shard
                                actors[device] = actor(orders, device)
                except queue.Empty:
                    done.put(None)

            for device in actors:
                threading.Thread(target=serve, args=(device,), daemon=True).start()
            for _ in actors:
                while (receipts := done.get(timeout=900)) is not None:
                    yield from receipts

        monkeypatch.setattr(graph, "receipts_of", receipts_of)
        total = sum(plan.images for plan in run.plans)
        with Display(Tally(total, 0, 0), console) as display:
            graph.render_missing(run, prepared.job, prepared.model, display)
        return run

    return render
