"""What is told of files and folders."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from matplotlib.image import imread
from test_dicom_series import AXIAL, leaks_nothing, shuffled, write
from test_image_sources import picture, volume, xrays
from volumes import write_fastmri

from medjax.data.inspect import draw, inspect, main
from medjax.data.scan import InputError

zarr = pytest.importorskip("zarr")
RNG = np.random.default_rng(0)


def test_arrays(tmp_path):
    """Names, types, shapes, ranges; NaN are counted, and text is not shown."""
    images = np.arange(3.0 * 16 * 20).reshape(3, 16, 20).astype(np.float32)
    images[0, 0, 0] = np.nan
    np.savez(tmp_path / "a.npz", image=images, who=np.array(["DOE^JANE"] * 3), kspace=np.full((16, 16), 3 + 4j))
    found = inspect(tmp_path / "a.npz")
    assert found.lines == [
        "image: float32 [3, 16, 20], 1 to 959, 1 NaN or infinite in 3 of 3",
        "kspace: complex128 [16, 16], 5 to 5",
        "who: <U8 [3]",
    ]
    assert [image.shape for image in found.images] == [(16, 20), (16, 20), (16, 16)]
    np.testing.assert_array_equal(found.images[0], images[1])
    np.save(tmp_path / "b.npy", np.ones(4))
    assert inspect(tmp_path / "b.npy").lines == ["array: float64 [4], 1 to 1"] and not inspect(tmp_path / "b.npy").images
    group = zarr.open_group(tmp_path / "c.zarr", mode="w")
    group.create_array("train_image", shape=(40, 16, 16, 2), dtype="f4")[5:] = 7
    found = inspect(tmp_path / "c.zarr")
    assert found.lines == ["train_image: float32 [40, 16, 16, 2], 0 to 7 in 5 of 40"] and len(found.images) == 5
    lost = zarr.open_group(tmp_path / "d.zarr", mode="w").create_array("train_image", shape=(4, 16, 16), chunks=(1, 16, 16), dtype="f4")
    lost[1] = 7
    assert inspect(tmp_path / "d.zarr").lines[1].startswith("train_image has 1 of its 4 chunks, the others are lost or empty")


def test_folder_of_dicom(tmp_path):
    """Each series with its size, spacing, range and remarks; what was left out with its reason; nobody's name."""
    pixels = RNG.integers(0, 900, (7, 20, 24))
    pixels[3, 0, :2] = 0, 2000
    shuffled(tmp_path, pixels, [(0, 0, z) for z in (0, 2, 4, 6, 8, 12, 14)], spacing=(0.5, 1.0))
    write(tmp_path / "z1", pixels[0], series="9", modality="MR", PatientID="MRN0815", PatientName="ROE^RICHARD")
    write(tmp_path / "z2", pixels[0], orientation=AXIAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "z3.dcm").write_bytes((tmp_path / "z1").read_bytes()[:-9])
    (tmp_path / "notes.txt").write_text("DOE^JANE")
    (tmp_path / "table.csv").write_text("DOE,JANE\n19630214,MRN4711\n")
    found = inspect(tmp_path)
    assert found.lines[:2] == ["a folder of files: 10 DICOM, 1 table, 1 unknown", "DICOM: 2 series of CT or MR, 2 patients"]
    text = "\n".join(found.lines)
    assert "series 0: ct, 7 slices of 20 x 24, 2 x 0.5 x 1 mm, patient " in text and "-1024 to 2976 HU in 5 of them" in text
    assert "series 0: slices 4 and 5 lie 4 mm apart instead of 2: 1 missing" in text
    assert "series 1: mri, 1 slices of 20 x 24, ? x 0.8 x 0.8 mm" in text
    left_out = [line for line in found.lines if line.startswith("left out")]
    assert [line.split(":")[1].strip() for line in left_out] == ["notes.txt", "z2", "z3.dcm"]
    assert "z2: is a localizer" in text and "z3.dcm: its pixels are truncated" in text
    assert "table.csv: table of 1 rows and 2 columns, not those of NIH ChestX-ray14" in text
    assert len(found.images) == 6 and found.images[0].shape == (20, 48)  # square pixels
    leaks_nothing(found.lines)
    assert inspect(tmp_path / "z1").lines[0] == "DICOM"
    with pytest.raises(InputError, match=r"z2: holds no slices of CT or MR \(is a localizer"):
        inspect(tmp_path / "z2")


def test_volumes_of_nifti(tmp_path):
    canonical = np.arange(20.0 * 24 * 6).reshape(20, 24, 6)
    volume(tmp_path / "a.nii.gz", canonical, np.diag([0.5, 1, 3, 1]))
    found = inspect(tmp_path / "a.nii.gz")
    middle = canonical[..., 3]
    values = f"{middle.min():.4g} to {middle.max():.4g}"
    assert found.lines == [f"NIfTI: 6 axial slices of 24 x 20, 3 x 1 x 0.5 mm, float32, {values} in the middle one"]
    assert len(found.images) == 5 and found.images[0].shape == (48, 20)


def test_hdf5(tmp_path):
    """fastMRI shows its reconstruction, LoDoPaB-CT and raw data are known, any other file is a list; compound values are not read."""
    kspace = (RNG.normal(size=(3, 4, 24, 20)) + 1j).astype(np.complex64)
    write_fastmri(tmp_path / "a.h5", kspace)
    found = inspect(tmp_path / "a.h5")
    assert found.lines[0] == "HDF5, a volume of fastMRI" and found.lines[-1].startswith("kspace: complex64 [3, 4, 24, 20], ")
    shifted = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace[1], (1, 2)), norm="ortho"), (1, 2))
    np.testing.assert_allclose(found.images[0], np.sqrt(np.sum(np.abs(shifted) ** 2, 0))[6:18, 5:15], rtol=1e-5)
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.create_dataset("data", (128, 362, 362), "f4", chunks=(1, 362, 362))
    assert inspect(tmp_path / "b.hdf5").lines == ["HDF5, images of LoDoPaB-CT", "data: float32 [128, 362, 362], 0 to 0 in 5 of 128"]
    with h5py.File(tmp_path / "c", "w") as file:
        file["dataset/xml"] = "<subjectInformation><patientName>DOE</patientName></subjectInformation>"
        file["dataset/data"] = np.zeros(3, [("head", "i4"), ("data", "f4")])
        file.attrs["patient_id"] = "MRN4711"
    found = inspect(tmp_path / "c")
    assert found.lines[0] == "HDF5, raw data of ISMRMRD" and found.lines[2] == "dataset/xml: object []"
    leaks_nothing(found.lines)


def test_pictures_and_their_table(tmp_path):
    xrays(tmp_path)
    (tmp_path / "images_001" / "cut.png").write_bytes(b"\x89PNG nothing")
    found = inspect(tmp_path)
    assert found.lines[0] == "a folder of files: 21 picture, 1 table" and len(found.images) == 20
    assert "images_001/images/00000002_001.png: picture of 20 x 16, 0.08235 to 0.08235 of 1" in found.lines
    assert [line for line in found.lines if line.startswith("left out: images_001/cut.png: is truncated")]
    counts = "4 No Finding, 8 Effusion, 8 Mass, 8 Hernia"
    assert found.lines[-1] == f"Data_Entry_2017.csv: table in the layout of NIH ChestX-ray14: 20 images of 10 patients; {counts}"


def test_many_files_of_a_kind(tmp_path):
    for i in range(70):
        picture(tmp_path / f"{i:02d}.png", np.full((16, 16), i, np.uint8))
    found = inspect(tmp_path)
    assert found.lines[1] == "64 of 70 picture files are read" and len(found.lines) == 66


def test_sheet(tmp_path):
    """Each image in its own window, or all in one where all are CT; oblong ones are padded with their least value, and sixteen are the most."""
    ramp = np.linspace(5, 9, 16 * 20).reshape(16, 20)
    draw(tmp_path / "a.png", [ramp, 100 * ramp])
    shown, side = imread(tmp_path / "a.png")[..., 0], 3 * 192
    first, second = (shown[24 : 24 + side, x : x + side] for x in (24, 24 + side + 6))
    np.testing.assert_allclose(first, second, atol=1.5 / 255)
    assert not first[:40].any() and not first[-40:].any() and first[side // 2, side // 2] == pytest.approx(0.5, abs=0.03)
    hu = np.full((20, 20), 40.0)
    hu[:10] = -990
    draw(tmp_path / "b.png", [hu] * 40)
    shown = imread(tmp_path / "b.png")[..., 0]
    assert shown.shape[0] == 2 * 24 + 4 * (192 + 6)
    assert [shown[24 + y, 40] for y in (20, 170)] == pytest.approx([10 / 1400, 1040 / 1400], abs=0.005)


def test_command_line(tmp_path, capsys):
    xrays(tmp_path)
    assert main([str(tmp_path), "--output", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("a folder of files: 20 picture, 1 table\n") and not printed.err
    assert imread(tmp_path / "sheet.png").ndim == 3
    np.save(tmp_path / "line.npy", np.ones(4))
    (tmp_path / "a.txt").write_text("nothing")
    (tmp_path / "empty").mkdir()
    bad = {
        (): "got nothing; PATH [--output SHEET.png] is needed",
        ("none",): "none: no such file or folder",
        ("a.txt",): "a.txt: is of unknown kind",
        ("empty",): "holds 0 files of unknown kind and no others",
        ("line.npy", "--output", "x.png"): "holds no images to draw",
        ("line.npy", "--outptu", "x.png"): "PATH [--output SHEET.png] is needed",
        ("line.npy", "--output"): "expected one argument",
        ("sheet.png", "--output", "none/x.png"): "none/x.png: its folder does not exist",
    }
    for arguments, message in bad.items():
        places = [str(tmp_path / argument) if not argument.startswith("--") else argument for argument in arguments]
        assert main(places) == 2
        printed = capsys.readouterr()
        assert message in printed.err and printed.err.count("\n") == 1 and printed.err.startswith("inspect: ")


def test_it_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "medjax.data.inspect"]
    result = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("inspect: ") and result.stderr.count("\n") == 1 and not result.stdout
