"""Rays that cross metal."""


def metal_trace(A, mask, shortest=0.0):
    r"""The detector bins whose ray runs through metal for more than a length, :math:`T = [A m > s]`.

    Args:
      A: a projector, image -> line integrals [mm], of linear interpolation (`model="joseph"`): a band-limited one rings beyond the shadow.
      mask: m, ones where there is metal and zeros elsewhere, the domain of A; from a threshold on a first image, about 3000 HU.
      shortest: s [mm], >= 0.

    Returns:
      T, boolean, the range of A.
    """
    return A(mask) > shortest
