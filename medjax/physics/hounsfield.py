"""Hounsfield units."""

from medjax.typing import Units


def hounsfield() -> Units:
    r"""CT numbers, and the attenuation relative to water that operators see.

    .. math::
        x = \mu / \mu_\mathrm{water} = 1 + \mathrm{HU} / 1000

    so air (-1000 HU) becomes 0 and water (0 HU) becomes 1.

    Returns:
      `Units` named "HU": `encode` [HU] -> x, `decode` x -> [HU], `display` [HU] -> [HU].
    """
    return Units(lambda image: 1 + image / 1000, lambda x: 1000 * (x - 1), lambda image: image, "HU")
