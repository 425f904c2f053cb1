"""Sets that are defined by order hold real numbers only."""

import jax.numpy as jnp


def refuse_complex(x, what: str):
    """x.

    Raises:
      ValueError: where it is complex; `what` names the functional.
    """
    if jnp.iscomplexobj(x):
        raise ValueError(f"{what} orders its numbers: got {x.dtype}, real ones are needed")
    return x
