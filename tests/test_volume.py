"""Volumes from priors of slices and patches: exact where the prior allows it, their algorithms step by step, and in bounded memory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.edm import edm
from medjax.diffusion.flow_matching import flow_matching
from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.patchwise import patchwise, positions, random_patch, with_positions
from medjax.diffusion.score_matching import score_matching
from medjax.diffusion.slicewise import slicewise
from medjax.functionals.total_variation import total_variation
from medjax.guides.dps import dps
from medjax.operators.algebra import identity, scale
from medjax.operators.inpaint import inpaint
from medjax.samplers.ddim import ddim
from medjax.samplers.dds_volume import dds_volume
from medjax.samplers.diffusion_mbir import diffusion_mbir
from medjax.samplers.sample import sample
from medjax.samplers.tpdm import tpdm
from medjax.samplers.tv_admm import tv_admm
from medjax.typing import Kernel

SHAPE = (4, 3, 5)
STAND = Kernel(lambda x: (), lambda key, x, state, sigma, sigma_next, denoise: (x, state))


def _correlated(num, length=2.0):
    places = np.arange(num)
    return jnp.asarray(np.exp(-np.abs(places[:, None] - places) / length))


def _draws(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize("axis, at_once", [(0, 1), (0, 3), (1, 1), (2, 2), (-1, 9)])
def test_slicewise_is_exact_for_independent_slices(axis, at_once):
    """The denoiser of the volume's own covariance, which has blocks by slice only; and its vector-Jacobian product."""
    size = [n for a, n in enumerate(SHAPE) if a != axis % 3]
    covariance, mean, x, v = _correlated(size[0] * size[1], 4.0), *_draws(1, size, SHAPE, SHAPE)
    whole = gaussian(jnp.broadcast_to(mean, (SHAPE[axis], *size)), jnp.kron(jnp.eye(SHAPE[axis]), covariance))

    def exact(x):
        return jnp.moveaxis(whole(jnp.moveaxis(x, axis, 0), 0.7), 0, axis)

    def both(denoise):
        found, product = jax.vjp(lambda x: denoise(x), x)
        return found, product(v)[0]

    found, wanted = jax.jit(lambda: (both(lambda x: slicewise(gaussian(mean, covariance), axis, at_once)(x, 0.7)), both(exact)))()
    assert all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(found, wanted, strict=True))


def _problem(seed=2):
    """Half of the voxels known, with noise of its own each; those of the first slice not at all."""
    mask, (x, y) = np.random.default_rng(seed).random(SHAPE) < 0.6, _draws(seed, SHAPE, SHAPE)
    sigma_y = np.linspace(0.3, 0.8, 60).reshape(SHAPE)
    sigma_y[0] = np.inf
    return inpaint(mask * 1.0), mask * y, jnp.asarray(sigma_y), x


def test_tv_admm_solves_its_convex_problem():
    """The subgradient that the data ask for is one of total variation: lambda D^T u = A^H W (y - A x), |u| <= 1, u = sign(D x) where D x is not 0."""
    A, y, sigma_y, x = _problem()
    kernel = tv_admm(A, y, sigma_y, strength=0.7, rho=4.0, num_admm=3000, num_krylov=60)
    found, _ = jax.jit(lambda x: kernel.step(None, x, kernel.init(x), 1.0, 0.5, None))(x)
    force = np.asarray(A.adjoint((y - A(found)) / sigma_y**2))
    u, jumps = -np.cumsum(force, 0)[:-1] / 0.7, np.diff(np.asarray(found), axis=0)
    assert np.abs(force.sum(0)).max() < 1e-8  # the differences do not see the mean along z
    assert np.abs(u).max() < 1 + 1e-8
    assert np.allclose(u[np.abs(jumps) > 1e-6], np.sign(jumps[np.abs(jumps) > 1e-6]), rtol=0, atol=1e-8)
    assert 5 < np.sum(np.abs(jumps) > 1e-6) < 40  # of 45: both cases occur


def test_tv_admm_is_the_prox_of_total_variation():
    """With A = I, line by line along z, by the fast gradient projection of functionals/total_variation."""
    (v,) = _draws(3, SHAPE)
    kernel = tv_admm(identity(), v, 0.5, strength=2.0, rho=4.0, num_admm=400, num_krylov=20)
    found, _ = jax.jit(lambda x: kernel.step(None, x, kernel.init(x), 1.0, 0.5, None))(jnp.zeros(SHAPE))
    prox = functools.partial(total_variation(2.0, 2000, num_axes=1).prox, tau=0.25)
    lines = jax.jit(jax.vmap(prox, in_axes=1, out_axes=1))(v.reshape(4, 15))
    assert np.allclose(found.reshape(4, 15), lines, rtol=0, atol=1e-6)


def test_variables_are_shared_over_the_levels(key):
    """With a prior that does nothing, n levels of one ADMM step are one level of n: z and w go on."""
    A, y, sigma_y, x = _problem()

    def run(num_levels, num_admm):
        kernel = diffusion_mbir(A, y, sigma_y, strength=1.5, rho=4.0, num_admm=num_admm, num_krylov=3, prior=STAND)
        return jax.jit(lambda x: sample(key, kernel, None, jnp.linspace(1, 0, num_levels + 1), x))(x)

    once = run(1, 6)
    assert np.allclose(run(6, 1), once, rtol=0, atol=1e-12)
    kernel = tv_admm(A, y, sigma_y, strength=1.5, rho=4.0, num_krylov=3)
    forgetful = jax.jit(lambda x: jax.lax.fori_loop(0, 6, lambda _, x: kernel.step(None, x, kernel.init(x), 1.0, 0.5, None)[0], x))(x)
    assert np.abs(forgetful - once).max() > 1e-2


def _by_hand(key, x, sigmas, noisy):
    """DiffusionMBIR (noisy) or DDS for volumes in dense matrices, step by step as in the authors' code, for D(x, s) = x / (1 + s^2)."""
    A, y, sigma_y, _ = _problem()
    strength, rho, eta = 1.5, 4.0, 0.85
    weights, y, x = (np.asarray(a).ravel() for a in (A.mask / sigma_y**2, y, x))
    D, z, w = np.kron(np.diff(np.eye(4), axis=0), np.eye(15)), np.zeros(45), np.zeros(45)
    M = np.diag(weights) + rho * D.T @ D
    for i, (sigma, following) in enumerate(itertools.pairwise(np.asarray(sigmas))):
        key_step = jax.random.fold_in(key, i)
        noise = np.asarray(jax.random.normal(jax.random.fold_in(key_step, 0) if noisy else key_step, SHAPE, float)).ravel()  # `chain` folds once more
        denoised, fresh = x / (1 + sigma**2), np.sqrt(1 - (following / sigma) ** 2)
        eps = (x - denoised) / sigma
        v = denoised + following * (np.sqrt(1 - fresh**2) * eps + fresh * noise) if noisy else denoised
        p = r = weights * y + rho * D.T @ (z - w) - M @ v
        for _ in range(2):  # conjugate gradient
            alpha = r @ r / (p @ M @ p)
            v, following_r = v + alpha * p, r - alpha * M @ p
            p, r = following_r + following_r @ following_r / (r @ r) * p, following_r
        z = np.sign(D @ v + w) * np.maximum(np.abs(D @ v + w) - strength / rho, 0)
        w = w + D @ v - z
        x = v if noisy else v + following * (np.sqrt(1 - eta**2) * eps + eta * noise)
    return x.reshape(SHAPE)


@pytest.mark.parametrize("make, noisy", [(diffusion_mbir, True), (dds_volume, False)], ids=["diffusion_mbir", "dds_volume"])
def test_volume_samplers_follow_their_algorithms(key, make, noisy):
    """Three levels, the last one 0, with two conjugate gradient steps each; and the same in a batch."""
    A, y, sigma_y, x = _problem()
    sigmas, prior = jnp.array([2.0, 0.9, 0.3, 0.0]), slicewise(lambda x, sigma: x / (1 + sigma**2))

    def run(x):
        return sample(key, make(A, y, sigma_y, strength=1.5, rho=4.0, num_krylov=2), prior, sigmas, x)

    wanted = _by_hand(key, x, sigmas, noisy)
    assert np.allclose(jax.jit(run)(x), wanted, rtol=0, atol=1e-10)
    assert np.allclose(jax.jit(jax.vmap(run))(jnp.stack([0 * x, x]))[1], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", [diffusion_mbir, dds_volume])
def test_volume_samples_are_differentiable(key, make):
    """By the strength, sigma_y, the operator and the start, against central differences."""
    A, y, sigma_y, x = _problem()

    def value(theta):
        strength, level, factor, x = theta
        known = jnp.isfinite(sigma_y)
        noise = jnp.where(known, level * jnp.where(known, sigma_y, 1), jnp.inf)
        kernel = make(scale(factor, A), y, noise, strength=strength, rho=4.0, num_admm=2, num_krylov=3)
        run = sample(key, kernel, slicewise(lambda x, sigma: jnp.sin(x) / (1 + sigma**2)), jnp.array([2.0, 0.9, 0.0]), x)
        return jnp.sum(jnp.sin(run))

    theta, direction = (jnp.array(1.5), jnp.array(1.0), jnp.array(0.9), x), (1.0, 0.5, -0.7, jnp.cos(7 * x))
    gradient = jax.jit(jax.grad(value))(theta)
    compiled = jax.jit(value)
    for i, d in enumerate(direction):
        high, low = (compiled((*theta[:i], theta[i] + h * d, *theta[i + 1 :])) for h in (1e-6, -1e-6))
        slope = jnp.sum(gradient[i] * d)
        assert abs(slope) > 1e-3
        assert np.isclose((high - low) / 2e-6, slope, rtol=1e-4, atol=1e-7)  # differences are good to 1e-10 / 1e-6


def _planes():
    """Slices along z that know their columns' correlation, slices along y that know that along z: denoisers and both covariances."""
    along_x, along_z = _correlated(5, 3.0), 2.0 * _correlated(4, 1.5)
    first = slicewise(gaussian(jnp.zeros((3, 5)), jnp.kron(jnp.eye(3), along_x)))
    second = slicewise(gaussian(jnp.zeros((4, 5)), jnp.kron(along_z, jnp.eye(5))), axis=1)
    return first, second, along_x, along_z


@pytest.mark.parametrize("every", [2, 3])
def test_tpdm_follows_the_mean_of_both_scores(key, every):
    """Its paths reach those of the product p_1^(1 - 1/K) p_2^(1/K) of the noisy densities, known in closed form for Gaussians, at first order."""
    first, second, along_x, along_z = _planes()
    (a, U), (b, V) = np.linalg.eigh(along_x), np.linalg.eigh(along_z)
    (x,), share = _draws(4, SHAPE), 1 / every
    modes = np.einsum("zm,zyx,xn->myn", V, 10 * x, U)
    a, b = a / (a + 100.0), b / (b + 100.0)  # variances at level 0 over those at level 10
    exact = np.einsum("zm,myn,xn->zyx", V, modes * b[:, None, None] ** (share / 2) * a ** ((1 - share) / 2), U)
    kernel, errors = tpdm(second, ddim(0.0), every=every), []
    for num_steps in (600, 1200):
        sigmas = jnp.append(jnp.geomspace(10.0, 1e-4, num_steps), 0.0)
        errors.append(np.abs(jax.jit(lambda x, sigmas: sample(key, kernel, first, sigmas, x))(10 * x, sigmas) - exact).max())
    assert errors[1] < 0.02 * np.abs(exact).max() and 1.7 < errors[0] / errors[1] < 2.3


def test_tpdm_takes_turns(key):
    """Of K = 3 the third, the sixth ... step is the auxiliary's, and only the first prior has the guide; one prior twice changes nothing."""
    first, second, *_ = _planes()
    (x, y), sigmas = _draws(5, SHAPE, SHAPE), jnp.linspace(2, 0, 8)
    guided = dps(identity(), y, 0.5, zeta=0.3)(first)
    steps = [jax.jit(lambda key, x, s, t, prior=prior: ddim(1.0).step(key, x, (), s, t, prior)[0]) for prior in (guided, second)]
    by_hand = x
    for i, (sigma, following) in enumerate(itertools.pairwise(np.asarray(sigmas))):
        by_hand = steps[i % 3 == 2](jax.random.fold_in(key, i), by_hand, sigma, following)
    assert np.allclose(jax.jit(lambda x: sample(key, tpdm(second, every=3), guided, sigmas, x))(x), by_hand, rtol=0, atol=1e-12)
    same, plain = (jax.jit(lambda x, k=k: sample(key, k, first, sigmas, x))(x) for k in (tpdm(first), ddim(1.0)))
    assert np.allclose(same, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "shape, patch, stride", [((7, 9), (4, 3), None), ((7, 9), (4, 3), (4, 1)), ((5, 6, 4), (2, 3, 4), (1, 2, 4)), ((7, 5, 2), (3, 3), (2, 3))]
)
def test_patchwise_is_exact_for_independent_pixels(shape, patch, stride):
    """A white prior whose mean and variance depend on the place: patch by patch it is that of the whole image, with overlap; and its derivative."""

    def denoise(x, sigma, where=None):
        where = positions(x.shape[: len(patch)]) if where is None else where
        where = where.reshape(*where.shape[:-1], *[1] * (x.ndim - len(patch)), len(patch))
        mean, variance = where @ jnp.arange(1.0, len(patch) + 1), jnp.exp(where[..., 0])
        return mean + variance / (variance + sigma**2) * (x - mean)

    x, v = _draws(6, shape, shape)

    def both(denoise):
        found, product = jax.vjp(lambda x: denoise(x, 0.8), x)
        return found, product(v)[0]

    found, wanted = jax.jit(lambda: (both(patchwise(denoise, patch, stride)), both(denoise)))()
    assert all(np.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(found, wanted, strict=True))


def test_positions_and_patches(key):
    """Corners of the image at -1 and 1; a random patch is a piece of image and positions at one place, and every place occurs."""
    where = positions((3, 5))
    assert np.allclose(where[0, 0], -1) and np.allclose(where[-1, -1], 1) and np.allclose(where[1, 2], 0) and np.allclose(where[0, 1], [-1, -0.5])
    pieces, places = jax.jit(jax.vmap(lambda key: random_patch(key, where[..., 1], (2, 4))))(jax.random.split(key, 64))
    assert places.shape == (64, 2, 4, 2) and np.allclose(pieces, places[..., 1], rtol=0, atol=1e-12)
    corners = {tuple(corner) for corner in np.round(np.asarray(places[:, 0, 0]), 6)}
    assert corners == {(-1.0, -1.0), (-1.0, -0.5), (0.0, -1.0), (0.0, -0.5)}


@pytest.mark.parametrize("make", [lambda d: score_matching(d, 0.5), flow_matching], ids=["score_matching", "flow_matching"])
def test_losses_train_on_patches(key, make):
    """Images that are their positions: the loss is 0 at the network that reads them off, on patches, and the same network denoises whole images."""
    image = 0.3 + positions((6, 7))[..., 1]

    def denoiser(gain):
        def module(h, noise):  # inverts the preconditioning, so that D = 0.3 + gain * position
            sigma = jnp.exp(4 * noise)
            total = jnp.sqrt(sigma**2 + 0.25)
            return jnp.tile((0.3 + gain * h[..., 2:] - 0.25 / total * h[..., :1]) * total / (0.5 * sigma), 3)

        network = with_positions(module)
        return lambda x, sigma, where=None: edm(lambda h, noise: network(h, noise, where), 0.5)(x, sigma)

    @jax.jit
    def run(key, gain):
        batch = jax.vmap(lambda key: random_patch(key, image, (3, 4)))(jax.random.split(key, 8))
        noisy = image + 0.4 * jax.random.normal(key, image.shape)
        return make(denoiser)(gain, key, batch)[0], denoiser(gain)(noisy, 0.4)

    assert run(key, 0.5)[0] > 1e-2
    value, denoised = run(key, 1.0)
    assert value < 1e-20
    assert np.allclose(denoised, image, rtol=0, atol=1e-12)


def test_positions_stay_beside_the_channels():
    """Channels of the image first, then its positions; of the answer the channels of the image."""
    (x,) = _draws(7, (3, 4, 2))
    seen = []

    def network(h, noise):
        seen.append(h)
        return 2 * h

    assert np.allclose(with_positions(network)(x, 0.0), 2 * x) and np.allclose(with_positions(network, 3)(x, 0.0), 2 * x)
    assert np.allclose(seen[0], jnp.concatenate([x, positions((3, 4))], -1))
    assert np.allclose(seen[1], jnp.concatenate([x[..., None], positions((3, 4, 2))], -1))


def _network(x, sigma, where=None):
    """Convolutions with 16 features: a slice of it takes 16 times the memory of the slice."""
    kernels = (jnp.ones((3,) * x.ndim + (1, 16), x.dtype), jnp.ones((3,) * x.ndim + (16, 1), x.dtype))
    axes = "DHW"[-x.ndim :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    h = x[None, ..., None]
    for kernel in kernels:
        h = jnp.tanh(jax.lax.conv_general_dilated(h, kernel, (1,) * x.ndim, "SAME", dimension_numbers=layout))
    return h[0, ..., 0] * sigma


def _volumes(fn, depth):
    """Temporaries of the compiled `fn`, and the volume `[depth, 32, 32]`, both in bytes."""
    like = jax.ShapeDtypeStruct((depth, 32, 32), jnp.float32)
    compiled = jax.jit(fn).lower(like).compile()  # as users compile it: the optimiser decides what shares memory
    return compiled.memory_analysis().temp_size_in_bytes, depth * 32 * 32 * 4


def _step(kernel, denoise):
    """One step of a kernel, x and its state."""
    return lambda x: kernel.step(jax.random.key(0), x, kernel.init(x), jnp.float32(2), jnp.float32(1), denoise)


# name -> (function of a volume, the most volumes by which its temporaries may grow with each one of depth)
MEMORY = {
    "slicewise": (lambda x: slicewise(_network)(x, 0.5), 0.1),
    "slicewise_vjp": (lambda x: jax.vjp(lambda x: slicewise(_network)(x, 0.5), x)[1](x), 1.1),
    "patchwise": (lambda x: patchwise(_network, (16, 16, 16), (16, 16, 16))(x, 0.5), 1.1),
    "dds_volume": (lambda x: _step(dds_volume(identity(), x, 0.5), slicewise(_network))(x), 10),
    "diffusion_mbir": (lambda x: _step(diffusion_mbir(identity(), x, 0.5), slicewise(_network))(x), 10),
    "tpdm": (lambda x: _step(tpdm(slicewise(_network, 1)), dps(identity(), x, 0.5)(slicewise(_network)))(x), 8),
}


@pytest.mark.parametrize("fn, bound", MEMORY.values(), ids=MEMORY)
def test_memory_grows_with_the_volume_only(fn, bound):
    """From 32 to 128 slices; the network's own memory, of one slice or patch, does not grow. All at once would take 16 and more volumes."""
    (small, few), (large, many) = _volumes(fn, 32), _volumes(fn, 128)
    print(f"{(large - small) / (many - few):.2f} volumes, and {large / 1e6:.2f} MB at {many / 1e6:.2f} MB")
    assert large - small <= bound * (many - few)


def test_memory_would_grow_otherwise():
    """What the bounds above are against."""
    (small, few), (large, many) = (_volumes(lambda x: jax.vmap(lambda x: _network(x, 0.5))(x), depth) for depth in (32, 128))
    assert large - small > 15 * (many - few)


def test_precision_is_kept(key):
    like = jnp.zeros(SHAPE, jnp.float32)
    denoise = patchwise(lambda x, sigma, where: x + jnp.sum(where, -1) / (1 + sigma), (2, 3, 5))
    kernels = [make(identity(), like, 0.3) for make in (dds_volume, diffusion_mbir)] + [tpdm(slicewise(lambda x, s: x / (1 + s), 1))]
    for kernel in kernels:
        out = jax.eval_shape(lambda x, k=kernel: sample(key, k, denoise, jnp.array([1.0, 0.5, 0.0], jnp.float32), x), like)
        assert out.dtype == jnp.float32


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: slicewise(_network, at_once=0), "at_once of slicewise is 0"),
        (lambda: slicewise(_network, 3)(jnp.zeros(SHAPE), 1.0), "out of bounds"),
        (lambda: patchwise(_network, (4, 4), (5, 4)), r"stride from 1 to the patch on each axis, got \[5, 4\] for \[4, 4\]"),
        (lambda: patchwise(_network, (4, 4), (4,)), "stride from 1 to the patch"),
        (lambda: patchwise(_network, (4, 9))(jnp.zeros((5, 6)), 1.0), r"patch \[4, 9\] does not fit into an image \[5, 6\]"),
        (lambda: random_patch(jax.random.key(0), jnp.zeros((5, 6)), (4, 9)), "does not fit"),
        (lambda: tpdm(_network, every=1), "every of tpdm is 1, at least 2"),
        (lambda: tpdm(_network, every=2.5), "every of tpdm is 2.5, a whole number"),
        (lambda: dds_volume(identity(), jnp.zeros(SHAPE), 0.0), "sigma_y is 0"),
        (lambda: dds_volume(identity(), jnp.zeros(SHAPE), eta=1.5), "eta is 1.5"),
        (lambda: diffusion_mbir(identity(), jnp.zeros(SHAPE), strength=-1.0), "strength is -1"),
        (lambda: diffusion_mbir(identity(), jnp.zeros(SHAPE), rho=0.0), "rho is 0"),
        (lambda: diffusion_mbir(identity(), jnp.zeros(SHAPE), num_admm=0), "num_admm is 0"),
        (lambda: dds_volume(identity(), jnp.zeros(SHAPE), num_krylov=0), "num_krylov is 0"),
    ],
)
def test_refuses(call, text):
    with pytest.raises(ValueError, match=text) as error:
        call()
    assert "\n" not in str(error.value)
