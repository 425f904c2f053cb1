"""Paths from data to noise against their definitions, and denoisers from each kind of network against the exact one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.ddpm import alphas_bar, cosine_betas, ddpm, linear_betas
from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.levels import levels
from medjax.diffusion.log_normal import log_normal
from medjax.diffusion.predictions import from_eps, from_score, from_v, from_velocity, from_x0
from medjax.diffusion.rectified_flow import rectified_flow
from medjax.diffusion.shifted import shifted
from medjax.diffusion.sub_vp import sub_vp
from medjax.diffusion.ve import ve
from medjax.diffusion.vp_cosine import vp_cosine
from medjax.diffusion.vp_linear import vp_linear

LOW, HIGH, OFFSET = 0.1, 20.0, 0.008


def of_vp(integral, rate):
    """alpha, sigma and their derivatives of a variance-preserving path, from the integral of beta and beta."""
    a = np.exp(-integral / 2)
    s = np.sqrt(1 - a**2)
    return a, s, -rate * a / 2, rate * a**2 / (2 * s)


def linear_truth(t):
    steps = np.linspace(0, t, 100_001)
    return of_vp(np.trapezoid(LOW + steps * (HIGH - LOW), steps), LOW + t * (HIGH - LOW))


def sub_truth(t):
    a, s, da, _ = linear_truth(t)
    return a, s**2, da, (LOW + t * (HIGH - LOW)) * a**2


def cosine_truth(t):
    angle, first = ((u + OFFSET) / (1 + OFFSET) * math.pi / 2 for u in (t, 0))
    return of_vp(-2 * math.log(math.cos(angle) / math.cos(first)), math.pi / (1 + OFFSET) * math.tan(angle))


def moved_truth(t):
    """SD3's time m t / (1 + (m - 1) t) on the straight line, m = 3."""
    u, rate = 3 * t / (1 + 2 * t), 3 / (1 + 2 * t) ** 2
    return 1 - u, u, -rate, rate


# name -> (path, t -> its alpha, sigma and their derivatives)
SCHEDULES = {
    "vp_linear": (vp_linear(LOW, HIGH), linear_truth),
    "sub_vp": (sub_vp(LOW, HIGH), sub_truth),
    "vp_cosine": (vp_cosine(OFFSET), cosine_truth),
    "ve": (ve(0.01, 50.0), lambda t: (1.0, 0.01 * 5000**t, 0.0, 0.01 * 5000**t * math.log(5000))),
    "rectified_flow": (rectified_flow(), lambda t: (1 - t, t, -1.0, 1.0)),
    "shifted": (shifted(rectified_flow(), 3.0), moved_truth),
}
TIMES = np.array([0.01, 0.2, 0.5, 0.8, 0.97])
cases = pytest.mark.parametrize("schedule, truth", SCHEDULES.values(), ids=SCHEDULES)


@cases
def test_path(schedule, truth):
    """alpha and sigma are the paper's; `time` finds t again from their ratio, also where it is tiny; single precision stays."""
    wanted = np.array([truth(t)[:2] for t in TIMES])
    assert np.allclose(schedule.alpha(TIMES), wanted[:, 0], rtol=1e-9) and np.allclose(schedule.sigma(TIMES), wanted[:, 1], rtol=1e-9)
    assert np.allclose(schedule.time(wanted[:, 1] / wanted[:, 0]), TIMES, rtol=0, atol=1e-9)
    small = schedule.time(0.011)
    assert np.allclose(schedule.sigma(small) / schedule.alpha(small), 0.011, rtol=1e-9)
    single = jnp.float32(0.3)
    assert {schedule.alpha(single).dtype, schedule.sigma(single).dtype, schedule.time(single).dtype} == {jnp.dtype("float32")}
    assert np.allclose(schedule.sigma(single), truth(0.3)[1], rtol=3e-6)  # float32


@cases
def test_every_network_becomes_the_exact_denoiser(key, schedule, truth):
    """The closed forms of eps, v, x0, score and velocity of a Gaussian, in the path's own coordinates, give `gaussian` at every level."""
    mean, root = jnp.array([1.0, -1.0, 0.3]), jax.random.normal(key, (3, 3))
    covariance, x = root @ root.T, jax.random.normal(jax.random.fold_in(key, 1), (3,))

    def network(kind, coefficients):
        """`coefficients` are those of the time that the wrapper should ask for."""
        a, s, da, ds, right = coefficients

        def predict(x_t, t):
            gain = jnp.linalg.solve(a**2 * covariance + s**2 * jnp.eye(3), x_t - a * mean)
            x0, eps = mean + a * covariance @ gain, s * gain
            return {"eps": eps, "v": a * eps - s * x0, "x0": x0, "score": -gain, "velocity": da * x0 + ds * eps}[kind] + 1e3 * (t - right)

        return predict

    wrappers = {"eps": from_eps, "v": from_v, "x0": from_x0, "score": from_score, "velocity": from_velocity}

    @jax.jit
    def answers(coefficients):
        sigma = coefficients[1] / coefficients[0]
        wrapped = [wrap(network(kind, coefficients), schedule)(x, sigma) for kind, wrap in wrappers.items()]
        return jnp.stack(wrapped), gaussian(mean, covariance)(x, sigma)

    for t in TIMES:
        wrapped, exact = answers(jnp.array([*truth(t), t]))
        assert np.allclose(wrapped, jnp.broadcast_to(exact, wrapped.shape), rtol=0, atol=1e-8 if t > 0.9 else 1e-10), t  # 1 / alpha = 21 there


def test_single_precision_networks(key):
    """A float32 image under a float64 level stays float32 through every wrapper."""
    x = jax.random.normal(key, (3,), jnp.float32)
    for wrap in (from_eps, from_v, from_x0, from_score, from_velocity):
        for schedule in (vp_cosine(), rectified_flow(), ddpm(linear_betas())):
            out = wrap(lambda x, t: x * t, schedule)(x, jnp.float64(0.7))
            assert out.dtype == jnp.float32 and jnp.all(jnp.isfinite(out))


def test_ddpm_tends_to_the_continuous_path():
    """T small steps of rate beta / T are `vp_linear` up to 1 / T, the cosine table `vp_cosine` exactly, but for its cap."""
    num = 4000
    times = (np.arange(num) + 1) / num
    table = alphas_bar(linear_betas(num, LOW / num, HIGH / num))
    assert np.allclose(table, vp_linear(LOW, HIGH).alpha(times) ** 2, rtol=0, atol=2e-3)  # 1 / T times beta
    assert np.allclose(alphas_bar(cosine_betas(num)), vp_cosine().alpha(times) ** 2, rtol=0, atol=1e-6)  # the cap


def test_shift_is_one_of_the_signal_to_noise_ratio():
    """On a variance-preserving path the logarithm of SNR falls by 2 ln m at each t and alpha^2 + sigma^2 stays 1."""
    base, moved = vp_cosine(), shifted(vp_cosine(), 4.0)
    log_snr = [2 * jnp.log(s.alpha(TIMES) / s.sigma(TIMES)) for s in (base, moved)]
    assert np.allclose(log_snr[1] - log_snr[0], -2 * math.log(4), rtol=0, atol=1e-9)
    assert np.allclose(moved.alpha(TIMES) ** 2 + moved.sigma(TIMES) ** 2, 1, rtol=0, atol=1e-12)


def test_ends_of_paths():
    """Pure noise at t = 1 where the path says so, without NaN, in single precision too; a shift keeps the ends."""
    for schedule in (vp_cosine(), rectified_flow(), shifted(rectified_flow(), 3.0)):
        one = jnp.float32(1)
        assert schedule.alpha(one) == 0 and np.allclose(schedule.sigma(one), 1, atol=1e-6) and schedule.time(jnp.inf) == 1
    assert rectified_flow().time(0.0) == 0 and np.allclose(jax.grad(rectified_flow().time)(0.0), 1)


@cases
def test_levels(schedule, truth):
    """Even in time between the two ends, decreasing, with and without the 0."""
    sigmas = levels(schedule, 12, 0.02, 9.0)
    assert sigmas.shape == (13,) and sigmas[-1] == 0 and np.allclose(sigmas[jnp.array([0, 11])], jnp.array([9.0, 0.02]), rtol=1e-9)
    assert np.all(np.diff(sigmas) < 0) and np.allclose(np.diff(schedule.time(sigmas[:-1]), n=2), 0, atol=1e-9)
    assert np.allclose(levels(schedule, 11, 0.02, 9.0, zero=False), sigmas[:-1], rtol=1e-12)


def test_log_normal_levels(key):
    """Each level is log-normal (mean and spread over 3000 draws of 4), the batch is stratified."""
    draws = jnp.log(jax.jit(jax.vmap(lambda k: log_normal(k, 4, -1.2, 0.7)))(jax.random.split(key, 3000)))
    assert abs(draws.mean() + 1.2) < 4 * 0.7 / 3000**0.5 and abs(draws.std() - 0.7) < 0.02  # four standard errors
    assert np.allclose(draws.mean(0), -1.2, atol=4 * 0.7 / 3000**0.5) and np.allclose(draws.std(0), 0.7, atol=0.05)  # at each place of the batch
    levels = log_normal(key, 1000, -1.2, 0.7)
    places = jax.scipy.stats.norm.cdf(jnp.sort((jnp.log(levels) + 1.2) / 0.7)) * 1000
    assert np.array_equal(np.floor(places), np.arange(1000))  # one in each of 1000 quantiles


def test_bad_schedules_are_named():
    """One line for what was found and what is needed."""
    for make, message in (
        (lambda: vp_linear(0.0), "beta_min is 0"),
        (lambda: sub_vp(0.1, jnp.inf), "beta_max is infinite"),
        (lambda: vp_cosine(-0.1), "offset is -0.1"),
        (lambda: ve(2.0, 1.0), "ve needs 0 < sigma_min < sigma_max, got 2.0 and 1.0"),
        (lambda: shifted(rectified_flow(), 0.0), "shift is 0"),
        (lambda: levels(rectified_flow(), 1, 0.1, 1.0), "at least 2 steps, got 1"),
        (lambda: levels(rectified_flow(), 5, 0.0, 1.0), "0 < sigma_min < sigma_max, got 0.0 and 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
