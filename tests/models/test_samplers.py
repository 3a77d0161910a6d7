"""Samplers on flows whose solution is known: the order of their errors, and the noise that they must keep."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from batchgen.engines.sd3.samplers import DPMPlusPlus2M, Euler, EulerAncestral, sampler_for

MEAN, SPREAD = 0.7, 0.4
THREAD = ThreadPoolExecutor(1)


def spread_at(sigma):
    """Of x = (1 - σ) x0 + σ ε, where x0 is normal with MEAN and SPREAD."""
    return math.hypot((1 - sigma) * SPREAD, sigma)


def velocity_at(x, sigma):
    """E[ε - x0 | x], exactly."""
    off = (x - (1 - sigma) * MEAN) / spread_at(sigma) ** 2
    return sigma * off - (MEAN + (1 - sigma) * SPREAD**2 * off)


def error(kind, steps):
    """Of a solution from σ = 0.99 to 0.05. The exact one keeps a point's distance from the mean, in spreads."""
    start, end = 0.99, 0.05
    sigmas = torch.logspace(math.log10(start), math.log10(end), steps + 1, dtype=torch.float64)
    distance = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64)
    x = (1 - start) * MEAN + spread_at(start) * distance
    sampler = kind(sigmas if kind is Euler else sigmas.tolist())
    for step, sigma in enumerate(sigmas[:-1]):
        x = sampler.step(x, velocity_at(x, float(sigma)), step).double()
    return float((x - ((1 - end) * MEAN + spread_at(end) * distance)).abs().max())


def test_euler_is_of_first_order_and_dpmpp_2m_of_second():
    assert error(Euler, 20) / error(Euler, 40) == pytest.approx(2, rel=0.15)
    assert error(DPMPlusPlus2M, 20) / error(DPMPlusPlus2M, 40) == pytest.approx(4, rel=0.25)
    assert error(DPMPlusPlus2M, 20) < error(Euler, 20) / 5


def test_the_first_step_of_dpmpp_2m_is_eulers():
    x, velocity = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.ones(2, 3, 4)
    levels = torch.tensor([0.9, 0.7])
    ours = DPMPlusPlus2M(levels.tolist()).step(x, velocity, 0)
    assert torch.allclose(ours, Euler(levels).step(x, velocity, 0), atol=1e-6)


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_the_last_step_ends_at_what_the_model_says_is_there(name):
    x = torch.full((1, 1, 2, 2), 0.5)
    sampler = sampler_for(name, torch.tensor([0.2, 0.0]), [torch.Generator()], THREAD)
    clean = sampler.step(x, torch.full_like(x, -1.0), 0)
    assert torch.allclose(clean, torch.full_like(x, 0.5 + 0.2))


def test_ancestral_noise_keeps_the_mixture_what_it_is():
    """Of a picture that is one colour c, x at level σ is normal with mean (1 - σ) c and deviation σ, at every level."""
    colour, sigmas = 0.6, torch.tensor([1.0, 0.9, 0.6, 0.3, 0.1])
    first = torch.Generator().manual_seed(1)
    x = torch.randn(1, 16, 128, 128, generator=first)
    began, sampler = x, EulerAncestral(sigmas.tolist(), [first], THREAD)
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        noise = (x - (1 - sigma) * colour) / sigma
        x = sampler.step(x, noise - colour, step)
        assert float(x.mean()) == pytest.approx((1 - float(following)) * colour, abs=0.005)
        assert float(x.std()) == pytest.approx(float(following), rel=0.01)
    assert abs(torch.corrcoef(torch.stack([x.flatten(), began.flatten()]))[0, 1]) < 0.1, "the noise is not fresh"


def test_a_rows_fresh_noise_is_its_own():
    def rendered(seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        x = torch.zeros(len(seeds), 1, 4, 4)
        return EulerAncestral([0.9, 0.5], generators, THREAD).step(x, x, 0)

    assert torch.equal(rendered([7, 8])[0], rendered([7, 9])[0])
    assert torch.equal(rendered([7, 8])[0], rendered([8, 7])[1])
    assert not torch.equal(rendered([7, 8])[1], rendered([7, 9])[1])


def test_ancestral_noise_is_drawn_ahead_and_no_more_often_than_it_is_used():
    """A second pass goes on with the same generators."""
    levels, x = [1.0, 0.75, 0.5, 0.25, 0.0], torch.zeros(2, 1, 4, 4)
    ahead, plain = ([torch.Generator().manual_seed(seed) for seed in (7, 8)] for _ in range(2))
    sampler = EulerAncestral(levels, ahead, THREAD)
    for step in range(4):
        sampler.step(x, x, step)
    for _ in range(3):
        torch.cat([torch.randn(1, 1, 4, 4, generator=one) for one in plain])
    assert [one.get_state().tolist() for one in ahead] == [one.get_state().tolist() for one in plain]


def test_levels_as_numbers_round_as_tensors_on_a_device_do():
    """The formulas with fp32 scalars, as they were first: pictures of older runs depend on each bit."""
    levels = torch.linspace(1, 0, 41) ** 1.3
    drawn = torch.Generator().manual_seed(0)
    latents, velocity, noise = (torch.randn(2, 4, 8, 8, generator=drawn) for _ in range(3))
    two_m, before = DPMPlusPlus2M(levels.tolist()), None
    for step, (sigma, following) in enumerate(itertools.pairwise(levels[1:-1]), 1):
        x0 = latents - sigma * velocity
        time, end = -math.log(float(sigma)), -math.log(float(following))
        direction = x0
        if before is not None:
            half_ratio = (end - time) / (time - before[1]) / 2
            direction = (1 + half_ratio) * x0 - half_ratio * before[0]
        before = x0, time
        moved = (following / sigma) * latents - math.expm1(time - end) * direction
        assert torch.equal(two_m.step(latents, velocity, step), moved)

        below = following * following / sigma
        part, shrink = below / sigma, (1 - following) / (1 - below)
        added = (following**2 - (below * shrink) ** 2).sqrt()
        expected = shrink * (part * latents + (1 - part) * x0) + added * noise
        ancestral = EulerAncestral(levels.tolist(), [], THREAD)
        ancestral._draw = lambda shape, device: noise
        assert torch.equal(ancestral.step(latents, velocity, step), expected)
