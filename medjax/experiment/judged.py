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
from medjax.experiment.examples import augmented
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

    measures: "generated", "held out" and "copies" -> name of a measure, with the network whose features it is of -> value.
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

    Everything is told in place of the generated images of others, too, of as many or of all where there are fewer: of held-out ones, but what asks
    whether they are copies, and of copies, training images that were changed as `Train.augment` changes them. A model that does nothing but copy gets
    what copies get; where that is not far from what held-out images get, the measure does not see copies. Without files there is no training set:
    images are held against others of the phantom, and nothing is said of copies. Features are those of the config's classifier, whose name each
    measure bears; without one there are distances of pixels alone, to the nearer of an image and its mirror image where the training mirrors.

    Args:
      config: whose files, or phantom, are real.
      seed: of real images where they are generated, too.

    Raises:
      ValueError: for weights of the classifier that are missing or of another network, and for files without images to train on and to test.
    """
    look, real = _classifier(config), _real(config, seed)
    mirror = any(spec.name.endswith("mirrored") and spec.args.get("axis", 1) == 1 for spec in config.train.augment)

    def judge(images, labels):
        (training, _), (held_out, known) = (real(part, len(images)) for part in ("train", "test"))
        nearest = memorisation(images, held_out, training, mirror, num_nearest=1, quantile=0.5)
        first, num = np.argsort(nearest.distances)[:_PAIRS], min(len(images), len(held_out))
        some = np.linspace(0, len(held_out) - 1, num).round().astype(int)
        sets = {"generated": (images, labels), "held out": (held_out[some], known[some])}
        sets |= {"copies": _copies(config, seed, num)} if config.files else {}
        told = {name: config.files is not None and name != "held out" for name in sets}  # whether it is asked if they are copies
        found = {name: _scores(each, labels, training, held_out, look, mirror, told[name]) for name, (each, labels) in sets.items()}
        measures = {name: {_named(config, measure): value for measure, value in scores.items()} for name, (scores, _) in found.items()}
        left_out = [f"{name}, {_named(config, measure)}: {why}" for name, (_, reasons) in found.items() for measure, why in reasons.items()]
        if num < len(images):
            left_out.append(f"equal numbers: others are {num} images, generated ones {len(images)}, and distances of laws fall with the number")
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


def _copies(config, seed, num):
    """Training images as networks see them, changed as training changes them, and their labels: `num` at equal distances, or all."""
    files, change = opened(config, operator(config.measure, {})), jax.jit(augmented(config.train))
    places, copies = spread(files, "train", min(num, files.num["train"])), []
    for i, place in enumerate(places):
        stored = batch(files, "train", [place])
        image = change(jax.random.fold_in(evaluation_key(seed, 2**31 - 4), i), jnp.asarray(stored.image))
        copies.append((np.asarray(encoded(config, stored._replace(image=image)).image[0]), -1 if stored.label is None else int(stored.label[0])))
    images, labels = zip(*copies, strict=True)
    return np.stack(images), np.array(labels)


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


def _scores(images, labels, training, held_out, look, mirror, told) -> tuple[dict[str, float], dict[str, str]]:
    """Measures by name, and why some are left out; without `told` none of memorisation."""
    found, left_out = _all_scores(images, labels, training, held_out, look, mirror)
    names = {name for name in (*found, *left_out) if told or not name.startswith("memorisation")}
    return {name: value for name, value in found.items() if name in names}, {name: why for name, why in left_out.items() if name in names}


def _all_scores(images, labels, training, held_out, look, mirror):
    found, left_out = {}, {}
    try:
        pixels = memorisation(images, held_out, training, mirror, num_nearest=1, quantile=max(0.05, 1 / (len(held_out) + 1)))
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
