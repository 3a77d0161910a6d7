"""What share of the time a device works while shards are rendered as batchgen does it: pictures compressed beside it.

Three shards through `rendering.batches` and threads that compress, against the bare loop over the same batches. Knows
no Ray and no store.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from on_gpu.model_in_hand import Model, rounded

from batchgen.engines.protocol import ImageRow
from batchgen.job import Output

SHARDS, BATCHES = 3, 2
NEEDED = ("pyarrow", "imagehash")


def busy(model: Model, side: int, steps: int) -> dict[str, Any]:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        return {
            "left_out": f"{' and '.join(missing)} not installed, by which batchgen compresses and looks at pictures"
        }
    count = model.batch_size(side)
    shards = [model.rows(side, BATCHES * count, steps, first=1000 * number) for number in range(SHARDS)]
    model.use({})
    bare = model.watch.seconds(lambda: _bare(model, shards, count))
    model.renderer.prompts.cache.clear()
    whole, pictures = model.watch.timed(lambda: _as_batchgen(model, shards, count))
    return {
        "shards": SHARDS,
        "images": len(pictures),
        "num_inference_steps": steps,
        "bare_s": rounded(bare),
        "whole_s": rounded(whole),
        "busy_share": rounded(bare / whole),
    }


def _bare(model: Model, shards: list[list[ImageRow]], count: int) -> None:
    """Encode, denoise and decode, in one thread, and keep nothing."""
    for rows in shards:
        embeds = model.encode_anew(rows)
        for start in range(0, len(rows), count):
            batch = slice(start, start + count)
            latents = model.renderer.denoise(rows[batch], embeds[batch])
            model.renderer.decode(latents, range(count))


def _as_batchgen(model: Model, shards: list[list[ImageRow]], count: int) -> list[Any]:
    from batchgen.rendering.attempt import finish
    from batchgen.rendering.batches import Batches
    from batchgen.rendering.worker import COMPRESSION_THREADS

    with ThreadPoolExecutor(COMPRESSION_THREADS) as pool, ThreadPoolExecutor(1) as ahead:
        batches, pending = Batches(model.renderer, ahead), list[Future[Any]]()
        for rows in shards:
            outcomes = [outcome for batch in batches.render(rows, count) for outcome in batch]
            pending += [
                pool.submit(finish, row, outcome, planned=count, attempt=1, output=Output(path="-"))
                for row, outcome in zip(rows, outcomes, strict=True)
            ]
        return [one.result() for one in pending]
