"""Images of the prior alone, judged against those that it was trained on and those that were held out."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce

from medjax import config as configs
from medjax.config import Config
from medjax.data.files import batch, spread
from medjax.data.scan import InputError
from medjax.experiment.command_line import located
from medjax.experiment.problem import encoded, opened, operator, phantom
from medjax.experiment.reconstruct import named_path
from medjax.experiment.sweep import evaluation_key
from medjax.experiment.task import CLASSIFIER
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

    Everything is told of held-out images, too, in place of the generated ones: as many of them as there are generated images, or all where they are
    fewer. Features are those of the config's classifier, whose name each measure bears; without one there are distances of pixels alone.

    Args:
      config: whose files, or phantom, are real.
      seed: of real images where they are generated, too.

    Raises:
      ValueError: for weights of the classifier that are missing or of another network, and for files without images to train on and to test.
    """
    look, real = _classifier(config), _real(config, seed)

    def judge(images, labels):
        (training, _), (held_out, known) = (real(part, len(images)) for part in ("train", "test"))
        nearest = memorisation(images, held_out, training, num_nearest=1, quantile=0.5)
        first = np.argsort(nearest.distances)[:_PAIRS]
        some = np.linspace(0, len(held_out) - 1, min(len(images), len(held_out))).round().astype(int)
        sets = {"generated": (images, labels), "held out": (held_out[some], known[some])}
        found = {name: _scores(each, labels, training, held_out, look) for name, (each, labels) in sets.items()}
        measures = {name: {_named(config, measure): value for measure, value in scores.items()} for name, (scores, _) in found.items()}
        left_out = [f"{name}, {_named(config, measure)}: {why}" for name, (_, reasons) in found.items() for measure, why in reasons.items()]
        return Judged(measures, left_out, images[first], training[nearest.indices[first]], len(training), len(held_out))

    return judge


def _real(config, seed):
    """`(part, num) -> (images [n, ...] as networks see them, labels [n])`, all of files, or num that are generated; -1 where no label is told."""
    if config.files is None:
        generated, units = phantom(config), configs.build(config.prior.units)
        draw = jax.jit(lambda keys: jax.lax.map(lambda key: units.encode(generated(key).image), keys))

        def drawn(part, num):
            keys = jax.random.split(evaluation_key(seed, {"train": 2**31 - 3, "test": 2**31 - 1}[part]), min(num, _REAL))
            return np.asarray(draw(keys)), np.full(len(keys), -1)

        return drawn
    files = opened(config, operator(config.measure, {}))
    places = {part: spread(files, part, min(max(files.num[part], 1), _REAL)) for part in ("train", "test")}

    def read(part, num):
        stored = batch(files, part, places[part])
        labels = np.full(len(stored.image), -1) if stored.label is None else np.asarray(stored.label)
        if labels.max() >= max(len(config.prior.classes), 1) and config.prior.classes:
            raise InputError(part, f"has the label {labels.max()}; those below {len(config.prior.classes)}, as prior.classes says, are needed")
        return np.asarray(encoded(config, stored).image), labels

    return read


def _classifier(config):
    """`images -> Seen`, None without a classifier."""
    if config.classifier is None:
        return None
    network, path = configs.build(config.classifier.network), _classifier_path(config)
    params = load_weights(path, jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(config.prior.shape))))

    @jax.jit
    def look(params, images):
        return jax.lax.map(lambda image: network.apply(params, image, features=True), images, batch_size=16)

    def seen(images):
        logits, pooled, maps = look(params, jnp.asarray(images))
        return Seen(np.asarray(pooled), spatial_features(_pooled(np.asarray(maps))), np.asarray(jax.nn.softmax(logits)))

    return seen


def _classifier_path(config):
    """The weights of the classifier."""
    return located(named_path(config.classifier.checkpoint, f"{config.name}_{CLASSIFIER}"))


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


def _pooled(maps):
    """Maps `[n, h, w, c]` averaged over blocks to at most 4 x 4, for a covariance needs more images than features."""
    rows, columns = (max(1, side // 4) for side in maps.shape[1:3])
    maps = maps[:, : maps.shape[1] // rows * rows, : maps.shape[2] // columns * columns]
    return reduce(maps, "n (h p) (w q) c -> n h w c", "mean", p=rows, q=columns)


def _named(config, name: str) -> str:
    """A measure with the network whose features it is of, where it is of features."""
    if " of " in name:
        return name.replace("_", " ")
    name = {"inception_score": "classifier score", "inception_score_deviation": "classifier score, deviation"}.get(name, name)
    path = _classifier_path(config)
    return f"{name.replace('_', ' ')} by {path.stem if path.stem != 'weights' else path.absolute().parent.name}"
