"""A path moved to higher noise levels, for larger images."""

from medjax import checks
from medjax.typing import Schedule


def shifted(schedule: Schedule, shift) -> Schedule:
    r"""The same path walked at another pace: at time t its noise level is `shift` times as high.

    .. math::
        \frac{\sigma'(t)}{\alpha'(t)} = m \, \frac{\sigma(t)}{\alpha(t)}

    More pixels average out more noise, so larger images need more. On `rectified_flow` this is t' = m t / (1 + (m - 1) t), on a
    variance-preserving path a change of the logarithm of the signal-to-noise ratio by -2 ln m.

    Args:
      schedule: a `Schedule`.
      shift: m, for an image of n times the side of that for which the path was made m = n; 1 changes nothing.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: for a shift that is not positive.

    Reference:
      Esser et al. (2024), eq. 23, https://arxiv.org/abs/2403.03206; Hoogeboom, Heek & Salimans (2023), section 3.1,
      https://arxiv.org/abs/2301.11093
    """
    checks.positive(shift, "shift")

    def moved(t):
        return schedule.time(shift * schedule.sigma(t) / schedule.alpha(t))

    return Schedule(lambda t: schedule.alpha(moved(t)), lambda t: schedule.sigma(moved(t)), lambda sigma: schedule.time(sigma / shift))
