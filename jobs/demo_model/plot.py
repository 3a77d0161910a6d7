"""A loss curve as a picture: one dot a step, a line through the means, both axes labelled. Knows Pillow only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 800, 400, 50


def plot(losses: Sequence[float], file: Path, title: str) -> None:
    """Writes a PNG; the loss axis is logarithmic, from the smallest mean to the largest."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    brush = ImageDraw.Draw(image)
    bins = [
        losses[start : start + max(len(losses) // 200, 1)]
        for start in range(0, len(losses), max(len(losses) // 200, 1))
    ]
    means = [sum(part) / len(part) for part in bins]
    if not means:
        return
    low, high = math.log(min(means)), math.log(max(max(means), min(means) * 1.01))

    def place(position: float, loss: float) -> tuple[float, float]:
        share = min(max((math.log(max(loss, 1e-9)) - low) / (high - low), 0), 1)
        return MARGIN + position * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    for index, loss in enumerate(losses):
        brush.point(place(index / len(losses), loss), fill="lightsteelblue")
    brush.line([place(index / len(means), mean) for index, mean in enumerate(means)], fill="navy", width=2)
    brush.rectangle((MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), outline="grey")
    for share in (0, 0.25, 0.5, 0.75, 1):
        loss = math.exp(low + share * (high - low))
        brush.text((6, place(0, loss)[1] - 6), f"{loss:.3g}", fill="black")
        brush.text((place(share, 1)[0] - 10, HEIGHT - MARGIN + 8), f"{round(share * len(losses)):,}", fill="black")
    brush.text((MARGIN, 20), f"{title}: loss by step (last mean {means[-1]:.4g})", fill="black")
    image.save(file)
