"""Six inverse problems of a correlated Gaussian field at 32 px, whose posterior is known: they hold every posterior sampler to the truth."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax.diffusion.gaussian_field import draw_gaussian_field, gaussian_field, matern_spectrum
from medjax.operators.algebra import compose
from medjax.operators.blur import blur
from medjax.operators.complex_channels import complex_channels
from medjax.operators.downsample import downsample
from medjax.operators.gaussian_kernel import gaussian_kernel
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.sense import sense
from medjax.operators.uniform_views import uniform_views
from medjax.physics.birdcage import birdcage
from medjax.physics.equispaced_lines import equispaced_lines
from medjax.solvers.gaussian_posterior import gaussian_posterior
from medjax.typing import Denoiser, Leaf, Operator

SIZE, MEAN, LENGTH = 32, 0.5, 3.0


class Problem(NamedTuple):
    """y = A x + noise of a draw x of the field.

    shape: of x, `(32, 32)` or, real and imaginary part, `(32, 32, 2)`.
    """

    A: Operator
    y: Any
    sigma_y: Any
    x: Any
    shape: tuple[int, ...]


def spectrum():
    """`[32, 32]` eigenvalues of a Matern covariance of unit variance."""
    return matern_spectrum((SIZE, SIZE), LENGTH, 0.5)


def denoiser(shape) -> Denoiser:
    """The exact one; two channels are two independent fields."""
    return gaussian_field(jnp.full(shape, MEAN), spectrum())


def draw(key, shape):
    """One image of the prior."""
    return draw_gaussian_field(key, jnp.full(shape, MEAN), spectrum())


def _mask(key):
    return inpaint(jax.random.bernoulli(key, 0.4, (SIZE, SIZE)).astype(float))


def _lines():
    return equispaced_lines((SIZE, SIZE), acceleration=4, center_fraction=0.08)


def _beam():
    return parallel_beam(SIZE, uniform_views(12, 0.0, 180.0), num_detectors=47)


# name -> (key -> operator, sigma_y, whether an image has two channels)
OPERATORS = {
    "mask": (_mask, 0.2, False),
    "blur": (lambda key: blur(gaussian_kernel(1.0, (7, 7)), (SIZE, SIZE)), 0.1, False),
    "downsample": (lambda key: downsample((SIZE, SIZE), 4), 0.1, False),
    "masked_fourier": (lambda key: compose(masked_fourier(_lines()), complex_channels()), 0.2, True),
    "sense": (lambda key: compose(sense(birdcage((SIZE, SIZE), 4), _lines()), complex_channels()), 0.2, True),
    "parallel_beam": (lambda key: _beam(), 1.0, False),
}


def problem(name, key) -> Problem:
    """One draw of image and data."""
    make, sigma_y, channels = OPERATORS[name]
    keys = jax.random.split(key, 3)
    A, shape = make(keys[0]), (SIZE, SIZE, 2) if channels else (SIZE, SIZE)
    x = draw(keys[1], shape)
    clean = A(x)
    scale = jnp.sqrt(2.0) if jnp.iscomplexobj(clean) else 1.0  # sigma_y is that of each component
    noise = scale * sigma_y * jax.random.normal(keys[2], clean.shape, clean.dtype)
    return Problem(A, clean + jnp.where(jnp.abs(clean) > 0, noise, 0), sigma_y, x, shape)  # what is not measured is exactly 0


def exact(task: Problem):
    """Posterior mean and standard deviation of each pixel."""
    prior_mean = jnp.full(task.shape, MEAN)
    mean, covariance = gaussian_posterior(task.A, task.y, task.sigma_y, prior_mean=prior_mean, root=_Root(jnp.sqrt(spectrum()))).moments()
    return mean, jnp.sqrt(jnp.diag(covariance)).reshape(task.shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Root:
    """The symmetric root of the field's covariance."""

    gain: Leaf

    def __call__(self, x):
        """Filter the first two axes."""
        gain = self.gain.reshape(self.gain.shape + (1,) * (x.ndim - 2))
        return jnp.fft.ifftn(gain * jnp.fft.fftn(x, axes=(0, 1)), axes=(0, 1)).real

    def adjoint(self, y):
        """The same."""
        return self(y)
