"""What GenAI-Bench's evaluate.py writes with torch is told how to be made JSON of, and that line works as it stands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from batchgen.errors import Refused
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.official import score_from
from batchgen.evaluate.scores import read_scores
from batchgen.export.benchmark_folder import BenchmarkFolder
from batchgen.export.writer import export
from batchgen.look.results import Results
from tests.evaluate.rendered import rendered


def test_following_the_line_to_the_letter(tmp_path):
    prompts = {f"{at:05}": {"prompt": f"a snail on drum {at}"} for at in range(4)}
    (tmp_path / "genai_image.json").write_text(json.dumps(prompts))
    run = rendered(tmp_path, "genai-bench", [tmp_path / "genai_image.json"])
    export(run, str(tmp_path / "out"), BenchmarkFolder(benchmark_named("genai-bench"), "fake"))
    scores = torch.tensor([0.125, 0.25, 0.5, 1.0])
    file = tmp_path / "clip-flant5 xxl_1600_prompts.pt"
    torch.save(scores.reshape(4, 1, 1), file)  # batch_forward: (prompts, images, texts)
    with pytest.raises(Refused, match="it is torch's") as refused:
        score_from(run, "genai-bench", str(file))
    line = str(refused.value).split("make JSON of it: ")[1].removesuffix(").")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(line, shell=True, cwd=tmp_path, check=True, env=os.environ | {"PATH": path})
    score_from(run, "genai-bench", str(file.with_suffix(".json")))
    rows = Results(run.store.url).to_pandas().merge(read_scores(run.store)["genai-bench"].table, on="image_id")
    assert dict(zip(rows["benchmark_id"], rows["score"], strict=True)) == dict(
        zip(prompts, scores.tolist(), strict=True)
    )
