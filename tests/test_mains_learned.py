"""A reconstruction is trained, applied and evaluated by the three mains."""

import dataclasses
import json

import numpy as np
import pytest
from mains import ROOT, share_programs, working
from volumes import HEADER, write_fastmri

from medjax.config import Spec, load
from medjax.experiment.record import of_training
from medjax.override import override


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """All mains in one process."""
    share_programs(tmp_path_factory.mktemp("programs"))
    with working() as call:
        yield call


def test_a_learned_reconstruction(worker, tmp_path):
    """Trained by the same main, it answers like any other method; a method that is not learned, or not trained, is told."""
    words = ("train.py", "configs/debug.py", "--output", tmp_path / "train", "--method")
    result = worker(*words, "learned_primal_dual")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "train" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 60 and lines[-1]["validation_psnr"] > lines[1]["psnr"] + 3
    refused = worker(*words, "tv")
    assert refused.returncode == 2 and "no learned method 'tv' in config debug; known: learned_primal_dual" in refused.stderr

    learned = ("configs/debug.py", "--method", "learned_primal_dual", "--methods.learned_primal_dual.checkpoint")
    found = tmp_path / "train" / "weights.safetensors"
    result = worker("sample.py", *learned, found, "--output", tmp_path / "a")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert list(report["methods"]) == ["fbp", "tv", "learned_primal_dual"] and report["num_samples"] == 0 and "coverage" not in report
    images = np.load(tmp_path / "a" / "reconstruction.npz", allow_pickle=False)
    error = np.mean((images["learned_primal_dual"] - images["truth"]) ** 2)
    assert np.allclose(10 * np.log10(np.ptp(images["truth"]) ** 2 / error), report["methods"]["learned_primal_dual"]["psnr"], atol=1e-3)  # f32 images
    missing = worker("sample.py", *learned, tmp_path / "none.safetensors", "--output", tmp_path / "b")
    assert missing.returncode == 2 and "no such weights" in missing.stderr and not (tmp_path / "b").exists()
    result = worker("evaluate.py", *learned, found, "--num-images", "2", "--output", tmp_path / "c")
    assert result.returncode == 0, result.stderr
    assert len(json.loads((tmp_path / "c" / "evaluation.json").read_text())["cases"]) == 2 and f"weights {found}\n" in result.stdout
    other = ("--measure.noise.num_photons", "5e3", "--output", tmp_path / "d", "--num-images", "1")
    result = worker("evaluate.py", *learned, found, *other)
    assert result.returncode == 0 and f"weights {found}, of another problem: measure.noise.args.num_photons is" in result.stdout, result.stderr


def test_another_training_is_told(worker, tmp_path):
    """A field of the prior's training beside a method, and a folder of another problem; a longer training goes on."""
    words = ("train.py", "configs/debug.py", "--method", "learned_primal_dual", "--output", tmp_path)
    short, again = ("--methods.learned_primal_dual.train.num_steps", "2"), ("--methods.learned_primal_dual.train.num_steps", "3")
    refused = worker(*words, "--train.num_steps", "2")
    assert refused.returncode == 2 and "--train.num_steps is of the prior's training; --methods.learned_primal_dual.train.num_steps" in refused.stderr
    refused = worker(*words, "--seed=3")
    assert refused.returncode == 2 and "--seed changes no training; --methods.learned_primal_dual.train.seed is needed" in refused.stderr
    refused = worker("train.py", "configs/debug.py", *short, "--output", tmp_path)
    assert refused.returncode == 2 and f"{short[0]} is not of this training, that of the prior, for want of a --method" in refused.stderr
    (tmp_path / "checkpoints").mkdir()  # of a start that failed: no training to differ from
    (tmp_path / "config.json").write_text((ROOT / "configs" / "debug.py").read_text())
    assert worker(*words, *short).returncode == 0
    refused = worker(*words, *again, "--measure.noise.num_photons", "5e3")
    assert refused.returncode == 2 and "holds a training with another measure.noise.args.num_photons" in refused.stderr
    record = (tmp_path / "config.json").read_text()
    config = load(ROOT / "configs/debug.py")
    longer, filed = override(config, f"{again[0][2:]}", "9"), dataclasses.replace(config, files=Spec("lodopab.files"))
    assert not of_training(record, longer, "learned_primal_dual") and of_training(record, filed, "learned_primal_dual") == "files"
    result = worker(*words, *again, "--methods.learned_primal_dual.train.initial", tmp_path / "weights.safetensors")
    assert f"goes on from step 2, not from {tmp_path / 'weights.safetensors'}" in result.stdout
    assert result.returncode == 0 and json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == 3, result.stderr


def test_examples_of_files(worker, tmp_path):
    """Trained, validated, evaluated and shown on volumes on disk, each on its own part; another shape, and a folder without volumes, are told."""
    rng, header = np.random.default_rng(0), HEADER.replace("<x>12</x><y>10</y>", "<x>24</x><y>20</y>")
    for part, name in (("train", "a"), ("train", "b"), ("val", "a")) + tuple(("val", f"b{i}") for i in range(21)):
        (tmp_path / f"singlecoil_{part}").mkdir(exist_ok=True)
        image = np.cumsum(np.cumsum(rng.normal(size=(2, 24, 20)), 1), 2) / 20
        write_fastmri(tmp_path / f"singlecoil_{part}" / f"{name}.h5", np.fft.fftshift(np.fft.fft2(image), (1, 2)).astype(np.complex64), header=header)
    method = "methods.zero_filled_unet"
    small = {"prior.shape": "(24,20,2)", "measure.operator.A.mask.shape": "(24,20)", f"{method}.reconstruction.network.width": "4"}
    small |= {f"{method}.reconstruction.network.num_levels": "1", f"{method}.train.num_steps": "3", f"{method}.train.batch_size": "2"}
    words = ["configs/fastmri_singlecoil.py", "--method", "zero_filled_unet", "--files.folder", tmp_path]
    words += [word for field, value in small.items() for word in (f"--{field}", value)]
    result = worker("train.py", *words, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "validation_psnr" in (tmp_path / "out" / "log.jsonl").read_text()
    trained = [f"--{method}.checkpoint", tmp_path / "out" / "weights.safetensors"]
    result = worker("evaluate.py", *words, *trained, "--num-images", "3", "--output", tmp_path / "scores")
    assert result.returncode == 0, result.stderr
    levels = [found["methods"]["zero_filled"]["psnr"] for found in json.loads((tmp_path / "scores" / "evaluation.json").read_text())["cases"]]
    assert len(set(levels)) == 3  # three images
    result = worker("sample.py", *words, *trained, "--output", tmp_path / "one")
    assert result.returncode == 0, result.stderr
    result = worker("evaluate.py", *words, *trained, "--num-images", "5", "--output", tmp_path / "more")
    assert result.returncode == 2 and "test: has 4 examples; 5 are asked for" in result.stderr
    square = ["--prior.shape", "(24,24,2)", "--measure.operator.A.mask.shape", "(24,24)"]
    result = worker("train.py", *words, *square, "--output", tmp_path / "no")
    assert result.returncode == 2 and "prior.shape takes images of [24, 24, 2], those of fastmri.singlecoil_files are [24, 20, 2]" in result.stderr
    result = worker("train.py", *words, "--files.folder", tmp_path / "out", "--output", tmp_path / "no")
    assert result.returncode == 2 and "singlecoil_val: holds no .h5 files" in result.stderr and not (tmp_path / "no").exists()
