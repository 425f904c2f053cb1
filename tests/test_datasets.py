"""Readers of public data sets, on small files of their layout."""

import numpy as np
import pytest
from volumes import HEADER, write_fastmri

from medjax.data.fastmri import fastmri, singlecoil_files
from medjax.data.files import batch, spread
from medjax.data.lodopab import ANGLES, DETECTOR_SPACING, IMAGE_SIZE, NUM_DETECTORS, NUM_VIEWS, PIXEL_SIZE, files, lodopab
from medjax.data.scan import InputError
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.sense import sense

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)


def write_lodopab(folder, number=0, part="test", place=5):
    """Files whose slice `place` is one bright pixel 30 steps along x and 50 along y from the centre; the others are never written."""
    i, j = IMAGE_SIZE // 2 + 30, IMAGE_SIZE // 2 + 50
    x, y = ((k - (IMAGE_SIZE - 1) / 2) * 0.26 / IMAGE_SIZE for k in (i, j))  # [m]
    image, sinogram = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32), np.zeros((NUM_VIEWS, NUM_DETECTORS), np.float32)
    image[i, j] = 1
    position = (x * np.cos(ANGLES) + y * np.sin(ANGLES)) / (0.26 * np.sqrt(2) / NUM_DETECTORS) + (NUM_DETECTORS - 1) / 2
    sinogram[np.arange(NUM_VIEWS), np.round(position).astype(int)] = 0.26 / IMAGE_SIZE  # about the length of a ray in the pixel, in metres
    for kind, slice_ in (("ground_truth", image), ("observation", sinogram)):
        with h5py.File(folder / f"{kind}_{part}_{number:03d}.hdf5", "w") as file:
            file.create_dataset("data", (128, *slice_.shape), np.float32, chunks=(1, *slice_.shape))[place] = slice_


def test_lodopab_is_in_the_geometry_of_the_house(tmp_path):
    """The image seen by `parallel_beam` gives the sinogram's trace and mass; the brightest pixel is 3071 HU."""
    write_lodopab(tmp_path, number=1)
    image, sinogram = lodopab(tmp_path, "test", 128 + 5)
    assert image.dtype == sinogram.dtype == np.float32 and image.shape == (362, 362) and sinogram.shape == (1000, 513)
    assert (image.max() * 20 - 20) / (20 - 0.02) * 1000 == pytest.approx(3071, rel=1e-6)
    few = slice(0, NUM_VIEWS, 90)
    seen = parallel_beam(IMAGE_SIZE, ANGLES[few], NUM_DETECTORS, DETECTOR_SPACING, PIXEL_SIZE)(image)
    assert np.all(np.abs(np.argmax(seen, 1) - np.argmax(sinogram[few], 1)) <= 1)
    assert np.allclose(np.sum(seen, 1), np.sum(sinogram[few], 1), rtol=0.01)  # a pixel is 0.2 % longer than a detector
    assert not lodopab(tmp_path, "test", 128)[0].any()


def test_bad_lodopab(tmp_path):
    write_lodopab(tmp_path)
    with pytest.raises(InputError, match="ground_truth_test_002.hdf5: no such file"):
        lodopab(tmp_path, "test", 256)
    with pytest.raises(InputError, match="part 'training' .* one of train, validation, test"):
        lodopab(tmp_path, "training", 0)
    with pytest.raises(InputError, match="has 3553 slices; slice 3553 is not one"):
        lodopab(tmp_path, "test", 3553)
    path = tmp_path / "ground_truth_test_000.hdf5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 20, 20), np.float32)
    with pytest.raises(InputError, match=r"slices of \[20, 20\]; \[362, 362\] are needed"):
        lodopab(tmp_path, "test", 0)
    with pytest.raises(InputError, match="data has 2 slices; slice 7 is not one of 0 to 1"):
        lodopab(tmp_path, "test", 7)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match="truncated or not an HDF5 file") as error:
        lodopab(tmp_path, "test", 0)
    assert "\n" not in str(error.value)


def random_kspace(*shape):
    """Complex numbers, 0 in the columns that the header says the scanner filled."""
    found = (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(np.complex64)
    found[..., :2] = found[..., 18:] = 0
    return found


def test_fastmri_of_several_coils(tmp_path):
    """Slice, mask and target; the k-space is in the convention of `sense`: its crop is the stored root of the sum of squares."""
    kspace = random_kspace(3, 4, 24, 20)
    shifted = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (2, 3)), norm="ortho"), (2, 3))
    target = np.sqrt(np.sum(np.abs(shifted) ** 2, 1))[:, 6:18, 5:15].astype(np.float32)
    write_fastmri(tmp_path / "a.h5", kspace, ("reconstruction_rss", target))
    found = fastmri(tmp_path / "a.h5", 1)
    np.testing.assert_array_equal(found.kspace, kspace[1])
    np.testing.assert_array_equal(found.target, target[1])
    np.testing.assert_array_equal(found.mask, (kspace[1, 0] != 0).astype(np.float32))
    assert found.recon_size == (12, 10) and found.attributes["acquisition"] == "AXT2" and found.attributes["max"] == 1.5
    h, w = found.recon_size
    assert found.target is not None
    coils = [sense(np.ones((1, 24, 20), np.complex64), found.mask).adjoint(k[None]) for k in found.kspace]
    image = np.sqrt(sum(np.abs(np.asarray(c)) ** 2 for c in coils))[12 - h // 2 : 12 + h // 2, 10 - w // 2 : 10 + w // 2]
    assert np.allclose(image, found.target, rtol=1e-5, atol=1e-5)  # single precision


def test_fastmri_of_a_single_coil_and_of_a_test_set(tmp_path):
    kspace, mask = random_kspace(2, 24, 20), np.arange(20) % 2 == 0
    write_fastmri(tmp_path / "a.h5", kspace, ("reconstruction_esc", np.ones((2, 12, 10), np.float32)))
    found = fastmri(tmp_path / "a.h5", 0)
    assert found.kspace.shape == (24, 20) and found.target is not None and found.target.shape == (12, 10)
    write_fastmri(tmp_path / "b.h5", kspace, mask=mask)
    found = fastmri(tmp_path / "b.h5", 0)
    wanted = mask & (np.arange(20) >= 2) & (np.arange(20) < 18)
    assert found.target is None and np.array_equal(found.mask, np.tile(wanted.astype(np.float32), (24, 1)))


@pytest.mark.parametrize(
    "options, match",
    [
        ({"kspace": random_kspace(2, 24, 20), "header": ""}, "holds no ismrmrd_header"),
        ({"kspace": random_kspace(2, 24, 20), "header": "<a><b></a>"}, "ismrmrd_header is damaged"),
        ({"kspace": random_kspace(2, 24, 20), "header": HEADER.replace("center", "centre")}, "tells no encodingLimits/kspace_encoding_step_1/center"),
        ({"kspace": random_kspace(24, 20)}, r"kspace has shape \[24, 20\]; \[slices, coils, h, w\] or \[slices, h, w\] is needed"),
        ({"kspace": np.ones((2, 24, 20))}, "kspace has dtype float64; complex"),
        ({"kspace": random_kspace(2, 24, 20) * np.nan}, "kspace holds 480 NaN"),
        ({"kspace": random_kspace(2, 24, 20), "mask": np.ones(7)}, r"mask has shape \[7\]; one number a column, \[20\]"),
    ],
)
def test_bad_fastmri(tmp_path, options, match):
    write_fastmri(tmp_path / "a.h5", **options)
    with pytest.raises(InputError, match=match) as error:
        fastmri(tmp_path / "a.h5", 0)
    assert "\n" not in str(error.value)


def test_other_files(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(InputError, match="holds image; a data set 'kspace' is needed"):
        fastmri(tmp_path / "a.h5", 0)
    with pytest.raises(InputError, match="b.h5: no such file"):
        fastmri(tmp_path / "b.h5", 0)


def test_parts_of_fastmri(tmp_path):
    """A slice is the crop of the inverse transform over the largest magnitude of its volume; 20 volumes of `singlecoil_val` are for validation."""
    truths = {}
    for part, names in (("train", "ba"), ("val", "abcdefghijklmnopqrstuv")):
        (tmp_path / f"singlecoil_{part}").mkdir()
        for name in names:
            truths[part, name] = random_kspace(3, 24, 20)
            write_fastmri(tmp_path / f"singlecoil_{part}" / f"{name}.h5", truths[part, name])
    found = singlecoil_files(str(tmp_path))
    assert found.num == {"train": 6, "validation": 60, "test": 6}
    images, data, label = batch(found, "test", [1, 5])
    assert data is None and label is None and images.shape == (2, 12, 10) and images.dtype == np.complex64
    for image, (name, place) in zip(images, (("u", 1), ("v", 2)), strict=True):
        full = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(truths["val", name][place]), norm="ortho"))[6:18, 5:15]
        assert np.allclose(image, full / 1.5, rtol=0, atol=1e-6)
    assert np.array_equal(batch(found, "train", [0])[0], batch(singlecoil_files(str(tmp_path)), "train", [0])[0])
    assert spread(found, "validation", 4).tolist() == [0, 20, 39, 59]


def test_parts_of_lodopab(tmp_path):
    write_lodopab(tmp_path, part="validation")
    found = files(str(tmp_path))
    images, data, _ = batch(found, "validation", [5, 6])
    assert found.num["train"] == 35820 and images.shape == (2, 362, 362) and data is not None and data.shape == (2, 1000, 513)
    image, sinogram = lodopab(tmp_path, "validation", 5)
    assert np.array_equal(data[0], sinogram) and np.allclose(images[0] / 1000 + 1, image, rtol=0, atol=1e-6)


def test_patients_of_fastmri_are_in_one_part(tmp_path):
    """Volumes of a patient follow the first of them by name, those without one are each their own; hidden files of macOS are none."""
    for part, num in (("train", 3), ("val", 24)):
        (tmp_path / f"singlecoil_{part}").mkdir()
        for i in range(num):
            patient = {("val", 3): "p3", ("val", 21): "p3", ("val", 20): "p20", ("val", 23): "p20", ("train", 0): "", ("val", 0): ""}.get((part, i))
            write_fastmri(tmp_path / f"singlecoil_{part}" / f"{i:02d}.h5", random_kspace(1, 24, 20) + i, patient=patient)
    (tmp_path / "singlecoil_val" / "._00.h5").write_bytes(b"\0\5\26\7")
    assert singlecoil_files(str(tmp_path)).num == {"train": 3, "validation": 21, "test": 3}
    write_fastmri(tmp_path / "singlecoil_train" / "02.h5", random_kspace(1, 24, 20), patient="p20")
    with pytest.raises(InputError, match="1 subjects are in both train and test; parts without a common one are needed") as error:
        singlecoil_files(str(tmp_path))
    assert "p20" not in str(error.value)
