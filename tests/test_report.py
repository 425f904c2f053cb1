"""Files that appear whole, tables that fit, and pictures that show what they say."""

import sys

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.curve import curve
from medjax.report.figure import figure, sheet
from medjax.report.table import markdown_table, method_table

ROWS = {"fbp": [24.123, 0.6, 1.5], "posterior_mean": [34.0, 0.95, None]}


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "a.nii.gz"
    with write_atomically(target) as path:
        path.write_text("new")
        assert not target.exists() and path.parent == tmp_path and path.name.endswith("a.nii.gz")
    assert target.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), write_atomically(target) as path:
        path.write_text("half")
        raise RuntimeError("stop")
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_prepare_folder(tmp_path):
    assert prepare_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert prepare_folder(tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=f"^{path}: a file is in the way; a folder is needed"):
            prepare_folder(path)


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody can write, not even root, is one of /proc")
def test_prepare_folder_that_cannot_be_written():
    for path in ("/proc/self", "/proc/new"):
        with pytest.raises(OSError, match=f"^{path}: cannot be written .*; a folder is needed"):
            prepare_folder(path)


def test_markdown_table():
    lines = markdown_table(ROWS, ["psnr", "ssim", "other"]).splitlines()
    assert lines[0] == "| method | PSNR [dB] | SSIM | other |" and lines[1] == "| --- | ---: | ---: | ---: |"
    assert lines[2:] == ["| FBP | 24.12 | 0.600 | 1.5 |", "| posterior mean | 34.00 | 0.950 | - |"]
    with pytest.raises(ValueError, match="row 'fbp' has 3 values, 1 are needed"):
        markdown_table(ROWS, ["psnr"])
    assert markdown_table({"fista_tv": [1]}, ["psnr"], "answer").splitlines()[::2] == ["| answer | PSNR [dB] |", "| FISTA-TV | 1.00 |"]


def test_method_table_fits(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    row = ["24.12 ± 0.30", "0.612 ± 0.011", "0.0123 ± 0.0011", "1.01 ± 0.01"]
    method_table({"zero_filled": row, "posterior_mean": row}, ["psnr", "ssim", "nmse", "residual"])
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("PSNR [dB]", "zero-filled", "posterior mean", *row))
    assert max(len(line) for line in printed.splitlines()) <= 80


def panels(path, size, scale, across):
    """The pictures [down, across, size, size] of a figure, found as whole multiples of their pixels."""
    picture = imread(path)[..., 0]
    left, pitch = 24, size * scale + 12
    rows = [24 + 40 + 32 + i * (32 + size * scale + 30 + 12) for i in range(2)]
    cut = [[picture[y : y + size * scale, left + i * pitch : left + i * pitch + size * scale] for i in range(across)] for y in rows]
    return np.array(cut).reshape(2, across, size, scale, size, scale)[:, :, :, scale // 2, :, scale // 2]


def test_figure_shows_the_images_in_one_window(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(-900, 300, (32, 32))
    images = {"fbp": truth + 50, "tv": truth - 20, "posterior_mean": truth + 10, "posterior_std": np.full((32, 32), 10.0), "truth": truth}
    samples = np.stack([truth, truth + 30])
    methods = {name: {"psnr": 30.0, "ssim": 0.9} for name in ("fbp", "tv", "posterior_mean")}
    figure(tmp_path / "a.png", images, samples, methods, unit="HU", pixel_size=None, title="a test")
    found = panels(tmp_path / "a.png", 32, 12, 4)
    grey = [truth, truth + 50, truth - 20, truth + 10], [truth, truth + 30]
    for row, wanted in zip(found, grey, strict=True):
        for picture, image in zip(row, wanted, strict=False):
            # Rounded twice to 256 levels, in the colour table and in the file.
            np.testing.assert_allclose(picture, np.clip((image + 1000) / 1400, 0, 1), atol=2 / 255)
    np.testing.assert_array_equal(found[1, 2], found[1, 3])  # std and error are equal here, and share a scale
    np.testing.assert_allclose(found[1, 2], 0.988, atol=2 / 255)  # both are at its top: red of the last colour of inferno


def test_figure_without_truth(tmp_path):
    image = np.random.default_rng(0).random((32, 32))
    images = {"zero_filled": image, "tv": image, "posterior_mean": image, "posterior_std": 0 * image}
    figure(tmp_path / "a.png", images, image[None], {"tv": {"residual": 1.0}}, unit="a.u.", pixel_size=1.5, title="a test")
    found = panels(tmp_path / "a.png", 32, 12, 3)
    np.testing.assert_allclose(found[0, 1], np.clip(image / np.percentile(image, 99.5), 0, 1), atol=2 / 255)  # rounded twice to 256 levels
    assert not found[1, 0].any() and len(list(tmp_path.iterdir())) == 1


def test_figure_without_samples(tmp_path):
    """Errors of all answers in one scale below them; without the truth nothing is below."""
    truth = np.random.default_rng(0).uniform(-900, 300, (32, 32))
    images = {"fbp": truth + 50, "tv": truth - 20, "fista_tv": truth + 10}
    figure(tmp_path / "a.png", {**images, "truth": truth}, [], {}, unit="HU", title="a test")
    found = panels(tmp_path / "a.png", 32, 12, 4)
    for picture, image in zip(found[0], (truth, *images.values()), strict=True):
        np.testing.assert_allclose(picture, np.clip((image + 1000) / 1400, 0, 1), atol=2 / 255)  # rounded twice to 256 levels
    for picture, share in zip(found[1], (None, 1.0, 0.4, 0.2), strict=True):
        np.testing.assert_allclose(picture, 0 if share is None else colormaps["inferno"](share)[0], atol=2 / 255)  # as above
    figure(tmp_path / "b.png", images, [], {}, unit="HU", title="a test")
    assert imread(tmp_path / "b.png").shape[0] == 2 * 24 + 40 + 32 + 32 * 12 + 12  # one row, no captions


@pytest.mark.parametrize(
    "values, means, place",
    [
        ([1, 2, 3], [3, 1, 2], 0.0),
        ([3, 2, 1], [3, 1, 2], 1.0),
        ([1, 10, 100], [1, 3, 2], 0.5),
        ([0, 10, 100], [1, 3, 2], 0.1),
        (list("cab"), [1, 3, 2], 0.5),
    ],
)
def test_curve_marks_the_best_value(tmp_path, values, means, place):
    """Its orange mark stands where the value is: on a logarithmic axis where that can be, side by side for texts."""
    curve(tmp_path / "a.png", values, means, [np.inf, 0.5, 0.5], label="strength")
    picture = imread(tmp_path / "a.png")[..., :3]
    blue, orange = (np.flatnonzero((np.abs(picture - np.array(c) / 255) < 0.02).all(-1).any(0)) for c in ((111, 183, 255), (255, 176, 0)))
    left, right = (min(blue.min(), orange.min() + 4), max(blue.max(), orange.max() - 4))
    middle = (orange.min() + orange.max()) / 2
    assert abs((middle - left) / (right - left) - place) < 0.06  # the words beside the mark are some pixels wide


def test_curve_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="got 2 values, 1 means and 1 half widths"):
        curve(tmp_path / "a.png", [1, 2], [1], [1])


def test_sheet(tmp_path):
    images = np.linspace(0, 1, 5 * 20 * 20).reshape(5, 20, 20)
    sheet(tmp_path / "a.png", images, window=(0.0, 1.0), unit="a.u.")
    picture, scale = imread(tmp_path / "a.png")[..., 0], 20
    for i, image in enumerate(images):
        y, x = 24 + (i // 3) * (20 * scale + 6), 24 + (i % 3) * (20 * scale + 6)
        shown = picture[y + scale // 2 : y + 20 * scale : scale, x + scale // 2 : x + 20 * scale : scale]
        np.testing.assert_allclose(shown, image, atol=2 / 255)  # rounded twice to 256 levels
    with pytest.raises(ValueError, match=r"got images of shape \[20, 20\]"):
        sheet(tmp_path / "a.png", images[0])
