"""Images of the prior alone, judged against those that it was trained on and those that were held out."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.config import Config
from medjax.data.files import batch, spread
from medjax.experiment.command_line import located
from medjax.experiment.problem import encoded, opened, operator, phantom
from medjax.experiment.sweep import evaluation_key
from medjax.metrics.generation_scores import generation_scores
from medjax.metrics.memorisation import memorisation
from medjax.metrics.spatial_features import spatial_features
from medjax.training.weights import load_weights

_REAL = 5000
"""Images of a part at most that generated ones are held against."""
_PAIRS = 8
"""Generated images that are shown beside the nearest of the training set."""


class Seen(NamedTuple):
    """What a classifier sees in n images: features `[n, d]`, spatial features `[n, e]`, probabilities `[n, c]`."""

    pooled: np.ndarray
    spatial: np.ndarray
    probabilities: np.ndarray


class Judged(NamedTuple):
    """What `judged` gives.

    measures: "generated" and "held out" -> name of a measure, with the network whose features it is of -> value.
    left_out: why some are missing, a line each.
    nearest: `[k]` generated images that are nearest to training images, and `neighbours` `[k]` those.
    num_training, num_held_out: images that they were held against.
    """

    measures: dict[str, dict[str, float]]
    left_out: list[str]
    nearest: np.ndarray
    neighbours: np.ndarray
    num_training: int
    num_held_out: int


def judged(config: Config, seed: int) -> Callable[[np.ndarray, np.ndarray], Judged]:
    """`(images, labels) -> Judged`, of images as networks see them, held against the training images and the held-out ones of the config.

    Everything is told of held-out images, too, in place of the generated ones: what a perfect prior would get from as many. Features are those of the
    config's classifier, whose name each measure bears; without one there are distances of pixels alone.

    Args:
      config: whose files, or phantom, are real.
      seed: of real images where they are generated, too.

    Raises:
      ValueError: for weights of the classifier that are missing or of another network.
    """
    look = _classifier(config)

    def judge(images, labels):
        (training, _), (held_out, known) = (_real(config, part, len(images), seed) for part in ("train", "test"))
        nearest = memorisation(images, held_out, training, num_nearest=1, quantile=0.5)
        first = np.argsort(nearest.distances)[:_PAIRS]
        sets = {"generated": (images, labels), "held out": (held_out, known)}
        found = {name: _scores(each, labels, training, held_out, look) for name, (each, labels) in sets.items()}
        measures = {name: {_named(config, measure): value for measure, value in scores.items()} for name, (scores, _) in found.items()}
        left_out = [f"{name}, {_named(config, measure)}: {why}" for name, (_, reasons) in found.items() for measure, why in reasons.items()]
        return Judged(measures, left_out, images[first], training[nearest.indices[first]], len(training), len(held_out))

    return judge


def _real(config, part, num, seed):
    """Images of a part `[n, ...]` as networks see them, and their labels, -1 where files tell none; as many as `num` where they are generated."""
    if config.files:
        files = opened(config, operator(config.measure, {}))
        stored = batch(files, part, spread(files, part, min(files.num[part], _REAL)))
        labels = np.full(len(stored.image), -1) if stored.label is None else np.asarray(stored.label)
        return np.asarray(encoded(config, stored).image), labels
    generated, units = phantom(config), configs.build(config.prior.units)
    stream = evaluation_key(seed, {"train": 2**31 - 3, "test": 2**31 - 1}[part])
    keys = jax.random.split(stream, min(num, _REAL))
    return np.asarray(jax.jit(lambda keys: jax.lax.map(lambda key: units.encode(generated(key).image), keys))(keys)), np.full(len(keys), -1)


def _classifier(config):
    """`images -> Seen`, None without a classifier."""
    if config.classifier is None:
        return None
    network, path = configs.build(config.classifier.network), located(config.classifier.checkpoint)
    params = load_weights(path, jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(config.prior.shape))))

    @jax.jit
    def look(params, images):
        return jax.lax.map(lambda image: network.apply(params, image, features=True), images, batch_size=16)

    def seen(images):
        logits, pooled, maps = look(params, jnp.asarray(images))
        return Seen(np.asarray(pooled), spatial_features(np.asarray(maps)), np.asarray(jax.nn.softmax(logits)))

    return seen


def _scores(images, labels, training, held_out, look) -> tuple[dict[str, float], dict[str, str]]:
    """Measures by name, and why some are left out."""
    found, left_out = {}, {}
    try:
        pixels = memorisation(images, held_out, training, num_nearest=1, quantile=max(0.05, 1 / (len(held_out) + 1)))
        found = {"nearest_distance": float(np.median(pixels.distances)), "memorisation_share": pixels.share, "memorisation_z": pixels.z}
        found = {f"{name} of pixels": value for name, value in found.items()}
    except ValueError as error:
        left_out["memorisation of pixels"] = str(error)
    if look is None:
        return found, left_out
    seen, known, unseen = (look(each) for each in (images, training, held_out))
    scores = generation_scores(
        jax.random.key(0), seen.pooled, known.pooled, unseen.pooled, (seen.spatial, known.spatial), np.asarray(seen.probabilities, np.float64)
    )
    told = labels >= 0
    agree = {"label_agreement": float(np.mean(np.argmax(seen.probabilities, 1)[told] == labels[told]))} if told.any() else {}
    return found | scores.scores | agree, left_out | scores.left_out


def _named(config, name: str) -> str:
    """A measure with the network whose features it is of, where it is of features."""
    if " of " in name:
        return name.replace("_", " ")
    name = {"inception_score": "classifier score", "inception_score_deviation": "classifier score, deviation"}.get(name, name)
    return f"{name.replace('_', ' ')} by {Path(config.classifier.checkpoint).stem}"
