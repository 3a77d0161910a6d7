"""A store in memory, and actors that take turns at it in a random order that a seed decides, with faults.

Each request is a place where another actor may go on instead, where an actor may be killed, before or after it took
effect, and where the request or its acknowledgement may be lost. Knows no runs: only that data/ is never written over.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial

from batchgen.run.layout import DATA
from batchgen.storage.backends import Entry

PATIENCE_S = 900.0


class Killed(BaseException):
    """SIGKILL: nothing that a command does after it reaches the store."""


class Lost(TimeoutError):
    """No answer came: the request, or its acknowledgement, was lost."""


class Actor:
    """Who sends requests, in a thread of its own. code: what act() returned, or 'killed'."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.turn = threading.Semaphore(0)
        self.dead = False
        self.code: object = None

    def begin(self, at_end: Callable[[], None]) -> threading.Thread:
        def main() -> None:
            self.turn.acquire()
            self.run()
            at_end()

        self.thread = threading.Thread(target=main, daemon=True)
        self.thread.start()
        return self.thread

    def run(self) -> None:
        try:
            self.code = self.act()
        except Killed:
            self.code = "killed"


class World:
    """A store, the actors at work on it, and what went wrong. Exactly one of them runs at a time.

    check: called, with nobody else at work, after each change.
    """

    def __init__(self, seed: int, check: Callable[[World], None]) -> None:
        self.check = check
        self.random = random.Random(seed)
        self.objects: dict[str, bytes] = {}
        self.violations: list[str] = []
        self.writes = 0
        self.alive: list[Actor] = []
        self.quiet = True  # no faults and no turns
        self.switching = self.random.choice([0.02, 0.1, 0.3, 0.7])
        self.faults = self.random.choice([0.0, 0.003, 0.02])

    def here(self) -> Actor | None:
        if self.quiet:
            return None
        return next((one for one in self.alive if one.thread is threading.current_thread()), None)

    def request(self, effect):
        """One request to the store: somebody else may be first, and it or its answer may be lost."""
        actor = self.here()
        if actor is None:
            return effect()
        self.pass_on(actor)
        if actor.dead:
            raise Killed
        fault = self.random.random() / self.faults if self.faults else 1.0
        if fault < 0.4:
            actor.dead = True
            if self.random.random() < 0.5:
                effect()
            raise Killed
        if fault < 0.6:
            raise Lost
        if fault < 0.7:
            raise PermissionError(13, "the store says no")
        answer = effect()
        if fault < 1.0:
            raise Lost
        return answer

    def pass_on(self, actor: Actor) -> None:
        if len(self.alive) > 1 and self.random.random() < self.switching:
            chosen = self.random.choice(self.alive)
            if chosen is not actor:
                chosen.turn.release()
                actor.turn.acquire()

    def run(self, actors: list[Actor]) -> list[object]:
        """What became of them, all at once."""
        self.alive, self.quiet = list(actors), False
        threads = [actor.begin(partial(self._ended, actor)) for actor in actors]
        self.random.choice(actors).turn.release()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "the schedule stands still"
        self.quiet = True
        return [actor.code for actor in actors]

    def run_alone(self, actor: Actor) -> object:
        """What became of it, without faults."""
        self.quiet = True
        actor.run()
        return actor.code

    def _ended(self, actor: Actor) -> None:
        self.alive.remove(actor)
        if self.alive:
            self.random.choice(self.alive).turn.release()

    def written(self, path: str, data: bytes | None) -> None:
        """One change: the new content of a file, or None where it is deleted."""
        self.writes += 1
        if data is None:
            self.objects.pop(path, None)
        else:
            self.objects[path] = data
        before, self.quiet = self.quiet, True
        try:
            self.check(self)
        finally:
            self.quiet = before


class Memory:
    """What storage.backends.Remote is to an object store."""

    errors = (OSError,)
    world: World

    def __init__(self, protocol: str, url: str) -> None:
        self.objects = self.world.objects

    def read(self, path):
        return self.world.request(partial(self._get, path))

    def read_range(self, path, start, end):
        return self.world.request(lambda: self._get(path)[start:end])

    def size(self, path):
        return self.world.request(lambda: len(self._get(path)))

    def list(self, prefix, recursive):
        def found():
            folder = f"{prefix}/" if prefix else ""
            paths = [path for path in self.objects if path.startswith(folder)]
            return [
                Entry(path, len(self.objects[path])) for path in paths if recursive or "/" not in path[len(folder) :]
            ]

        return self.world.request(found)

    def create(self, path, data):
        def effect():
            if path in self.objects:
                return False
            self.world.written(path, data)
            return True

        return self.world.request(effect)

    def replace(self, path, data):
        if path.startswith(f"{DATA}/"):
            self.world.violations.append(f"{path} was written over")
        self.world.request(lambda: self.world.written(path, data))

    def delete(self, path):
        if path.startswith(f"{DATA}/"):
            self.world.violations.append(f"{path} was deleted")
        self.world.request(lambda: self.world.written(path, None) if path in self.objects else None)

    def remove_made_folders(self):
        pass

    def sweep(self):
        pass

    def _get(self, path):
        if path not in self.objects:
            raise FileNotFoundError(2, "no such file", path)
        return self.objects[path]
