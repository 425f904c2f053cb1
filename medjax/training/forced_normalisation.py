"""Weights that are kept at magnitude 1 while they are trained."""

import jax
import optax

from medjax.linalg import unit_magnitude

MARKED = "mp_weight"
"""Name of the weights that a network divides by their magnitude, `[..., features]`."""


def forced_normalisation(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    r"""`optimizer`, after whose steps the weights named `mp_weight` are put back to magnitude 1.

    .. math:: w \leftarrow \sqrt{N} \, \frac{w + u}{\lVert w + u \rVert} \quad \text{for each feature, of } N \text{ numbers}

    The network divides by the same norm, so its function stays that of w + u, while steps, which such a network turns into rotations, neither shrink
    as weights grow nor depend on where training began. Other weights move as `optimizer` says, and the state is that of `optimizer`: trainings of
    other networks and their checkpoints are not changed.

    Muon suits such weights: of the matrix [everything that enters, features] its step is orthogonal, so where the former is the longer side, as in
    convolutions, each feature has a step of the same norm and turns by the same angle, which is what the paper asks of a step; in wider matrices
    that holds in the mean over features. What of a step lies along w is undone here. The paper has Adam, whose steps have no such angle.

    Args:
      optimizer: any optax transform whose `update` is given the weights.

    Returns:
      An optax transform; `update` needs the weights.

    Reference:
      Karras et al. (2024), Analyzing and improving the training dynamics of diffusion models, forced weight normalisation,
      https://arxiv.org/abs/2312.02696, as in its code, which numbers it equation 66 and normalises before the next step; moving averages there are
      of weights that are not yet normalised, here of those that are.
    """

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)

        def forced(path, u, p):
            marked = getattr(path[-1], "key", None) == MARKED if path else False
            return unit_magnitude(p + u, tuple(range(p.ndim - 1))) - p if marked else u

        return jax.tree_util.tree_map_with_path(forced, updates, params), state

    return optax.GradientTransformation(optimizer.init, update)  # pyright: ignore[reportArgumentType]
