"""The direct answer of undersampled Fourier data."""

from medjax.typing import Operator


def zero_filled(A: Operator, y):
    """A^H y: the inverse Fourier transform with zeros where nothing was sampled.

    Args:
      A: operator whose measured part is orthonormal, such as masked Fourier.
      y: data.

    Returns:
      The image, in the domain of A.

    Reference:
      Lustig, Donoho & Pauly (2007), https://doi.org/10.1002/mrm.21391
    """
    return A.adjoint(y)
