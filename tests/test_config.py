"""Configs: found by name, overridden by path, refused in one line."""

import dataclasses
import functools
import inspect
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from streams import drawn

from medjax import config as configs
from medjax.config import ConfigError, Spec
from medjax.experiment.command_line import parse
from medjax.experiment.reconstruct import sampler
from medjax.experiment.record import to_json
from medjax.experiment.task import task
from medjax.operators.gradient import gradient
from medjax.override import override

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.py"))


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Configs import each other from the repository root, as the mains do."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


BUILT = set()


def _shorter(config, name):
    """With one iteration of a learned method: ten are traced for ten times as long."""
    spec = config.methods[name].reconstruction
    known = inspect.signature(configs.locate(spec.name)).parameters
    for argument in {"num_iterations", "num_cascades", "num_stages"} & set(known):
        config = override(config, f"methods.{name}.reconstruction.{argument}", "1")
    return config


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_config_builds(path):
    """Each config's operator, noise, units, network, methods and classical names exist with those arguments; the file name is its name."""
    config = dataclasses.replace(configs.load(path), files=None)  # they are not here; what is generated has their shapes
    assert config.name == path.stem and config.method in config.methods and isinstance(config.methods[config.baseline], configs.Solve)
    A = configs.build(config.measure.operator)
    units, shape = configs.build(config.prior.units), jax.ShapeDtypeStruct(config.prior.shape, jnp.result_type(float))
    if config.prior.data:
        shape = jax.eval_shape(lambda key: units.encode(configs.bind(config.prior.data)(key).image), jax.random.key(0))
    y = jax.eval_shape(A, shape)
    assert jax.eval_shape(A.adjoint, y).shape == shape.shape
    for method in config.methods.values():
        if isinstance(method, configs.Solve):
            solver = configs.bind(method.solver)
            offered = configs.taken(method.solver, dict.fromkeys(("A", "y", "sigma_y", "denoise")))
            inspect.signature(solver).bind(**offered)  # nothing else is missing
        elif isinstance(method, configs.Learned):
            kind = (config.measure, method.reconstruction, method.train.loss)
            if repr(kind) in BUILT:
                continue
            BUILT.add(repr(kind))
            name = next(name for name, found in config.methods.items() if found is method)
            work = task(_shorter(config, name), name)
            params, batch = (
                jax.eval_shape(work.initialise, jax.random.key(0)),
                jax.eval_shape(functools.partial(drawn, work), work.source, jax.random.key(0)),
            )
            assert jax.eval_shape(work.loss_fn, params, jax.random.key(0), batch)[0].shape == ()
        elif (kind := (config.measure.operator.name, repr(method))) not in BUILT:  # most configs share their methods
            BUILT.add(kind)
            jax.eval_shape(lambda A, y, method=method: (sampler(method, A, y, 1.0), y)[1], A, y)  # traced, not run
            assert len(configs.build(method.levels, method.num_steps, method.sigma_min, method.sigma_max)) == method.num_steps + 1
    configs.build(config.measure.noise)
    configs.build(config.prior.network)
    configs.bind(config.direct)


def test_file_names_are_unique():
    """A Spec finds its function by file name, so no two folders hold the same."""
    names = [p.stem for p in (ROOT / "medjax").glob("*/*.py") if p.stem != "__init__"]
    assert len(names) == len(set(names))


def test_override_reads_by_type_and_reaches_into_specs():
    """Floats take integers, tuples stay, defaults of functions are fields, nested specs are reached."""
    config = configs.load("configs/ct_torso.py")
    assert override(config, "train.learning-rate", "1").train.learning_rate == 1.0
    assert override(config, "prior.network.width", "24").prior.network.args["width"] == 24
    assert override(config, "prior.network.num_blocks", "2").prior.network.args["num_blocks"] == 2
    assert override(config, "prior.network.multipliers", "(1, 2)").prior.network.args["multipliers"] == (1, 2)
    assert override(config, "measure.operator.angles.num_views", "23").measure.operator.args["angles"].args["num_views"] == 23
    assert override(config, "methods.mmps.num_steps", "7").methods["mmps"].num_steps == 7
    assert config == configs.load("configs/ct_torso.py")


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("train.learning_rat", "1", "unknown config field 'learning_rat'; did you mean 'learning_rate'?"),
        ("prior.network.widht", "1", "unknown config field 'widht'; did you mean 'width'?"),
        ("methods.mmsp.num_steps", "1", "did you mean 'mmps'?"),
        ("train.num_steps", "many", "--train.num_steps: wants int like NUM_STEPS, got 'many'"),
        ("train.num_steps", "1.5", "wants int"),
        ("train.num_steps", "nan", "wants int"),
        ("train.learning_rate", "nan", "--train.learning_rate: wants float like 0.0015, got 'nan'"),
        ("methods.fista_tv.tolerance", "NaN", "wants float like 0.0, got 'NaN'"),
        ("methods.fista_tv.solver.step_size", "nan", "step_size: wants a number or the name of a function, got 'nan'"),
        ("methods.fista_tv.solver.step_size", "abc", "step_size: wants a number or the name of a function, got 'abc'"),
        ("methods.fista_tv.solver.step_size", "'abc'", "wants a number or the name of a function"),
        ("methods.fista_tv.solver.step_size", "{1}", "wants a number or the name of a function"),
        ("methods.fista_tv.solver.regulariser.tolerance", "nan", "tolerance: wants float, got 'nan'"),
        ("methods.fista_tv.solver.regulariser.tolerance", "True", "wants float"),
        ("methods.fista_tv.solver.regulariser.tolerance", "gradient", "wants float"),
        ("methods.l1_wavelet.solver.key", "foo", "wants a number"),
        ("measure.modality", "pet", "measure.modality is 'pet'; ct, mri or image is needed"),
    ],
)
def test_override_refuses(path, value, message):
    """One line that names the field and what is near."""
    with pytest.raises(ConfigError, match="(?s).*") as caught:
        override(config := configs.load("configs/ct_torso.py"), path, value)
    assert message.replace("NUM_STEPS", str(config.train.num_steps)) in str(caught.value) and "\n" not in str(caught.value)


def test_override_reads_infinity_and_required_arguments():
    """The default that means never can be given again, and a newly named function its arguments."""
    config = override(configs.load("configs/ct_torso.py"), "methods.mmps.guide.isotropic_above", "inf")
    assert config.methods["mmps"].guide.args["isotropic_above"] == float("inf")
    config = override(override(config, "measure.operator", "parallel_beam"), "measure.operator.image_size", "128")
    assert config.measure.operator == configs.Spec("parallel_beam", {"image_size": 128})


def test_override_reads_arguments_without_a_value_by_their_annotations():
    """Those that are None or not given: a number, nothing or a function where any of them is taken, else what the function tells."""
    config = override(configs.load("configs/ct_torso.py"), "methods.cg.solver", "cg_reconstruction")

    def given(path, text):
        args = override(config, f"methods.{path}", text).methods[path.split(".")[0]].solver.args
        return (args["regulariser"].args if "regulariser" in path else args)[path.split(".")[-1]]

    found = [given("fista_tv.solver.step_size", text) for text in ("1e-4", "inf", "2", "None", "gradient")]
    assert found == [1e-4, float("inf"), 2, None, Spec("gradient")]
    tolerance = given("fista_tv.solver.regulariser.tolerance", "1")
    assert tolerance == 1 and isinstance(tolerance, float) and given("fista_tv.solver.regulariser.tolerance", "None") is None
    assert given("cg.solver.G", "gradient") == Spec("gradient")
    for text in ("1", "gradien"):
        with pytest.raises(ConfigError, match=f"^--methods.cg.solver.G: wants the name of a function, got '{text}'$"):
            given("cg.solver.G", text)
    config = override(config, "methods.cg.solver", "analysis_reconstruction")
    assert given("cg.solver.group", "2") == 2
    for text in ("1.5", "True", "gradient"):
        with pytest.raises(ConfigError, match=f"^--methods.cg.solver.group: wants int, got '{text}'$"):
            given("cg.solver.group", text)


def test_build_tells_an_argument_of_the_wrong_kind():
    """In one line and by the name that was built, also inside another; what goes wrong later, or by a tracer, is no config's fault."""
    views = Spec("uniform_views", {"num_views": "many"})
    for spec in (views, Spec("parallel_beam", {"image_size": 8, "angles": views})):
        with pytest.raises(ConfigError, match="^uniform_views: '<' not supported between instances of 'str' and 'int'$"):
            configs.build(spec)
    with pytest.raises(ConfigError, match="^fista_reconstruction: .* has no attribute 'prox'$"):
        configs.build(Spec("fista_reconstruction", {"regulariser": Spec("gradient")}), gradient(), jnp.ones((2, 3, 3)), 1.0)
    with pytest.raises(ConfigError, match="^landweber: missing a required argument: 'y'$"):
        configs.build(Spec("landweber"), None)
    solver = configs.build(Spec("fista", {"step_size": 1.0}), None, None)
    with pytest.raises(TypeError, match="NoneType"):
        solver.step(solver.init(jnp.ones(3)))
    with pytest.raises(jax.errors.JAXTypeError):
        jax.eval_shape(lambda size: configs.build(Spec("uniform_views"), size), 3)


def test_a_function_for_a_callable():
    """It is called with what it lacks, and its overrides reach it; with nothing to wait for, and where no function is asked for, it is built."""
    blurred = Spec("fbp", {"window": "hann"})
    make = Spec("tv_reconstruction", {"nonnegative": True})
    spec = Spec("learned_strength", {"make": make, "direct": blurred})
    bound = configs.bind(spec).keywords
    assert (bound["make"].func, bound["make"].keywords) == (configs.locate("tv_reconstruction"), {"nonnegative": True})
    assert (bound["direct"].func, bound["direct"].keywords) == (configs.locate("fbp"), {"window": "hann"})
    assert configs.bind(Spec("alista", {"weight": Spec("fbp")})).keywords["weight"].func is configs.locate("fbp")  # Callable or nothing
    whole = configs.bind(Spec("explicit_score_matching", {"score_fn": Spec("algebra.scale", {"c": -2.0, "A": Spec("algebra.identity")})}))
    assert whole.keywords["score_fn"](3.0) == -6.0  # an operator, which is a function
    with pytest.raises(ConfigError, match="^gradient_descent: missing a required argument: 'value_fn'$"):
        configs.build(Spec("explicit_score_matching", {"reconstruction": Spec("gradient_descent"), "score_fn": blurred}))
    with pytest.raises(ConfigError, match="tv_reconstruction has no argument 'nonnegativ'; did you mean 'nonnegative'"):
        configs.build(Spec("learned_strength", {"make": Spec("tv_reconstruction", {"nonnegativ": True}), "direct": blurred}))
    for make, lacks in ((Spec("pnp_pgm"), "missing a required argument: 'denoise'"), (Spec("sirt"), ".*unexpected keyword argument 'strength'")):
        with pytest.raises(ValueError, match=rf"^learned_strength calls make\(A, y, sigma_y, strength=...\): .*{lacks}"):
            configs.build(Spec("learned_strength", {"make": make, "direct": blurred}))


def test_unknown_names():
    """A name that is nowhere, an argument that is not taken, a config that is not there."""
    with pytest.raises(ConfigError, match="nothing in medjax is named 'parallel_bean'; did you mean 'parallel_beam'"):
        configs.build(Spec("parallel_bean"))
    with pytest.raises(ConfigError, match="heun has no argument 'chrun'; did you mean 'churn'"):
        configs.build(Spec("heun", {"chrun": 1.0}))
    with pytest.raises(ConfigError, match="configs/ct_tors.py: no such config; did you mean 'configs/ct_torso.py'"):
        configs.load("configs/ct_tors.py")


def test_parse_mixes_options_and_overrides():
    """Options of the main, then overrides in both spellings; leftovers are named."""
    options, config = parse(["configs/ct_torso.py", "--output", "x", "--train.num-steps=3", "--seed", "4"], "", {"output": "", "seed": -1})
    assert (options.output, options.seed, config.train.num_steps) == ("x", 4, 3)
    words = ["--measure.noise.num_photons", "1e3", "--seed", "-4", "configs/ct_torso.py"]
    options, config = parse(words, "", {"seed": -1})
    assert (options.seed, config.measure.noise.args["num_photons"]) == (-4, 1e3)
    _, config = parse(["--num_samples=3"], "", {"seed": -1}, lambda options: "configs/ct_torso.py")
    assert config.num_samples == 3
    with pytest.raises(ConfigError, match="needs a value"):
        parse(["configs/ct_torso.py", "--train.num-steps"], "", {})
    with pytest.raises(ConfigError, match="name a config, one of: .*configs/ct_torso.py"):
        parse([], "", {})


def test_key_arguments_are_seeds_and_json_holds_all():
    """An integer named key becomes a typed key; the record of a config names every field."""
    assert configs.bind(Spec("torso", {"key": 3})).keywords["key"] == jax.random.key(3)
    config = configs.load("configs/ct_torso.py")
    text = to_json(config)
    assert all(f'"{field.name}"' in text for field in dataclasses.fields(config))


def test_numbers_of_a_training_and_lists_of_functions():
    """Out of range they are refused; augmentations are named on the command line."""
    config = configs.load("configs/dival_ellipses.py")
    field = "methods.learned_primal_dual.train"
    for name, value in (("num_images", "-3"), ("ema_decay", "2.0"), ("warmup_steps", "-4"), ("clip_norm", "0.0"), ("learning_rate", "-1.0")):
        with pytest.raises(ConfigError, match=f"^train.{name} is {value}; at least .* is needed"):
            override(config, f"{field}.{name}", value)
    found = override(config, f"{field}.augment", "('turned', 'superposed')").methods["learned_primal_dual"]
    assert isinstance(found, configs.Learned) and found.train.augment == (Spec("turned"), Spec("superposed"))


def test_a_simulator_of_other_rays_is_refused():
    config = override(configs.load("configs/dival_ellipses.py"), "measure.operator.detector_spacing", "1.2")
    with pytest.raises(ConfigError, match="measure.operator and measure.simulator have different detector_spacing"):
        task(config, "learned_primal_dual")


def test_files_of_every_kind_are_named_on_the_command_line():
    """Their arguments do not hide what a `Spec` has of its own, and all that have no value are given by name."""
    names = {"files", "singlecoil_files", "multicoil_files"}
    loaders = [
        (path.stem, function)
        for path in sorted((ROOT / "medjax/data").glob("*.py"))
        for function in names & set(re.findall(r"^def (\w+)\(", path.read_text(), re.MULTILINE))
    ]
    assert len(loaders) >= 9
    for module, function in loaders:
        known = inspect.signature(configs.locate(f"{module}.{function}")).parameters
        assert not {"name", "args"} & set(known), module
        needed = {each: "('a',)" if "tuple" in str(each.annotation) else "a" for each in known.values() if each.default is each.empty}
        words = itertools.chain(*((f"--files.{each.name.replace('_', '-')}", word) for each, word in needed.items()))
        _, config = parse(["configs/debug.py", "--files", f"{module}.{function}", *words], "", {})
        assert set(config.files.args) == {each.name for each in needed}
