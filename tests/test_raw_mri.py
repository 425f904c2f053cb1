"""Raw data of MRI scanners, on small files that the package of the format wrote."""

import numpy as np
import pytest

from medjax.data.ismrmrd_raw import ismrmrd_raw
from medjax.data.scan import InputError
from medjax.operators.sense import sense
from medjax.physics.noise_covariance import noise_covariance
from medjax.physics.whiten import whiten

ismrmrd = pytest.importorskip("ismrmrd")
h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
COILS, H, W = 3, 20, 32
NOISE, CALIBRATION, CALIBRATION_AND_IMAGE, REVERSE, NAVIGATOR, PHASE_CORRECTION = 19, 20, 21, 22, 23, 24

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<acquisitionSystemInformation><relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth></acquisitionSystemInformation>
<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>{encodings}</ismrmrdHeader>"""
ENCODING = """<encoding><encodedSpace><matrixSize><x>{w}</x><y>{h}</y><z>{d}</z></matrixSize>
<fieldOfView_mm><x>{fov}</x><y>200</y><z>6</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>64</x><y>64</y><z>1</z></matrixSize><fieldOfView_mm><x>160</x><y>180</y><z>6</z></fieldOfView_mm></reconSpace>
<encodingLimits>{limits}</encodingLimits><trajectory>{kind}</trajectory>{more}</encoding>"""
LIMIT = "<kspace_encoding_step_{step}><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center></kspace_encoding_step_{step}>"


def encoding(centre=H // 2, size=(1, H, W), fov=320, kind="cartesian", more="", partition=None):
    """The encoding of a header; without a centre it tells no limits."""
    limits = "" if centre is None else LIMIT.format(step=1, last=size[1] - 1, centre=centre)
    limits += "" if partition is None else LIMIT.format(step=2, last=size[0] - 1, centre=partition)
    return ENCODING.format(d=size[0], h=size[1], w=size[2], fov=fov, limits=limits, kind=kind, more=more)


def line(data, step=0, flags=(), centre=None, trajectory=None, partition=0, time=2.0, pre=0, post=0, **index):
    """A readout `[coils, samples]`."""
    data = np.ascontiguousarray(data, np.complex64)
    acquisition = ismrmrd.Acquisition.from_array(data, trajectory)
    acquisition.center_sample = data.shape[1] // 2 if centre is None else centre
    acquisition.sample_time_us, acquisition.discard_pre, acquisition.discard_post = time, pre, post
    acquisition.encoding_space_ref = index.pop("space", 0)
    acquisition.idx.kspace_encode_step_1, acquisition.idx.kspace_encode_step_2 = step, partition
    for name, value in index.items():
        setattr(acquisition.idx, name, value)
    for flag in flags:
        acquisition.setFlag(flag)
    return acquisition


def write(path, lines, *encodings, group="dataset"):
    """A file, by the package of the format."""
    with ismrmrd.Dataset(str(path), group) as dataset:
        dataset.write_xml_header(HEADER.format(encodings="".join(encodings) or encoding()).encode())
        for each in lines:
            dataset.append_acquisition(each)
    return path


def kspace_of(image, norm="ortho"):
    """The centred transform over the last two axes."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes), norm=norm), axes)


def phantom(*shape):
    """Smooth complex coil images `[..., coils, H, W]`, 0 outside the middle half along the readout."""
    y, x = np.mgrid[-1 : 1 : H * 1j, -2 : 2 : W * 1j]
    body = ((y / 0.8) ** 2 + (x / 0.9) ** 2 < 1) * (1 + 0.5 * np.cos(5 * x) * y)
    return body * (RNG.normal(size=(*shape, COILS, 1, 1)) + 1j * RNG.normal(size=(*shape, COILS, 1, 1)) + 0.3 * x + 0.2j * y)


def test_slices_are_recovered(tmp_path):
    """Slices and sets in any order of the file; the image is the phantom, in the middle of its field of view, and `sense` has the same origin."""
    images = phantom(2, 2)
    kspace = kspace_of(images)
    lines = [line(kspace[s, r, :, y], y, slice=s, repetition=r) for r in (1, 0) for y in RNG.permutation(H) for s in (1, 0)]
    found = ismrmrd_raw(write(tmp_path / "a.h5", lines))
    assert found.image.kspace.shape == (4, COILS, H, W // 2) and found.image.kspace.dtype == np.complex64
    assert found.image.counters.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [1, 0, 0, 1, 0]]
    assert found.fov == (6, 200, 160) and found.spacing == (6, 10, 10) and found.recon_fov == (6, 180, 160)
    assert found.image.mask is not None and found.image.mask.all() and found.calibration is None and found.noise is None
    wanted = images.reshape(4, COILS, H, W)[..., W // 4 : -W // 4]
    for k, coils in zip(found.image.kspace, wanted, strict=True):
        for coil, truth in zip(k.astype(np.complex128), coils, strict=True):
            seen = sense(np.ones((1, H, W // 2), complex), np.ones((H, W // 2))).adjoint(coil[None])
            np.testing.assert_allclose(seen, truth, rtol=0, atol=1e-6 * np.abs(images).max())
    full = ismrmrd_raw(tmp_path / "a.h5", remove_oversampling=False)
    np.testing.assert_array_equal(full.image.kspace.reshape(kspace.shape), kspace.astype(np.complex64))
    assert full.fov == (6, 200, 320) and full.spacing == found.spacing


def test_agrees_with_the_package(tmp_path):
    """The package of the format reads the same numbers from the file."""
    kspace = kspace_of(phantom())
    write(tmp_path / "a.h5", [line(kspace[:, y], y) for y in range(H)])
    found = ismrmrd_raw(tmp_path / "a.h5", remove_oversampling=False).image.kspace[0]
    with ismrmrd.Dataset(str(tmp_path / "a.h5"), mode="r") as dataset:
        for i in range(dataset.number_of_acquisitions()):
            each = dataset.read_acquisition(i)
            np.testing.assert_array_equal(found[:, each.idx.kspace_encode_step_1], each.data)


def test_noise_is_kept_apart_and_whitens(tmp_path):
    """Noise readouts of another length and bandwidth are joined; with their covariance the noise of imaging becomes white."""
    mix = RNG.normal(size=(COILS, COILS)) + 1j * RNG.normal(size=(COILS, COILS))

    def noise(num, scale):
        return scale * mix @ (RNG.normal(size=(COILS, num)) + 1j * RNG.normal(size=(COILS, num)))

    silent = [noise(512, 1.0) for _ in range(20)]
    lines = [line(n, flags=[NOISE], time=1.6) for n in silent] + [line(noise(W, 2**-0.5 * 2), y % H, repetition=y // H) for y in range(10 * H)]
    found = ismrmrd_raw(write(tmp_path / "a.h5", lines), remove_oversampling=False)
    np.testing.assert_allclose(found.noise, np.concatenate(silent, 1), rtol=1e-6)
    assert found.bandwidth_ratio == pytest.approx(1.6 / (2.0 * 0.8)) and len(found.image.kspace) == 10
    white = np.asarray(whiten(np.moveaxis(found.image.kspace, 1, 0), noise_covariance(found.noise, found.bandwidth_ratio)))
    covariance = white.reshape(COILS, -1) @ white.reshape(COILS, -1).conj().T / (10 * H * W)
    assert np.abs(covariance - 2 * np.eye(COILS)).max() < 0.2  # 6400 and 10240 samples: standard deviation 0.03
    cropped = ismrmrd_raw(tmp_path / "a.h5").image.kspace
    assert np.mean(np.abs(cropped) ** 2) == pytest.approx(np.mean(np.abs(found.image.kspace) ** 2), rel=0.05)  # of 9600 samples


@pytest.mark.parametrize("num", [W, W - 1])
def test_reversed_readouts_are_flipped(tmp_path, num):
    """Every other line runs backwards; full lines have their centre at n // 2 whichever way they run."""
    kspace = RNG.normal(size=(COILS, H, num)) + 0j
    lines = [line(kspace[:, y, ::-1] if y % 2 else kspace[:, y], y, flags=[REVERSE] if y % 2 else []) for y in range(H)]
    write(tmp_path / "a.h5", lines, encoding(size=(1, H, num)))
    found = ismrmrd_raw(tmp_path / "a.h5", remove_oversampling=False).image.kspace[0]
    np.testing.assert_array_equal(found, kspace.astype(np.complex64))


def test_asymmetric_echoes_partial_fourier_and_discarded_samples(tmp_path):
    """The first quarter of lines and samples is missing; counters begin at the first that is measured. Discarded samples are no data."""
    kspace = RNG.normal(size=(COILS, H, W)) + 0j
    late, pad = 5, RNG.normal(size=(COILS, 3))
    first, last = kspace[:, late:, 8:], H - late
    forth = [line(np.concatenate([pad, first[:, y], pad[:, :2]], 1), y, centre=W // 2 - 8 + 3, pre=3, post=2) for y in range(0, last, 2)]
    back = [np.concatenate([pad, first[:, y, ::-1], pad[:, :1]], 1) for y in range(1, last, 2)]
    back = [line(data, y, [REVERSE], centre=W // 2 + 3, pre=3, post=1) for data, y in zip(back, range(1, last, 2), strict=True)]
    write(tmp_path / "a.h5", forth + back, encoding(centre=H // 2 - late))
    found = ismrmrd_raw(tmp_path / "a.h5", remove_oversampling=False).image
    mask = np.zeros((H, W))
    mask[late:, 8:] = 1
    np.testing.assert_array_equal(found.mask, mask[None])
    np.testing.assert_array_equal(found.kspace[0], (kspace * mask).astype(np.complex64))
    half = np.asarray(ismrmrd_raw(tmp_path / "a.h5").image.mask)
    np.testing.assert_array_equal(half[0, late], np.arange(W // 2) >= 4)
    wrong = write(tmp_path / "b.h5", forth + back, encoding(centre=0))
    with pytest.raises(InputError, match=r"is at step \[0, 10\] of phase encoding; one inside 1 x 20 x 32 samples with k = 0 at step \[0, 0\]"):
        ismrmrd_raw(wrong)
    np.testing.assert_array_equal(ismrmrd_raw(wrong, remove_oversampling=False, centre=(0, H // 2 - late)).image.kspace, found.kspace)


def test_undersampling_calibration_and_averages(tmp_path):
    """Averages are means; calibration lines are kept apart, those that are of the image as well are in both; other readouts are left out."""
    kspace = RNG.normal(size=(COILS, H, W)) + 0j
    lines = [line(kspace[:, y] + sign, y, average=a) for y in range(0, H, 4) if y != 8 for a, sign in enumerate((1, -1))]
    lines += [line(kspace[:, y], y, [CALIBRATION]) for y in (7, 9)] + [line(kspace[:, 8], 8, [CALIBRATION_AND_IMAGE])]
    names = ("SURFACECOILCORRECTIONSCAN_DATA", "HPFEEDBACK_DATA", "DUMMYSCAN_DATA", "RTFEEDBACK_DATA", "PHASE_STABILIZATION_REFERENCE")
    others = [NAVIGATOR, PHASE_CORRECTION, *(getattr(ismrmrd, f"ACQ_IS_{name}") for name in (*names, "PHASE_STABILIZATION"))]
    lines += [line(1e3 * kspace[:, y], y, [flag]) for y in (0, 3) for flag in others]
    found = ismrmrd_raw(write(tmp_path / "a.h5", lines), remove_oversampling=False)
    for part, places in ((found.image, range(0, H, 4)), (found.calibration, (7, 8, 9))):
        mask = np.isin(np.arange(H), places)[:, None] * np.ones(W)
        np.testing.assert_array_equal(part.mask, mask[None])
        np.testing.assert_allclose(part.kspace[0], kspace * mask, rtol=0, atol=1e-6)


def test_calibration_of_another_encoding(tmp_path):
    kspace, low = RNG.normal(size=(COILS, H, W)) + 0j, RNG.normal(size=(COILS, 8, 16)) + 0j
    lines = [line(low[:, y], y, [CALIBRATION], space=1) for y in range(8)] + [line(kspace[:, y], y) for y in range(H)]
    found = ismrmrd_raw(write(tmp_path / "a.h5", lines, encoding(), encoding(4, (1, 8, 16))), remove_oversampling=False)
    np.testing.assert_array_equal(found.image.kspace[0], kspace.astype(np.complex64))
    assert found.calibration is not None
    np.testing.assert_array_equal(found.calibration.kspace[0], low.astype(np.complex64))


def test_a_volume(tmp_path):
    """Partitions are an axis; their k = 0 is in the middle, too, and a second group of the file is another scan."""
    kspace = RNG.normal(size=(COILS, 4, H, W)) + 0j
    lines = [line(kspace[:, z + 1, y], y, partition=z) for z in range(3) for y in range(H)]
    write(tmp_path / "a.h5", lines[:H])
    found = ismrmrd_raw(write(tmp_path / "a.h5", lines, encoding(None, (4, H, W), 160, partition=1), group="dataset_1"), "dataset_1")
    assert found.image.kspace.shape == (1, COILS, 4, H, W) and found.spacing == (1.5, 10, 5) and found.fov == (6, 200, 160)
    np.testing.assert_array_equal(found.image.kspace[0, :, 1:], kspace[:, 1:].astype(np.complex64))
    assert (
        not found.image.kspace[:, :, 0].any() and found.image.mask is not None and not found.image.mask[0, 0].any() and found.image.mask[0, 1:].all()
    )


def test_trajectories(tmp_path):
    """Radial readouts stay as they are; (kx, ky) of the file becomes (ky, kx)."""
    data, trajectory = RNG.normal(size=(5, COILS, W)), RNG.normal(size=(5, W, 2)).astype(np.float32)
    lines = [line(d, i, trajectory=t, pre=1, slice=i % 2) for i, (d, t) in enumerate(zip(data, trajectory, strict=True))]
    found = ismrmrd_raw(write(tmp_path / "a.h5", lines, encoding(kind="radial"))).image
    np.testing.assert_array_equal(found.kspace, data[..., 1:].astype(np.complex64))
    np.testing.assert_array_equal(found.trajectory, trajectory[:, 1:, ::-1])
    assert found.mask is None and found.counters[:, 0].tolist() == [0, 1, 0, 1, 0]
    write(tmp_path / "b.h5", [line(data[0])], encoding(kind="spiral"))
    with pytest.raises(InputError, match="trajectories have 32 samples and no axes; one number of samples and 2 or 3 axes are needed"):
        ismrmrd_raw(tmp_path / "b.h5")


ONE = RNG.normal(size=(COILS, W)) + 0j


@pytest.mark.parametrize(
    "lines, code, match",
    [
        ([line(ONE, H)], encoding(), r"a readout of 32 samples, k = 0 at 16, is at step \[0, 20\]"),
        ([line(ONE, 0, centre=0)], encoding(), r"k = 0 at 0, is at step \[0, 0\]"),
        ([line(ONE, flags=[NOISE])], encoding(), "holds no readouts of an image"),
        ([line(ONE), line(ONE[:2], 1)], encoding(), "has readouts of 3 coils and of other numbers"),
        ([line(ONE), line(ONE[:2], flags=[NOISE])], encoding(), "has readouts of 3 coils and of other numbers"),
        ([line(ONE * np.nan)], encoding(), "data holds 96 NaN or infinite"),
        ([line(ONE, pre=20, post=12)], encoding(), "32 samples discards 20 and 12 of them"),
        ([line(ONE)], encoding(size=(1, 0, W)), "tells a k-space of 1 x 0 x 32 samples"),
        ([line(ONE)], encoding(fov=0), "tells fields of view"),
        ([line(ONE)], encoding(size=(1, "many", W), centre=None), "tells encodedSpace/matrixSize/y as 'many'; a number"),
        ([line(ONE)], encoding(kind="epi", more="<trajectoryDescription/>"), "sampled along ramps; data on a grid are needed"),
        ([line(ONE)], "<encoding>", "its header is no XML"),
        ([line(ONE)], " ", "has 0 encodings; encoding 0 is not one"),
        ([], encoding(), "holds nothing at 'dataset/data'"),
    ],
)
def test_bad_scans(tmp_path, lines, code, match):
    with pytest.raises(InputError, match=match) as error:
        ismrmrd_raw(write(tmp_path / "a.h5", lines, code))
    assert "\n" not in str(error.value)


def test_truncated_and_foreign_files(tmp_path):
    path = write(tmp_path / "a.h5", [line(ONE, y) for y in range(H)])
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="truncated or not an HDF5 file") as error:
            ismrmrd_raw(path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="b.h5: no such file"):
        ismrmrd_raw(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["dataset/data"], file["dataset/xml"] = np.zeros(3), [HEADER.format(encodings=encoding())]
    with pytest.raises(InputError, match=r"data is of float64; readouts {head, traj, data} of ISMRMRD are needed"):
        ismrmrd_raw(tmp_path / "c.h5")
    with pytest.raises(InputError, match="holds nothing at 'scan/xml'; the xml and data"):
        ismrmrd_raw(tmp_path / "c.h5", "scan")
