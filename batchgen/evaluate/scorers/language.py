"""An image-text model of transformers: how likely is each word to begin its answer to a question about a picture?

The probabilities are those of the bare logits over the whole vocabulary: a model's own repetition penalty, which lowers
every word of the question, is left out. Knows no benchmark and no formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from batchgen.engines.device import on_device
from batchgen.errors import Refused
from batchgen.evaluate.scorers.loading import DTYPES, device_named, load_model
from batchgen.evaluate.scorers.models import ModelFiles
from batchgen.evaluate.scores import About


def about(what: str, files: ModelFiles, template: str) -> About:
    """Of a scorer that asks such a model, from 0 to 1. what: it is called so, with the model's name behind."""
    return About(
        scorer=f"{what}-{files.name}",
        version="1",
        weights_sha256=files.sha256,
        low=0.0,
        high=1.0,
        settings={"model": files.name, "template": template, "dtype": _dtype_of(files)},
    )


def _dtype_of(files: ModelFiles) -> str:
    """As the model was published: half precision where its authors say so."""
    said = str(files.config.get("dtype") or files.config.get("torch_dtype"))
    return said if said in DTYPES else "float32"


class ImageTextModel:
    """Loaded, on its device."""

    def __init__(self, files: ModelFiles, device: str | None) -> None:
        self.device = device_named(device)
        self.processor = AutoProcessor.from_pretrained(files.directory)
        if not self.processor.chat_template:
            raise Refused(f"{files.name}: has no chat template, so that nobody knows how to ask it a question.")
        self.processor.tokenizer.padding_side = "left"  # the answer follows the last token
        self.model = load_model(AutoModelForImageTextToText, files.directory, self.device, _dtype_of(files))

    @on_device
    def first_tokens(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> Tensor:
        """(questions, vocabulary): probabilities of the first token of each answer. A picture for each question."""
        inputs = self.processor(
            text=[self._prompt(question) for question in questions],
            images=[[picture] for picture in pictures],
            padding=True,
            return_tensors="pt",
        ).to(self.device, self.model.dtype)
        answered = self.model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        probabilities: Tensor = answered.logits[0].float().softmax(dim=-1).cpu()
        return probabilities

    def _prompt(self, question: str) -> Any:
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        return self.processor.apply_chat_template(asked, add_generation_prompt=True)

    def tokens(self, answers: Iterable[str]) -> list[int]:
        """The tokens with which one of these answers begins, each once. An empty beginning says nothing."""
        tokenizer = self.processor.tokenizer
        first = {tokenizer(answer, add_special_tokens=False)["input_ids"][0] for answer in answers}
        return sorted(token for token in first if tokenizer.decode([token]).strip())
