"""Priors that are told a class: from the labels of files to the images that are drawn."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mains import ROOT, python, share_programs, working

from medjax import config as configs
from medjax.config import Prior, Spec, Train, load
from medjax.data.files import Files, Stored
from medjax.data.scan import InputError
from medjax.experiment import examples
from medjax.experiment import prior as priors
from medjax.experiment.examples import images
from medjax.experiment.generation import generated
from medjax.experiment.judged import judged
from medjax.experiment.problem import opened, operator
from medjax.networks.bfloat16 import bfloat16
from medjax.networks.unet import unet
from medjax.override import override
from medjax.training import mesh
from medjax.training.weights import load_tree, load_weights

SMALL = {"width": 8, "multipliers": (1,), "attention_levels": (), "num_classes": 2}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Configs import each other from the repository root, as the mains do."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of 16 px that are dark in class 0 and bright in class 1, of 20 subjects."""
    path = tmp_path_factory.mktemp("labelled")
    label = np.arange(40) % 2
    image = np.where(label[:, None, None] > 0, 0.9, 0.1) + 0.02 * np.random.default_rng(0).normal(size=(40, 16, 16))
    arrays = {"image": np.clip(255 * image, 0, 255).astype(np.uint8), "label": label, "subject": np.arange(40) // 2}
    part = {"train": slice(0, 32), "test": slice(32, 40)}
    np.savez(path / "two.npz", **{f"{name}_{what}": array[rows] for name, rows in part.items() for what, array in arrays.items()})
    return path


def config(folder, **changes):
    """The chest X-ray config at 16 px, of two classes."""
    found = load(ROOT / "configs/cxr_pneumonia.py")
    for name, value in (*OVERRIDES.items(), ("train.augment", "()")):
        found = override(found, name, value)
    return dataclasses.replace(found, files=Spec("stacks.files", {"folder": str(folder), "paths": ("two.npz",), "scale": 255.0}), **changes)


OVERRIDES = {
    "prior.shape": "(16, 16)",
    "prior.classes": "('dark', 'bright')",
    "prior.network.num_classes": "2",
    "prior.network.width": "8",
    "prior.network.multipliers": "(1,)",
    "prior.network.attention_levels": "()",
    "measure.operator.shape": "(16, 16)",
    "files.paths": "('two.npz',)",
}


@pytest.mark.parametrize("wrap", [lambda network: network, bfloat16], ids=["plain", "bfloat16"])
def test_a_label_reaches_the_output_and_none_is_any_class(wrap):
    """Each class has an answer of its own, -1 and no label the same one; a network without classes refuses a label."""
    network = wrap(unet(**SMALL))
    x = jax.random.normal(jax.random.key(0), (16, 16), jnp.float32)
    params = network.init(jax.random.key(1), x, jnp.float32(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    answer = {label: np.asarray(network.apply(params, x, jnp.float32(0.3), jnp.int32(label))) for label in (-1, 0, 1)}
    assert np.array_equal(answer[-1], network.apply(params, x, jnp.float32(0.3)))
    assert min(np.abs(answer[a] - answer[b]).max() for a, b in ((-1, 0), (0, 1), (1, -1))) > 0.01
    plain = unet(**{**SMALL, "num_classes": 0})
    with pytest.raises(ValueError, match="has no classes, got a label; num_classes of at least 1"):
        plain.init(jax.random.key(1), x, jnp.float32(0), 0)


def test_guidance_extrapolates_from_any_class():
    """(1 + w) D_c - w D_0 by hand; without a weight the class alone."""

    def denoise(x, sigma, label):
        return x * (3.0 if label is None else 5.0 + label)

    assert float(priors.guided(denoise, 1, 0.5)(2.0, 0.1)) == 1.5 * 12 - 0.5 * 6
    assert float(priors.guided(denoise, 1)(2.0, 0.1)) == 12


def test_labels_go_with_their_images_and_some_are_dropped(folder):
    """Every label is that of its image or -1, -1 as often as the share says; none is dropped where nothing is trained."""
    found = config(folder)
    train = dataclasses.replace(found.train, batch_size=16, label_dropout=0.25)
    stream, held_out, _ = images(found, train, operator(found.measure, {}))
    over = mesh.batch_sharding(mesh.device_mesh())
    batches = [batch for (batch, _), _ in zip(stream((), jax.random.key(3), 0, over), range(60), strict=False)]
    pixels, labels = (np.concatenate([np.asarray(batch[i]) for batch in batches]) for i in (0, 1))
    told = labels >= 0
    assert np.array_equal(pixels.mean((1, 2))[told] > 0.5, labels[told] == 1)
    assert abs(np.mean(~told) - 0.25) < 0.056  # 4 standard deviations of 960 draws
    pixels, labels = held_out((), 0, over)
    assert np.array_equal(np.asarray(pixels).mean((1, 2)) > 0.5, np.asarray(labels) == 1)


def test_time_that_files_are_waited_for_is_told(folder, monkeypatch):
    """Batches say how long their files took to come; what is generated waits for none."""
    found = config(folder)
    train, A = dataclasses.replace(found.train, batch_size=4), operator(found.measure, {})
    files, over, pause = opened(found, A), mesh.batch_sharding(mesh.device_mesh()), 0.25
    slow = files._replace(read=lambda part, index: time.sleep(pause * (part == "train")) or files.read(part, index))
    monkeypatch.setattr(examples, "opened", lambda *_: slow)
    _, waited = next(images(found, train, A).training((), jax.random.key(0), 0, over))
    assert waited > 3 * pause  # of 4 images, that no one has read ahead
    generated = dataclasses.replace(found, files=None, prior=dataclasses.replace(found.prior, classes=(), data=Spec("ellipses", {"size": 16})))
    assert next(images(generated, train, A).training((), jax.random.key(0), 0, over))[1] == 0


def test_what_does_not_fit_is_told_in_one_line(folder):
    """Unknown classes, guidance without one, another number of classes, files without labels or with others, no files."""
    found = config(folder)
    A = operator(found.measure, {})
    with pytest.raises(configs.ConfigError, match="prior.label is 'dork'; did you mean 'dark'"):
        dataclasses.replace(found.prior, label="dork")
    with pytest.raises(configs.ConfigError, match="a prior.label to guide towards is needed"):
        priors.denoiser(dataclasses.replace(found.prior, guidance=1.0))
    with pytest.raises(configs.ConfigError, match="told 2 classes, prior.classes names 3"):
        priors.labelled(dataclasses.replace(found.prior, classes=("a", "b", "c")))
    with pytest.raises(configs.ConfigError, match="generates no images"):
        images(dataclasses.replace(found, files=None, prior=plain(found.prior)), found.train, A)
    with pytest.raises(configs.ConfigError, match="files with labels are needed"):
        images(dataclasses.replace(found, files=None), found.train, A)
    with pytest.raises(InputError, match="has the label 1; one below 1"):
        network = Spec("unet", {**SMALL, "num_classes": 1})
        stream, *_ = images(dataclasses.replace(found, prior=dataclasses.replace(found.prior, classes=("a",), network=network)), found.train, A)
        next(stream((), jax.random.key(0), 0, mesh.batch_sharding(mesh.device_mesh())))
    with pytest.raises(configs.ConfigError, match="train.label_dropout is 1.5"):
        Train(Spec("score_matching"), label_dropout=1.5)


def plain(prior: Prior) -> Prior:
    """The prior without classes."""
    args = {name: value for name, value in prior.network.args.items() if name != "num_classes"}
    return dataclasses.replace(prior, classes=(), network=Spec("unet", args))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """What calls the mains, the options of the config, and a folder with trained weights."""
    share_programs(tmp_path_factory.mktemp("programs"))
    words = [word for name, value in OVERRIDES.items() for word in (f"--{name}", value)] + ["--files.folder", str(folder)]
    output = tmp_path_factory.mktemp("trained")
    steps = {"num-steps": 120, "batch-size": 16, "warmup-steps": 10, "learning-rate": 0.01, "ema-decay": 0.9, "label-dropout": 0.3}
    steps |= {"loss.mean-log-sigma": 1.5, "augment": "()"}  # levels at which the image does not tell its class
    steps = [word for name, value in steps.items() for word in (f"--train.{name}", str(value))]
    with working() as call:
        result = call("train.py", "configs/cxr_pneumonia.py", *words, *steps, "--output", output)
        assert result.returncode == 0, result.stderr
        yield call, [*words, "--prior.checkpoint", str(output / "weights.safetensors")], output


def test_training_learns_what_each_class_is(folder, trained):
    """Half-way between both classes under noise, the answer is near the class that is asked for, and between them where none is."""
    found = config(folder)
    like = jax.eval_shape(lambda: priors.initialise(found.prior, jax.random.key(0)))
    denoise = priors.labelled(found.prior)(load_weights(trained[2] / "weights.safetensors", like))
    noise = jax.random.normal(jax.random.key(5), (16, 16), jnp.float32)
    level = {label: float(jnp.mean(denoise(0.5 + 8 * (noise - jnp.mean(noise)), 8.0, label))) for label in (-1, 0, 1)}
    assert abs(level[0] - 0.1) < 0.1 and abs(level[1] - 0.9) < 0.1 and 0.3 < level[-1] < 0.75  # 120 steps of training


def test_generated_images_are_of_their_class_and_drawn_once(trained, tmp_path):
    """Each class in turn, or the one that is asked for; the same command draws nothing again, another one is refused."""
    call, words, _ = trained

    def generate(*more, num=6):
        return call("generate.py", "configs/cxr_pneumonia.py", *words, "--num-images", num, "--output", tmp_path / "out", *more)

    result = generate()
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out/images.npz") as found:
        images, labels = found["images"], found["labels"]
    assert images.shape == (6, 16, 16) and labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert np.array_equal(images.mean((1, 2)) > 0.5, labels == 1) and (tmp_path / "out/sheet.png").stat().st_size > 1000
    assert len({image.tobytes() for image in images}) == 6
    blocks = sorted((tmp_path / "out/blocks").glob("*.npz"))
    before = [path.stat().st_mtime_ns for path in blocks]
    (tmp_path / "out/images.npz").unlink()
    assert generate().returncode == 0 and [path.stat().st_mtime_ns for path in blocks] == before
    with np.load(tmp_path / "out/images.npz") as found:
        assert np.array_equal(found["images"], images)
    blocks[0].write_bytes(blocks[0].read_bytes()[:500])  # damaged: drawn again, and more with it
    for name in ("0000000_0000003.npz", ".123-0000000_0000003.npz"):  # what a crash leaves
        (tmp_path / "out/blocks" / name).write_bytes(b"")
    assert generate(num=10).returncode == 0 and blocks[1].stat().st_mtime_ns == before[1]
    with np.load(tmp_path / "out/images.npz") as found:
        assert len(found["images"]) == 10 and np.abs(found["images"][:6] - images).max() < 1e-5  # blocks of another size round otherwise
    result = generate("--seed", "4")
    assert result.returncode == 2 and "holds results with another options.seed" in result.stderr
    asked = ["--prior.label", "bright", "--prior.guidance", "0.5", "--output", tmp_path / "bright"]
    bright = call("generate.py", "configs/cxr_pneumonia.py", *words, "--num-images", "3", *asked)
    assert bright.returncode == 0, bright.stderr
    with np.load(tmp_path / "bright/images.npz") as found:
        assert (found["images"].mean((1, 2)) > 0.5).all() and found["labels"].tolist() == [1, 1, 1]
    result = call("generate.py", "configs/cxr_pneumonia.py", *words, "--num-images", "-2")
    assert result.returncode == 2 and "at least 1" in result.stderr


def test_many_processes_do_not_draw_again_what_is_there(folder, tmp_path, monkeypatch):
    """What is held goes through JSON on its way to the others."""
    found = config(folder)
    weights, told = priors.initialise(found.prior, jax.random.key(0)), []
    generated(found, weights, 4, 0, tmp_path, {}, [], told.append)
    monkeypatch.setattr("medjax.experiment.generation.gathered", lambda known: json.loads(json.dumps(known)))
    generated(found, weights, 8, 0, tmp_path, {}, [], told.append)
    assert told == [0, 4, 4, 4]


def test_a_classifier_judges_images_by_its_own_name(trained, tmp_path):
    """Trained by the one train loop; its measures bear its name, copies of the training set are seen, and sets that are too small said."""
    call, words, _ = trained
    steps = ["--classifier.train.num-steps", "40", "--classifier.train.warmup-steps", "5", "--classifier.train.batch-size", "8"]
    steps += ["--classifier.train.augment", "()"]
    small = ["--classifier.network.num_classes", "2", "--classifier.network.width", "8", "--classifier.network.multipliers", "(1, 2)"]
    result = call("train.py", "configs/cxr_pneumonia.py", "--method", "classifier", *words, *small, *steps, "--output", tmp_path / "eye")
    assert result.returncode == 0, result.stderr
    log = [json.loads(line) for line in (tmp_path / "eye/log.jsonl").read_text().splitlines()]
    assert [line for line in log if "validation_accuracy" in line][-1]["validation_accuracy"] == 1
    result = call("train.py", "configs/cxr_pneumonia.py", "--method", "classifier", *words, "--train.num-steps", "4")
    assert result.returncode == 2 and "--classifier.train.num_steps is needed" in result.stderr.replace("-steps", "_steps")
    eye = [*small, "--classifier.checkpoint", str(tmp_path / "eye/weights.safetensors")]
    result = call("generate.py", "configs/cxr_pneumonia.py", *words, *eye, "--num-images", "24", "--judge", "1", "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out/generation.json").read_text())
    made, real = record["measures"]["generated"], record["measures"]["held out"]
    assert real["label agreement by eye"] == 1 and made["label agreement by eye"] > 0.75  # after 120 steps of training
    assert made["frechet distance by eye"] > 0 and (tmp_path / "out/nearest.png").is_file()
    assert any("memorisation" in line and "held-out images" in line for line in record["left_out"])  # 8 are too few for a share of 0.05 of features
    assert 0 <= made["memorisation share of pixels"] <= 1 and made["nearest distance of pixels"] > 0
    assert (record["num_training"], record["num_held_out"]) == (28, 8)


def test_copies_of_the_training_set_are_told(folder, monkeypatch):
    """Half of the generated images are training images: their share is told, and what a model that only copies would get."""
    rng = np.random.default_rng(1)
    real = [rng.normal(size=(n, 16, 16)).astype(np.float32) for n in (60, 40, 40)]
    files = Files({"train": 60, "validation": 0, "test": 40}, lambda part, i: Stored(real[{"train": 0, "test": 1}[part]][i]))
    found = dataclasses.replace(config(folder), prior=plain(config(folder).prior), classifier=None)
    monkeypatch.setattr("medjax.experiment.judged.opened", lambda config, A: files)
    measures = judged(found, 0)(np.concatenate([real[0][:20], real[2][:20]]), np.full(40, -1)).measures
    assert 0.5 <= measures["generated"]["memorisation share of pixels"] <= 0.6
    assert measures["copies"]["memorisation z of pixels"] < measures["generated"]["memorisation z of pixels"] < -2
    assert measures["copies"]["memorisation share of pixels"] == 1 and measures["copies"]["nearest distance of pixels"] == 0
    assert not any("memorisation" in name for name in measures["held out"])  # which are what copies are held against
    changed = dataclasses.replace(found, train=dataclasses.replace(found.train, augment=(Spec("augment.mirrored", {"probability": 1.0}),)))
    flipped = judged(changed, 0)(real[0][:20, :, ::-1], np.full(20, -1)).measures
    assert flipped["copies"]["memorisation share of pixels"] == flipped["generated"]["memorisation share of pixels"] == 1
    changed = dataclasses.replace(found, train=dataclasses.replace(found.train, augment=(Spec("augment.moved", {"scale": 1.5}),)))
    assert judged(changed, 0)(real[2][:20], np.full(20, -1)).measures["copies"]["nearest distance of pixels"] > 5  # of 16, which unrelated ones have


def test_files_without_subjects_train_and_processes_read_as_threads_do(folder, trained, tmp_path):
    """Without a part to validate on that is said, and the training is whole; its weights are those that processes which read give."""
    call, words, _ = trained
    with np.load(folder / "two.npz") as found:
        np.savez(tmp_path / "two.npz", **{name: array for name, array in found.items() if "subject" not in name})
    steps = ["--train.num-steps", "6", "--train.checkpoint-every", "3", "--train.batch-size", "4", "--train.augment", "()"]
    weights = []
    for workers in ("0", "2"):
        more = ["--files.folder", tmp_path, "--train.num-workers", workers, "--output", tmp_path / workers]
        result = python("train.py", "configs/cxr_pneumonia.py", *words, *steps, *more)
        assert result.returncode == 0 and "no images to validate on" in result.stdout, result.stderr
        assert "not told" in (tmp_path / workers / "card.md").read_text()  # whose images these are
        weights.append(load_tree(tmp_path / workers / "weights.safetensors"))
    assert jax.tree.all(jax.tree.map(np.array_equal, *weights))


def test_an_image_of_ones_own_is_restored(trained, tmp_path):
    """A picture goes through the measurement of an image; no unit is made up for it."""
    call, words, _ = trained
    picture = np.full((16, 16), 0.9, np.float32)
    np.save(tmp_path / "own.npy", picture)
    shorter = ["--methods.mmps.num_steps", "2", "--num-samples", "2", "--modality", "image", "--output", tmp_path / "out"]
    result = call("sample.py", "configs/cxr_pneumonia.py", *words, "--input", tmp_path / "own.npy", *shorter)
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out/reconstruction.npz") as found:
        assert np.allclose(found["truth"], picture) and abs(found["tv"].mean() - 0.9) < 0.02
