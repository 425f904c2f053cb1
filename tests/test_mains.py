"""The three mains from end to end on the debug experiment, and one clear line for each bad input."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mains import ENVIRONMENT, ROOT, python, share_programs, working

from medjax.config import load
from medjax.data.read import read
from medjax.experiment.problem import from_scan
from medjax.override import override

STRENGTH = "methods.fista_tv.solver.regulariser.strength"


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory):
    """What the mains compile."""
    share_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def worker(programs):
    """All mains in one process."""
    with working() as call:
        yield call


@pytest.fixture(scope="module")
def trained(tmp_path_factory, worker):
    """Output folder of `train.py configs/debug.py`, stopped by SIGTERM on the way and started again."""
    output = tmp_path_factory.mktemp("train")
    words = [sys.executable, "train.py", "configs/debug.py", "--output", str(output), "--train.log-every", "5"]
    with subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        log = output / "log.jsonl"
        while process.poll() is None and not (log.exists() and '"step"' in log.read_text()):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        text = process.communicate(timeout=280)[0]
    assert process.returncode == 128 + signal.SIGTERM and "the same command goes on from there" in text
    result = worker(*words[1:])
    assert result.returncode == 0, result.stderr
    return output


def test_training_goes_on_and_records(trained):
    """Every step is logged once, the stop and the start are seen, weights, config and sheets are there."""
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(5, 61, 5)) and [line["step"] for line in lines if "validation_loss" in line] == [20, 40, 60]
    assert [line.get("event") for line in lines].count("start") == 2
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] and np.isfinite(lines[-1]["validation_loss"])
    assert (trained / "weights.safetensors").stat().st_size > 10_000
    card = (trained / "card.md").read_text()
    assert hashlib.sha256((trained / "weights.safetensors").read_bytes()).hexdigest() in card and "generated, no image of a person" in card
    assert "| steps | 60 of 4, 240 images |" in card and "train.py configs/debug.py --output" in card and "validation loss" in card
    assert json.loads((trained / "config.json").read_text())["name"] == "debug"
    assert (trained / "sheets" / "0000060.png").stat().st_size > 5_000
    assert lines[0]["versions"]["jax"]


def test_sample_and_evaluate(trained, worker, tmp_path):
    """A phantom and a file are reconstructed; all outputs are there and agree."""
    checkpoint = ("--prior.checkpoint", trained / "weights.safetensors")
    result = worker("sample.py", "configs/debug.py", "--output", tmp_path / "a", *checkpoint)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert {"fbp", "tv", "posterior_mean"} == set(report["methods"]) and 0 <= report["coverage"] <= 1
    images = np.load(tmp_path / "a" / "reconstruction.npz", allow_pickle=False)
    assert images["samples"].shape == (2, 32, 32) and images["truth"].min() >= -1000.001
    error = np.mean((images["posterior_mean"] - images["truth"]) ** 2)
    assert np.allclose(10 * np.log10(np.ptp(images["truth"]) ** 2 / error), report["methods"]["posterior_mean"]["psnr"], atol=1e-3)  # f32 images
    assert (tmp_path / "a" / "figure.png").stat().st_size > 20_000

    words = ("--output", tmp_path / "b", "--num-images", 2, "--method", "dds", *checkpoint)
    result = python("evaluate.py", "configs/debug.py", *words)
    assert result.returncode == 0, result.stderr
    evaluation = json.loads((tmp_path / "b" / "evaluation.json").read_text())
    values = [case["methods"]["tv"]["psnr"] for case in evaluation["cases"]]
    assert np.allclose(np.mean(values), evaluation["methods"]["tv"]["psnr"][0]) and len(values) == 2
    assert "| TV" in (tmp_path / "b" / "evaluation.md").read_text()


def test_classical_methods_and_sweeps(worker, tmp_path):
    """Without any weights; a sweep is of other images than the evaluation, though the seed be its own, and its best value is what is evaluated."""
    sweep = ["--sweep", f"{STRENGTH}=4.5,4000", "--sweep-images", "2"]
    runs = {
        "a": ["sample.py", "--method", "sirt", "--check-adjoint", "1", "--history", "1", "--methods.sirt.num_steps", "7"],
        "b": ["evaluate.py", *sweep, "--num-images", "2", "--seed", "20000"],
        "c": ["evaluate.py", "--method", "cgls,fista_tv,", f"--{STRENGTH}", "4.5", "--num-images", "2", "--seed", "20000"],
    }
    results = {name: worker(main, "configs/debug.py", *words, "--output", tmp_path / name) for name, (main, *words) in runs.items()}
    assert [result.returncode for result in results.values()] == [0, 0, 0], results
    assert "adjoint: <A x, y>" in results["a"].stdout

    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert list(report["methods"]) == ["fbp", "tv", "sirt"] and "coverage" not in report
    outcome = report["outcomes"]["sirt"]
    assert outcome["num_steps"] == len(outcome["history"]) == 7 and outcome["history"][-1] == outcome["change"] and not outcome["converged"]
    images = np.load(tmp_path / "a" / "reconstruction.npz", allow_pickle=False)
    assert {"fbp", "tv", "sirt", "truth"} <= set(images) and not {"samples", "posterior_std"} & set(images)
    error = np.mean((images["sirt"] - images["truth"]) ** 2)
    assert np.allclose(10 * np.log10(np.ptp(images["truth"]) ** 2 / error), report["methods"]["sirt"]["psnr"], atol=1e-3)  # f32 images

    b, c = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in "bc")
    assert b["sweep"]["best"] == "4.5" and b["sweep"]["at_end"] == "lowest" and "one beyond it may be better" in results["b"].stdout
    assert all(np.isclose(np.mean(scores), b["sweep"]["values"][value]["psnr"][0]) for value, scores in b["sweep"]["cases"].items())
    psnr, plain = ([case["methods"]["fista_tv"]["psnr"] for case in found["cases"]] for found in (b, c))
    assert len(psnr) == 2 and np.allclose(psnr, plain, atol=1e-2) and not set(psnr) & set(b["sweep"]["cases"]["4.5"])  # f32: restarts by rounding
    assert b["config"]["methods"]["fista_tv"]["solver"]["args"]["regulariser"]["args"]["strength"] == 4.5
    assert list(c["methods"]) == ["fbp", "tv", "fista_tv", "cgls"] and b["cases"][0]["outcomes"]["fista_tv"]["num_steps"] == 50
    assert f"{STRENGTH} is 4.5" in (tmp_path / "b" / "evaluation.md").read_text() and (tmp_path / "b" / "sweep.png").stat().st_size > 10_000


def test_sample_of_a_dicom(trained, worker, tmp_path):
    """The file that pydicom ships; the result reads back with pydicom, in HU, at the size of the prior."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm", download=False)
    unknown = pydicom.dcmread(path)
    del unknown.PixelSpacing
    unknown.save_as(tmp_path / "unknown.dcm")
    words = ("--input", path, "--output", tmp_path, "--prior.checkpoint", trained / "weights.safetensors")
    result = worker("sample.py", "configs/debug.py", *words)
    assert result.returncode == 0, result.stderr
    dataset = pydicom.dcmread(tmp_path / "posterior_mean.dcm")
    assert dataset.pixel_array.shape == (32, 32) and dataset.SOPInstanceUID != pydicom.dcmread(path).SOPInstanceUID
    shown = np.load(tmp_path / "reconstruction.npz")["posterior_mean"]
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    assert np.allclose(hounsfield, shown, atol=0.51)  # HU are stored as integers
    words = ("--input", tmp_path / "unknown.dcm", "--output", tmp_path / "u", "--num-samples", 1, *words[4:])
    result = worker("sample.py", "configs/debug.py", *words)
    assert result.returncode == 0, result.stderr
    assert "PixelSpacing" not in pydicom.dcmread(tmp_path / "u" / "posterior_mean.dcm")  # never invented
    report = json.loads((tmp_path / "u" / "report.json").read_text())
    assert report["pixel_size_mm"] is None and "coverage" not in report
    assert np.allclose(float(dataset.PixelSpacing[0]), 4 * float(pydicom.dcmread(path).PixelSpacing[0]), rtol=1e-6)


def test_measured_data_need_no_truth(trained, tmp_path):
    """A sinogram with its own angles is reconstructed with its own geometry, from any folder; a length it does not tell is assumed and said."""
    angles = np.linspace(0, np.pi, 11, endpoint=False)
    t = (np.arange(46) - 22.5) * 12.5
    disc = 0.0193 * 2 * np.sqrt(np.maximum(120.0**2 - t**2, 0))
    np.savez(tmp_path / "scan.npz", sinogram=np.tile(disc, (11, 1)), angles=angles, detector_spacing=12.5, pixel_size=12.5)
    words = ("--input", tmp_path / "scan.npz", "--output", tmp_path / "out", "--prior.checkpoint", trained / "weights.safetensors")
    result = python("sample.py", "configs/debug.py", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["assumed"]) == 1 and report["assumed"][0].startswith("photons a ray not told")
    scan = read(tmp_path / "scan.npz")
    geometry = {name: value for name, value in scan.geometry.items() if name != "pixel_size"}
    problem = from_scan(load(ROOT / "configs/debug.py"), None, scan._replace(geometry=geometry))
    assert np.isclose(problem.pixel_size, 46 * 12.5 / 32) and "spans the detector" in problem.assumed[0]
    with pytest.raises(ValueError, match="fit each other"):
        from_scan(load(ROOT / "configs/debug.py"), None, scan._replace(geometry={**geometry, "pixel_size": 0.1}))
    assert "psnr" not in report["methods"]["tv"] and report["methods"]["tv"]["residual"] < 1
    tv = np.load(tmp_path / "out" / "reconstruction.npz")["tv"]
    assert abs(tv[14:18, 14:18].mean()) < 60 and abs(tv[:3].mean() + 1000) < 60  # HU of water and air, with TV's bias at 12.5 mm pixels


@pytest.fixture(scope="module")
def mri(tmp_path_factory, worker):
    """Words that turn `mri_brain` into a 32 px experiment, with weights of two steps."""
    output = tmp_path_factory.mktemp("mri")
    words = ["configs/mri_brain.py"]
    settings = {
        "prior.shape": "(32, 32, 2)",
        "prior.data.size": "32",
        "prior.network.width": "8",
        "prior.network.multipliers": "(1, 2)",
        "prior.network.attention_levels": "()",
        "measure.operator.A.mask.shape": "(32, 32)",
        "methods.mmps.num-steps": "4",
        "methods.mmps.guide.num_krylov": "2",
        "train.num_steps": "2",
        "train.batch_size": "1",
        "train.warmup_steps": "1",
        "num_samples": "2",
    }
    for name, value in settings.items():
        words += [f"--{name}", value]
    result = worker("train.py", *words, "--output", output)
    assert result.returncode == 0, result.stderr
    logged = next(line for line in map(json.loads, (output / "log.jsonl").read_text().splitlines()) if "loss" in line)
    assert np.isfinite([logged["loss_low_noise"], logged["loss_high_noise"]]).all()  # a batch of one is in both halves
    return [*words, "--prior.checkpoint", output / "weights.safetensors"]


def test_sample_of_a_nifti(mri, worker, tmp_path):
    """A slice of a NIfTI volume: the result is a NIfTI file of coarser pixels, in the magnitudes of the user's image."""
    import nibabel

    y, x = np.mgrid[:64, :64] - 31.5
    volume = np.repeat((500.0 * (x**2 / 600 + y**2 / 800 < 1))[:, :, None], 3, 2).astype(np.float32)
    nibabel.Nifti1Image(volume, np.diag([3.0, 3.0, 5.0, 1.0])).to_filename(tmp_path / "head.nii.gz")
    result = worker("sample.py", *mri, "--input", tmp_path / "head.nii.gz", "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    shown = nibabel.load(tmp_path / "out" / "posterior_mean.nii.gz")
    assert shown.shape[:2] == (32, 32) and np.allclose(shown.header.get_zooms()[:2], 6.0)
    arrays = np.load(tmp_path / "out" / "reconstruction.npz")
    assert np.allclose(arrays["truth"][16, 16], 500, rtol=1e-5) and {"zero_filled", "tv", "posterior_std"} <= set(arrays)
    assert np.allclose(np.sort(shown.get_fdata().ravel()), np.sort(arrays["posterior_mean"].ravel()), rtol=0, atol=0.05)  # stored in 16 bits
    assert "zero_filled" in json.loads((tmp_path / "out" / "report.json").read_text())["methods"]


def test_measured_kspace(mri, worker, tmp_path):
    """k-space with its own mask and noise; what the file does not tell is said and recorded."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] - 15.5
    image = 300.0 * (x**2 / 100 + y**2 / 150 < 1)
    mask = np.zeros((32, 32))
    mask[rng.permutation(32)[:12]] = 1
    mask[14:18] = 1
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))
    kspace = mask * (kspace + 2.0 * (rng.normal(size=(32, 32)) + 1j * rng.normal(size=(32, 32))))
    reports = {}
    for name, more in (("told", {"sigma": 2.0}), ("untold", {})):
        np.savez(tmp_path / f"{name}.npz", kspace=kspace, mask=mask, **more)
        result = worker("sample.py", *mri, "--input", tmp_path / f"{name}.npz", "--output", tmp_path / name)
        assert result.returncode == 0, result.stderr
        reports[name] = json.loads((tmp_path / name / "report.json").read_text())
        assert ("noise of k-space not told" in result.stdout) == (name == "untold")
    assert reports["told"]["assumed"] == [] and len(reports["untold"]["assumed"]) == 1
    zero_filled = np.load(tmp_path / "told" / "reconstruction.npz")["zero_filled"]
    expected = np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace), norm="ortho")))
    assert np.allclose(zero_filled, expected, rtol=0, atol=0.01)  # float32 of values up to 300
    assert reports["told"]["methods"]["zero_filled"]["residual"] < 1e-2
    config = load(ROOT / mri[0])
    for name, value in zip(mri[1::2], mri[2::2], strict=True):
        config = override(config, name[2:], str(value))
    told, untold = (from_scan(config, None, read(tmp_path / f"{name}.npz")) for name in ("told", "untold"))
    assert np.isclose(told.scale, np.percentile(expected, 99), rtol=1e-5) and np.isclose(told.sigma_y, 2.0 / told.scale, rtol=1e-5)
    assert np.isclose(untold.sigma_y, 0.01) and f"{0.01 * untold.scale:.3g}" in untold.assumed[0]


UNMATCHED = """
from configs.debug import get_config
from medjax.operators.parallel_fourier import ParallelFourier

right = ParallelFourier.adjoint
ParallelFourier.adjoint = lambda self, y: 1.01 * right(self, y)
"""
LONG = ["--methods.fista_tv.solver.step_size", "1e3"]
CLASSICAL = [  # settings of a method are found before the baseline diverges, values of a sweep before the first of them does
    (LONG, "fista_tv diverged after"),
    (["--methods.fista_tv.solver.regulariser.strength", "-1"], "strength of total_variation is -1, at least 0"),
    (["--methods.tv.solver.strength", "-1"], "strength of tv_reconstruction is -1, more than 0"),
    (["--methods.fista_tv.solver.sigma_y", "1"], "comes from the measurement"),
    (["--methods.fista_tv.num_steps", "0"], "num_steps of fista_reconstruction is 0"),
    (["--methods.fista_tv.start", "fbp"], "direct, zeros or ones"),
    (["--methods.fista_tv.solver.step_size", "nan"], "step_size: wants a number or the name of a function, got 'nan'"),
    (
        ["--baseline", "fista_tv", *LONG, "--method", "tgv", "--methods.tgv.solver.regulariser", "gradient"],
        "'Gradient' object has no attribute 'prox'",
    ),
    (["--baseline", "mmps"], "baseline 'mmps' of config debug is no Solve"),
]
SWEPT = [
    (["--sweep", "methods.fista_tv.solver.regulariser.strenght=1,2"], "did you mean 'strength'"),
    (["--sweep", "methods.fista_vt.num_steps=1,2"], "did you mean 'fista_tv'"),
    (["--sweep", "prior.sigma_data=1,2"], "methods.NAME.FIELD=VALUE,VALUE is needed"),
    (["--sweep", f"{STRENGTH}=1"], "with two values or more"),
    (["--sweep", f"{STRENGTH}=1,many"], "wants float"),
    (["--sweep", "methods.fista_tv.solver.step_size=1e3,-1"], "is -1, "),
    (["--sweep", f"{STRENGTH}=nan,1"], "wants float like 4.5, got 'nan'"),
    (["--sweep-array", "other"], "--sweep-array 'other'; an --input with arrays of these names is needed"),
    (["--sweep", f"{STRENGTH}=1,-1"], "strength of total_variation is -1, at least 0"),
    (["--method", "mmps,dds"], "at most one is needed"),
    (["--method", "mmps", "--num-samples", "1"], "at least 2 samples"),
]


def test_bad_input_gets_one_line(trained, worker, tmp_path):
    """Status 2, one line that says what was found and what is needed, nothing written. The last of all: it leaves the worker with a wrong adjoint."""
    image = np.zeros((32, 32), np.float32) - 500
    files = {
        "nan": np.where(np.arange(1024).reshape(32, 32) == 5, np.nan, image),
        "cube": np.zeros((4, 32, 32), np.float32),
    }
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "object.npy", np.array([{}, 1], object))
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM\2\0\0\0")
    np.savez(tmp_path / "views.npz", sinogram=np.ones((3, 46)), angles=np.zeros(4), detector_spacing=12.5)
    np.savez(tmp_path / "reconstruction.npz", image=image)
    np.savez(tmp_path / "flat.npz", sinogram=np.ones((4, 0)), angles=np.arange(4.0) / 2, detector_spacing=12.5)
    np.savez(tmp_path / "complex.npz", many=np.ones((2, 32, 32), complex))
    np.savez(tmp_path / "none.npz", sinogram=np.ones((0, 46)), angles=np.zeros(0), detector_spacing=12.5)
    np.savez(tmp_path / "units.npz", sinogram=np.full((4, 46), 200.0), angles=np.arange(4.0) / 2, detector_spacing=12.5)
    np.savez(tmp_path / "mask.npz", kspace=np.ones((32, 32), complex), mask=np.zeros((32, 32)))
    np.savez(tmp_path / "stacks.npz", test=np.stack([image, image + 1]), other=np.stack([image + 2, image + 1]))
    np.savez(tmp_path / "waves.npz", train_image=np.ones((8, 32, 32), np.complex64), train_subject=np.arange(8))
    (tmp_path / "file").write_text("")
    (tmp_path / "unmatched.py").write_text(UNMATCHED)
    good = ["--prior.checkpoint", str(trained / "weights.safetensors"), "--output", str(tmp_path / "out")]
    debug = "configs/debug.py"
    waves = ["--files", "stacks.files", "--files.folder", str(tmp_path), "--files.paths", "('waves.npz',)"]

    def given(name):
        return ["sample", [debug, "--input", str(tmp_path / name), *good]]

    cases = [
        (given("missing.npy"), "missing.npy"),
        (given("nan.npy"), "1 NaN or infinite"),
        (given("cube.npy"), "[4, 32, 32]"),
        (given("object.npy"), "object.npy"),
        (given("cut.dcm"), "cut.dcm"),
        (given("views.npz"), "views.npz"),
        (given("none.npz"), "none.npz"),
        (given("mask.npz"), "mask.npz"),
        (["sample", ["configs/debgu.py", *good]], "did you mean 'configs/debug.py'"),
        (["sample", [debug, "--measure.noise.num_photon", "3", *good]], "did you mean 'num_photons'"),
        (["sample", [debug, "--method", "mmsp", *good]], "did you mean 'mmps'"),
        (["sample", [debug, "--num-samples", "many", *good]], "many"),
        (["sample", [debug, "--measure.operator.angles.num_views", "0", *good]], "at least one view"),
        (["sample", [debug, *good, "--prior.network.width", "16"]], "another network"),
        (["sample", [debug, *good[:2], "--output", str(tmp_path / "file" / "below")]], "file"),
        (["sample", [debug, "--prior.checkpoint", str(tmp_path / "no.safetensors"), *good[2:]]], "no such weights"),
        (["evaluate", [debug, "--num-images", "0", *good]], "got --num-images 0"),
        (["evaluate", [debug, "--input", str(tmp_path / "nan.npy"), *good]], "nan.npy"),
        (given("units.npz"), "no photon is left"),
        (["sample", [debug, "--modality", "pet", *good]], "'pet'"),
        (["sample", [str(tmp_path / "cut.dcm"), *good]], "named with --input"),
        (["sample", ["--measure.noise.num_photon", "3", *good]], "did you mean 'num_photons'"),
        (["sample", [debug, "--measure.noise.num_photons", "0", *good]], "num_photons in [0.001"),
        (["sample", [debug, "--direct.cutoff", "0.0", *good]], "cutoff 0.0"),
        (["sample", [debug, "--measure.operator", "parallel_beam", *good]], "missing a required argument"),
        (["train", [debug, "--train.log-every", "0", "--output", str(tmp_path / "t")]], "train.log_every is 0"),
        (["train", [debug, "--prior.network.width", "20", "--output", str(tmp_path / "t")]], "multiple of 8"),
        (["train", [debug, "--prior.network.width", "16", "--output", str(trained)]], "another prior.network.args.width"),
        (["train", []], "name a config"),
        (given("flat.npz"), "no detectors"),
        (["sample", [debug, "--input", str(tmp_path / "views.npz"), *good]], "one row a view"),
        (["sample", [debug, "--input", str(tmp_path / "reconstruction.npz"), *good[:2], "--output", str(tmp_path)]], "would replace the input"),
        (["evaluate", [debug, "--method", "fista_tv", *LONG, "--num-images", "1", *good]], "fista_tv diverged after"),
        (["evaluate", [debug, "--input", str(tmp_path / "complex.npz"), *good]], "needs real HU"),
        (["sample", [debug, "--methods.mmps.guide.A", "heun", *good]], "comes from the measurement"),
        (["sample", [debug, "--measure.modality", "mri", *good]], "operator is parallel_beam"),
        (["sample", [debug, "--measure.modality", "pet", *good]], "'pet'"),
        (["train", [debug, "--output", str(tmp_path / "file" / "below")]], "file"),
        (["train", [debug, "--prior.shape", "(16, 16)", "--output", str(tmp_path / "t")]], "prior.shape is [16, 16]"),
        (["train", [debug, "--train.ema-widths", "(0.5,)", "--output", str(tmp_path / "t")]], "0.5"),
        (["train", [debug, "--train.batch-size", "7", "--train.accumulate", "2", "--output", str(tmp_path / "t")]], "a multiple is needed"),
        (["train", [debug, "--train.augment", "(1,)", "--output", str(tmp_path / "t")]], "names of functions"),
        (["train", [debug, *waves, "--output", str(tmp_path / "t")]], "stacks.files are complex"),
    ]
    cases += [(["sample", [debug, "--method", "fista_tv", *words, *good]], fragment) for words, fragment in CLASSICAL]
    cases += [(["evaluate", [debug, *words, *good]], fragment) for words, fragment in SWEPT]
    stacks = [debug, "--input", str(tmp_path / "stacks.npz"), "--array", "test", "--sweep", f"{STRENGTH}=1,2"]
    cases += [(["evaluate", [*stacks, *good]], "beside 'test' is needed to tune on")]
    cases += [(["evaluate", [*stacks, "--sweep-array", "test", *good]], "beside 'test' is needed to tune on")]
    cases += [(["evaluate", [*stacks, "--sweep-array", "other", *good]], "2 images, of which 'test' holds 1")]
    cases += [(["evaluate", [*stacks[:5], "--sweep-array", "other", *good]], "a --sweep that tunes on it is needed")]
    cases += [(["sample", [debug, "--method", "mmps", "--history", "1", *good]], "--history is 1, but mmps is not solved for")]
    cases += [(["sample", [str(tmp_path / "unmatched.py"), "--method", "fista_tv", "--check-adjoint", "1", *good]], "adjoint does not match")]
    record = (trained / "config.json").read_text()
    results = [worker(f"{main}.py", *arguments) for (main, arguments), _ in cases]
    assert not (tmp_path / "t").exists() and (trained / "config.json").read_text() == record
    for (case, fragment), result in zip(cases, results, strict=True):
        lines = result.stderr.strip().splitlines()
        assert result.returncode == 2 and len(lines) == 1 and fragment in lines[0], f"{case}: {result}"
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
