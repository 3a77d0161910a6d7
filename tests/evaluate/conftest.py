"""A finished run of the fake renderer with two settings and scores, made without Ray."""

import pytest

from batchgen.evaluate.scores import About, write_part
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here


@pytest.fixture
def scored(make_job):
    """scored(prompts=8, **sections): guidance 1 and 4.5, and a score of `oracle` that is higher for the second.

    prompts: how many, or their texts.
    """

    def make(prompts=8, out="run", scores=True, **sections):
        texts = [f"prompt {i}" for i in range(prompts)] if isinstance(prompts, int) else prompts
        rows = [{"prompt": text, "category": f"kind {i % 2}", "seed": i} for i, text in enumerate(texts)]
        job = make_job(rows, out=out, **{"sweep": {"guidance_scale": [1.0, 4.5]}} | sections)
        run = render_here(make_plan(prepare(job))[0])
        if scores:
            frame = Results(run.store.url).to_pandas()
            found = [
                {"image_id": row.image_id, "score": float(row.seed % 3) + row.guidance_scale}
                for row in frame.itertuples()
            ]
            write_part(run.store, About(scorer="oracle", version="1"), found)
        return run

    return make
