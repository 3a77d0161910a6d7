"""Image rows → pictures or failures, whatever the device does: padding, splitting, bisecting, second chances.

Knows the renderer's protocol and neither Ray nor torch nor files. The rule it keeps: a batch has the planned shape
(promise P2) unless the device cannot hold it, and then the shape that was used is returned with every picture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from batchgen.engines.protocol import ImageRow, Renderer
from batchgen.errors import Infrastructure, OutOfMemory, RendererBroken
from batchgen.rendering.ahead import Ahead
from batchgen.run.images import Pixels
from batchgen.run.shard_file import Failure

FIRST_WAIT, LONGEST_WAIT = 4, 64  # calls, which are shards, until a shape that did not fit is tried again


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered row: pixels, the device seconds it took, and the batch size it was rendered in.

    seconds: without those in which kernels were compiled, which later batches do not take.
    """

    pixels: Pixels
    seconds: float
    batch_size: int


Outcome = Picture | Failure
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fits:
    """The largest shape that the device is believed to hold, for `left` calls more; then twice that is tried.

    Memory may be short for a moment only. wait: how long it is believed, longer each time that it proves right.
    """

    shape: int
    wait: int
    left: int

    @classmethod
    def after_running_out(cls, shape: int, before: Fits | None) -> Fits:
        wait = min(2 * before.wait, LONGEST_WAIT) if before else FIRST_WAIT
        return cls(max(1, shape // 2), wait, wait)

    def one_call_later(self) -> Fits:
        return replace(self, left=self.left - 1) if self.left else Fits(2 * self.shape, self.wait, self.wait)


class Batches:
    """Renders with one renderer and remembers, per size and passes, the largest batch that the device can hold now.

    threads: prepare the next batch while the device works at this one.
    """

    def __init__(self, renderer: Renderer, threads: Executor | None = None) -> None:
        self.renderer = renderer
        self._ahead = Ahead(renderer.prepare, threads)
        self._fits: dict[tuple[int, int, bool], Fits] = {}

    def render(self, rows: Sequence[ImageRow], batch_size: int, group: int | None = None) -> Iterator[list[Outcome]]:
        """Outcomes of rows of one bucket, in order, a batch at a time.

        group: how many rows share a batch of batch_size, the rest being padding; 1 isolates every row.
        """
        self._fits |= {size: self._fits[size].one_call_later() for size in {_size(row) for row in rows} & {*self._fits}}
        group = group or batch_size
        self._ahead.begin(_padded(rows[:group], batch_size))
        embeds = self._encode(rows)
        for start in range(0, len(rows), group):
            stop = min(start + group, len(rows))
            if stop < len(rows):
                self._ahead.begin(_padded(rows[stop : stop + group], batch_size))
            yield self._batch(rows[start:stop], embeds[start:stop], batch_size)

    def _encode(self, rows: Sequence[ImageRow]) -> list[Any]:
        """One embedding a row; where encoding all fails, one by one, with a Failure in the place of a bad one."""
        try:
            return list(self.renderer.encode(rows))
        except (RendererBroken, Infrastructure):
            raise
        except Exception as error:
            if len(rows) == 1 and isinstance(error, OutOfMemory):  # of the encoders, whose batches are all of one size
                raise Infrastructure(f"The text encoders do not fit on {self.renderer.device}: {error}") from error
            if len(rows) == 1:
                return [_failure(error)]
            return [embed for row in rows for embed in self._encode([row])]

    def _batch(self, rows: Sequence[ImageRow], embeds: Sequence[Any], batch_size: int) -> list[Outcome]:
        """Outcomes of at most batch_size rows; rows whose embedding failed keep that failure."""
        good = [i for i, embed in enumerate(embeds) if not isinstance(embed, Failure)]
        outcomes: dict[int, Outcome] = {i: embed for i, embed in enumerate(embeds) if isinstance(embed, Failure)}
        if good:
            rendered = self._fair([rows[i] for i in good], [embeds[i] for i in good], batch_size)
            outcomes |= dict(zip(good, rendered, strict=True))
        return [outcomes[i] for i in range(len(rows))]

    def _fair(self, rows: Sequence[ImageRow], embeds: Sequence[Any], batch_size: int) -> list[Outcome]:
        """If a row does not fit even alone, the row is at fault, not the shape: its neighbours keep theirs."""
        before = dict(self._fits)
        outcomes = self._split(rows, embeds, batch_size)
        innocent = [i for i, outcome in enumerate(outcomes) if not _out_of_memory(outcome)]
        if 0 < len(innocent) < len(rows):
            self._fits = before
            again = self._split([rows[i] for i in innocent], [embeds[i] for i in innocent], batch_size)
            for i, outcome in zip(innocent, again, strict=True):
                outcomes[i] = outcome
        elif not innocent:
            self._fits = before
        return outcomes

    def _split(self, rows: Sequence[ImageRow], embeds: Sequence[Any], batch_size: int) -> list[Outcome]:
        """Render in the largest shape known to fit; halve it when memory runs out; bisect when a row raises."""
        size = _size(rows[0])
        shape = min(batch_size, self._fits[size].shape) if size in self._fits else batch_size
        if len(rows) > shape:
            return self._split(rows[:shape], embeds[:shape], shape) + self._split(rows[shape:], embeds[shape:], shape)
        try:
            return self._attempt(rows, embeds, shape)
        except OutOfMemory as error:
            if shape == 1:
                return [Failure("OUT_OF_MEMORY", f"{size[1]}x{size[0]} does not fit even alone: {error}")]
            self._fits[size] = Fits.after_running_out(shape, self._fits.get(size))
            return self._split(rows, embeds, shape // 2)
        except (RendererBroken, Infrastructure):
            raise
        except Exception as error:  # noqa: BLE001  the edge of the renderer: any error is the row's
            if len(rows) == 1:
                return [_failure(error)]
            half = len(rows) // 2
            return self._split(rows[:half], embeds[:half], shape) + self._split(rows[half:], embeds[half:], shape)

    def _attempt(self, rows: Sequence[ImageRow], embeds: Sequence[Any], shape: int) -> list[Outcome]:
        """One pass over the device. A short batch is padded with copies of its first row, whose images are dropped."""
        started, compiled = time.perf_counter(), self.renderer.compile_seconds or 0.0
        batch = _padded(rows, shape)
        latents = self.renderer.denoise(batch, _padded(embeds, shape), self._ahead.take(batch))
        finite = self.renderer.finite(latents)
        wanted = [i for i in range(len(rows)) if finite[i]]
        decoded: dict[int, Pixels | None] = dict(zip(wanted, self.renderer.decode(latents, wanted), strict=True))
        again = [i for i, pixels in decoded.items() if pixels is None]
        if again:
            decoded |= dict(zip(again, self.renderer.decode(latents, again, upcast=True), strict=True))
        compiling = (self.renderer.compile_seconds or 0.0) - compiled
        seconds = (time.perf_counter() - started - compiling) / len(rows)
        return [_outcome(finite[i], decoded.get(i), seconds, shape) for i in range(len(rows))]


def _padded(batch: Sequence[T], shape: int) -> list[T]:
    return [*batch, *[batch[0]] * (shape - len(batch))]


def _size(row: ImageRow) -> tuple[int, int, bool]:
    """What decides how much memory a row takes: its sides, and whether it has a second pass."""
    return row.height, row.width, row.refine


def _out_of_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.code == "OUT_OF_MEMORY"


def _outcome(finite: bool, pixels: Pixels | None, seconds: float, shape: int) -> Outcome:
    if not finite:
        return Failure("NAN_LATENTS", "the denoiser returned values that are not finite")
    if pixels is None:
        return Failure("NAN_PIXELS", "the decoder returned NaN, in fp32 too")
    return Picture(pixels, seconds, shape)


def _failure(error: Exception) -> Failure:
    return Failure("RENDER_ERROR", f"{type(error).__name__}: {error}")
