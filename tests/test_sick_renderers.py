"""A failure is a row's when two devices saw it; a device that fails alone is set aside, and its work goes elsewhere."""

import random

import pyarrow.parquet as pq
import pytest

from batchgen.engines.fake import FakeRenderer
from batchgen.errors import Infrastructure, TooManyFailures
from batchgen.look import doctor
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import owned_footer
from batchgen.run.history import Death, History
from tests.crews import crew_of

HEALTHY = {"gpu a": "", "gpu b": "", "gpu c": ""}


@pytest.fixture
def crew(monkeypatch, console):
    return crew_of(monkeypatch, console)


@pytest.fixture
def planned(make_job):
    """planned(rows, most=4, **sections) → the run and what was prepared, for at most so many renderers."""

    def make(rows, most=4, **sections):
        cluster = {"renderers": {"min_size": most, "max_size": most}}
        sections = {"output": {"images_per_shard": 4}, "model": {"batch_size": 4}, "cluster": cluster} | sections
        prepared = prepare(make_job(rows, **sections))
        return make_plan(prepared)[0], prepared

    return make


def failures(run):
    footers = [owned_footer(run.store, number, run.plans[0].plan) for number in run.committed()]
    return {failure.message for footer in footers for failure in footer.failures.values()}


@pytest.mark.parametrize("way", ["raise", "oom", "nan", "start"])
def test_one_sick_renderer_fails_no_row(planned, crew, console, way):
    run, prepared = planned([f"fake:slow=0.1 {i}" for i in range(48)])
    crew(run, prepared, {"gpu sick": way} | HEALTHY)
    assert failures(run) == set()
    assert "48/48 images" in console.file.getvalue()
    assert pq.read_table(run.store.url + "/data").num_rows == 48
    said = console.file.getvalue()
    assert way != "start" or "set aside" in said  # of the others it depends on who is first
    assert "set aside" not in said or "gpu sick" in said
    assert list(run.store.list(".batchgen/doubts")) == list(run.store.list(".batchgen/aside")) == []


def test_a_device_whose_processes_die_fails_no_row(planned, crew):
    run, prepared = planned([f"fake:slow=0.02 {i}" for i in range(48)])
    crew(run, prepared, {"gpu sick": "broken"} | HEALTHY)
    assert failures(run) == set()
    assert pq.read_table(run.store.url + "/data").num_rows == 48


@pytest.mark.parametrize("devices", [{"gpu a": ""}, {"gpu a": "", "gpu b": ""}], ids=["one", "two"])
def test_what_fails_everywhere_fails(planned, crew, monkeypatch, devices):
    """And the rows beside it are rendered once."""
    drawn = []
    original = FakeRenderer.denoise
    monkeypatch.setattr(
        FakeRenderer, "denoise", lambda self, rows, *given: (original(self, rows, *given), drawn.extend(rows))[0]
    )
    rows = [f"p{i}" for i in range(14)] + ["fake:raise", "fake:nan"]
    run, prepared = planned(rows, most=len(devices), output={"images_per_shard": 16}, errors={"max_failed_fraction": 1})
    crew(run, prepared, devices)
    assert failures(run) == {"ValueError: fake:raise was asked for", "the denoiser returned values that are not finite"}
    assert len({row.image_id for row in drawn if row.prompt.startswith("p")}) == 14
    assert doctor.examine(run).images == 14
    healthy = [row.image_id for row in drawn if row.prompt == "p0"]
    assert len(healthy) == 1
    table = pq.read_table(run.store.url + "/data")
    assert set(table["attempt"].to_pylist()) == {1}


def test_nobody_is_left(planned, crew):
    run, prepared = planned(["a", "b"], most=2)
    with pytest.raises(Infrastructure, match=r"(?s)No renderer is left.*gpu a: cannot be started.*gpu b: cannot"):
        crew(run, prepared, {"gpu a": "start", "gpu b": "start"})


def test_too_many_failures_stop_it_early_and_the_same_command_goes_on(planned, crew):
    run, prepared = planned([f"fake:raise {i}" for i in range(240)], most=2)
    devices = {"gpu a": "", "gpu b": ""}
    with pytest.raises(TooManyFailures, match=r"Stopped early: 1\d\d rows failed .*fake:raise was asked for"):
        crew(run, prepared, devices)
    before = len(run.committed())
    assert 100 < before * 4 < 200
    with pytest.raises(TooManyFailures):
        crew(run, prepared, devices)
    assert len(run.committed()) > before


LIFE_S, SHARD_S, ROWS, BATCH = 300.0, 90.0, 64, 8


def test_machines_that_vanish_cost_no_healthy_row():
    """Exponential life of five minutes, no warning, shards of 90 s; a lone row takes as long as its batch."""
    chance, lost, longest = random.Random(0), 0, 0
    for shard in range(100_000 // ROWS):
        rows, died = [f"{shard}-{i}" for i in range(ROWS)], []
        while (death := attempt(History(len(died), tuple(died)), rows, chance, len(died))) is not None:
            died.append(death)
        history = History(len(died), tuple(died))
        lost += sum(history.fatal(row) for row in rows)
        longest = max(longest, len(died))
    assert lost == 0
    assert longest < 60


def attempt(history, rows, chance, number, killer=None):
    """The death that ended an attempt, or None. The steps are those of the renderer: alone first, then together."""
    step, left = SHARD_S * BATCH / ROWS, chance.expovariate(1 / LIFE_S)
    rows = [row for row in rows if not history.fatal(row)]
    survived, alone = [], history.alone(rows)
    for row in alone:
        left -= step
        if left < 0 or row == killer:
            return Death(device=str(number), image_id=row, survived=tuple(survived))
        survived.append(row)
    together = [row for row in rows if row not in set(alone)]
    if together and (left < len(together) / BATCH * step or killer in together):
        return Death(device=str(number), survived=tuple(survived))
    return None


def test_a_row_that_really_kills_still_ends():
    rows, died = [f"{i}" for i in range(ROWS)], []
    chance = random.Random(1)
    while (death := attempt(History(len(died), tuple(died)), rows, chance, len(died), killer="7")) is not None:
        died.append(death)
        assert len(died) < 60
    history = History(len(died), tuple(died))
    assert [row for row in rows if history.fatal(row)] == ["7"]
