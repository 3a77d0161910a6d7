"""LoRAs in a pipeline: all loaded at the start, one or none of them at work. Never fused: that would leave traces.

Knows diffusers' names for it; which files they are, and that they are the planned ones, comes from `weights.lora`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import transformers

from batchgen.errors import Refused
from batchgen.run.found_model import AdapterFile
from batchgen.weights.digests import hash_all
from batchgen.weights.lora import fetch


class Adapters:
    """The LoRAs of one pipeline, by alias."""

    def __init__(self, pipe: Any, files: Mapping[str, AdapterFile]) -> None:
        """Raises Refused where a file is not the planned one, or is not for this model."""
        self._pipe, self._files = pipe, files
        self._at_work: str | None = None
        for alias, adapter in files.items():
            file = fetch(adapter.path)
            self._verify(alias, file)
            self._load(alias, file)
        if files:
            pipe.disable_lora()

    def use(self, alias: str | None) -> None:
        """Put this one to work, and no other; None: none."""
        if alias == self._at_work:
            return
        if alias is None:
            self._pipe.disable_lora()
        else:
            self._pipe.enable_lora()
            self._pipe.set_adapters([alias], [self._files[alias].scale])
        self._at_work = alias

    def _load(self, alias: str, file: Path) -> None:
        options = {"use_safetensors": True, "local_files_only": True}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what is wanted
            libraries = (diffusers.utils.logging, transformers.utils.logging)
            verbosity = [logs.get_verbosity() for logs in libraries]
            for logs in libraries:  # they complain of parts without LoRA, and of what a LoRA does not bring
                logs.set_verbosity_error()
            try:
                self._pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=alias, **options)
            except (ValueError, KeyError, RuntimeError, OSError) as error:
                raise Refused(f"model.adapters.{alias}: {file} is not a LoRA of this model: {error}") from error
            finally:
                for logs, before in zip(libraries, verbosity, strict=True):
                    logs.set_verbosity(before)

    def _verify(self, alias: str, file: Path) -> None:
        sha256, planned = hash_all({"": file})[""], self._files[alias].sha256
        if sha256 != planned:
            raise Refused(
                f"model.adapters.{alias}: {file} is {sha256[:12]}..., planned was {planned[:12]}.... Restore the file, "
                "or plan into another output directory."
            )
