"""Steps of a pass → the shares of all steps by which a job file names them, in as few decimals as will do.

Knows how batchgen counts steps (job.steps), and nothing of ComfyUI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from batchgen.job.steps import first_step, skip_layer_steps

DIGITS = range(1, 9)


def shortest(candidates: Iterable[float], fits: Callable[[float], bool]) -> float:
    """The first number that fits. Candidates come in the order of preference: usually with more and more digits."""
    return next(share for share in candidates if fits(share))


def rounded(share: float) -> Iterator[float]:
    return (round(share, digits) for digits in DIGITS)


def strength(run: int, steps: int, near: float = 1.0) -> float:
    """refine.strength at which the last `run` of `steps` run. near: taken if it does that, like denoise of ComfyUI."""
    down = (int(run / steps * 10**digits) / 10**digits for digits in DIGITS)
    middle = (run - 0.5) / steps  # where no short one survives the rounding of a product
    return shortest((near, *down, middle), lambda share: share > 0 and steps - first_step(steps, share) == run)


def guidance(step: int, steps: int) -> float:
    """guidance_start or guidance_stop for this step, counted from 0: int(share * steps), as job.steps counts."""
    up = (-(-step * 10**digits // steps) / 10**digits for digits in DIGITS)
    middle = rounded((step + 0.5) / steps)  # 0.29 * 100 is less than 29
    return shortest((*up, *middle), lambda share: int(share * steps) == step)


def skip_window(inside: range, steps: int, near: tuple[float, float]) -> tuple[float, float]:
    """skip_layer_guidance_start and _stop for just these steps. inside: not empty, without step 0.

    near: taken where it fits, like the percentages of ComfyUI.
    """
    first, last = inside[0], inside[-1]
    starts, stops = rounded((first - 0.5) / steps), rounded((last + 0.5) / steps)
    start = shortest((near[0], *starts), lambda share: len(skip_layer_steps(steps, share, 1.0)) == steps - first)
    stop = shortest((near[1], *stops), lambda share: len(skip_layer_steps(steps, 0.0, share)) == last)
    return start, stop
