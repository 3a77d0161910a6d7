"""The job file: defaults, ranges, overrides, and mistakes that name their key and the nearest right one."""

import pickle

import pytest

from batchgen.columns import MAX_SEED
from batchgen.errors import Refused
from batchgen.job import Job
from batchgen.job.file import job_from, load_job

SMALLEST = {"input": {"path": "prompts.parquet"}, "output": {"path": "out"}}


def job(**sections):
    return job_from({name: {**SMALLEST.get(name, {}), **sections.get(name, {})} for name in {*SMALLEST, *sections}})


def mistakes(**sections):
    with pytest.raises(Refused) as error:
        job(**sections)
    return str(error.value)


def load(tmp_path, text, *overrides):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return load_job(path, [*overrides])


def test_the_smallest_job_takes_everything_from_the_preset():
    sampling = job().sampling
    assert (sampling.height, sampling.width, sampling.num_inference_steps) == (1024, 1024, 40)
    assert (sampling.guidance_scale, sampling.max_sequence_length) == (4.5, 256)
    assert job().model.dtype == "bfloat16"


def test_the_job_overrides_the_preset():
    found = job(model={"preset": "fake"}, sampling={"height": 128})
    assert (found.sampling.height, found.sampling.width, found.model.dtype) == (128, 64, "float32")


def test_a_job_is_frozen_and_travels():
    found = job()
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(ValueError, match="frozen"):
        found.sampling.height = 3


@pytest.mark.parametrize("section", ["sweep", "cluster", "errors", "sampling", "model"])
def test_an_empty_section_is_as_good_as_none(tmp_path, section):
    assert load(tmp_path, f"input: {{path: p}}\noutput: {{path: o}}\n{section}:\n") == job_from(
        {"input": {"path": "p"}, "output": {"path": "o"}}
    )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sampling": {"heigth": 512}}, "job: sampling.heigth: unknown key. Did you mean height?"),
        ({"cluster": {"renderers": {"minsize": 1}}}, "cluster.renderers.minsize: unknown key. Did you mean min_size?"),
        ({"bogus": {}}, "job: bogus: unknown key. There are: input, model, sampling, sweep, refine, output"),
        ({"sampling": {"steps": 4}}, "job: sampling.steps: unknown key. Did you mean num_inference_steps?"),
        ({"sampling": {"cfg": 4}}, "job: sampling.cfg: unknown key. Did you mean guidance_scale?"),
        (
            {"sweep": {"zip": {"shift": [1.0], "guidance_scale": [1.0, 2.0]}}},
            "sweep: zip takes lists of one length: guidance_scale has 2, shift has 1.",
        ),
        (
            {"sweep": {"refine": [True, False]}},
            "sweep.refine turns the second pass on and off: say in a section refine",
        ),
        ({"sweep": {"zip": {"shift": [1.0]}, "shift": [1.0, 2.0]}}, "sweep: shift stands in zip too: keep one."),
        ({"sweep": {"zip": {"shift": [1.0, 1.0]}}}, "sweep: two cells say the same"),
        ({"sweep": {"cells": {"a": {"shift": 1}}, "height": [512]}}, "cells says all that varies: say height in each"),
        ({"sweep": {"cells": {"a": {"shift": 1}, "b": {"shift": 1}}}}, "sweep: two cells say the same"),
        (
            {"sweep": {"cells": {"a": {"sampelr": "euler"}}}},
            "job: sweep.cells.a.sampelr: unknown key. Did you mean sampler? There are: height, width,",
        ),
        (
            {"sweep": {"cells": {"a": {"guidance_stop": 0.0}}}},
            "sweep: cell a: guidance_start to guidance_stop holds",
        ),
        ({"sweep": {"cells": {"a": {"adapter": "ink"}}}}, "adapter 'ink' is not in model.adapters"),
        ({"sweep": {"sigmas": [1.0]}}, "job: sweep.sigmas: unknown key. There are: height, width,"),
        (
            {"sweep": {"cfg": [4]}},
            "job: sweep.cfg: unknown key. Did you mean guidance_scale? There are: height, width,",
        ),
        ({"sweep": {"sampler": ["euler", "heun"]}}, "job: sweep.sampler.1: Input should be 'euler', 'dpmpp_2m'"),
        (
            {"sweep": {"skip_guidance_layers": [[7], [7]]}},
            "skip_guidance_layers has '[7]' twice: keep one.",
        ),
        (
            {"sweep": {"skip_guidance_layers": [[30]]}},
            "cell skip_guidance_layers=[30]: skip_guidance_layers [30]: sd3.5",
        ),
        (
            {"sweep": {"guidance_start": [0.1, 0.9], "guidance_stop": [0.5, 1.0]}},
            "sweep: cell guidance_start=0.9,guidance_stop=0.5: guidance_start is larger than guidance_stop.",
        ),
        (
            {"sampling": {"sigmas": [1.0, 0.5]}, "sweep": {"schedule": ["normal", "beta"]}},
            "sweep: cell schedule=beta: sigmas are the levels, and schedule: beta would make others.",
        ),
        (
            {
                "model": {"preset": "diffusers", "engine": "diffusers", "pretrained_model_name_or_path": "x"},
                "sampling": {"height": 512, "width": 512},
                "sweep": {"shift": [1.0]},
            },
            "does not give sweep.shift",
        ),
        ({"model": {"preset": "sd35-medium"}}, "Did you mean sd3.5-medium?"),
        ({"model": {"preset": ["x"]}}, "is not known"),
        ({"sampling": {"height": 8}}, "sampling.height: Input should be greater than or equal to 16 (given: 8)"),
        ({"sampling": {"guidance_scale": float("nan")}}, "sampling.guidance_scale"),
        ({"sampling": {"guidance_scale": float("inf")}}, "sampling.guidance_scale"),
        ({"sampling": {"seed": -1}}, "sampling.seed"),
        ({"sampling": {"seed": MAX_SEED + 1}}, "sampling.seed"),
        ({"sampling": {"num_inference_steps": 201}}, "sampling.num_inference_steps"),
        ({"sampling": {"max_sequence_length": 513}}, "sampling.max_sequence_length"),
        ({"sampling": {"seeds": [1, 2], "num_images_per_prompt": 3}}, "give one seed per image"),
        ({"sampling": {"seeds": []}}, "seeds has 0 entries"),
        ({"sweep": {"height": [512, 512]}}, "sweep: height has '512' twice: keep one."),
        ({"sweep": {"width": []}}, "sweep: width needs at least one value"),
        ({"sweep": {"seed": [1]}}, "sweep.seed: unknown key"),
        (
            {"sweep": {"kernels": ["eager", "compiled"]}},
            "sweep.kernels: is of the model, of which a sweep has one: write several in place of the section model, "
            "models: {one: {kernels: ...}, other: {kernels: ...}}.",
        ),
        ({"sweep": {"reuse": [{}, {"blocks_every": 1}]}}, "sweep: reuse has 'none' twice: keep one."),
        ({"sweep": {"reuse": {"blocks_every": 2}}}, "sweep.reuse: is a list: write [{'blocks_every': 2}, ...]."),
        (
            {"sweep": {"reuse": [{"block_every": 2}]}},
            "sweep.reuse.0.block_every: unknown key. Did you mean blocks_every?",
        ),
        ({"sampling": {"reuse": 2}}, "sampling.reuse: is a section, not 2: write keys in it. There are: blocks_every,"),
        ({"sampling": {"reuse": {"blocks_every": 1}}}, "sampling.reuse: 1 is every step, so nothing is reused"),
        (
            {"cluster": {"renderers": 0}},
            "cluster.renderers: is a section, not 0: write keys in it. There are: min_size,",
        ),
        ({"output": {"path": "o", "image_format": "webp", "image_quality": 0}}, "output.image_quality"),
        ({"output": {"path": "o", "image_quality": 80}}, "job: output: image_quality is for webp and jpeg; png loses"),
        ({"cluster": {"renderers": {"min_size": 3, "max_size": 2}}}, "min_size 3 is larger than max_size 2"),
        (
            {"model": {"preset": "sd3.5-large"}, "sampling": {"skip_layer_guidance_scale": 2.8}},
            "sd3.5-large names no layers: write sampling.skip_guidance_layers",
        ),
        ({"errors": {"on_overflow": {"clip": "drop"}}}, "errors.on_overflow.clip"),
        ({"input": {"columns": {"caption": "promt"}}}, "Did you mean prompt?"),
        ({"input": {"columns": {"a": "prompt", "b": "prompt"}}}, "columns maps several columns to prompt. Keep one."),
        (
            {"sweep": {"guidance_scale": [1.0]}, "input": {"columns": {"cfg": "guidance_scale"}}},
            "sweep and input.columns both set guidance_scale",
        ),
    ],
)
def test_a_mistake_names_its_key_and_what_to_write(sections, message):
    assert message in mistakes(**sections)


def test_all_mistakes_are_told_at_once():
    text = mistakes(sampling={"height": 1, "wdith": 2}, errors={"bad_rows": "ignore"})
    assert text.startswith("3 problems:")


def test_a_value_of_several_types_is_one_mistake():
    assert "problems" not in mistakes(model={"batch_size": "many"})


def test_required_sections_are_named():
    with pytest.raises(Refused, match="input: is required"):
        job_from({"output": {"path": "x"}})


def test_seeds_say_how_many_images():
    assert job(sampling={"seeds": [5, 6, 7]}).sampling.num_images_per_prompt == 3


def test_a_column_may_make_room_for_a_name_of_ours():
    columns = {"caption": "prompt", "prompt": "source_prompt", "image_id": "old_id"}
    assert job(input={"columns": columns}).input.columns == columns


@pytest.mark.parametrize("columns", [{"mine": "yours"}, {"prompt": "image_id"}, {"image_id": ""}])
def test_other_renamings_are_typing_errors(columns):
    assert "which batchgen does not know" in mistakes(input={"columns": columns})


def test_cells_are_all_combinations_in_order():
    cells = job(sweep={"guidance_scale": [3.0, 4.5], "height": [512, 1024]}).sweep.by_cell()
    assert list(cells) == [
        "height=512,guidance_scale=3.0",
        "height=512,guidance_scale=4.5",
        "height=1024,guidance_scale=3.0",
        "height=1024,guidance_scale=4.5",
    ]
    assert cells["height=512,guidance_scale=4.5"] == {"height": 512, "guidance_scale": 4.5}
    assert job().sweep.by_cell() == {"default": {}}


@pytest.mark.parametrize(
    ("override", "value"),
    [("sampling.height=512", 512), ("sampling.seeds=[1, 2]", [1, 2]), ("cluster.num_gpus=null", None)],
)
def test_overrides_are_yaml(tmp_path, override, value):
    found = load(tmp_path, "input: {path: p}\noutput: {path: o}\nsampling:\n", override)
    section, key = override.split("=")[0].split(".")
    assert getattr(getattr(found, section), key) == value


@pytest.mark.parametrize("override", ["sampling.height", "sampling.height=[", "input.path.x=1"])
def test_bad_overrides_say_so(tmp_path, override):
    with pytest.raises(Refused, match="--set"):
        load(tmp_path, "input: {path: p}\noutput: {path: o}\n", override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a job file is a mapping"),
        ("[]", "a job file is a mapping"),
        ("a: [", "is not YAML"),
        ("input: {path: a}\ninput: {path: b}\n", "the key 'input' stands twice"),
        ("input: {path: a, path: b}\n", "the key 'path' stands twice"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_files_that_are_no_job(tmp_path, text, message):
    with pytest.raises(Refused, match=message):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Refused, match=r"nowhere\.yaml: cannot be read"):
        load_job(tmp_path / "nowhere.yaml")


def test_editors_get_a_json_schema():
    properties = Job.model_json_schema()["properties"]
    assert {"input", "model", "sampling", "sweep", "output", "errors", "cluster"} <= set(properties)
