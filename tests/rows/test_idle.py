"""What would do nothing is refused or told, and each hint leads to a job that does what it says."""

import json

import pytest

from batchgen import report
from batchgen.demo import demo_job
from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.job.steps import guided_and_skipping
from batchgen.plan.graph import survey
from batchgen.plan.preflight import prepare

LAYERS = {"skip_layer_guidance_scale": 2.5}


def refusal(job):
    with pytest.raises(Refused) as error:
        survey(prepare(job))
    return str(error.value)


def notices(job):
    return "\n".join(prepare(job).notices)


@pytest.fixture
def depth(tmp_path, monkeypatch):
    """depth(n): weights of one's own for sd3.5-medium, of which only configs matter here, with n layers."""
    from batchgen.run.found_model import FoundModel

    def write(layers):
        config = tmp_path / "model/transformer/config.json"
        config.parent.mkdir(parents=True, exist_ok=True)
        for part in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            if not (config.parent.parent / part).exists():
                (config.parent.parent / part).symlink_to(DEMO_CHECKPOINT / part)
        config.write_text(json.dumps({"num_layers": layers, "pos_embed_max_size": 384, "patch_size": 2}))
        found = FoundModel("m", None, "d", config.parent.parent)
        monkeypatch.setattr("batchgen.plan.preflight.locate", lambda model, look_only: found)
        return {"preset": "sd3.5-medium", "pretrained_model_name_or_path": "/mine"}

    return write


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"sampling": LAYERS}, "sampling: skip-layer guidance, from 0.01 to 0.2, holds none of the 4 steps"),
        ({"sampling": LAYERS | {"num_inference_steps": 5}}, "none of the 5 steps"),
        ({"sweep": {"skip_layer_guidance_scale": [0.0, 2.5]}}, "sweep: cell skip_layer_guidance_scale=2.5: skip-layer"),
        ({"sampling": LAYERS, "sweep": {"num_inference_steps": [4, 20]}}, "sweep: cell num_inference_steps=4: skip"),
        ({"sampling": {"guidance_scale": 1.0, "guidance_stop": 0.1}, "sweep": {"guidance_scale": [3.0]}},
         "sweep: cell guidance_scale=3.0: guidance_start to guidance_stop holds none of the 4 steps"),
        ({"sampling": LAYERS | {"num_inference_steps": 20, "guidance_start": 0.5}}, "skip-layer guidance, from 0.01"),
    ],
)  # fmt: skip
def test_a_window_without_a_step_is_refused(make_job, sections, says):
    assert says in refusal(make_job(["a"], **sections))


@pytest.mark.parametrize(
    ("row", "sampling", "says"),
    [
        ({"skip_layer_guidance_scale": 2.5}, {}, "skip-layer guidance, from 0.01 to 0.2, holds none of the 4 steps"),
        ({"num_inference_steps": 5}, LAYERS | {"num_inference_steps": 20}, "none of the 5 steps"),
        ({"guidance_scale": 3.0}, {"guidance_scale": 1.0, "guidance_stop": 0.1}, "guidance_start to guidance_stop"),
    ],
)
def test_a_row_without_such_a_step_is_a_bad_row(make_job, row, sampling, says):
    job = make_job(["a", {"prompt": "b"} | row], sampling=sampling)
    text = refusal(job)
    assert "line 2" in text
    assert says in text
    skipping = survey(prepare(make_job(["a", {"prompt": "b"} | row], sampling=sampling, errors={"bad_rows": "skip"})))
    assert (skipping.images, skipping.codes) == (1, {"BAD_GUIDANCE": 1})


def test_its_hints_lead_to_steps(make_job):
    """'write a larger sampling.skip_layer_guidance_stop, or skip_layer_guidance_scale: 0'; 'widen it'; '... 1'."""
    text = refusal(make_job(["a"], sampling=LAYERS))
    assert "write a larger sampling.skip_layer_guidance_stop, or skip_layer_guidance_scale: 0" in text
    wider = make_job(["a"], sampling=LAYERS | {"skip_layer_guidance_stop": 0.6})
    assert guided_and_skipping(4, wider.sampling)[1] == [1, 2]
    for job in (wider, make_job(["a"], sampling={"skip_layer_guidance_scale": 0})):
        assert survey(prepare(job)).images == 1
    narrow = {"guidance_scale": 1.0, "guidance_stop": 0.1}
    sweep = {"guidance_scale": [3.0]}
    assert "widen it, or write guidance_scale: 1" in refusal(make_job(["a"], sampling=narrow, sweep=sweep))
    assert survey(prepare(make_job(["a"], sampling=narrow | {"guidance_stop": 0.5}, sweep=sweep))).images == 1
    assert survey(prepare(make_job(["a"], sampling=narrow, sweep={"guidance_scale": [1]}))).images == 1


def test_rows_have_the_steps_of_the_levels(make_job):
    rows = [{"prompt": "a", "num_inference_steps": steps} for steps in (1, 3, None, 8)]
    text = refusal(make_job(rows, sampling={"sigmas": [1.0, 0.7, 0.3]}))
    assert "2 problems" in text
    assert "column num_inference_steps is 8, but sampling.sigmas has 3 levels: leave it empty, or write 3" in text
    mended = make_job([rows[1], rows[2]], sampling={"sigmas": [1.0, 0.7, 0.3]})
    assert survey(prepare(mended)).images == 2


def test_skip_layers_are_compared_with_the_checkpoint(make_job, depth):
    few = depth(2)
    sizes = {"height": 512, "width": 512}
    job = make_job(["a"], model=few, sampling=LAYERS | sizes)
    assert "[7, 8, 9]: the model has layers 0 to 1. Name some of these." in refusal(job)
    column = make_job([{"prompt": "a", "skip_layer_guidance_scale": 2.5}], model=few, sampling=sizes)
    assert "the model has layers 0 to 1" in refusal(column)
    for sampling in ({}, LAYERS | {"skip_guidance_layers": [0, 1]}):
        assert survey(prepare(make_job(["a"], model=few, sampling=sampling | sizes))).images == 1
    deep = make_job(["a"], model=depth(40), sampling=LAYERS | {"skip_guidance_layers": [39]} | sizes)
    assert survey(prepare(deep)).images == 1


def test_a_layer_that_is_named_twice_costs_once(make_job):
    sampling = LAYERS | {"num_inference_steps": 20}
    once, thrice = (make_job(["a"], sampling=sampling | {"skip_guidance_layers": layers}) for layers in ([1], [1] * 3))
    assert survey(prepare(once)).tflop == survey(prepare(thrice)).tflop


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        ({"sigmas": [1.0, 1.0 - 1e-9, 0.5]}, "sampling.sigmas: 1.0 and 0.999999999 are one level in 32 bits"),
        ({"sigmas": [1.0, 0.5, 0.5 - 1e-9], "shift": 1}, "0.5 and 0.499999999 are one level in 32 bits: leave one out"),
        ({"sigmas": [1.0, 0.5, 1e-60]}, "1e-60 is 0 in 32 bits, which is added at the end anyway"),
    ],
)
def test_levels_that_are_one_in_32_bits(make_job, sampling, says):
    assert says in refusal(make_job(["a"], sampling=sampling))
    sigmas = [sampling["sigmas"][0], 0.5]  # as it says
    assert survey(prepare(make_job(["a"], sampling=sampling | {"sigmas": sigmas}))).images == 1


def test_a_shift_of_nothing_and_no_levels():
    sections = {"input": {"path": "a"}, "output": {"path": "b"}}
    with pytest.raises(Refused, match=r"sampling\.shift: Input should be greater than or equal to 0\.01"):
        job_from(sections | {"sampling": {"shift": 1e-9}})
    with pytest.raises(Refused, match="sigmas is empty: write levels that fall from 1, or leave it out") as error:
        job_from(sections | {"sampling": {"sigmas": []}})
    assert "num_inference_steps: 0" not in str(error.value)


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        ({"guidance_scale": 1, "guidance_stop": 0.5}, "sampling.guidance_stop changes no image: guidance_scale is not"),
        ({"skip_layer_guidance_stop": 0.5}, "sampling.skip_layer_guidance_stop changes no image: skip_layer_guidance"),
        ({"guidance_scale": 1, "negative_prompt": "ugly"}, "sampling.negative_prompt changes no image"),
        ({"seeds": [1], "seed": 3}, "sampling.seed changes no image: sampling.seeds names a seed for each"),
    ],
)
def test_settings_that_change_nothing_are_told(make_job, sampling, says):
    assert says in notices(make_job(["a"], sampling=sampling))


def test_a_lora_that_no_image_uses_is_told(make_job, monkeypatch):
    monkeypatch.setattr("batchgen.plan.preflight.locate_adapters", lambda model, found: {})
    adapters = {"ink": {"path": "ink.safetensors"}}
    assert "model.adapters has ink, which no image uses" in notices(make_job(["a"], model={"adapters": adapters}))
    assert not notices(make_job([{"prompt": "a", "adapter": None}], model={"adapters": adapters}))


def test_what_guidance_that_is_off_does_not_do_is_counted(make_job):
    rows = [{"prompt": "a", "guidance_scale": 1}, {"prompt": "b", "guidance_scale": 3}]
    sampling = LAYERS | {"num_inference_steps": 20, "negative_prompt": "ugly"}
    found = survey(prepare(make_job(rows, sampling=sampling)))
    assert (found.idle["idle_skip_layers"], found.idle["idle_negative"]) == (1, 1)
    refined = survey(prepare(make_job(rows, sampling=sampling, refine={"guidance_scale": 3})))
    assert refined.idle["idle_negative"] == 0


def test_seeds_that_torch_does_not_tell_apart_are_counted(make_job):
    rows = [{"prompt": "a", "seed": seed} for seed in (0, 2**32, 5, 2**33, 5)] + ["no seed"]
    assert survey(prepare(make_job(rows))).same_noise == 2
    assert survey(prepare(make_job(["a"], sampling={"seeds": [7, 7 + 2**32]}))).same_noise == 1
    assert survey(prepare(make_job(rows[2:3] + rows[4:]))).same_noise == 0


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1])
def test_a_seed_of_64_bits_is_refused_with_one_of_the_same_noise(make_job, seed):
    says = f"{seed}: write integers from 0 to {2**63 - 1}, such as {seed % 2**32}, which draws the same noise"
    assert says in refusal(make_job([{"prompt": "a", "seed": seed}]))
    with pytest.raises(Refused, match=str(seed % 2**32)):
        make_job(["a"], sampling={"seeds": [seed]})
    assert survey(prepare(make_job([{"prompt": "a", "seed": seed % 2**32}]))).images == 1


def test_the_demonstration_has_nothing_idle(make_job):
    assert not any("changes no image" in notice for notice in prepare(demo_job("unused-demo-out")).notices)


def test_plan_says_all_of_it(make_job, console):
    rows = [{"prompt": "a", "guidance_scale": 1, "seed": 1}, {"prompt": "b", "seed": 1 + 2**32}]
    sampling = LAYERS | {"num_inference_steps": 20, "negative_prompt": "ugly", "seeds": [5], "seed": 1}
    prepared = prepare(make_job(rows, sampling=sampling))
    report.print_plan(console, prepared, survey(prepared), [])
    text = console.file.getvalue()
    assert "note: sampling.seed changes no image: sampling.seeds names a seed for each." in text
    assert "1 images ask for skip-layer guidance, which does nothing where guidance_scale is not above 1" in text
    assert "1 images have a negative prompt that nothing reads" in text
    assert "1 seeds differ from others by multiples of 2^32, which torch does not see:" in text
