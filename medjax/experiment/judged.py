"""Images of the prior alone, judged against those that it was trained on and those that were held out."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.config import Config
from medjax.data.files import batch, spread
from medjax.experiment.command_line import located, versions
from medjax.experiment.generation import displayed, prior_weights, watched
from medjax.experiment.ledger import header
from medjax.experiment.problem import encoded, opened, operator, phantom
from medjax.experiment.record import to_json
from medjax.experiment.sweep import evaluation_key
from medjax.metrics.generation_scores import generation_scores
from medjax.metrics.memorisation import memorisation
from medjax.metrics.spatial_features import spatial_features
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import sheet
from medjax.report.table import markdown_table, method_table
from medjax.training import cluster
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


def judge(config: Config, options, output) -> int:
    """Draw `options.generate` images into `output` and judge them: `generation.json`, `generation.md`, `sheet.png`, `nearest.png`.

    Everything is told of held-out images, too, in place of the generated ones: what a perfect prior would get from as many. Features are those of the
    config's classifier, whose name each measure bears; without one there are distances of pixels alone.

    Returns:
      The status of `evaluate.py`.

    Raises:
      ConfigError: for less than 2 images.
      ValueError: as `generated`, and for weights of the classifier that are missing or of another network.
    """
    num, output = options.generate, prepare_folder(output)
    if num < 2:
        raise configs.ConfigError(f"--generate is {num}; at least 2 images to judge are needed")
    weights, look = prior_weights(config), _classifier(config)
    (training, _), (held_out, known) = _real(config, "train", num, options.seed), _real(config, "test", num, options.seed)
    made = watched(config, weights, num, options.seed, output, header(config, vars(options), weights))
    if made.stopped:
        return 128 + made.stopped
    if cluster.first():
        sets = {"generated": (made.images, made.labels), "held out": (held_out, known)}
        found = {name: _scores(each, labels, training, held_out, look) for name, (each, labels) in sets.items()}
        _write(output, config, options, made, training, held_out, found)
    return 0


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
        pixels = memorisation(images, held_out, training, num_nearest=1)
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


def _write(output, config, options, made, training, held_out, found):
    """All files, and the table on the terminal."""
    names = list(dict.fromkeys(name for scores, _ in found.values() for name in scores))
    rows = {_named(config, name): [scores.get(name) for scores, _ in found.values()] for name in names}
    left_out = {f"{which}: {name}": why for which, (_, reasons) in found.items() for name, why in reasons.items()}
    record: dict[str, Any] = {"num_images": len(made.images), "num_training": len(training), "num_held_out": len(held_out), "seconds": made.seconds}
    record |= {which: {_named(config, name): value for name, value in scores.items()} for which, (scores, _) in found.items()}
    record |= {"left_out": left_out, "options": vars(options), "versions": versions(), "config": json.loads(to_json(config))}
    with write_atomically(output / "generation.json") as path:
        Path(path).write_text(json.dumps(record, indent=1, default=str) + "\n")
    line = f"{len(made.images)} generated images, {len(training)} of training and {len(held_out)} held out; {made.seconds:.0f} s"
    unit = configs.build(config.prior.units).name
    with write_atomically(output / "generation.md") as path:
        text = "".join(f"\n\nLeft out, {name}: {why}." for name, why in left_out.items())
        Path(path).write_text(f"# {config.name}, generated images\n\n{markdown_table(rows, list(found), 'measure')}\n\n{line}.{text}\n")
    nearest = memorisation(made.images, held_out, training, num_nearest=1)
    which = np.argsort(nearest.distances)[:_PAIRS]
    pairs = np.concatenate([displayed(config, made.images[which]), displayed(config, training[nearest.indices[which]])])
    sheet(output / "sheet.png", displayed(config, made.images[:64]), unit=unit, title=f"{config.name}, generated")
    sheet(output / "nearest.png", pairs, unit=unit, title=f"{len(which)} generated images nearest to training images, then those")
    method_table(rows, list(found), "measure")
    print(line, *(f"left out, {name}: {why}" for name, why in left_out.items()), sep="\n")
    print(f"table: {output / 'generation.md'}   record: {output / 'generation.json'}   images beside the nearest: {output / 'nearest.png'}")
