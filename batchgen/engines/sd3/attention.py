"""The attention of SD3's transformer: which kernel of torch computes it, and a processor that copies less.

Kernels differ in the last bits, so a run has one of them: `auto` is what torch chooses on this machine, and the name of
what it is goes into the run. Knows torch and the blocks of SD3; no prompts, no steps, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import attention
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention

from batchgen.errors import Refused

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash_3": SDPBackend.FLASH_ATTENTION,  # put in the place of torch's own, FlashAttention 2
}
NAMES = {backend: name for name, backend in BACKENDS.items() if name != "flash_3"} | {SDPBackend.MATH: "math"}
TOKENS = 1101  # of a guided pair of 512 × 512 with 77 tokens of text: what a kernel is tried with
# What torch 2.13 raises where the one kernel that is allowed cannot take the numbers it is given.
NO_KERNEL = ("No available kernel", "No viable backend")


@dataclass(frozen=True, slots=True)
class Attention:
    """name: of the kernel that computes, as runs record it. backend: the only one allowed; None: torch's choice."""

    name: str
    backend: SDPBackend | None = None

    @classmethod
    def of(cls, wanted: str, transformer: Any, device: torch.device) -> Attention:
        """wanted: model.attention. Raises Refused where this device cannot compute with it, naming what it can."""
        if device.type != "cuda":
            if wanted != "auto":
                raise Refused(
                    f"model.attention: {wanted} is a kernel for GPUs, and torch {torch.__version__} shows this "
                    "renderer none. Write attention: auto for CPUs, or render where there is a GPU."
                )
            return cls(device.type)
        numbers = _numbers(transformer, device)
        if wanted == "auto":
            return cls(_choice(numbers))
        if wanted == "flash_3":
            _activate_flash_3()
        if not _runs(BACKENDS[wanted], numbers):
            able = [name for name in ("cudnn", "flash", "efficient") if _runs(BACKENDS[name], numbers)]
            raise Refused(
                f"model.attention: {wanted} cannot compute {numbers.dtype} with heads of {numbers.shape[-1]} on "
                f"{torch.cuda.get_device_name(device)} with torch {torch.__version__}. What can: "
                f"{', '.join(able) or 'none of them'}. Name one of these, or write attention: auto."
            )
        return cls(wanted, BACKENDS[wanted])

    def at_work(self) -> AbstractContextManager[Any]:
        """For what the transformer computes: its only kernel. The VAE's head is one that few kernels take."""
        return nullcontext() if self.backend is None else attention.sdpa_kernel(self.backend)


class LeanProcessor:
    """diffusers' JointAttnProcessor2_0 (0.42.1) for the blocks of SD3, with the same operations in another order.

    Image and text are joined as (batch, tokens, heads, width), which is how projections write and read them, so that a
    kernel's result needs no copy: diffusers joins them with the heads in front.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Any:
        image = _projected(attn, hidden_states, (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k))
        if encoder_hidden_states is None:  # the second attention of SD3.5's first blocks
            return _out(attn, _attended(*image))
        layers, norms = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), (attn.norm_added_q, attn.norm_added_k)
        text = _projected(attn, encoder_hidden_states, layers, norms)
        both = _attended(*(torch.cat(pair, dim=1) for pair in zip(image, text, strict=True)))
        tokens = hidden_states.shape[1]
        of_text = both[:, tokens:]
        return _out(attn, both[:, :tokens]), of_text if attn.context_pre_only else attn.to_add_out(of_text)


def _projected(
    attn: Any, states: Tensor, layers: Sequence[nn.Module], norms: Sequence[nn.Module | None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, (batch, tokens, heads, width), the first two normed where the model norms them."""
    query, key, value = (layer(states).unflatten(-1, (attn.heads, -1)) for layer in layers)
    normed = [one if norm is None else norm(one) for norm, one in zip(norms, (query, key), strict=True)]
    return normed[0], normed[1], value


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(batch, tokens, heads × width)"""
    found = scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return found.transpose(1, 2).flatten(2).to(query.dtype)


def _out(attn: Any, states: Tensor) -> Tensor:
    projection, dropout = attn.to_out
    found: Tensor = dropout(projection(states))
    return found


def _numbers(transformer: Any, device: torch.device) -> Tensor:
    """As the attention of a guided batch of one would get them."""
    config = transformer.config
    shape = (2, TOKENS, config.num_attention_heads, config.attention_head_dim)
    return torch.zeros(shape, device=device, dtype=transformer.dtype).transpose(1, 2)


def _choice(numbers: Tensor) -> str:
    """The kernel that torch takes if nobody asks for one, by the GPU, by itself, cuDNN and the environment."""
    return NAMES[SDPBackend(torch._fused_sdp_choice(numbers, numbers, numbers))]


def _runs(backend: SDPBackend, numbers: Tensor) -> bool:
    try:
        with attention.sdpa_kernel(backend), torch.inference_mode():
            scaled_dot_product_attention(numbers, numbers, numbers)
    except RuntimeError as error:
        if any(sign in str(error) for sign in NO_KERNEL):
            return False
        raise
    return True


def _activate_flash_3() -> None:
    """For all that this process computes with flash. Raises Refused where this torch or this machine has none."""
    try:
        attention.activate_flash_attention_impl("FA3")
    except (AttributeError, ImportError, ValueError, RuntimeError) as error:  # torch before 2.13 does not know it
        raise Refused(
            f"model.attention: flash_3 needs torch 2.13 or newer and the package flash_attn_interface (FlashAttention "
            f"3, for Hopper GPUs), and with torch {torch.__version__} here: {error}. Install them on every machine, or "
            "write attention: cudnn."
        ) from error
