"""A pass of a workflow together with all that feeds it: its model and its texts.

Both the first and the second pass of a job are read as a stage. Knows no sizes and no job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchgen.comfyui.findings import Reader
from batchgen.comfyui.passes import Pass
from batchgen.comfyui.percent import Steps, levels
from batchgen.comfyui.prompts import PromptReader, Texts
from batchgen.comfyui.weights import Chain, ModelReader


@dataclass(frozen=True, slots=True)
class Stage:
    """negative: None where nothing is guided against. negative_stop: of negative_prompt_stop.

    model: of `model:`, what transformer and encoders decide.
    """

    sampler: Pass
    chain: Chain
    steps: Steps
    texts: Texts
    negative: Texts | None
    negative_stop: float
    model: dict[str, Any]


@dataclass(slots=True)
class StageReader(Reader):
    models: ModelReader

    def read(self, sampler: Pass, begin: int) -> Stage:
        """begin: the first step that percentages count from; a second pass begins where it begins."""
        chain = self.models.chain(*sampler.model_at)
        steps = Steps(levels(sampler.schedule, sampler.steps, chain.true_shift)[begin:], chain.true_shift)
        prompts = PromptReader(self.graph, self.findings, steps)
        texts, text_node = prompts.positive(*sampler.positive_at)
        negative, stop = None, 1.0
        if sampler.cfg > 1 and sampler.negative_at is not None:
            negative, stop = prompts.negative(*sampler.negative_at)
        encoders = self.models.encoders(text_node, chain) if text_node else {}
        return Stage(sampler, chain, steps, texts, negative, stop, chain.model() | encoders)
