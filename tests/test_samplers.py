"""Contract of every kernel: carries a Gaussian to its law and a mixture along its path at its order, and composes with every transformation."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.karras import karras
from medjax.diffusion.mixture import mixture
from medjax.samplers.ancestral import ancestral
from medjax.samplers.annealed_langevin import annealed_langevin
from medjax.samplers.chain import chain
from medjax.samplers.consistency import consistency
from medjax.samplers.ddim import ddim
from medjax.samplers.dpmpp_2m import dpmpp_2m
from medjax.samplers.dpmpp_sde import dpmpp_sde
from medjax.samplers.euler import euler
from medjax.samplers.heun import heun
from medjax.samplers.langevin import langevin
from medjax.samplers.renoise import renoise
from medjax.samplers.runge_kutta import runge_kutta
from medjax.samplers.sample import sample
from medjax.samplers.unipc import unipc

# name -> (kernel, order in the number of steps, deterministic)
KERNELS = {
    "ancestral_forward": (ancestral("forward"), 1, False),
    "annealed_langevin": (annealed_langevin(0.5, 3), 1, False),
    "consistency": (consistency(), 2, False),
    "ddim_0": (ddim(0.0), 1, True),
    "ddim_0.85": (ddim(0.85), 1, False),
    "ddim_1": (ddim(1.0), 1, False),
    "dpmpp_2m": (dpmpp_2m(), 2, True),
    "dpmpp_sde": (dpmpp_sde(), 2, False),
    "dpmpp_sde_0.5": (dpmpp_sde(0.5), 2, False),
    "euler_0.5": (euler(0.5), 1, False),
    "euler_1": (euler(1.0), 1, False),
    "heun": (heun(), 2, True),
    "heun_churn": (heun(0.05), 2, False),
    "predictor_corrector": (chain(langevin(0.08), ddim(1.0)), 1, False),
    "renoise": (renoise(), 1, False),
    "renoise_0.1": (renoise(0.1), 1, False),
    "runge_kutta_ralston": (runge_kutta("Ralston"), 2, True),
    "runge_kutta_bosh3": (runge_kutta(), 3, True),
    "unipc_2": (unipc(2), 3, True),
    "unipc_3_bh1": (unipc(3, "bh1"), 3, True),
}
ENDS_ELSEWHERE = {"heun_churn", "predictor_corrector"}  # they move x at sigma first, so the last step denoises another x
TOO_NARROW = {"renoise", "renoise_0.1"}  # known: their own law is tested by itself
cases = pytest.mark.parametrize("name", KERNELS)

VARIANCES = jnp.array([0.01, 0.3, 1.0, 4.0])[:, None]
MEAN = jnp.array([1.0, -2.0, 0.0, 3.0])[:, None]
SHAPE = (4, 8)
HIGH, LOW = 10.0, 0.1

WEIGHTS, CENTRES, WIDTHS = jnp.array([0.3, 0.7]), jnp.array([-2.0, 1.5]), jnp.array([0.2, 0.5])  # of a pixel, widths squared


def gaussian_pixels(x, sigma):
    """Denoiser of independent pixels N(MEAN, VARIANCES)."""
    return (MEAN + VARIANCES / (VARIANCES + sigma**2) * (x - MEAN)).astype(x.dtype)


def gaussian_end(x, sigma):
    """The consistency function: where the probability-flow ODE of these pixels ends."""
    return (MEAN + jnp.sqrt(VARIANCES / (VARIANCES + sigma**2)) * (x - MEAN)).astype(x.dtype)


def mixed_pixels(x, sigma):
    """Denoiser of independent pixels of one mixture."""
    pixel = mixture(WEIGHTS, CENTRES[:, None], WIDTHS)
    return jax.vmap(lambda v: pixel(v[None], sigma)[0])(x.ravel()).reshape(x.shape)


def mixed_path(x, sigma, sigma_next):
    """Exact probability-flow ODE of a pixel of the mixture: it keeps the quantile, found by bisection."""

    def cdf(v, level):
        return jnp.sum(WEIGHTS[:, None] * jax.scipy.stats.norm.cdf((v[None] - CENTRES[:, None]) / jnp.sqrt(WIDTHS + level**2)[:, None]), 0)

    quantile, low, high = cdf(x, sigma), jnp.full(x.shape, -60.0), jnp.full(x.shape, 60.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = cdf(middle, sigma_next) > quantile
        low, high = jnp.where(above, low, middle), jnp.where(above, middle, high)
    return middle


def denoiser(name):
    return gaussian_end if name == "consistency" else gaussian_pixels


@functools.cache
def stepper(name):
    """One step, compiled alone."""
    return jax.jit(lambda key, x, state, sigma, sigma_next: KERNELS[name][0].step(key, x, state, sigma, sigma_next, denoiser(name)))


def by_hand(key, name, sigmas, x):
    """What `sample` does, step by step."""
    state = KERNELS[name][0].init(x)
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        x, state = stepper(name)(jax.random.fold_in(key, i), x, state, sigma, sigma_next)
    return x


def draw(key, num):
    """Pixels at the noise level HIGH, exactly."""
    return MEAN[None] + jnp.sqrt(VARIANCES + HIGH**2)[None] * jax.random.normal(key, (num, *SHAPE))


def uneven_levels(num_steps, uneven):
    """Levels whose steps are longer and shorter in turn by `uneven`, in log sigma."""
    levels = jnp.linspace(jnp.log(HIGH), jnp.log(LOW), num_steps + 1)
    return jnp.exp(levels.at[1:-1:2].add(uneven * (levels[1] - levels[0])))


@pytest.mark.parametrize("name", [name for name, (_, _, deterministic) in KERNELS.items() if not deterministic and name not in TOO_NARROW])
def test_law(key, name):
    """Mean and variance of x0 + LOW n after 100 steps, over 1,500 samples of 8 pixels of each kind; `test_order` has the deterministic kernels."""
    kernel, order, _ = KERNELS[name]
    start, sigmas = draw(key, 1500).astype(jnp.float32), uneven_levels(100, 0.0)
    end = jax.jit(jax.vmap(lambda k, x: sample(k, kernel, denoiser(name), sigmas, x)))(jax.random.split(key, 1500), start)
    std = jnp.sqrt(VARIANCES + LOW**2)
    assert np.allclose(end.mean((0, 2)), MEAN[:, 0], atol=4 * np.max(std) / 110)  # four standard errors of a mean of 12,000
    tolerance = 0.02 + (0.05 if order == 1 else 0)  # Monte Carlo error .006; the first-order bias at 100 steps is 2-5 %
    assert np.allclose(end.std((0, 2)) / std[:, 0], 1, atol=tolerance)


@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
@pytest.mark.parametrize("name", [name for name, (_, _, deterministic) in KERNELS.items() if deterministic])
def test_order(name, prior):
    """Twice the steps divide the error of the path by 2 ** order, also for uneven steps, where a multistep kernel must know their lengths."""
    kernel, order, _ = KERNELS[name]
    if prior == "gaussian":
        start, denoise = MEAN + jnp.linspace(-25, 25, 8)[None], gaussian_pixels
        exact = MEAN + jnp.sqrt((VARIANCES + LOW**2) / (VARIANCES + HIGH**2)) * (start - MEAN)
    else:
        start, denoise = jnp.linspace(-25, 25, 32), mixed_pixels
        exact = mixed_path(start, HIGH, LOW)
    run = jax.jit(lambda x, sigmas: sample(jax.random.key(0), kernel, denoise, sigmas, x))
    errors = [jnp.linalg.norm(run(start, uneven_levels(num_steps, 0.4)) - exact) for num_steps in (80, 160)]
    assert abs(jnp.log2(errors[0] / errors[1]) - order) < 0.25  # the next order's share at 80 steps


@cases
def test_ends_on_the_denoised_image_at_level_zero(key, name):
    """The last step to sigma = 0 returns D(x, sigma), the first one too."""
    x = jax.random.normal(key, SHAPE)
    one, before, two = (by_hand(key, name, jnp.array(levels), x) for levels in ([0.5, 0.0], [0.8, 0.5], [0.8, 0.5, 0.0]))
    assert jnp.all(jnp.isfinite(one)) and jnp.all(jnp.isfinite(two))
    if name not in ENDS_ELSEWHERE:
        assert np.allclose(one, denoiser(name)(x, 0.5), rtol=0, atol=1e-12)
        assert np.allclose(two, denoiser(name)(before, 0.5), rtol=0, atol=1e-12)


@cases
def test_composes(key, name):
    """The loop under `vmap` gives what single steps give; gradients reach the start; single precision stays. `test_sharding.py` has the devices."""
    sigmas = karras(4, 0.1, 5.0)
    keys, x = jax.random.split(key, 2), 5 * jax.random.normal(key, (2, *SHAPE))

    def one(k, x):
        return sample(k, KERNELS[name][0], denoiser(name), sigmas, x)

    run, direction = jax.jit(jax.vmap(one)), jnp.cos(jnp.arange(32.0)).reshape(SHAPE)
    assert np.allclose(run(keys, x), [by_hand(k, name, sigmas, v) for k, v in zip(keys, x, strict=True)], rtol=0, atol=1e-10)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(one(keys[0], x) ** 2)))(x[0])
    ends = run(keys[jnp.zeros(2, int)], x[:1] + 1e-5 * jnp.array([1, -1])[:, None, None] * direction[None])
    assert np.allclose(jnp.sum(gradient * direction), jnp.subtract(*jnp.sum(ends**2, (1, 2))) / 2e-5, rtol=1e-5)  # central difference in f64
    assert jax.eval_shape(one, keys[0], jnp.float32(x[0])).dtype == jnp.float32


OPTIONS = {
    "annealed_langevin": (lambda value: annealed_langevin(value, 2), 0.3),
    "ddim": (ddim, 1.0),
    "dpmpp_sde": (dpmpp_sde, 0.7),
    "euler": (euler, 0.8),
    "heun": (heun, 0.1),
    "langevin": (langevin, 0.2),
    "renoise": (renoise, 0.5),
}


@pytest.mark.parametrize("make, value", OPTIONS.values(), ids=OPTIONS)
def test_is_differentiable_by_its_option(key, make, value):
    """And by the levels' scale, down to level 0, against central differences in f64."""
    x, levels = jax.random.normal(key, SHAPE), jnp.array([2.0, 0.7, 0.2, 0.0])

    def fn(option, scale):
        return jnp.sum(sample(key, make(option), gaussian_pixels, scale * levels, x) ** 2)

    gradient, run = jax.jit(jax.grad(fn, argnums=(0, 1)))(value, 1.0), jax.jit(fn)
    for i, step in enumerate(((1e-5, 0.0), (0.0, 1e-5))):
        low, high = (run(value + sign * step[0], 1.0 + sign * step[1]) for sign in (-1, 1))
        assert np.allclose(gradient[i], (high - low) / 2e-5, rtol=1e-5)


def test_some_kernels_are_others(key):
    """One draw, one level: what the docstrings say of each other."""
    x = jax.random.normal(key, SHAPE)

    def step(kernel):
        return kernel.step(key, x, kernel.init(x), 0.9, 0.6, gaussian_pixels)[0]

    pairs = ((ancestral(), ddim(1.0)), (euler(), ddim(0.0)), (renoise(0.0), ddim(0.0)), (consistency(0.0), renoise(1.0)), (dpmpp_2m(), ddim(0.0)))
    for one, other in pairs:
        assert np.allclose(step(one), step(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_ancestral_is_ddpm(key, variance):
    """Algorithm 2 of Ho et al. as printed, in its own coordinates."""
    bar, bar_next = 0.5, 0.6  # alpha bar at t and t - 1
    alpha = bar / bar_next
    sigma, sigma_next = (np.sqrt((1 - b) / b) for b in (bar, bar_next))
    x, noise = jax.random.normal(key, (2, *SHAPE))
    noise = jax.random.normal(key, SHAPE)
    epsilon = (x - gaussian_pixels(x, sigma)) / sigma
    spread = {"posterior": (1 - bar_next) / (1 - bar) * (1 - alpha), "forward": 1 - alpha}[variance]
    exact = (x * np.sqrt(bar) - (1 - alpha) / np.sqrt(1 - bar) * epsilon) / np.sqrt(alpha) + np.sqrt(spread) * noise
    got, _ = ancestral(variance).step(key, x, (), sigma, sigma_next, gaussian_pixels)
    assert np.allclose(got * np.sqrt(bar_next), exact, rtol=0, atol=1e-12)


def test_euler_is_the_reverse_diffusion_sampler(key):
    """Song et al. (2021), algorithm 2: x + (sigma^2 - sigma'^2) score + sqrt(sigma^2 - sigma'^2) z."""
    x, square = jax.random.normal(key, SHAPE), 0.9**2 - 0.6**2
    score = (gaussian_pixels(x, 0.9) - x) / 0.9**2
    got, _ = euler(1.0).step(key, x, (), 0.9, 0.6, gaussian_pixels)
    assert np.allclose(got, x + square * score + np.sqrt(square) * jax.random.normal(key, SHAPE), rtol=0, atol=1e-12)


DIFFUSERS = {
    (2, "bh1"): [-2.4088070100911523, -2.085282308774541, 1.1073363727758065, 2.4486091232482368],
    (2, "bh2"): [-2.3832771517429525, -2.0453629077003526, 1.0820988317026239, 2.407179882473104],
    (3, "bh1"): [-2.272266274913634, -1.9054092987881457, 1.0178643858771133, 2.3797748821315285],
    (3, "bh2"): [-2.271142826655154, -1.9045482259348119, 1.0177879258484772, 2.3790241926995144],
}


@pytest.mark.parametrize("order, variant", DIFFUSERS)
def test_unipc_is_that_of_diffusers(order, variant):
    """Eight uneven steps on the mixture by `UniPCMultistepScheduler` of diffusers 0.42, computed in double precision."""
    sigmas = jnp.array([10.0, 7.0, 4.0, 2.5, 1.2, 0.7, 0.3, 0.15, 0.1])
    got = jax.jit(lambda x: sample(jax.random.key(0), unipc(order, variant), mixed_pixels, sigmas, x))(jnp.array([-15.0, -10.0, 0.0, 15.0]))
    assert np.allclose(got, DIFFUSERS[order, variant], rtol=0, atol=1e-10)


def test_langevin_keeps_its_level():
    """Many steps on independent pixels of variance V at noise sigma: (V + sigma^2) (1 + snr^2), whatever the start and sigma_next."""
    kernel, variance, sigma = langevin(snr=0.3, num_steps=60), 2.0, 0.7
    end, _ = jax.jit(lambda x: kernel.step(jax.random.key(1), x, (), sigma, 0.0, lambda x, s: variance / (variance + s**2) * x))(jnp.ones((128, 128)))
    assert np.allclose(jnp.var(end), (variance + sigma**2) * (1 + 0.3**2), rtol=0.04)  # standard error .011


@pytest.mark.parametrize("zeta", [0.1, 1.0])
def test_renoise_has_its_own_law(key, zeta):
    """Its variance against the recursion in closed form, which ends below the right one."""
    sigmas, variances = np.array(uneven_levels(40, 0.0)), np.array(VARIANCES)
    exact = variances + HIGH**2
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        gain = variances / (variances + sigma**2)
        exact = (gain + sigma_next * np.sqrt(1 - zeta) * (1 - gain) / sigma) ** 2 * exact + zeta * sigma_next**2
    start = draw(key, 1000).astype(jnp.float32)
    end = jax.jit(jax.vmap(lambda k, x: sample(k, renoise(zeta), gaussian_pixels, sigmas, x)))(jax.random.split(key, 1000), start)
    assert np.allclose(end.std((0, 2)), np.sqrt(exact)[:, 0], rtol=0.03)  # standard error .008
    assert np.all(exact < variances + LOW**2)


@pytest.mark.parametrize("sigma_min", [0.0, 0.2])
def test_consistency_is_exact_in_any_number_of_steps(key, sigma_min):
    """Two steps, with f that ends at sigma_min: the law of x0 + sigma' n."""

    def end_at(x, sigma):
        return MEAN + jnp.sqrt((VARIANCES + sigma_min**2) / (VARIANCES + sigma**2)) * (x - MEAN)

    start = draw(key, 1000)
    for last in (0.5, 0.0):
        sigmas = jnp.array([HIGH, 1.0, last])
        end = jax.jit(jax.vmap(lambda k, x, s=sigmas: sample(k, consistency(sigma_min), end_at, s, x)))(jax.random.split(key, 1000), start)
        assert np.allclose(end.std((0, 2)), jnp.sqrt(VARIANCES + max(last, sigma_min) ** 2)[:, 0], rtol=0.03)  # standard error .008


def test_memory_does_not_grow_with_steps(key):
    """The compiled loop of 1000 steps holds what that of 10 does, and the levels themselves; stacking x would add 8 MB."""

    def temporary_bytes(num_steps):
        sigmas, x = jnp.geomspace(HIGH, LOW, num_steps + 1), jnp.zeros(1000)
        run_fn = jax.jit(lambda key, sigmas, x: sample(key, heun(), lambda x, sigma: x / (1 + sigma**2), sigmas, x))
        return run_fn.lower(key, sigmas, x).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(1000) <= temporary_bytes(10) + 4 * 8 * 1000


def test_chain_passes_states_and_needs_kernels(key):
    """Each kernel of a chain gets its own key and state."""
    x, kernel = jnp.ones(SHAPE), ddim(1.0)
    expected, _ = kernel.step(jax.random.fold_in(key, 0), x, (), 1.0, 0.5, gaussian_pixels)
    got, states = chain(kernel).step(key, x, chain(kernel).init(x), 1.0, 0.5, gaussian_pixels)
    assert np.allclose(got, expected, rtol=0, atol=1e-14) and states == ((),)
    with pytest.raises(ValueError, match="at least one kernel"):
        chain()


@pytest.mark.parametrize(
    "sigmas, message",
    [
        ([1.0, 0.5, 0.5, 0.0], "sigmas go from 0.5 to 0.5 at step 1; strictly decreasing noise levels are needed"),
        ([1.0, 2.0, 0.5], "from 1 to 2 at step 0"),
        ([0.5, 0.7], "from 0.5 to 0.7 at step 0; strictly decreasing"),
        ([0.0, 0.5], "from 0 to 0.5 at step 0; strictly decreasing"),
        ([1.0, np.nan, 0.0], "sigmas hold nan, finite noise levels"),
        ([np.inf, 1.0], "sigmas hold inf"),
        ([1.0, -0.5], "sigmas hold -0.5, .* at least 0"),
        ([1.0], r"sigmas is \[1\], a vector of at least 2"),
        ([[1.0, 0.5]], r"sigmas is \[1, 2\]"),
    ],
)
def test_levels_that_lead_nowhere(key, sigmas, message):
    """One line, inside `jit` too."""
    with pytest.raises(ValueError, match=message):
        sample(key, ddim(), gaussian_pixels, jnp.array(sigmas), jnp.zeros(SHAPE))
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda x: sample(key, ddim(), gaussian_pixels, np.array(sigmas), x))(jnp.zeros(SHAPE))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ancestral("both"), "posterior or forward"),
        (lambda: annealed_langevin(4.0), "less than 4"),
        (lambda: annealed_langevin(num_steps=0), "num_steps is 0"),
        (lambda: consistency(-1.0), "sigma_min is -1"),
        (lambda: dpmpp_sde(-1.0), "eta is -1"),
        (lambda: euler(np.nan), "noise is nan"),
        (lambda: langevin(0.0), "snr is 0"),
        (lambda: renoise(1.5), "zeta is 1.5"),
        (lambda: runge_kutta("Heun2"), "explicit Runge-Kutta method"),
        (lambda: runge_kutta("Kvaerno5"), "explicit Runge-Kutta method"),
        (lambda: unipc(4), "order 2 or 3"),
    ],
)
def test_refuses_numbers_out_of_range(build, message):
    """One line with the name."""
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("solver", ["Bosh3", "Dopri5"])
def test_runge_kutta_is_a_step_of_diffrax(key, solver):
    """Its own step, on the mixture."""
    import diffrax

    x, method = 2 * jax.random.normal(key, (16,)), getattr(diffrax, solver)()

    def exact(x):
        term = diffrax.ODETerm(lambda level, x, _: (x - mixed_pixels(x, level)) / level)
        return method.step(term, 2.0, 1.2, x, None, method.init(term, 2.0, 1.2, x, None), made_jump=False)[0]

    got, _ = jax.jit(lambda x: runge_kutta(solver).step(key, x, (), 2.0, 1.2, mixed_pixels))(x)
    assert np.allclose(got, jax.jit(exact)(x), rtol=0, atol=1e-12)


def test_runge_kutta_says_what_is_missing(monkeypatch):
    """One line without diffrax."""
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match="^runge_kutta needs diffrax, which is not installed: pip install diffrax$"):
        runge_kutta()
