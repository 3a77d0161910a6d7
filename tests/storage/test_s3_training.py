"""A run on S3 is read for training by processes of their own, and goes on where it was stopped."""

from torch.utils.data import DataLoader

import batchgen
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here


def test_workers_read_from_the_store(s3_url, make_job):
    rows = [{"prompt": f"a prompt {number}", "height": 32 + 16 * (number % 2), "width": 32} for number in range(8)]
    url = f"{s3_url}/run"
    render_here(make_plan(prepare(make_job(rows, output={"path": url, "images_per_shard": 3})))[0])
    data = batchgen.open(url).torch(["prompt"], batch_size=2, shuffle=True)
    had = []
    for batch in DataLoader(data, batch_size=None, num_workers=2):
        data.mark(batch)
        had += batch["prompt"]
        if len(had) == 4:
            break
    again = batchgen.open(url).torch(["prompt"], batch_size=2, shuffle=True)
    again.load_state_dict(data.state_dict())
    for batch in DataLoader(again, batch_size=None, num_workers=2):
        assert batch["image"].shape[:2] == (2, 3)
        had += batch["prompt"]
    assert sorted(had) == [row["prompt"] for row in rows]
