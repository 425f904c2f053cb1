"""Images and coil maps of multi-coil volumes of fastMRI, computed once and kept."""

import threading

import numpy as np
import pytest
from volumes import HEADER, write_fastmri

from medjax.data import fastmri_multicoil
from medjax.data.fastmri import singlecoil_files
from medjax.data.fastmri_multicoil import maps, multicoil_files
from medjax.data.files import batch
from medjax.data.scan import InputError
from medjax.operators.sense import sense
from medjax.physics.birdcage import birdcage
from medjax.physics.espirit import espirit

pytest.importorskip("h5py")
COILS, H, W, SIZE = 4, 48, 40, 32
SETTINGS = {"calibration_width": 16, "kernel_width": 4}
LARGE = HEADER.replace("<x>12</x><y>10</y>", f"<x>{SIZE}</x><y>{SIZE}</y>")
LARGE = LARGE.replace("<maximum>15<", f"<maximum>{W - 1}<").replace(">8<", f">{W // 2}<")


def fourier(images):
    """The centred transform over the last two axes."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes), norm="ortho"), axes)


def phantom(num):
    """Images `[num, SIZE, SIZE]`, coil maps of unit root sum of squares, and the k-space `[num, COILS, H, W]` of their volume."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    images = np.stack([((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1) * (1 + 0.4 * np.cos(3 * x + i)) * np.exp(0.5j * y) for i in range(num)])
    coils = np.asarray(birdcage((SIZE, SIZE), COILS))
    margin = ((0, 0), (0, 0), ((H - SIZE) // 2,) * 2, ((W - SIZE) // 2,) * 2)
    return images, coils, fourier(np.pad(images[:, None] * coils, margin)).astype(np.complex64)


@pytest.fixture
def folder(tmp_path):
    """Two volumes for training and one for validation, of two slices each, and none of them alike."""
    for part, names in (("train", "ab"), ("val", "c")):
        (tmp_path / f"multicoil_{part}").mkdir()
        for k, name in enumerate(names):
            write_fastmri(tmp_path / f"multicoil_{part}" / f"{name}.h5", (1 + k) * phantom(2)[2], header=LARGE)
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """How often maps were computed: the shapes of what they were computed of."""
    found, compute = [], fastmri_multicoil._espirit

    def counted(kspace, **settings):
        found.append(kspace.shape)
        return compute(kspace, **settings)

    monkeypatch.setattr(fastmri_multicoil, "_espirit", counted)
    return found


def test_images_and_maps(folder):
    """The magnitude is that of the phantom, the image and its maps explain what the coils saw, and both are by the formula."""
    files = multicoil_files(str(folder), str(folder / "cache"), **SETTINGS)
    assert files.num == {"train": 4, "validation": 2, "test": 0}
    found, data, label = batch(files, "train", range(4))
    images, coils, _ = phantom(2)
    assert found.shape == (4, SIZE, SIZE) and found.dtype == np.complex64 and data is None and label is None
    for place, image in enumerate(found):
        volume, index = divmod(place, 2)
        scale = (1 + volume) / 1.5  # 1.5 is the largest magnitude that the file tells
        maps_ = maps(folder / "multicoil_train" / f"{'ab'[volume]}.h5", index, str(folder / "cache"), **SETTINGS)
        assert maps_.shape == (COILS, SIZE, SIZE) and maps_.dtype == np.complex64
        seen = scale * fourier(images[index] * coils)
        wanted, _ = espirit(seen.astype(np.complex64), 16, 4)
        np.testing.assert_allclose(maps_, wanted[0], rtol=0, atol=2e-3)  # eigenvectors of single precision
        combined = np.sum(maps_.conj() * scale * images[index] * coils, 0)  # the maps have unit root sum of squares, or are 0
        np.testing.assert_allclose(image, combined, rtol=0, atol=1e-5)
        body = np.abs(images[index]) > 0
        assert np.mean(np.abs(np.abs(image) - scale * np.abs(images[index]))[body]) < 0.01 * scale  # maps of few patches
        measured = np.asarray(sense(maps_, np.ones((SIZE, SIZE)))(image))
        assert np.linalg.norm(measured - seen) < 0.05 * np.linalg.norm(seen)  # likewise


def test_what_is_kept_is_not_computed_again(folder, calls):
    """By slice and settings; images do not depend on who computed them."""
    cache = str(folder / "cache")
    files = multicoil_files(str(folder), cache, **SETTINGS)
    first = files.read("train", 1).image
    assert calls == [(COILS, SIZE, SIZE)]
    again = multicoil_files(str(folder), cache, **SETTINGS).read("train", 1).image
    assert len(calls) == 1 and np.array_equal(first, again)
    files.read("train", 0), files.read("train", 3), files.read("validation", 1)
    assert len(calls) == 4
    multicoil_files(str(folder), cache, **(SETTINGS | {"crop": 0.5})).read("train", 1)
    assert len(calls) == 5
    path = folder / "multicoil_train" / "a.h5"
    assert np.array_equal(maps(path, 1, cache, **SETTINGS), maps(path, 1, cache, **SETTINGS)) and len(calls) == 6
    names = sorted(file.name.rsplit("_", 1)[0] for file in (folder / "cache").iterdir())
    wanted = [f"multicoil_{name}_image" for name in ("train_a_0000", "train_a_0001", "train_a_0001", "train_b_0001", "val_c_0001")]
    assert names == sorted([*wanted, "multicoil_train_a_0001_maps"])
    write_fastmri(path, phantom(3)[2], header=LARGE)
    assert maps(path, 1, cache, **SETTINGS).any() and len(calls) == 7


def test_damaged_files_are_computed_anew(folder, calls):
    """Truncated, empty, foreign, flipped bits, or numbers that are no image."""
    files = multicoil_files(str(folder), str(folder / "cache"), **SETTINGS)
    truth = files.read("train", 0).image
    (kept,) = (folder / "cache").iterdir()
    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for num, content in enumerate([whole[:-40], b"", b"no image", bytes(flipped)], start=2):
        kept.write_bytes(content)
        assert np.array_equal(files.read("train", 0).image, truth) and len(calls) == num and kept.read_bytes() == whole
    bad = np.full((SIZE, SIZE), np.nan, np.complex64)
    for num, arrays in enumerate([{"image": bad}, {"image": truth.real}, {"image": truth[None]}, {"maps": truth}], start=6):
        np.savez(kept, **arrays)
        assert np.array_equal(files.read("train", 0).image, truth) and len(calls) == num
    assert [file.name for file in (folder / "cache").iterdir()] == [kept.name]


def test_threads_share_one_computation(folder, calls):
    files = multicoil_files(str(folder), str(folder / "cache"), **SETTINGS)
    found = [None] * 4

    def read(i):
        found[i] = files.read("train", 2).image

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and all(np.array_equal(each, found[0]) for each in found)


def test_bad_volumes(folder):
    cache = str(folder / "cache")

    def fails(match, name="a", index=0, **settings):
        with pytest.raises(InputError, match=match) as error:
            maps(folder / "multicoil_train" / f"{name}.h5", index, cache, **(SETTINGS | settings))
        assert "\n" not in str(error.value) and not list((folder / "cache").iterdir())

    kspace, train = phantom(2)[2], folder / "multicoil_train"
    fails("x.h5: no such file", "x")
    fails("kspace has 2 slices; slice 2 is not one", index=2)
    fails(r"has reconstructions of \[32, 32\]; ones that hold kernels of 4 in a centre of 40 samples", calibration_width=40)
    fails(r"kernels of 20 in a centre of 16 samples", kernel_width=20)
    write_fastmri(train / "d.h5", kspace[:, 0], header=LARGE)
    fails(r"slices of shape \[48, 40\]; those of several coils are needed", "d")
    write_fastmri(train / "d.h5", kspace, mask=np.arange(W) % 2 == 0, header=LARGE)
    fails("has columns of k-space that were not measured; all, among them the middle 20, are needed", "d")
    write_fastmri(train / "d.h5", kspace, mask=(np.arange(W) % 3 == 0) | (abs(np.arange(W) - W // 2) < 12), header=LARGE)
    fails("has columns of k-space that were not measured", "d")
    write_fastmri(train / "d.h5", kspace, mask=abs(np.arange(W) - W // 2) < 9, header=LARGE)
    fails("has columns of k-space that were not measured", "d")
    whole = (train / "b.h5").read_bytes()
    (train / "b.h5").write_bytes(whole[: len(whole) // 2])
    fails("truncated or not an HDF5 file", "b")


def test_bad_folders(folder, tmp_path):
    with pytest.raises(InputError, match="singlecoil_val: holds no .h5 files"):
        singlecoil_files(str(folder))
    with pytest.raises(InputError, match="multicoil_val: holds no .h5 files"):
        multicoil_files(str(tmp_path / "nowhere"), str(tmp_path / "cache"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="a file is in the way"):
        multicoil_files(str(folder), str(tmp_path / "file"))
