"""The renderer for itself: rows keep to themselves, settings are per row, failures are ours by name."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import weakref
from dataclasses import replace

import pytest
import torch

from batchgen.engines import load_renderer
from batchgen.engines.device import translate
from batchgen.engines.sd3.text import PromptEncoder
from batchgen.errors import OutOfMemory, Refused, RendererBroken


@contextlib.contextmanager
def hooked(module, hook):
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def render(renderer, rows):
    return renderer.denoise(rows, renderer.encode(rows))


# --- rows of one batch


def test_each_row_has_its_own_guidance(renderer, make_row):
    scales = [2.0, 4.5, 7.0]
    mixed = render(renderer, [make_row(i, guidance_scale=scale) for i, scale in enumerate(scales)])
    for i, scale in enumerate(scales):
        same = render(renderer, [make_row(j, guidance_scale=scale) for j in range(3)])
        assert torch.equal(mixed[i], same[i])
    assert not torch.equal(mixed[0], render(renderer, [make_row(0, guidance_scale=7.0)] * 3)[0])


def test_each_row_has_its_own_skip_layer_guidance(renderer, make_row):
    scales = [0.0, 1.5, 2.8]
    mixed = render(renderer, [make_row(i, skip_layer_guidance_scale=scale) for i, scale in enumerate(scales)])
    for i, scale in enumerate(scales):
        same = render(renderer, [make_row(j, skip_layer_guidance_scale=scale) for j in range(3)])
        assert torch.equal(mixed[i], same[i])


@pytest.mark.parametrize("changes", [{}, {"guidance_scale": 1.0}, {"skip_layer_guidance_scale": 2.8}])
def test_neighbours_and_order_do_not_matter(renderer, make_row, changes):
    rows = [make_row(i, **changes) for i in range(4)]
    latents = render(renderer, rows)
    others = [rows[0], *(make_row(50 + i, prompt="something else", **changes) for i in range(3))]
    assert torch.equal(render(renderer, others)[0], latents[0])
    assert torch.equal(render(renderer, rows[::-1]).flip(0), latents)


def test_prompt_seed_guidance_and_negative_all_change_the_picture(renderer, make_row):
    row = make_row(0)
    base = render(renderer, [row])
    for change in ({"prompt": "a cat"}, {"seed": 5}, {"guidance_scale": 7.0}, {"negative_prompt": "grey"}):
        assert (render(renderer, [replace(row, **change)]) - base).abs().mean() > 0.01, change


def test_rows_of_two_buckets_are_refused(renderer, make_row):
    for change in ({"height": 32}, {"num_inference_steps": 3}, {"guidance_scale": 1.0}):
        rows = [make_row(0), make_row(1, **change)]
        embeds = renderer.encode([make_row(0), make_row(1)])
        with pytest.raises(ValueError, match="rows of one batch differ"):
            renderer.denoise(rows, embeds)


# --- embeddings


def test_an_embedding_does_not_depend_on_its_neighbours(renderer, pipe, make_row):
    rows = [make_row(i, negative_prompt="n" * i) for i in range(7)]  # 14 texts: two encoder batches
    together = PromptEncoder(pipe)
    with torch.inference_mode():
        batch = together(rows)
        for row, embeds in zip(rows, batch, strict=True):
            alone = PromptEncoder(pipe)([row])[0]
            for ours, theirs in ((alone.positive, embeds.positive), (alone.negative, embeds.negative)):
                assert torch.equal(ours.text, theirs.text)
                assert torch.equal(ours.pooled, theirs.pooled)


def test_each_text_is_encoded_once(renderer, make_row):
    batches = []
    with hooked(renderer.prompts.pipe.text_encoder_3, lambda *_: batches.append(1)):
        rows = [make_row(i, prompt=f"never seen {i % 2}", negative_prompt="never wanted") for i in range(40)]
        first = renderer.encode(rows)
        again = renderer.encode(rows)
    assert len(batches) == 1
    assert first[0].positive is first[2].positive is again[0].positive
    assert first[0].negative is first[1].negative
    assert first[0].positive is not first[1].positive


def test_the_length_is_part_of_the_text(renderer, make_row):
    short, long = renderer.encode([make_row(0), make_row(0, max_sequence_length=32)])
    assert short.positive.text.shape[0] == 77 + 16
    assert long.positive.text.shape[0] == 77 + 32


def test_without_guidance_negatives_are_not_encoded(renderer, make_row):
    assert renderer.encode([make_row(guidance_scale=1.0)])[0].negative is None


def test_the_cache_is_bounded_and_keeps_what_was_used_last(pipe, make_row):
    with torch.inference_mode():
        size = PromptEncoder(pipe)([make_row()])[0].positive.nbytes
        encoder = PromptEncoder(pipe, cache_bytes=3 * size)
        rows = [make_row(i, guidance_scale=1.0) for i in range(5)]
        embeds = encoder(rows)  # five texts through a cache of three
        assert len(embeds) == 5
        encoder([rows[2]])
        encoder([rows[0]])
    assert encoder.cached_bytes == 3 * size == sum(one.nbytes for one in encoder.cache.values())
    assert [texts.clip_l for texts in encoder.cache] == [rows[i].prompt for i in (4, 2, 0)]


def test_one_cached_embedding_does_not_keep_its_encoder_batch_alive(renderer, make_row):
    text = renderer.encode([make_row()])[0].positive.text
    assert text.untyped_storage().nbytes() == text.nbytes


def test_truncation_is_not_a_log_line(renderer, make_row):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for library in libraries:
        library.addHandler(handler)
    try:
        renderer.encode([make_row(prompt="word " * 300)])
        logging.getLogger("diffusers.models.modeling_utils").warning("something else")
    finally:
        for library in libraries:
            library.removeHandler(handler)
    assert said == ["something else"]


def test_no_autograd_graph_in_any_thread(renderer, make_row):
    """Grad mode is a setting of the thread: what the caller set does not reach an actor's second thread."""
    seen = {}

    def work():
        rows = [make_row(77)]
        seen["embeds"] = renderer.encode(rows)
        seen["latents"] = renderer.denoise(rows, seen["embeds"])
        seen["pixels"] = renderer.decode(seen["latents"], [0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen["pixels"][0] is not None
    for tensor in (seen["embeds"][0].positive.text, seen["embeds"][0].negative.pooled, seen["latents"]):
        assert not tensor.requires_grad
        assert tensor.is_inference()


# --- NaN


def test_a_row_of_nan_leaves_the_others(renderer, make_row):
    rows = [make_row(i) for i in range(3)]
    good = render(renderer, rows)
    embeds = renderer.encode(rows)
    poisoned = replace(embeds[1].positive, text=embeds[1].positive.text * float("nan"))
    latents = renderer.denoise(rows, [embeds[0], embeds[1]._replace(positive=poisoned), embeds[2]])
    assert renderer.finite(latents) == [True, False, True]
    assert torch.equal(latents[0], good[0])
    assert torch.equal(latents[2], good[2])
    pixels = renderer.decode(latents, [2, 1, 0])
    assert [one is None for one in pixels] == [False, True, False]
    assert (pixels[2] == renderer.decode(good, [0])[0]).all()


def test_upcast_saves_a_row_whose_decoder_overflows_and_restores_the_vae(bf16_renderer, make_row):
    vae, latents = bf16_renderer.vae, render(bf16_renderer, [make_row(0)])

    def overflow(module, args, output):
        return output * float("nan") if output.dtype == torch.bfloat16 else output

    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    with hooked(vae.decoder, overflow):
        assert bf16_renderer.decode(latents, [0]) == [None]
        assert bf16_renderer.decode(latents, [0], upcast=True)[0].shape == (64, 48, 3)
    assert vae.dtype == torch.bfloat16
    assert all(torch.equal(weight, before[name]) for name, weight in vae.state_dict().items())


def test_the_vae_is_restored_when_decoding_fails(bf16_renderer, make_row):
    def fail(*_):
        raise ValueError("broken")

    latents = render(bf16_renderer, [make_row(0)])
    with hooked(bf16_renderer.vae.decoder, fail), pytest.raises(ValueError, match="broken"):
        bf16_renderer.decode(latents, [0], upcast=True)
    assert bf16_renderer.vae.dtype == torch.bfloat16


# --- errors of the device


@pytest.mark.parametrize("stage", ["encode", "denoise", "decode"])
def test_out_of_memory_is_ours_and_frees_what_the_failed_call_held(renderer, make_row, stage):
    rows, held = [make_row(900)], []

    def fail(module, args, output):
        local = torch.zeros(1000)
        held.append(weakref.ref(local))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    module = {
        "encode": renderer.prompts.pipe.text_encoder_3,
        "denoise": renderer.transformer,
        "decode": renderer.vae.decoder,
    }[stage]
    embeds = renderer.encode([make_row(901)])
    latents = renderer.denoise([make_row(901)], embeds)
    work = {
        "encode": lambda: renderer.encode(rows),
        "denoise": lambda: renderer.denoise(rows, embeds),
        "decode": lambda: renderer.decode(latents, [0]),
    }[stage]
    with hooked(module, fail), pytest.raises(OutOfMemory, match=r"20\.00 GiB") as caught:
        work()
    gc.collect()
    assert held[0]() is None, "a tensor of the failed call is alive while its error is handled"
    assert caught.value.__cause__ is None
    assert work() is not None  # and the renderer still works


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA error: an illegal memory access was encountered", RendererBroken),
        ("CUDA error: device-side assert triggered", RendererBroken),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemory),
        ("CUDA error: out of memory", OutOfMemory),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", RendererBroken),
        ("mat1 and mat2 shapes cannot be multiplied", type(None)),
    ],
)
def test_errors_of_the_device_by_text(text, kind):
    assert type(translate(RuntimeError(text))) is kind


def test_a_sticky_error_says_leave_the_process_and_others_pass(renderer, make_row):
    embeds = renderer.encode([make_row()])
    for text, kind in (("CUDA error: illegal address", RendererBroken), ("something else", RuntimeError)):

        def fail(*_, text=text):
            raise RuntimeError(text)

        with hooked(renderer.transformer, fail), pytest.raises(kind, match=text):
            renderer.denoise([make_row()], embeds)


# --- loading


def test_what_was_loaded_is_said(renderer, make_spec):
    assert renderer.device == "cpu"
    assert {"torch", "diffusers", "transformers", "batchgen"} <= set(renderer.versions)
    assert renderer.transformer.dtype == torch.float32


def test_t5_keeps_its_fp32_weights_in_fp16(make_spec):
    """diffusers #8604: .to(fp16) would cast them and corrupt the embeddings."""
    encoder = load_renderer(make_spec(dtype="float16")).prompts.pipe.text_encoder_3
    dtypes = {name.split(".")[-2]: weight.dtype for name, weight in encoder.named_parameters()}
    assert dtypes["wo"] == torch.float32
    assert dtypes["q"] == torch.float16


def test_other_weights_than_planned_are_not_loaded(make_spec):
    with pytest.raises(Refused, match="not those of the plan"):
        load_renderer(make_spec(digest="0" * 64))


def test_the_memory_it_took_is_known(renderer):
    taken = renderer.peak_memory()
    assert taken > sum(weights.nbytes for weights in renderer.transformer.parameters())
    assert taken < 100_000_000_000, "bytes, not kilobytes"
