"""`engine: diffusers`: other models through their own call, with what that promises and what it refuses."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path

import diffusers
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import batchgen
from batchgen import session
from batchgen.engines import load_renderer
from batchgen.job.file import load_job
from batchgen.job.pipelines import ALSO_TEXT_TO_IMAGE, KNOWN, Pipeline
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.job.signature import parameters_of, text_to_image
from batchgen.look import show
from batchgen.plan.preflight import prepare
from batchgen.weights.digests import digest_of
from batchgen.weights.parts import checked
from tests.models import tiny
from tests.specs import spec_of
from tests.test_preview import rendered

ROOT = Path(__file__).parents[2]
EXAMPLE = "jobs/configs/compare-sdxl.yaml"
NAMES = [*tiny.MAKERS]
# EulerDiscreteScheduler of diffusers 0.42.1 hands torch's tensors to numpy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    return {name: tiny.save(name, tmp_path_factory.mktemp(name)) for name in NAMES}


def load(directory, **model):
    values = {"preset": "diffusers", "dtype": "float32"} | model
    values["pretrained_model_name_or_path"] = str(directory)
    return load_renderer(spec_of(path=str(directory), digest=digest_of(checked(directory, (), "diffusers")), **values))


@pytest.fixture(scope="session")
def renderers(saved, one_thread):
    return {name: load(directory) for name, directory in saved.items()}


def render(renderer, rows):
    latents = renderer.denoise(rows, renderer.encode(rows))
    assert renderer.finite(latents) == [True] * len(rows)
    return renderer.decode(latents, range(len(rows)))


def rows_of(make_row, count=2, **changes):
    return [make_row(i, **{"height": 32, "width": 48, "num_inference_steps": 2} | changes) for i in range(count)]


def theirs(pipe, rows, **more):
    """A call of one's own with the same parameters: what a person would write."""
    pipe.set_progress_bar_config(disable=True)
    row = rows[0]
    images = pipe(
        [row.prompt for row in rows],
        height=row.height,
        width=row.width,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(row.seed) for row in rows],
        **more,
    ).images
    return [np.asarray(image) for image in images]


# --- parity with a call of one's own


CASES = {
    "sdxl": ("sdxl", {}, {}),
    "sdxl, unguided": ("sdxl", {"guidance_scale": 1.0}, {}),
    "sdxl, negative": ("sdxl", {"negative_prompt": "grey"}, {"negative_prompt": ["grey"] * 2}),
    "sdxl, two texts": (
        "sdxl",
        {"prompt_2": "a blue cat", "negative_prompt_2": "grey"},
        {"prompt_2": ["a blue cat"] * 2, "negative_prompt": [""] * 2, "negative_prompt_2": ["grey"] * 2},
    ),
    "flux": ("flux", {}, {"max_sequence_length": 16}),
    "flux, two texts": (
        "flux",
        {"prompt_2": "a blue cat", "max_sequence_length": 32},
        {"prompt_2": ["a blue cat"] * 2, "max_sequence_length": 32},
    ),
    "sd15": ("sd15", {}, {}),
    "pixart": ("pixart", {"negative_prompt": "grey"}, {"negative_prompt": ["grey"] * 2, "max_sequence_length": 16}),
    "sd15, negative": ("sd15", {"negative_prompt": "grey"}, {"negative_prompt": ["grey"] * 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_those_of_the_pipelines_own_call(renderers, saved, make_row, case):
    name, changes, arguments = CASES[case]
    rows = rows_of(make_row, **changes)
    pipe = type(renderers[name].pipe).from_pretrained(saved[name], dtype=torch.float32, use_safetensors=True)
    for ours, image in zip(render(renderers[name], rows), theirs(pipe, rows, **arguments), strict=True):
        assert ours.dtype == np.uint8
        assert ours.shape == (32, 48, 3)
        assert np.array_equal(ours, image)


def test_sd3_through_its_own_call(pipe, make_row, one_thread):
    """The same weights as the demo checkpoint's, for a comparison of the two engines."""
    rows = rows_of(make_row, negative_prompt="grey", height=64, num_inference_steps=3)
    ours = render(load(DEMO_CHECKPOINT, preset="demo", engine="diffusers"), rows)
    pipe.vae.disable_slicing()
    try:
        images = theirs(pipe, rows, negative_prompt=["grey"] * 2, max_sequence_length=16)
    finally:
        pipe.vae.enable_slicing()
    assert all(np.array_equal(one, other) for one, other in zip(ours, images, strict=True))


# --- rows for themselves


@pytest.mark.parametrize("name", NAMES)
def test_the_same_batch_shape_gives_a_row_the_same_bytes(renderers, make_row, name):
    """What promise P2 comes to here: of pipelines that pad prompts to a fixed length."""
    renderer, rows = renderers[name], rows_of(make_row, 3)
    pictures = render(renderer, rows)
    assert all(map(np.array_equal, render(renderer, rows), pictures))
    strangers = rows_of(make_row, 3, prompt="something that is longer than the others are, by a few words")
    assert np.array_equal(render(renderer, [strangers[1], rows[2], strangers[0]])[1], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "changes", [{"seed": 5}, {"prompt": "a green dog"}, {"guidance_scale": 9.0}, {"num_inference_steps": 3}]
)
def test_each_parameter_changes_the_picture(renderers, make_row, name, changes):
    """So that the parity above is not that of two calls that both ignore it."""
    (plain,), (changed,) = (render(renderers[name], rows_of(make_row, 1, **more)) for more in ({}, changes))
    assert not np.array_equal(plain, changed)


@pytest.mark.parametrize("changes", [{"guidance_scale": 2.0}, {"negative_prompt": "grey"}, {"width": 32}])
def test_rows_that_no_call_can_share_are_refused(renderers, make_row, changes):
    rows = [*rows_of(make_row, 1), *rows_of(make_row, 1, **changes)]
    with pytest.raises(ValueError, match="rows of one call differ"):
        renderers["sdxl"].denoise(rows, rows)


def test_a_negative_prompt_that_would_be_ignored_fails_its_row(renderers, make_row):
    rows = rows_of(make_row, 1, negative_prompt="grey")
    with pytest.raises(ValueError, match="FluxPipeline takes no negative prompt"):
        renderers["flux"].denoise(rows, rows)


def test_nan_is_seen(renderers, make_row):
    latents = renderers["sdxl"].denoise(rows_of(make_row), rows_of(make_row))
    latents[1, 3, 3, 0] = np.nan
    assert renderers["sdxl"].finite(latents) == [True, False]


def test_sigmas_are_recorded_where_they_are_the_steps(saved, make_row):
    renderer = load(saved["sdxl"])
    row, longer = rows_of(make_row, 1)[0], make_row(num_inference_steps=3)
    assert renderer.sigmas(row) == []
    render(renderer, rows_of(make_row, 1))
    assert renderer.sigmas(row) == [float(sigma) for sigma in renderer.pipe.scheduler.sigmas]
    assert (len(renderer.sigmas(row)), renderer.sigmas(longer)) == (3, [])


def test_sigmas_that_depend_on_the_size_are_not(renderers, make_row):
    render(renderers["flux"], rows_of(make_row, 1))
    assert renderers["flux"].sigmas(rows_of(make_row, 1)[0]) == []


def test_dtypes_by_component(saved):
    pipe = load(saved["sd15"], dtype={"default": "float32", "transformer": "bfloat16"}).pipe
    assert (pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype) == (torch.bfloat16, torch.float32, torch.float32)


# --- what is known without torch is what torch would say


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_signatures_are_read_as_they_are(name):
    parameters = set(inspect.signature(getattr(diffusers, name).__call__).parameters) - {"self", "kwargs"}
    assert parameters_of(name) == parameters


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # Kolors, when imported
def test_the_list_of_text_to_image_pipelines_is_diffusers_own():
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    offered = {kind.__name__ for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}  # Kolors where its tokenizer is
    assert text_to_image() - ALSO_TEXT_TO_IMAGE == offered - ALSO_TEXT_TO_IMAGE


def test_what_pipelines_take():
    assert Pipeline.named("FluxPipeline").lacks == [
        "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3",
    ]  # fmt: skip
    assert Pipeline.named("StableDiffusionXLPipeline").lacks == ["prompt_3", "negative_prompt_3", "max_sequence_length"]
    assert Pipeline.named("StableDiffusion3Pipeline").lacks == []


# --- the whole way


def test_the_example_renders_with_weights_of_its_layout(saved, tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(ROOT)
    small = {"height": 64, "width": 64, "num_inference_steps": 1}
    changes = [f"sampling.{name}={value}" for name, value in small.items()]
    changes += [f"model.pretrained_model_name_or_path={saved['sdxl']}", f"output.path={tmp_path / 'run'}"]
    assert load_job(EXAMPLE).model.pretrained_model_name_or_path == "stabilityai/stable-diffusion-xl-base-1.0"
    _, pictures = rendered(prepare(load_job(EXAMPLE, changes)))
    assert len(set(pictures.values())) == len((ROOT / "jobs/configs/captions.txt").read_text().splitlines())


@pytest.mark.usefixtures("ray_session")
def test_a_run_of_another_model(make_job, console, saved):
    rows = [
        {"prompt": f"prompt {i}", "guidance_scale": 2.0 + i % 2, "negative_prompt": "grey" if i > 3 else ""}
        for i in range(6)
    ]
    model = {"preset": "diffusers", "pretrained_model_name_or_path": str(saved["sdxl"]), "dtype": "float32"}
    job = make_job(rows, model=model, sampling={"num_inference_steps": 2, "height": 64, "width": 64})
    finished = session.render(job, console)
    assert (finished.totals.images, finished.totals.failed) == (6, 0)
    table = pq.read_table(f"{job.output.path}/data")
    assert Counter(table["guidance_scale"].to_pylist()) == {2.0: 3, 3.0: 3}
    assert len(set(table["pixel_sha256"].to_pylist())) == 6
    assert table["tokens_t5"].null_count == 6
    assert table["tokens_clip_l"].null_count == 0
    metadata = pq.read_table(f"{job.output.path}/metadata")
    settings = json.loads(metadata["settings"][0].as_py())
    assert (settings["model"]["engine"], settings["pipeline"]) == ("diffusers", "StableDiffusionXLPipeline")
    assert {len(sigmas) for sigmas in metadata["sigmas"].to_pylist()} == {3}
    _draws_it_again(batchgen.open(job.output.path))


def _draws_it_again(results):
    """What `batchgen show` prints: up to the rounding of another batch size, the same picture."""
    table = results.to_pandas()
    row = results.row(table["image_id"][table["negative_prompt"] == "grey"].iloc[0])
    code = show.snippet(row)
    assert "StableDiffusionXLPipeline.from_pretrained" in code
    names = {}
    exec(code, names)
    again = np.asarray(names["image"]).astype(int)
    assert np.abs(again - np.asarray(results.image(row["image_id"]))).max() <= 1
