"""Precession of nuclei in a magnetic field."""

GAMMA_BAR = {
    "1H": 42.577478461, "2H": 6.5359, "3He": -32.4353, "13C": 10.7061, "19F": 40.0629, "23Na": 11.2625, "31P": 17.2357, "129Xe": -11.8409,
}  # fmt: skip
"""gamma / 2 pi [MHz/T], which is what most tables print as gamma: the proton's by CODATA 2022, others by IUPAC's ratios to it (Harris et al. 2001,
Pure and Applied Chemistry 73, 1795-1818), good to 5 digits. Negative where the magnetic moment is opposed to the spin."""


def larmor(field, nucleus="1H"):
    r"""Larmor frequency, :math:`f_0 = \frac{\gamma}{2 \pi} B_0`.

    Args:
      field: B_0 [T], any shape.
      nucleus: a name of `GAMMA_BAR`.

    Returns:
      f_0 [MHz], of the shape of B_0: 63.87 for protons at 1.5 T. Negative for nuclei that precess the other way.

    Raises:
      ValueError: for an unknown nucleus.
    """
    return gamma_bar(nucleus) * field


def gamma_bar(nucleus):
    """gamma / 2 pi [MHz/T] of a nucleus; ValueError for an unknown one."""
    if nucleus not in GAMMA_BAR:
        raise ValueError(f"larmor knows the nuclei {sorted(GAMMA_BAR)}, got {nucleus!r}")
    return GAMMA_BAR[nucleus]
