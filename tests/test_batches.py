"""batches.py: shapes, splitting, bisecting and second chances, with the fake renderer and no Ray."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from batchgen.engines.fake import FakeRenderer
from batchgen.engines.protocol import ImageRow
from batchgen.errors import Infrastructure, OutOfMemory, RendererBroken
from batchgen.rendering.batches import Batches, Picture
from batchgen.run.shard_file import Failure
from tests.specs import spec_of


class Recorder(FakeRenderer):
    """The fake, with a note of the batch sizes that reached it."""

    def __init__(self):
        super().__init__(spec_of())
        self.shapes = []

    def denoise(self, rows, embeds, prepared=None):
        self.shapes.append(len(rows))
        return super().denoise(rows, embeds, prepared)


def rows(*prompts, **values):
    defaults = {"height": 32, "width": 48, "num_inference_steps": 4, "guidance_scale": 4.5, "max_sequence_length": 64}
    return [
        ImageRow(**{**defaults, "image_id": f"i{n}", "prompt": prompt, "seed": n, **values})
        for n, prompt in enumerate(prompts)
    ]


def render(todo, batch_size, renderer=None, **options):
    outcomes = list(Batches(renderer or Recorder()).render(todo, batch_size, **options))
    return [outcome for batch in outcomes for outcome in batch]


def test_every_batch_has_the_planned_shape_and_padding_is_dropped():
    renderer = Recorder()
    outcomes = render(rows(*"abcdef"), 4, renderer)
    assert renderer.shapes == [4, 4]
    assert [outcome.pixels.shape for outcome in outcomes] == [(32, 48, 3)] * 6
    assert len({outcome.pixels.tobytes() for outcome in outcomes}) == 6


def test_a_row_does_not_depend_on_its_neighbours():
    alone = render(rows("a"), 4)[0]
    crowded = render(rows("a", "b", "c", "d"), 4)[0]
    assert np.array_equal(alone.pixels, crowded.pixels)
    assert not np.array_equal(alone.pixels, render(rows("a"), 2)[0].pixels), "the fake must depend on the shape"


@pytest.mark.parametrize(
    ("command", "code"), [("fake:raise", "RENDER_ERROR"), ("fake:nan", "NAN_LATENTS"), ("fake:oom>0", "OUT_OF_MEMORY")]
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_failing_row_leaves_its_neighbours_alone(command, code, place):
    prompts = list("abcdef")
    quiet = render(rows(*prompts), 4)
    prompts[place] = command
    outcomes = render(rows(*prompts), 4)
    for i, (outcome, before) in enumerate(zip(outcomes, quiet, strict=True)):
        if i == place:
            assert isinstance(outcome, Failure)
            assert outcome.code == code
        else:
            assert np.array_equal(outcome.pixels, before.pixels)
            assert outcome.batch_size == 4


def test_bisecting_keeps_the_planned_shape():
    renderer = Recorder()
    render(rows("a", "b", "fake:raise", "d"), 4, renderer)
    assert set(renderer.shapes) == {4}


def test_out_of_memory_halves_the_batch_and_remembers_it():
    renderer = Recorder()
    batches = Batches(renderer)
    outcomes = [o for batch in batches.render(rows("fake:oom>2", *"bcdefgh"), 8) for o in batch]
    assert renderer.shapes == [8, 4, 2, 2, 2, 2]
    assert [outcome.batch_size for outcome in outcomes] == [2] * 8
    list(batches.render(rows(*"ab"), 8))
    assert renderer.shapes[-1] == 2
    list(batches.render(rows(*"ab", height=64), 8))
    assert renderer.shapes[-1] == 8, "another size has a memory of its own"


def test_what_did_not_fit_is_tried_again_later_and_ever_more_rarely():
    renderer = Recorder()
    batches = Batches(renderer)

    def shapes(*prompts):
        """Of the batches that a shard of these rows takes."""
        renderer.shapes.clear()
        outcomes = [outcome for batch in batches.render(rows(*prompts), 8) for outcome in batch]
        assert {outcome.batch_size for outcome in outcomes} == {renderer.shapes[-1]}, "each says its own shape"
        return renderer.shapes.copy()

    full = "abcdefgh"
    assert shapes("fake:oom>4", *full[1:]) == [8, 4, 4]
    assert [shapes(*full) for _ in range(4)] == [[4, 4]] * 4
    assert shapes("fake:oom>4", *full[1:]) == [8, 4, 4], "it was no moment's shortage: believed for twice as long"
    assert [shapes(*full) for _ in range(8)] == [[4, 4]] * 8
    assert [shapes(*full) for _ in range(20)] == [[8]] * 20


def test_seconds_are_without_those_of_compiling():
    class Compiling(Recorder):
        compile_seconds = 0.0

        def denoise(self, todo, embeds, prepared=None):
            time.sleep(0.5)
            self.compile_seconds += 0.5
            return super().denoise(todo, embeds, prepared)

    assert 0 < sum(outcome.seconds for outcome in render(rows("a", "b"), 2, Compiling())) < 0.4


def test_a_row_that_never_fits_does_not_shrink_later_batches():
    renderer = Recorder()
    batches = Batches(renderer)
    list(batches.render(rows("a", "fake:oom>0", "c", "d"), 4))
    renderer.shapes.clear()
    list(batches.render(rows(*"abcd"), 4))
    assert renderer.shapes == [4]


def test_encoders_that_do_not_fit_are_nobodys_row():
    class Small(Recorder):
        def encode(self, todo):
            raise OutOfMemory("T5")

    with pytest.raises(Infrastructure, match="text encoders do not fit"):
        render(rows("a", "b"), 2, Small())


def test_nan_from_the_decoder_gets_a_second_chance_in_fp32():
    outcome = render(rows("a", "fake:vae-nan"), 2)[1]
    assert isinstance(outcome, Picture)
    assert outcome.pixels[0, 0, 0] == 254


def test_a_prompt_that_cannot_be_encoded_fails_alone():
    class Picky(Recorder):
        def encode(self, todo):
            if any(row.prompt == "bad" for row in todo):
                raise ValueError("no such token")
            return super().encode(todo)

    outcomes = render(rows("a", "bad", "c"), 2, Picky())
    assert [type(outcome) for outcome in outcomes] == [Picture, Failure, Picture]
    assert "no such token" in outcomes[1].message
    assert np.array_equal(outcomes[2].pixels, render(rows("a", "b", "c"), 2)[2].pixels)


def test_a_broken_renderer_is_no_row_error():
    class Broken(Recorder):
        def denoise(self, todo, embeds, prepared=None):
            raise RendererBroken("CUDA error")

    with pytest.raises(RendererBroken):
        render(rows("a"), 2, Broken())


def test_isolated_rows_render_as_in_company():
    todo = rows("a", "b", "c")
    isolated, together = render(todo, 4, group=1), render(todo, 4)
    assert all(np.array_equal(x.pixels, y.pixels) for x, y in zip(isolated, together, strict=True))


def test_the_fake_depends_on_everything_that_decides_an_image():
    base = rows("a")[0]
    changes = {
        "prompt": "b", "prompt_2": "b", "prompt_3": "b", "negative_prompt": "b", "num_inference_steps": 5,
        "guidance_scale": 5.0, "max_sequence_length": 65, "seed": 5, "skip_layer_guidance_scale": 1.0,
    }  # fmt: skip
    pictures = {render([base], 1)[0].pixels.tobytes()}
    for name, value in changes.items():
        pictures.add(render([dataclasses.replace(base, **{name: value})], 1)[0].pixels.tobytes())
    assert len(pictures) == len(changes) + 1


class Drawing(Recorder):
    """Prepares: who did it for which rows. Each thing that was prepared may be used once, for its own rows."""

    def __init__(self):
        super().__init__()
        self.prepared, self.used = [], []

    def prepare(self, todo):
        self.prepared.append(threading.current_thread().name)
        return [row.image_id for row in todo]

    def denoise(self, todo, embeds, prepared=None):
        assert prepared == [row.image_id for row in todo]
        assert not any(prepared is before for before in self.used)
        self.used.append(prepared)
        return super().denoise(todo, embeds)


def test_the_next_batch_is_prepared_by_another_thread():
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as ahead:
        renderer = Drawing()
        todo = rows(*(f"p{i}" for i in range(10)))
        found = [one for batch in Batches(renderer, ahead).render(todo, 4) for one in batch]
    assert [one.pixels.tobytes() for one in found] == [one.pixels.tobytes() for one in render(todo, 4)]
    assert [name[:5] for name in renderer.prepared] == ["ahead"] * 3


def test_batches_that_were_not_foreseen_are_prepared_anew():
    """Split for want of memory, or bisected for a row that raises, in the shape that was prepared."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as ahead:
        renderer = Drawing()
        todo = rows("a", "b fake:oom>2", "c", "fake:raise", *"efgh")
        found = [one for batch in Batches(renderer, ahead).render(todo, 4) for one in batch]
    assert [isinstance(one, Failure) for one in found] == [False, False, False, True, False, False, False, False]
