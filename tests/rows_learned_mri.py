"""Contract rows of learned reconstructions of magnetic resonance data."""

import jax
import jax.numpy as jnp
import numpy as np
from learned_row import NOTHING, ZERO, LearnedRow, Stub
from scipy.ndimage import correlate

from medjax import lanczos, linalg
from medjax.functionals.soft_threshold import soft_threshold
from medjax.iterate import iterate
from medjax.learned.admm_net import admm_net
from medjax.learned.automap import automap
from medjax.learned.modl import modl
from medjax.learned.variational_network import variational_network
from medjax.networks.cnn import cnn
from medjax.operators.algebra import compose
from medjax.operators.complex_channels import complex_channels
from medjax.operators.sense import sense
from medjax.phantoms.smooth_field import smooth_field
from medjax.physics.birdcage import birdcage
from medjax.physics.equispaced_lines import equispaced_lines
from medjax.solvers.admm import admm
from medjax.solvers.landweber import landweber
from medjax.typing import Examples

STEPS = 3
STRENGTH = 0.2
WEIGHT = 0.3


def scan_examples(key, num=2, size=16):
    """Complex images, as two channels, seen by 4 coils at every second line and the 4 in the centre, with noise."""
    mask = equispaced_lines((size, size), 2, 4 / size)
    A = compose(sense(birdcage((size, size), 4), mask), complex_channels())
    x = jnp.moveaxis(smooth_field(key, 2 * num, size, 16.0, 4.0).reshape(2, num, size, size), 0, -1)
    noise = jax.lax.complex(*jax.random.normal(key, (2, num, 4, size, size), x.dtype))
    return Examples(A, x, jax.vmap(A)(x) + 0.02 * mask[None, None] * noise, jnp.full(num, 0.02))


def norm_of(A, y):
    """||A|| as the methods find it."""
    return lanczos.operator_norm(A, jax.eval_shape(A.adjoint, y), num_steps=8)


def system(A, y):
    """The matrix of A^H A / ||A||^2 on real vectors, A^H y / ||A||^2, and the shape of the image."""
    back, square = A.adjoint(y), norm_of(A, y) ** 2
    unit = jnp.eye(back.size).reshape(back.size, *back.shape)
    matrix = jax.vmap(lambda e: A.adjoint(A(e)).ravel())(unit)
    return np.asarray(matrix / square), np.asarray(back / square).ravel(), back.shape


def started(made, A, y, wanted):
    """What a row's `classical` returns, with the weights of `init`."""
    return made, made.init(jax.random.key(0), A, y), jnp.asarray(wanted)


def cascades_are_landweber(A, y, sigma_y):
    """The network adds nothing."""
    square = norm_of(A, y) ** 2
    wanted = iterate(landweber(A, y, 1.0, 1 / square), A.adjoint(y) / square, STEPS).x
    return started(variational_network(ZERO, STEPS), A, y, wanted)


def centred(transform, a):
    """A centred orthonormal transform by numpy."""
    shifted = np.fft.ifftshift(a, (-2, -1))
    return np.fft.fftshift(transform(shifted, norm="ortho"), (-2, -1))


def cascades_are_descent_in_k_space(A, y, sigma_y):
    """A network that takes WEIGHT of the image away, coils by the low-frequency images as they are: columns 6 to 10 are sampled without a gap."""
    y_, mask = np.asarray(y), np.asarray(A.outer.mask)
    low = centred(np.fft.ifft2, np.where((np.arange(16) >= 6) & (np.arange(16) <= 10), y_, 0))
    maps = low / np.sqrt(np.sum(np.abs(low) ** 2, 0))
    k = y_.copy()
    for _ in range(STEPS):
        image = np.sum(maps.conj() * centred(np.fft.ifft2, k), 0)
        k = k - mask * (k - y_) - WEIGHT * centred(np.fft.fft2, maps * image)
    image = np.sum(maps.conj() * centred(np.fft.ifft2, k), 0)
    made = variational_network(Stub(lambda h: -WEIGHT * h), STEPS, sensitivity=NOTHING)
    return started(made, A, y, np.stack([image.real, image.imag], -1))


def repeated_ridge(A, y, sigma_y):
    """A network that finds no noise: iterated Tikhonov, by a dense matrix."""
    matrix, back, shape = system(A, y)
    x = back
    for _ in range(STEPS):
        x = np.linalg.solve(matrix + STRENGTH * np.eye(back.size), back + STRENGTH * x)
    return started(modl(ZERO, STEPS, STRENGTH, num_krylov=100, tolerance=1e-13), A, y, x.reshape(shape))


def cosines():
    """The 8 products of cosines that are not constant, of length 1 / 3, by their formula."""
    rows = [np.ones(3) / 3**0.5, np.array([1, 0, -1]) / 2**0.5, np.array([1, -2, 1]) / 6**0.5]
    return [np.outer(a, b) / 3 for a in rows for b in rows][1:]


def admm_of_cosines(A, y, sigma_y):
    """ADMM of the project's solver for the l1 norm of filter responses: filters by scipy, x by a dense matrix."""
    rho, threshold = 0.1, 0.02
    matrix, back, shape = system(A, y)
    unit = np.eye(shape[0] * shape[1]).reshape(-1, *shape[:2])
    responses = [np.stack([correlate(e, kernel, mode="constant").ravel() for e in unit], 1) for kernel in cosines()]
    K = jnp.asarray(np.concatenate([np.kron(each, np.eye(2)) for each in responses]))  # two channels, the last axis
    inverse = jnp.asarray(np.linalg.inv(matrix + rho * np.asarray(K.T @ K)))
    solver = admm(lambda v, tau, x: inverse @ (back + rho * K.T @ v), lambda v, tau: soft_threshold(v, rho * threshold * tau), rho, lambda x: K @ x)
    wanted = iterate(solver, jnp.zeros(back.size), STEPS + 1).x.reshape(shape)
    return started(admm_net(STEPS, penalty=rho, threshold=threshold, num_krylov=200, tolerance=1e-13), A, y, wanted)


def dense_adjoint(A, y, sigma_y):
    """Layers so small that tanh does nothing: A^H as a matrix."""
    small, size = 1e-4, norm_of(A, y)
    unit = jnp.eye(linalg.flat(y).size)
    unflat = linalg.flattening(y)[1]
    matrix = jax.vmap(lambda e: A.adjoint(unflat(e)).ravel())(unit)
    made = automap(Stub(lambda h: h / small))
    params = made.init(jax.random.key(0), A, y)
    return made, {**params, "first": {"factor_0": small * matrix}, "second": jnp.eye(matrix.shape[1])}, A.adjoint(y) / size


LEARNED_MRI = {
    "variational_network": LearnedRow(lambda: variational_network(cnn(2, 8, 2), 2), scan_examples, cascades_are_landweber),
    "variational_network_of_learned_coils": LearnedRow(
        lambda: variational_network(cnn(2, 8, 2), 2, sensitivity=cnn(2, 8, 2)), scan_examples, cascades_are_descent_in_k_space
    ),
    "modl": LearnedRow(lambda: modl(cnn(2, 8, 2), 2), scan_examples, repeated_ridge),
    "admm_net": LearnedRow(lambda: admm_net(1, num_points=11), lambda key: scan_examples(key, size=8), admm_of_cosines),
    # tanh departs from its argument by a third of its cube
    "automap": LearnedRow(lambda: automap(cnn(2, 8, 2), rank=20), lambda key: scan_examples(key, size=8), dense_adjoint, within=1e-6),
}
