"""What the mains do between a config and an answer: which keys, which methods, which prior, and what is said of a run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import config as configs
from medjax.config import ConfigError, Method, Solve, Spec
from medjax.experiment import reconstruct
from medjax.experiment.case import checked_case, checked_methods, troubles
from medjax.experiment.prior import initialise
from medjax.experiment.problem import operator
from medjax.experiment.reconstruct import checked_method, checked_outcome, direct, needs_prior, posterior, solution
from medjax.experiment.sweep import Sweep, evaluation_key, read_sweep, tuned, validation_key
from medjax.iterate import Outcome, iterate_until
from medjax.operators.gradient import gradient
from medjax.override import override
from medjax.solvers.fista import fista
from medjax.typing import Reconstruction

ROOT = Path(__file__).parents[1]
STRENGTH = "methods.fista_tv.solver.regulariser.strength"


@pytest.fixture
def debug(monkeypatch):
    """The smallest config."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    return configs.load("configs/debug.py")


def test_validation_images_are_drawn_by_no_other_key():
    """Keys of validation images against those of training, of `sample.py` and of evaluations, the seed 20,000 among theirs."""

    def numbers(keys):
        return {tuple(row) for row in np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()}

    count = jnp.arange(2000)
    validation = jax.vmap(validation_key)(count)
    mine = numbers(validation) | numbers(jax.vmap(jax.random.split)(validation))
    assert len(mine) == 3 * 2000
    others = set()
    for seed in (0, 1, 10_000, 20_000):
        evaluation = jax.vmap(lambda i, seed=seed: evaluation_key(seed, i))(count)
        steps = jax.vmap(lambda i, seed=seed: jax.random.split(jax.random.fold_in(jax.random.key(seed), i))[0])(count)  # `train_step`
        once = jax.random.split(jax.random.key(seed))
        phantom = jax.random.split(jax.random.fold_in(once[0], 2**31 - 1))  # `from_phantom`
        for keys in (evaluation, jax.vmap(jax.random.split)(evaluation), jax.vmap(lambda k: jax.random.split(k, 16))(steps), once, phantom):
            others |= numbers(keys)
    assert not mine & others


def test_read_sweep_and_its_best(debug):
    """Every value is a config; the highest mean decides, and an end of the range is told, whatever the order."""
    sweep = read_sweep(debug, f"{STRENGTH}=5,1,2")
    assert sweep.method == sweep.answer == "fista_tv" and sweep.configs[1] == override(debug, STRENGTH, "1")
    assert read_sweep(debug, "methods.mmps.guide.num_krylov=5,10").answer == "posterior_mean"
    scores = {"5": [20.0, 24.0], "1": [21.0, 21.0], "2": [22.0, 25.0]}
    found = {v: [{"methods": {"fista_tv": {"psnr": p, "ssim": 0.5, "residual": 1.0}}} for p in row] for v, row in scores.items()}
    choice = tuned(sweep, found)
    assert choice["best"] == "2" and choice["at_end"] == "" and choice["cases"] == scores and choice["values"]["2"]["psnr"][0] == 23.5
    assert tuned(Sweep(*sweep[:3], ("5", "1"), sweep.configs), found) | {"values": 0, "cases": 0} == {
        **{"field": STRENGTH, "num_images": 2, "values": 0, "cases": 0},
        **{"best": "5", "at_end": "highest"},
    }
    for values, best, end in (
        ("0,1,2", "0", ""),
        ("-1,0", "-1", "lowest"),
        ("-1,0", "0", "highest"),
        ("0.5,1", "0.5", "lowest"),
        ("0,1", "1", "highest"),
    ):
        numbers = read_sweep(debug, f"{STRENGTH}={values}")  # none is below a strength of 0
        assert tuned(numbers, {v: found["2" if v == best else "1"] for v in numbers.values})["at_end"] == end, values
    kinds = read_sweep(debug, "methods.fista_tv.solver.regulariser.kind=isotropic,anisotropic")
    named = {v: [{"methods": {"fista_tv": {"psnr": p, "ssim": 0.5, "residual": 1.0}}}] for v, p in zip(kinds.values, (1.0, 2.0), strict=True)}
    assert tuned(kinds, named)["best"] == "anisotropic" and tuned(kinds, named)["at_end"] == ""
    for field, words in (("checkpoint=a,b", "weights, which are read once"), ("train.num_steps=1,2", "of a training, and changes no answer")):
        with pytest.raises(ConfigError, match=words):
            read_sweep(debug, f"methods.learned_primal_dual.{field}")


def test_methods_are_checked(debug):
    """One sampler at most; samples for samplers alone; the prior only where it is asked for."""
    assert checked_methods(debug, "cgls,fista_tv,cgls", 0) == (("cgls", "fista_tv"), 0)
    assert checked_methods(debug, "cgls, ,fista_tv,", 0) == (("cgls", "fista_tv"), 0)
    assert checked_methods(debug, "", 0) == (("mmps",), 2) and checked_methods(debug, "cgls,dds", 5) == (("cgls", "dds"), 5)
    for names, num, message in (
        ("mmps,dds", 0, "at most one"),
        ("cgsl", 0, "did you mean 'cgls'"),
        ("dds", 1, "at least 2"),
        ("cgls", -1, "at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            checked_methods(debug, names, num)
    assert [needs_prior(debug, [name]) for name in ("tv", "cgls", "pnp_admm", "mmps")] == [False, False, True, True]
    given = (("pnp_admm.solver.denoise", "heun", "comes from the prior"), ("cgls.solver.y", "1", "comes from the measurement"))
    for path, value, message in given:
        with pytest.raises(ConfigError, match=message):
            checked_method(override(debug, f"methods.{path}", value), path.split(".")[0], 0)
    with pytest.raises(ConfigError, match="baseline 'dds' of config debug is no Solve; .*tv"):
        checked_method(override(debug, "baseline", "dds"), "cgls", 0)


def test_what_is_said_of_a_run():
    """Steps, the last change and its history; one line where a step was too long, or led out of all numbers."""

    def run(step_size, num_steps, record=None):
        solver = fista(lambda x: 3.0 * x - 1.0, lambda v, tau: v, jnp.float32(step_size))
        return iterate_until(solver, jnp.ones(4, jnp.float32), 1e-6, num_steps, record)[1]

    found = checked_outcome("mine", run(0.3, 100, lambda state, info: info.change))
    assert found["converged"] and found["num_steps"] == len(found["history"]) < 100 and found["history"][-1] == found["change"] <= 1e-6
    assert np.isclose(found["step_ratio"], 0.9, atol=1e-3)  # of differences in single precision
    with pytest.raises(ValueError, match=r"^mine: its step size is 1.[45]\d* times the largest that converges; a smaller one is needed$"):
        checked_outcome("mine", run(0.5, 4))
    with pytest.raises(ValueError, match=r"^mine diverged after \d+ steps: its step size is 90 times the largest that converges$"):
        checked_outcome("mine", run(30.0, 100))
    none = Outcome(0, np.inf, 0.0, False, True, None)
    with pytest.raises(ValueError, match="^mine diverged after 0 steps: its step size is far above the largest that converges$"):
        checked_outcome("mine", none._replace(step_ratio=np.inf))
    with pytest.raises(ValueError, match="^mine diverged after 0 steps: its settings or the data hold numbers out of range$"):
        checked_outcome("mine", none)
    bad = ({"tv": {"psnr": np.float32(np.nan)}}, {}, {})
    with pytest.raises(ValueError, match="^tv holds NaN for image 3; "):
        checked_case("image 3", bad)
    with pytest.raises(ValueError, match=r"^tv diverged .* \(image 3\)$"):
        checked_case("image 3", ({}, {"tv": none}, {}))


def learned(told):
    """A reconstruction that gives 1 and tells this."""
    return Reconstruction(lambda key, A, y: {}, lambda params, A, y, sigma_y: (jnp.ones(4), told))


def test_what_is_said_of_a_learned_answer(debug, monkeypatch):
    """Steps, residual and convergence are those of its lower problem; a regulariser without a minimum is an error, a network has one good step."""

    def outcome(told):
        monkeypatch.setattr(reconstruct, "reconstruction", lambda config, settings: learned(told))
        return jax.jit(solution(debug, "learned_primal_dual"))({"learned_primal_dual": {}}, None, jnp.ones(3), 1.0, jnp.zeros(4))[1]

    solved = {"lower_steps": 37.0, "lower_residual": 2e-6, "lower_converged": 1.0, "lower_unbounded": 0.0}
    found = checked_outcome("mine", outcome({**solved, "strength": 3.0}))
    assert found["num_steps"] == 37 and found["change"] == pytest.approx(2e-6) and found["converged"] and "strength" not in found
    short = checked_outcome("mine", outcome({**solved, "lower_residual": 0.25, "lower_converged": 0.0}))
    assert not short["converged"]
    cases = [{"outcomes": {"tv": {"num_steps": 3, "converged": False}, "mine": each}} for each in (found, short)]
    wanted = "mine: the lower problem reached its tolerance in a share of 0.5, with a residual of 0.125 after 37 steps; 1 is needed"
    assert not troubles(cases[:1]) and [line[: len(wanted)] for line in troubles(cases)] == [wanted]
    plain = checked_outcome("mine", outcome({"psnr": 3.0}))
    assert plain == {"num_steps": 1, "change": 0, "step_ratio": 0, "converged": True}
    lost = {**solved, "lower_unbounded": 1.0}
    with pytest.raises(ValueError, match="^mine: the regulariser went to minus infinity in a share of 1; a lower strength is needed"):
        checked_outcome("mine", outcome(lost))
    with pytest.raises(ValueError, match="^mine diverged after 37 steps: the regulariser went to minus infinity"):
        checked_outcome("mine", outcome(lost)._replace(diverged=True))


@pytest.mark.parametrize("name, methods", [("mri_coils", None), ("debug", ["tv", "cgls", "sirt"])])
def test_every_shipped_solve_keeps_its_image(debug, name, methods):
    """Traced in single precision, as users run it: the answer has the shape and the dtype of the image. Of CT what MRI has not."""
    config = configs.load(f"configs/{name}.py")
    methods = methods or [key for key, settings in config.methods.items() if isinstance(settings, Solve)]
    with jax.enable_x64(False):
        A = operator(config.measure, {})
        weights = {"prior": jax.eval_shape(lambda: initialise(config.prior, jax.random.key(0)))}
        x = jax.ShapeDtypeStruct(config.prior.shape, jnp.float32)
        y = jax.eval_shape(A, x)
        sigma_y = configs.build(config.measure.noise).sigma(jnp.ones(y.shape, y.dtype))
        start = jax.eval_shape(direct(config), A, y)
        for method in methods:
            found, outcome = jax.eval_shape(solution(config, method), weights, A, y, sigma_y, start)
            assert (found.shape, found.dtype) == (x.shape, x.dtype) and outcome.change.dtype == jnp.float32, method


@pytest.mark.parametrize("name", ["mri_brain", "debug"])
def test_every_shipped_sampler_keeps_its_images(debug, name, monkeypatch):
    """The same of the posterior samplers, for a denoiser and an operator that are traced at once."""
    monkeypatch.setattr(reconstruct, "denoiser", lambda prior: lambda params: lambda x, sigma: x / (1 + sigma**2))
    config = configs.load(f"configs/{name}.py")
    methods = [key for key, settings in config.methods.items() if isinstance(settings, Method)]
    with jax.enable_x64(False):
        A = operator(config.measure, {}) if config.measure.modality == "mri" else gradient()
        y = jax.eval_shape(A, jax.ShapeDtypeStruct(config.prior.shape, jnp.float32))
        sigma_y = configs.build(config.measure.noise).sigma(jnp.ones(y.shape, y.dtype))
        for method in methods:
            found = jax.eval_shape(posterior(config, method, 3), {"prior": None}, jax.random.key(0), A, y, sigma_y)
            assert (found.shape, found.dtype) == ((3, *config.prior.shape), jnp.float32), method


def test_particles_are_those_of_the_kernel(debug):
    """Particles for a kernel of one image, none for one that carries them, and numbers that are out of range: one line."""
    A = operator(debug.measure, {})
    for path, value, message in (
        ("mmps.particles", "4", r"methods.mmps.particles is 4; ddim carries one image, 0 is needed"),
        ("fps.particles", "0", r"methods.fps.particles is 0; fps carries particles, at least 1 is needed"),
        ("fps.particles", "-1", "its particles are -1; at least 1 and 0 are needed"),
        ("mmps.num_steps", "0", "num_steps of ddim is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            draw = posterior(override(debug, f"methods.{path}", value), path.split(".")[0], 2)
            draw(None, jax.random.key(0), A, jnp.ones((20, 46)), 1.0)


def test_solve_starts_where_it_says(debug, key):
    """One step of Landweber from zeros is a multiple of A^H y, whatever the direct answer; a `Method` is none."""
    settings = Solve(Spec("landweber", {"step_size": 1e-4}), 1, start="zeros")
    config = configs.dataclasses.replace(debug, methods={"landweber": settings, **debug.methods})
    A, y = gradient(), jax.random.normal(key, (2, 8, 9))
    x, outcome = solution(config, "landweber")(None, A, y, 2.0, jnp.ones((8, 9)))
    np.testing.assert_allclose(x, 1e-4 / 4 * A.adjoint(y), rtol=1e-10)
    assert int(outcome.num_steps) == 1
    assert isinstance(config.methods["mmps"], Method)
    with pytest.raises(AssertionError):
        solution(config, "mmps")


def test_a_reconstruction_inside_another_gets_the_direct_inverse(debug):
    """Whatever its depth, but where it was given one."""
    inner = Spec("post_processing", {"network": Spec("cnn", {"features": 1, "width": 8, "num_layers": 2, "last_scale": 0.0})})
    outer = Spec("with_regulariser", {"reconstruction": inner, "critic": Spec("critic", {"width": 8, "num_levels": 2})})
    made = reconstruct.reconstruction(debug, configs.Learned(outer, debug.train))
    A, y = operator(debug.measure, {}), jnp.ones((20, 46))
    found = made.apply(made.init(jax.random.key(0), A, y), A, y, 1.0)[0]
    assert jnp.array_equal(found, direct(debug)(A, y))
