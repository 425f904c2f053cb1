"""The loss of training a classifier."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.typing import Loss


def classification_loss(apply, label_smoothing: float = 0.0) -> Loss:
    r"""Cross-entropy of the classes, with targets that may be less than sure.

    .. math:: - E \sum_c q_c \log p_c(x), \quad q_c = (1 - \epsilon) [c = y] + \epsilon / C

    Args:
      apply: `(params, image) -> logits [C]`, of one image.
      label_smoothing: epsilon.

    Returns:
      A `Loss` over `(images [n, ...], labels [n])`, labels whole numbers from 0; its metrics are `accuracy` and `cross_entropy`, the latter
      with the labels as they are. A label that is not one of the C makes them and the loss NaN.

    Raises:
      ValueError: for an epsilon outside [0, 1].

    Reference:
      Szegedy et al. (2016), section 7, https://arxiv.org/abs/1512.00567
    """
    checks.fraction(label_smoothing, "label_smoothing")

    def loss_fn(params, key, batch):
        images, labels = batch
        logits = jax.vmap(lambda image: apply(params, image))(images)
        log_p = jax.nn.log_softmax(logits)
        known = (labels >= 0) & (labels < logits.shape[1])
        of_label = jnp.where(known, jnp.take_along_axis(log_p, jnp.where(known, labels, 0)[:, None], 1)[:, 0], jnp.nan)
        cross_entropy, accuracy = -jnp.mean(of_label), jnp.mean(jnp.where(known, jnp.argmax(logits, 1) == labels, jnp.nan))
        loss = (1 - label_smoothing) * cross_entropy - label_smoothing * jnp.mean(log_p)
        return loss, {"accuracy": accuracy, "cross_entropy": cross_entropy}

    return loss_fn
