"""The range of relaxation factors."""

import numpy as np

from medjax import checks


def checked_relaxation(relaxation):
    """relaxation, a scalar.

    Raises:
      ValueError: where it is known and not between 0 and 2, beyond which relaxed methods diverge.
    """
    if checks.is_concrete(relaxation) and not 0 < np.asarray(relaxation) < 2:
        raise ValueError(f"relaxation is {float(relaxation):.4g}, above 0 and below 2 is needed")
    return relaxation
