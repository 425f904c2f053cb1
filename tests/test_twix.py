"""Raw data of Siemens scanners: files of both layouts where twixtools is installed to read them, else blocks as it gives them."""

import struct
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from medjax.data.scan import InputError
from medjax.data.twix import twix

RNG = np.random.default_rng(0)
COILS, H, W = 2, 10, 16
FLAGS = {"ACQEND": 0, "PHASCOR": 21, "PATREFSCAN": 22, "PATREFANDIMASCAN": 23, "REFLECT": 24, "NOISEADJSCAN": 25}
COUNTERS = ("Lin", "Ave", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Seg", "Ida", "Idb", "Idc", "Idd", "Ide")
PROTOCOL = {
    "sKSpace": {"ucTrajectory": 1, "ucDimension": 2, "lBaseResolution": W // 2, "lPhaseEncodingLines": H, "dPhaseOversamplingForDialog": 0.25},
    "sSliceArray": {"asSlice": [{"dThickness": 5.0, "dPhaseFOV": 160.0, "dReadoutFOV": 200.0}]},
}


def line(data, *flags, centre=(W // 2, H // 2, 0), cut=(0, 0), **counters):
    """A block: data `[coils, samples]`, its flags, (column, line, partition) of k = 0, samples to be cut off, counters."""
    return {"data": np.asarray(data, np.complex64), "flags": flags, "centre": centre, "cut": cut, "counters": counters}


def protocol(**grid):
    """The protocol with some of its `sKSpace` changed; `alRegridMode` is not of that."""
    return {"MeasYaps": PROTOCOL | {"sKSpace": PROTOCOL["sKSpace"] | grid}, "Meas": {"alRegridMode": [grid.pop("alRegridMode", 1)]}}


def block(each, version, end=False):
    """The bytes of a block: a header for all channels and short ones of each (VD), or a header a channel (VB)."""
    data, mask = each["data"], sum(1 << FLAGS[name] for name in each["flags"])
    common = struct.pack("<QHH14H2H", mask, data.shape[1], len(data), *(each["counters"].get(name, 0) for name in COUNTERS), *each["cut"])
    centre = struct.pack("<HHfIHH", each["centre"][0], 0, 0.0, 0, *each["centre"][1:])
    if version == "vd":
        length = 192 + 160 if end else 192 + len(data) * (32 + 8 * data.shape[1])
        head = struct.pack("<IiIIIHHiiii", length, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0) + common + centre
        head += struct.pack("<7f24H4HHHI", *[0.0] * 7, *[0] * 30, 0)
        assert len(head) == 192
        return head + (b"\0" * 160 if end else b"".join(bytes(32) + channel.tobytes() for channel in data))
    length = 128 + (160 if end else 8 * data.shape[1])
    head = struct.pack("<IiIII", length, 1, 1, 0, 0) + common + centre + struct.pack("<4H4H7fHH", *[0] * 8, *[0.0] * 7, 0, 0)
    assert len(head) == 128
    return head + bytes(160) if end else b"".join(head + channel.tobytes() for channel in data)


def measurement(blocks, headers, version):
    """The bytes of a measurement: its protocol, its blocks, and the mark of the end."""
    told = {f"sKSpace.{name}": value for name, value in headers["MeasYaps"]["sKSpace"].items()}
    told |= {f"sSliceArray.asSlice[0].{name}": value for name, value in headers["MeasYaps"]["sSliceArray"]["asSlice"][0].items()}
    texts = {"Meas": f'<ParamLong."alRegridMode"> {{ {headers["Meas"]["alRegridMode"][0]} }}\n' + " " * 12000}  # shorter headers would pass for VD
    texts["MeasYaps"] = "### ASCCONV BEGIN ###\n" + "".join(f"{name} = {value}\n" for name, value in told.items()) + "\n### ASCCONV END ###"
    buffers = b"".join(name.encode() + b"\0" + struct.pack("<I", len(text)) + text.encode() for name, text in texts.items())
    last = line(np.zeros((COILS, 0)), "ACQEND")
    return struct.pack("<II", 8 + len(buffers), 2) + buffers + b"".join(block(b, version) for b in blocks) + block(last, version, end=True)


def as_package(blocks, headers):
    """What twixtools gives of a measurement."""
    found = []
    for each in [*blocks, line(np.zeros((COILS, 0)), "ACQEND")]:
        counter = SimpleNamespace(**{name: each["counters"].get(name, 0) for name in COUNTERS})
        column, line_, partition = each["centre"]
        cut = SimpleNamespace(Pre=each["cut"][0], Post=each["cut"][1])
        mdh = SimpleNamespace(Counter=counter, CutOff=cut, CenterCol=column, CenterLin=line_, CenterPar=partition)
        found.append(SimpleNamespace(mdh=mdh, data=each["data"], is_flag_set=each["flags"].__contains__))
    return {"hdr": headers, "mdb": found}


@pytest.fixture(params=["stub", "vb", "vd"])
def read(request, tmp_path, monkeypatch):
    """`(blocks, headers) -> RawMri`, through a stub of the package, or the package and a file; the file holds a first measurement of noise, too."""
    path = tmp_path / "meas.dat"

    def through(blocks, headers=None, **options):
        headers, first = headers or protocol(), [line(RNG.normal(size=(1, 8)), "NOISEADJSCAN")]
        if request.param == "stub":
            package = ModuleType("twixtools")
            monkeypatch.setattr(package, "read_twix", lambda *_, **__: [as_package(first, headers), as_package(blocks, headers)], raising=False)
            monkeypatch.setitem(sys.modules, "twixtools", package)
            path.write_bytes(b"0")
        else:
            pytest.importorskip("twixtools")
            parts = [measurement(each, headers, request.param) for each in ((first, blocks) if request.param == "vd" else (blocks,))]
            starts = [10240 + sum(map(len, parts[:i])) for i in range(len(parts))]
            entries = [struct.pack("<IIQQ128x", i, i, start, len(part)) for i, (start, part) in enumerate(zip(starts, parts, strict=True))]
            raid = (struct.pack("<II", 0, len(parts)) + b"".join(entries)).ljust(10240, b"\0") if request.param == "vd" else b""
            path.write_bytes(raid + b"".join(parts))
        return twix(path, **options)

    return through


def test_slices_noise_and_calibration(read):
    """Slices in order, averages averaged, reflected lines flipped, noise, calibration and phase correction apart."""
    kspace, noise = RNG.normal(size=(2, COILS, H, W)) + 1j, RNG.normal(size=(COILS, 24))
    lines = [line(noise[:, :12], "NOISEADJSCAN"), line(noise[:, 12:], "NOISEADJSCAN"), line(9 * kspace[0, :, 0], "PHASCOR")]
    for y in (0, 2, 4, 6, 8):
        for s in (1, 0):
            data = kspace[s, :, y]
            flags = ["REFLECT"] * (y == 2) + ["PATREFANDIMASCAN", "PATREFSCAN"] * (y == 4)
            lines += [line((data + a)[:, ::-1] if y == 2 else data + a, *flags, Lin=y, Sli=s, Ave=(a + 1) // 2) for a in (-1, 1)]
    lines += [line(kspace[s, :, 5], "PATREFSCAN", Lin=5, Sli=s) for s in (0, 1)]
    found = read(lines, remove_oversampling=False)
    assert found.calibration is not None and found.image.counters[:, 0].tolist() == [0, 1]
    for part, places in ((found.image, (0, 2, 4, 6, 8)), (found.calibration, (4, 5))):
        mask = np.isin(np.arange(H), places)[:, None] * np.ones(W)
        np.testing.assert_array_equal(part.mask, [mask, mask])
        np.testing.assert_allclose(part.kspace, kspace * mask, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.noise, noise.astype(np.complex64))
    assert found.fov == (5, 200, 400) and found.spacing == (5, 20, 25) and found.recon_fov == (5, 160, 200)


def test_partial_fourier_asymmetric_echo_and_oversampling(read):
    """Lines and samples before k = 0 are missing; the image of whole data is the middle of the field of view."""
    kspace = RNG.normal(size=(COILS, H, W)) + 1j
    late = [np.pad(kspace[:, y, 4:], ((0, 0), (1, 2))) for y in range(3, H)]
    late = [line(data, centre=(W // 2 - 4 + 1, H // 2 - 3, 0), cut=(1, 2), Lin=y) for y, data in enumerate(late)]
    mask = np.zeros((H, W))
    mask[3:, 4:] = 1
    np.testing.assert_array_equal(read(late, remove_oversampling=False).image.kspace[0], (kspace * mask).astype(np.complex64))
    found = read(late)
    assert found.image.mask is not None and np.array_equal(found.image.mask[0], mask[:, ::2])
    whole = read([line(kspace[:, y], Lin=y) for y in range(H)]).image.kspace[0]
    images, full = (np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(k, -1), norm="ortho"), -1) for k in (whole, kspace))
    np.testing.assert_allclose(images, full[..., W // 4 : -W // 4], rtol=0, atol=1e-6 * np.abs(full).max())


def test_a_volume(read):
    kspace = RNG.normal(size=(COILS, 4, H, W)) + 1j
    lines = [line(kspace[:, z, y], centre=(W // 2, H // 2, 2), Lin=y, Par=z) for z in range(4) for y in range(H)]
    found = read(lines, protocol(ucDimension=4, lPartitions=4, dSliceOversamplingForDialog=0.6), remove_oversampling=False)
    np.testing.assert_array_equal(found.image.kspace[0], kspace.astype(np.complex64))
    assert found.spacing == (2, 20, 25)


@pytest.mark.parametrize(
    "lines, headers, match",
    [
        ([line(np.ones((COILS, W)), Lin=H)], protocol(), r"is at step \[0, 10\] of phase encoding"),
        ([line(np.ones((COILS, W)))], protocol(ucTrajectory=2), "a scan of ucTrajectory 2, not Cartesian"),
        ([line(np.ones((COILS, W)))], protocol(alRegridMode=2), "sampled along ramps"),
        ([line(np.ones((COILS, W)))], protocol(lBaseResolution="x"), "has a damaged readout or protocol"),
        ([line(np.ones((COILS, W)), "NOISEADJSCAN")], protocol(), "holds no readouts of an image"),
    ],
)
def test_bad_scans(read, lines, headers, match):
    with pytest.raises(InputError, match=match) as error:
        read(lines, headers)
    assert "\n" not in str(error.value)


def test_wrong_measurement(read):
    with pytest.raises(InputError, match="measurements; measurement 5 is not one of them"):
        read([line(np.ones((COILS, W)))], measurement=5)


def test_without_the_package_and_without_the_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="a.dat: no such file; a Twix file .dat is needed"):
        twix(tmp_path / "a.dat")
    (tmp_path / "a.dat").write_bytes(b"0")
    monkeypatch.setitem(sys.modules, "twixtools", None)
    with pytest.raises(InputError, match="which needs the package twixtools: pip install twixtools"):
        twix(tmp_path / "a.dat")


@pytest.mark.parametrize("version", ["vb", "vd"])
def test_truncated_and_foreign_files(tmp_path, version):
    pytest.importorskip("twixtools")
    whole = measurement([line(np.ones((COILS, W)), Lin=y) for y in range(H)], protocol(), version)
    if version == "vd":
        whole = (struct.pack("<IIIIQQ", 0, 1, 0, 0, 10240, len(whole))).ljust(10240, b"\0") + whole
    path = tmp_path / "a.dat"
    for content in (b"", b"no twix", b"words and words " * 999, bytes(20000), whole[:4000], *(whole[:-cut] for cut in (352, 600, 900, 1300))):
        path.write_bytes(content)
        with pytest.raises(InputError, match="truncated|damaged") as error:
            twix(path)
        assert "\n" not in str(error.value)
