"""What a job or a row asks for and no image would show: refused where an image would say otherwise, else told.

A window of steps without a step in it, layers that the transformer does not have, noise levels that are one level.
Knows settings, prompt rows and the configs of a model; draws nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchgen.errors import Problem, Refused
from batchgen.job import Job, Sampling
from batchgen.job.steps import first_reused, guided_and_skipping, refine_reused
from batchgen.manifest.values import Rows
from batchgen.rows.expansion import Cell
from batchgen.weights.digests import read_json

SETTINGS = ("num_inference_steps", "guidance_scale", "skip_layer_guidance_scale")  # of a row, a cell or the job
SHIFT = 3.0  # of the scheduler of SD3 and SD3.5
SKIP_WINDOW = ("skip_layer_guidance_start", "skip_layer_guidance_stop")


def refuse_idle(job: Job, tokenizers: Path, columns: Collection[str]) -> None:
    """Raises Refused with all that the job asks for in vain. tokenizers: where configs lie. columns: of the table."""
    problems = [*_windows(job), *_layers(job, tokenizers, columns), *_levels(job, tokenizers)]
    if problems:
        raise Refused(problems)


def _windows(job: Job) -> Iterator[Problem]:
    for cell, values in job.sweep.by_cell().items():
        steps, guidance, skipping = (values.get(name, getattr(job.sampling, name)) for name in SETTINGS)
        here = job.in_cell(values)
        text = empty_window(here.sampling, steps, guidance, skipping) or _reuses_nothing(
            here, steps, guidance > 1, guidance > 1 and skipping > 0
        )
        if text:
            yield Problem(f"{text}.", "sampling" if cell == "default" else f"sweep: cell {cell}")


def _reuses_nothing(job: Job, steps: int, is_guided: bool, skips: bool) -> str:
    """The same of what steps take over. A row with fewer steps is no mistake: it is rendered as it is without."""
    reuse = job.sampling.reuse
    passes = [first_reused(job.sampling, steps, is_guided=is_guided, skips_layers=skips)]
    if job.refine:
        passes.append(refine_reused(job.refine, job.sampling))
    blocks = reuse.blocks_every == 1 or any(one.blocks for one in passes)
    is_guided = is_guided or (job.refine is not None and job.refine.guidance_scale > 1)
    guidance = reuse.guidance_every == 1 or not is_guided or any(one.guidance for one in passes)
    if blocks and guidance:
        return ""
    idle = " and ".join(f"{name}_every" for name, there in (("blocks", blocks), ("guidance", guidance)) if not there)
    if steps == 1:
        return f"reuse: {idle} takes nothing over where there is one step: leave it out"
    return (
        f"reuse: {idle} takes nothing over in {steps} steps, from {reuse.start:g} to {reuse.stop:g} of them: "
        "write a smaller number or a wider window, or leave it out"
    )


def empty_window(sampling: Sampling, steps: int, guidance_scale: float, skip_layer_guidance_scale: float) -> str:
    """What is asked for in none of so many steps, and what to write; nothing where all that is asked for happens."""
    if guidance_scale <= 1:
        return ""  # then skip-layer guidance is off too, which the plan says
    guided, skipping = guided_and_skipping(steps, sampling)
    if not guided:
        return f"guidance_start to guidance_stop holds none of the {steps} steps: widen it, or write guidance_scale: 1"
    if skip_layer_guidance_scale > 0 and not skipping:
        start, stop = sampling.skip_layer_guidance_start, sampling.skip_layer_guidance_stop
        return (
            f"skip-layer guidance, from {start:g} to {stop:g}, holds none of the {steps} steps: write a larger "
            "sampling.skip_layer_guidance_stop, or skip_layer_guidance_scale: 0"
        )
    return ""


def _layers(job: Job, tokenizers: Path, columns: Collection[str]) -> Iterator[Problem]:
    """Of weights of one's own; those of a preset the job knows itself."""
    config = read_json(tokenizers / "transformer/config.json")
    count = config.get("num_layers") if isinstance(config, dict) else None
    if not (job.model.has_own_weights and count and skips_layers(job, columns)):
        return
    swept = job.sweep.values_of("skip_guidance_layers")
    where = "sweep" if swept else "sampling"
    for given in swept or [job.sampling.skip_guidance_layers]:
        if max(given, default=0) >= count:
            told = f"{given}: the model has layers 0 to {count - 1}. Name some of these."
            yield Problem(told, f"{where}.skip_guidance_layers")


def skips_layers(job: Job, columns: Collection[str]) -> bool:
    """Whether an image may have skip-layer guidance. columns: of the table."""
    name = "skip_layer_guidance_scale"
    return name in columns or max([getattr(job.sampling, name), *job.sweep.values_of(name)]) > 0


def _levels(job: Job, tokenizers: Path) -> Iterator[Problem]:
    """sampling.sigmas, once for each shift."""
    config = read_json(tokenizers / "scheduler/scheduler_config.json")
    usual = (config.get("shift") if isinstance(config, dict) else None) or SHIFT
    shifts = [job.in_cell(values).sampling.shift or usual for values in job.sweep.by_cell().values()]
    found = [problem for shift in dict.fromkeys(shifts) for problem in _levels_at(job.sampling, shift)]
    yield from dict.fromkeys(found)


def _levels_at(sampling: Sampling, shift: float) -> Iterator[Problem]:
    """sampling.sigmas as FlowMatchEulerDiscreteScheduler of diffusers 0.42.1 shifts them: in 32 bits."""
    if sampling.sigmas is None:
        return
    sigmas = np.array(sampling.sigmas, np.float32)
    levels = shift * sigmas / (1 + (shift - 1) * sigmas)
    wrong = np.flatnonzero(~(levels[:-1] > levels[1:])).tolist()
    for at in wrong:
        one, other = sampling.sigmas[at : at + 2]
        yield Problem(f"{one!r} and {other!r} are one level in 32 bits: leave one out.", "sampling.sigmas")
    if not wrong and not (np.isfinite(levels).all() and levels[-1] > 0):
        yield Problem(f"{sampling.sigmas[-1]!r} is 0 in 32 bits, which is added at the end anyway.", "sampling.sigmas")


def notices(job: Job, columns: Collection[str]) -> Iterator[str]:
    """Settings of the job that decide nothing in any image. columns: of the table."""
    sampling, sweep = job.sampling, job.sweep
    guided = "guidance_scale" in columns or max([sampling.guidance_scale, *sweep.values_of("guidance_scale")]) > 1
    refined = [values.get("refine", True) for values in sweep.by_cell().values()]
    again = job.refine is not None and any(refined) and job.refine.guidance_scale > 1
    if not guided and (asked := _asked(job, ("guidance_start", "guidance_stop", "negative_prompt_stop"))):
        yield f"{_change(asked)} no image: guidance_scale is not above 1."
    if not skips_layers(job, columns) and (asked := _asked(job, (*SKIP_WINDOW, "skip_guidance_layers"))):
        yield f"{_change(asked)} no image: skip_layer_guidance_scale is 0."
    names = ("negative_prompt", "negative_prompt_2", "negative_prompt_3")
    negatives = [f"sampling.{name}" for name in names if getattr(sampling, name)]
    if not guided and not again and negatives:
        yield f"{_change(negatives)} no image: guidance_scale is not above 1."
    reuses = [sampling.reuse, *sweep.values_of("reuse")]
    if not guided and not again and any(reuse.guidance_every > 1 for reuse in reuses):
        yield f"{_change(['sampling.reuse.guidance_every'])} no image: guidance_scale is not above 1."
    if guided and not again:
        yield from _halves_that_are_not_there(job, columns)
    if sampling.seeds is not None and sampling.seed:
        yield f"{_change(['sampling.seed'])} no image: sampling.seeds names a seed for each."
    unread = [name for name in ("prompt_3", "negative_prompt_3") if name in columns or getattr(sampling, name, None)]
    if job.models[0].text_encoder_3 is None and job.models[1].text_encoder_3 is None and unread:
        yield f"Nothing reads {' and '.join(unread)}: model.text_encoder_3 is null."
    named = {sampling.adapter, *sweep.values_of("adapter")}
    if "adapter" not in columns and (idle := [alias for alias in job.model.adapters if alias not in named]):
        yield f"model.adapters has {', '.join(idle)}, which no image uses: name it in sampling.adapter, or in a column."


def _halves_that_are_not_there(job: Job, columns: Collection[str]) -> Iterator[str]:
    """Cells without guidance whose negative half is to be reused."""
    if "guidance_scale" in columns:
        return
    for cell, values in job.sweep.by_cell().items():
        every = values.get("reuse", job.sampling.reuse).guidance_every
        if every > 1 and values.get("guidance_scale", job.sampling.guidance_scale) <= 1:
            yield f"reuse.guidance_every: {every} changes no image of cell {cell}: its guidance_scale is not above 1."


def _asked(job: Job, names: Iterable[str]) -> list[str]:
    """Those that the job sets or sweeps, with their section. What a preset says, nobody asked for."""
    usual = {name: field.get_default() for name, field in Sampling.model_fields.items() if not field.is_required()}
    said = [f"sampling.{name}" for name in names if name in usual and getattr(job.sampling, name) != usual[name]]
    return said + [f"sweep.{name}" for name in names if name in job.sweep.keys]


def _change(settings: Collection[str]) -> str:
    return " and ".join(settings) + (" changes" if len(settings) == 1 else " change")


def check_windows(rows: Rows, cells: Mapping[str, Cell]) -> None:
    """Complains about rows with other steps than sampling.sigmas has, and about guidance in none of a row's steps."""
    sampling = next(iter(cells.values())).sampling  # no cell says sigmas, nor what rows say
    given = len(sampling.sigmas) if sampling.sigmas is not None else None
    own = {name: rows.ours[name] for name in SETTINGS}
    if given is not None:
        steps = own["num_inference_steps"].fill_null(given)
        for row in np.flatnonzero(np.asarray(steps) != given).tolist():
            text = f"is {steps[row]}, but sampling.sigmas has {given} levels: leave it empty, or write {given}"
            rows.complaints.about(row, "num_inference_steps", "BAD_STEPS", text)
    if all(values.null_count == len(values) for values in own.values()):
        return  # what the job says of all rows, refuse_idle() has looked at
    mine = {name: np.asarray(values.fill_null(getattr(sampling, name))) for name, values in own.items()}
    for cell in cells.values():
        said = [np.full(len(rows), cell.values[name]) if name in cell.values else mine[name] for name in SETTINGS]
        kinds, at = np.unique(np.stack(said, axis=1), axis=0, return_inverse=True)
        texts = [empty_window(cell.sampling, int(steps), guidance, skipping) for steps, guidance, skipping in kinds]
        _complain(rows, at.ravel(), texts)


def _complain(rows: Rows, kind: npt.NDArray[np.int64], texts: list[str]) -> None:
    """texts: what is wrong with each kind of row. Of a row that is bad already, its numbers say nothing."""
    wrong = np.array([bool(text) for text in texts], np.bool_)
    for row in np.flatnonzero(wrong[kind]).tolist():
        if row not in rows.complaints:
            rows.complaints.add(row, "BAD_GUIDANCE", texts[kind[row]])
