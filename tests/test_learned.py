"""The contract of learned reconstructions: one table of rows, one file of them a family."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows_learned_ct import LEARNED_CT
from rows_learned_implicit import LEARNED_IMPLICIT
from rows_learned_mri import LEARNED_MRI
from rows_learned_parameters import LEARNED_PARAMETERS
from rows_learned_regularisers import LEARNED_REGULARISERS
from rows_learned_unrolled import LEARNED_UNROLLED

from medjax.training.state import initial_state, train_step
from medjax.training.weights import load_weights, save_weights

LEARNED = LEARNED_CT | LEARNED_MRI | LEARNED_UNROLLED | LEARNED_REGULARISERS | LEARNED_IMPLICIT | LEARNED_PARAMETERS


@pytest.fixture(scope="module", params=LEARNED.items(), ids=lambda item: item[0])
def case(request):
    """`(row, reconstruction, examples, params)`, made once for all tests of a row."""
    row = request.param[1]
    made, batch = row.make(), row.examples(jax.random.key(3))
    return row, made, batch, jax.jit(made.init)(jax.random.key(4), batch.A, batch.y[0])


def first(batch):
    """Data of the first example."""
    return batch.A, batch.y[0], batch.sigma_y[0]


def test_training_reduces_the_loss(case):
    """Ten steps of Adam on one batch by the one training step."""
    row, made, batch, params = case
    optimizer = optax.adam(row.learning_rate)
    step, state, losses = jax.jit(train_step(row.loss(made), optimizer, 0.9)), initial_state(params, optimizer), []
    for _ in range(11):
        state, metrics = step(jax.random.key(5), state, batch)
        losses.append(float(metrics["loss"]))
    assert np.all(np.isfinite(losses)) and losses[-1] <= row.falls * losses[0], losses


def test_without_learning_it_is_the_classical_method(case):
    row, _, batch, _ = case
    made, params, wanted = row.classical(*first(batch))
    found = jax.jit(made.apply)(params, *first(batch))[0]
    assert jnp.linalg.norm(found - wanted) <= row.within * jnp.linalg.norm(wanted)


def test_batches_and_precision(case):
    """vmap gives what one example gives; the answer has the shape of the image and keeps single precision; what is told is scalar."""
    _, made, batch, params = case
    x, told = jax.jit(made.apply)(params, *first(batch))
    several, _ = jax.jit(jax.vmap(made.apply, (None, None, 0, 0)))(params, *batch[:1], batch.y, batch.sigma_y)
    assert x.shape == batch.x.shape[1:] and all(jnp.ndim(value) == 0 for value in told.values())
    assert jnp.linalg.norm(several[0] - x) <= 1e-8 * jnp.linalg.norm(x)  # inner solvers end at their tolerance
    single = jax.tree.map(
        lambda a: a.astype(jnp.float32 if a.dtype == float else jnp.complex64) if jnp.issubdtype(a.dtype, jnp.inexact) else a, batch
    )
    made_of = jax.eval_shape(made.init, jax.random.key(4), single.A, single.y[0])
    weights = jax.tree.map(lambda a: a.astype(jnp.float32), params)
    assert jax.tree.structure(made_of) == jax.tree.structure(params)
    assert jax.eval_shape(made.apply, weights, *first(single))[0].dtype == jnp.float32


def test_weights_are_nested_dicts_of_arrays(case, tmp_path):
    """So they have names in a file of weights, and come back from it as they were."""
    params = case[3]
    save_weights(tmp_path / "weights.safetensors", params, {})
    found = load_weights(tmp_path / "weights.safetensors", params)
    paths = jax.tree_util.tree_leaves_with_path(params)
    assert paths and all(isinstance(step, jax.tree_util.DictKey) and isinstance(step.key, str) for keys, _ in paths for step in keys)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), params, found))


def test_weights_in_a_list_are_named(tmp_path):
    """One line says which, of those to be written and of those that are expected; nothing is written."""
    for params, words in (({"layers": [np.ones(2)]}, r"params\['layers'\]\[0\] lies in a list"), ((np.ones(2),), r"params\[0\] lies in a list")):
        with pytest.raises(ValueError, match=words) as caught:
            save_weights(tmp_path / "weights.safetensors", params, {})
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    save_weights(tmp_path / "weights.safetensors", {"layers": {"0": np.ones(2)}}, {})
    with pytest.raises(ValueError, match="lies in a list, tuple or class; weights are kept in nested dicts alone"):
        load_weights(tmp_path / "weights.safetensors", {"layers": [np.ones(2)]})
