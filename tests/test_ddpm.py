"""The discrete path against diffusers, and the losses that train denoisers against their closed form on Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.diffusion.ddpm import alphas_bar, cosine_betas, ddpm, ddpm_levels, linear_betas, linear_rate
from medjax.diffusion.ddpm_loss import ddpm_loss
from medjax.diffusion.flow_matching import flow_matching
from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.predictions import from_eps, from_velocity
from medjax.diffusion.rectified_flow import rectified_flow
from medjax.diffusion.score_matching import score_matching
from medjax.guides.dps import dps
from medjax.operators.inpaint import inpaint
from medjax.samplers.ancestral import ancestral
from medjax.samplers.ddim import ddim

INDICES = [0, 1, 250, 500, 900, 999]
# diffusers 0.42.1, 1000 steps, its tables in double precision (torch.float32 = torch.float64): betas -> alphas_cumprod at INDICES,
# sigmas of DPMSolverMultistep at 999, 799, 599, 400, 200, of EulerDiscrete and HeunDiscrete at 999, 666, 333, 0
GOLDEN = {
    "linear": (
        linear_betas(),
        [0.9999, 0.9997800920720721, 0.5214230306185275, 0.07779665836502389, 0.00027024451955826425, 4.0358297653756754e-05],
        [157.40728759765625, 25.528480529785156, 6.135209083557129, 2.0410869121551514, 0.7235912680625916, 0.0],
        [157.40728759765625, 9.488920211791992, 1.462356686592102, 0.01000049989670515, 0.0],
    ),
    "scaled_linear": (
        linear_betas(1000, 0.00085, 0.012, power=2.0),
        [0.99915, 0.9982960278384514, 0.6737926252333215, 0.2763326838229746, 0.014151141969672475, 0.004660098513077238],
        [14.614641189575195, 5.08776330947876, 2.276463031768799, 1.1643911600112915, 0.57166588306427, 0.0],
        [14.614641189575195, 2.918307065963745, 0.9323579668998718, 0.029167158529162407, 0.0],
    ),
    "squaredcos_cap_v2": (
        cosine_betas(),
        [0.999958715775178, 0.9999125759273678, 0.8458879864968832, 0.49228517244880304, 0.023616108794393863, 2.4287669070348567e-09],
        [20291.169921875, 3.103729724884033, 1.3907513618469238, 0.7402809858322144, 0.33746084570884705, 0.0],
        [20291.169921875, 1.750723123550415, 0.5897073745727539, 0.006425412837415934, 0.0],
    ),
}
# DDPMScheduler.step at x, eps: (betas, index) -> mean of the step, standard deviation for variance_type "fixed_small" and "fixed_large"
X, EPS = np.array([0.3, -1.2, 0.7]), np.array([0.5, -0.4, 1.1])
STEPS = {
    ("linear", 700): ([0.29503282618109017, -1.202839199006334, 0.6893560900176259], 0.11850131, 0.11850715),
    ("linear", 1): ([0.295974401291742, -1.1968370877723946, 0.6911460814559574], 0.00738457, 0.0109508),
    ("linear", 0): ([0.29501475110634245, -1.1960598044853739, 0.6890344525839659], 0.0, 0.0),
    ("squaredcos_cap_v2", 700): ([0.29746731058900777, -1.2009476015479001, 0.6945519896740127], 0.07846638, 0.07852803),
    ("squaredcos_cap_v2", 1): ([0.29753941335887435, -1.1980536794943024, 0.6945876322564903], 0.00466792, 0.00679277),
    ("squaredcos_cap_v2", 0): ([0.2967934864399024, -1.1974546061934368, 0.6929464958778484], 0.0, 0.0),
}
VARIANCE = 0.3


@pytest.mark.parametrize("betas, table, dpm, euler", GOLDEN.values(), ids=GOLDEN)
def test_coefficients_are_those_of_diffusers(betas, table, dpm, euler):
    """alphas_cumprod, and the noise levels that DPM-Solver++, Euler and Heun step over."""
    assert np.allclose(alphas_bar(betas)[INDICES], table, rtol=1e-9, atol=0)
    assert np.allclose(ddpm_levels(betas, [999, 799, 599, 400, 200]), dpm, rtol=1e-6, atol=0)
    assert np.allclose(ddpm_levels(betas, [999, 666, 333, 0]), euler, rtol=1e-6, atol=0)
    full = ddpm_levels(betas)
    assert full.shape == (1001,) and full[-1] == 0 and np.all(np.diff(full) < 0)
    assert np.allclose(full[:1000:333], euler[:4], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name, index", STEPS)
def test_algorithm_2_takes_the_step_of_diffusers(key, name, index):
    """One ancestral step in x / sqrt(alpha_bar), turned back, is DDPMScheduler.step, for both variances."""
    mean, *deviations = STEPS[name, index]
    betas = GOLDEN[name][0]
    bars = np.append(alphas_bar(betas)[: index + 1], 1.0)  # the level after index 0 is the image
    high, low = np.sqrt(1 / bars[index] - 1), np.sqrt(1 / bars[index - 1] - 1)
    denoise = from_eps(lambda x_t, t: EPS + 0 * x_t, ddpm(betas))
    for variance, std in zip(("posterior", "forward"), deviations, strict=True):
        x, _ = ancestral(variance).step(key, jnp.asarray(X / np.sqrt(bars[index])), (), high, low, denoise)
        expected = jnp.asarray(mean) + std * jax.random.normal(key, (3,))
        assert np.allclose(x * np.sqrt(bars[index - 1]), expected, rtol=0, atol=3e-8)  # the deviations are printed to 8 digits


def test_ddim_step_of_diffusers():
    """DDIMScheduler.step from 800 to 600 of 1000 linear betas, and its last step to the image."""
    bars = alphas_bar(linear_betas())
    denoise = from_eps(lambda x_t, t: EPS + 0 * x_t, ddpm(linear_betas()))
    for (high, low), expected in (
        ((bars[800], bars[600]), [-0.3285299543277671, -3.6906929922642413, -0.5580360263658195]),
        ((bars[0], 1.0), [0.29501475110634245, -1.1960598044853739, 0.6890344525839659]),
    ):
        start = jnp.asarray(X / np.sqrt(high))
        x, _ = ddim().step(jax.random.key(0), start, (), np.sqrt(1 / high - 1), np.sqrt(1 / low - 1), denoise)
        assert np.allclose(x * np.sqrt(low), expected, rtol=0, atol=1e-9)


def test_table_as_a_path():
    """A network trained on the table is asked for the index that it knows, at the alpha of that index; ends are kept; levels between are between."""
    betas = cosine_betas()
    schedule, bars = ddpm(betas), alphas_bar(betas)
    sigmas = np.sqrt(1 / bars[INDICES] - 1)
    assert np.allclose(schedule.time(sigmas) * 999, INDICES, rtol=0, atol=1e-8)
    times = np.array(INDICES) / 999
    assert np.allclose(schedule.alpha(times) ** 2, bars[INDICES], rtol=1e-9) and np.allclose(schedule.sigma(times) ** 2, 1 - bars[INDICES], rtol=1e-9)
    assert schedule.time(1e-9) == 0 and schedule.time(1e9) == 1
    assert 500 < schedule.time(np.sqrt(np.sqrt((1 / bars[500] - 1) * (1 / bars[501] - 1)))) * 999 < 501
    single = jnp.float32(0.3)
    assert schedule.alpha(single).dtype == schedule.sigma(single).dtype == schedule.time(single).dtype == jnp.float32


def test_bad_tables_are_named():
    """One line for what was found and what is needed."""
    with pytest.raises(ValueError, match=r"betas \[T\] in \(0, 1\) are needed, got \[2\] from 0.5 to 1"):
        alphas_bar([0.5, 1.0])
    for indices in ([1, 2], [1000], [3, -1]):
        with pytest.raises(ValueError, match="indices must decrease from below 1000 to 0 or more"):
            ddpm_levels(linear_betas(), indices)


def gaussian_eps(excess):
    """E[n | x_t] of data N(0, VARIANCE) times 1 + excess, by its formula on the discrete path."""
    bars = jnp.asarray(alphas_bar(linear_betas()))

    def network(x_t, t):
        bar = bars[jnp.round(t * 999).astype(int)]
        return (1 + excess) * jnp.sqrt(1 - bar) / (bar * VARIANCE + 1 - bar) * x_t

    return from_eps(network, ddpm(linear_betas()))


def gaussian_velocity(excess):
    """E[n - x0 | x_t] of data N(0, VARIANCE) times 1 + excess."""

    def network(x_t, t):
        return (1 + excess) * (t - (1 - t) * VARIANCE) / ((1 - t) ** 2 * VARIANCE + t**2) * x_t

    return from_velocity(network, rectified_flow())


def square_of_eps():
    """Means over the indices of Var[n | x_t] and of E[n | x_t]^2, which add up to 1."""
    bars = alphas_bar(linear_betas())
    squares = (1 - bars) / (bars * VARIANCE + 1 - bars)
    return 1 - squares.mean(), squares.mean()


def square_of_velocity():
    """The same of the velocity over uniform t; they add up to 1 + VARIANCE."""
    t = (np.arange(20_000) + 0.5) / 20_000
    squares = (t - (1 - t) * VARIANCE) ** 2 / ((1 - t) ** 2 * VARIANCE + t**2)
    return 1 + VARIANCE - squares.mean(), squares.mean()


# loss -> (of denoisers, network's denoiser from its excess, least value and mean square of its prediction)
EXACT = {
    "ddpm_loss": (lambda denoiser: ddpm_loss(denoiser, linear_betas()), gaussian_eps, square_of_eps),
    "flow_matching": (lambda denoiser: flow_matching(denoiser, std_logit=None), gaussian_velocity, square_of_velocity),
}


@pytest.mark.parametrize("loss, denoiser, squares", EXACT.values(), ids=EXACT)
def test_losses_are_least_at_the_exact_network(key, loss, denoiser, squares):
    """Its value there is the variance that the image leaves; a network off by a share loses that share squared of its square, on either side."""
    batch = VARIANCE**0.5 * jax.random.normal(key, (2000, 20))
    least, square = squares()
    value = jax.jit(lambda excess: loss(denoiser)(excess, jax.random.fold_in(key, 1), batch)[0])
    exact, above, below = value(0.0), value(0.1), value(-0.1)
    assert abs(exact - least) < 4 * 1.5 / 200  # standard error of 40,000 squares
    assert abs(above - exact - 0.01 * square) < 4 * 0.2 / 200 and abs(below - exact - 0.01 * square) < 4 * 0.2 / 200  # of the mixed term
    assert abs(above + below - 2 * exact - 0.02 * square) < 4 * 0.03 / 200  # which cancels here


@pytest.mark.parametrize(
    "loss",
    [
        lambda denoiser: ddpm_loss(denoiser, linear_betas(1000, 0.00085, 0.012, power=2.0)),
        lambda denoiser: flow_matching(denoiser),
        lambda denoiser: score_matching(denoiser, 0.5, -0.5, 1.0),
    ],
    ids=["ddpm_loss", "flow_matching", "score_matching"],
)
def test_losses_train_the_exact_denoiser(key, loss):
    """D = x s(p + q ln sigma), s logistic, is exact for N(0, v) at p = ln v, q = -2, and that is where 300 steps of Adam lead."""

    def denoiser(params):
        return lambda x, sigma: x * jax.nn.sigmoid(params[0] + params[1] * jnp.log(sigma))

    optimizer = optax.adam(0.1)

    def step(carry, key):
        params, state = carry
        batch = VARIANCE**0.5 * jax.random.normal(key, (64, 20))
        gradient = jax.grad(lambda p: loss(denoiser)(p, jax.random.fold_in(key, 1), batch)[0])(params)
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = jnp.zeros(2)
    _, path = jax.jit(lambda keys: jax.lax.scan(step, (start, optimizer.init(start)), keys))(jax.random.split(key, 300))
    assert np.allclose(path[-100:].mean(0), [np.log(VARIANCE), -2], atol=0.1)  # Adam's wander


@pytest.mark.parametrize("i", [30, 100, 500, 998])
def test_dps_is_the_step_of_its_paper(key, i):
    """What zeta adds to a step of DDPM by algorithm 1 in its own coordinates; the closed form of the table is off by a twentieth at its ends."""
    bar = np.append(1.0, alphas_bar(linear_betas()))
    sigma, below = (np.sqrt(1 / bar[j] - 1) for j in (i + 1, i))
    x = jax.random.normal(key, (8,))
    A, denoise = inpaint(jnp.arange(8) % 2), gaussian(jnp.zeros(8), jnp.eye(8) + 0.5)
    y = A(jnp.arange(8.0))

    def misfit(scaled):
        return jnp.linalg.norm(y - A(denoise(scaled / jnp.sqrt(bar[i + 1]), sigma)))

    paper = -0.7 * jax.grad(misfit)(jnp.sqrt(bar[i + 1]) * x) / jnp.sqrt(bar[i])

    @jax.jit
    def ours(zeta):
        return ddim(1.0).step(key, x, (), sigma, below, dps(A, y, 0.1, zeta=zeta)(denoise))[0]

    assert np.allclose(ours(0.7) - ours(0.0), paper, rtol=0, atol=0.05 * np.abs(paper).max())
    assert np.isclose(linear_rate(sigma), linear_betas()[i], rtol=0.05, atol=0)
