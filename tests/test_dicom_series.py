"""Folders of DICOM files as scanners and archives write them."""

import concurrent.futures
import hashlib

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

from medjax.data import nifti_volumes
from medjax.data.dicom_series import dicom_series, files, listed
from medjax.data.read import read
from medjax.data.scan import InputError

RNG = np.random.default_rng(0)
AXIAL = (1, 0, 0, 0, 1, 0)
SECRETS = ("DOE", "JANE", "MRN4711", "19630214", "20240102", "ACME HOSPITAL", "REPORT TEXT", "4.7.1.1", hashlib.sha256(b"MRN4711").hexdigest())


def write(path, pixels, position=(0, 0, 0), orientation=AXIAL, spacing=(0.8, 0.8), modality="CT", series="1.2.3", **elements):
    """One slice, its stored values `pixels`, of a patient whose names nobody may learn."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(), series, "4.7.1.1"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.StudyDate = "DOE^JANE", "MRN4711", "19630214", "20240102"
    dataset.InstitutionName, dataset.SeriesDescription, dataset.SliceThickness = "ACME HOSPITAL", "THORAX DOE", 99
    dataset.Modality, dataset.ImageType = modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [f"{p:.6f}" for p in position], [f"{o:.9f}" for o in orientation]
    dataset.PixelSpacing = list(spacing)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024
    dataset.private_block(0x0011, "ACME HOSPITAL", create=True).add_new(1, "LO", "REPORT TEXT")
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.PixelData = np.asarray(pixels, "<i2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def stack(num=6, h=20, w=24):
    return RNG.integers(0, 900, (num, h, w))


def shuffled(folder, pixels, positions, **elements):
    """Slices under names and InstanceNumbers that tell nothing about their order."""
    names = [f"im{name:03d}" for name in RNG.permutation(len(pixels))]
    for name, each, position in zip(names, pixels, positions, strict=True):
        write(folder / name, each, position, InstanceNumber=int(RNG.integers(100)), **elements)
    return names


def leaks_nothing(found):
    text = repr(found)
    assert not [secret for secret in SECRETS if secret in text], text


@pytest.mark.parametrize("direction", [1, -1])
def test_order_and_units(tmp_path, direction):
    """Slices lie from inferior to superior whatever their names, numbers and the order in which the scanner went; HU and [mm] as stored."""
    pixels, z = stack(), 30 + direction * 2.5 * np.arange(6)
    shuffled(tmp_path, pixels, [(-5, 7, each) for each in z], spacing=(0.6, 0.9))
    volume = dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.image, 2.0 * pixels[::direction] - 1024)
    series = volume.series
    assert volume.image.dtype == np.float32 and (series.modality, series.shape) == ("ct", (6, 20, 24))
    assert series.spacing == (2.5, 0.6, 0.9) and series.tilt < 1e-6 and not series.remarks and not volume.skipped
    np.testing.assert_allclose(series.positions, np.sort(z))
    np.testing.assert_allclose(series.affine @ [3, 2, 4, 1], [-5 + 4 * 0.9, 7 + 2 * 0.6, z.min() + 7.5, 1])
    leaks_nothing(volume)
    leaks_nothing(listed(tmp_path))


def test_padding_is_air(tmp_path):
    """Stored values that mark padding are -1000 HU, each slice by its own slope, and nothing but what was marked."""
    pixels = np.tile(np.arange(24) - 4, (20, 1))
    write(tmp_path / "0", pixels, (0, 0, 0), PixelPaddingValue=-4)
    write(tmp_path / "1", pixels, (0, 0, 1), PixelPaddingValue=-4, PixelPaddingRangeLimit=-2, RescaleSlope=3, RescaleIntercept=7)
    image = dicom_series(tmp_path).image
    np.testing.assert_array_equal(image[0, 3], [-1000, *(2 * np.arange(-3, 20) - 1024)])
    np.testing.assert_array_equal(image[1, 3], [-1000, -1000, -1000, *(3 * np.arange(-1, 20) + 7)])
    np.testing.assert_array_equal(files(str(tmp_path), 24, validation=0, test=0).read("train", 1).image[10], image[1, 3])


@pytest.mark.parametrize("signed", [1, 0])
def test_padding_is_told_by_its_bits(tmp_path, signed):
    """63536 told without a sign is -2000 beside pixels that have one, and the other way round; the limit of a range, too."""
    bits = np.tile(np.array([-2000, -1999, -1998, -5] + 20 * [7]), (20, 1))
    path, kinds = tmp_path / "a", ("SS", "US")
    dataset = pydicom.dcmread(write(path, bits, PixelRepresentation=signed, RescaleSlope=1, RescaleIntercept=0))
    dataset.add_new("PixelPaddingValue", kinds[signed], 63536 if signed else -2000)
    dataset.add_new("PixelPaddingRangeLimit", kinds[signed], 63537 if signed else -1999)
    dataset.save_as(path)
    wanted = np.where(bits < -1998, -1000, bits if signed else bits % 2**16)
    np.testing.assert_array_equal(dicom_series(path).image[0], wanted)
    np.testing.assert_array_equal(read(path).image, wanted)


def test_what_is_below_air_is_clipped(tmp_path):
    """Padding that no element marks is air before pixels are resampled, unless it is to stay; MR is left alone."""
    pixels = np.full((32, 32), 1024)
    pixels[:5] = -2000
    write(tmp_path / "0", pixels, spacing=(1.6, 0.8), RescaleSlope=1)
    wanted = files(str(tmp_path), 64, validation=0, test=0).read("train", 0).image
    np.testing.assert_array_equal(wanted[:, 20], np.concatenate([np.full(9, -1000), [-750, -250], np.zeros(53)]))
    assert files(str(tmp_path), 64, lowest=None, validation=0, test=0).read("train", 0).image.min() == -3024
    write(tmp_path / "1", pixels, modality="MR", series="2")
    assert files(str(tmp_path), 32, "mri", 0, 0).read("train", 0).image.min() == pytest.approx(-2000 / 1024)
    volume = np.where(np.arange(20) < 5, -3024.0, 40.0)[:, None, None] * np.ones((20, 20, 3))
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    for lowest, least in ((None, -3024), (-1000.0, -1000)):
        assert nifti_volumes.files(str(tmp_path), 20, lowest=lowest, validation=0, test=0).read("train", 1).image.min() == least


def test_oblique_slices_are_not_tilted(tmp_path):
    """The order and the distance are those along the normal, here where z of the positions falls as they move along it."""
    row, column = np.array([0.8, 0, 0.6]), np.array([0, -1, 0])
    normal, pixels = np.cross(row, column), stack()
    assert normal[2] < 0
    shuffled(tmp_path, pixels, [np.array([9, 8, 7]) + 3 * i * normal for i in range(6)], orientation=(*row, *column))
    volume = dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.image, 2.0 * pixels - 1024)
    assert volume.series.spacing[0] == pytest.approx(3, abs=1e-5) and volume.series.tilt < 1e-5
    np.testing.assert_allclose(volume.series.affine @ [5, 0, 0, 1], [*(np.array([9, 8, 7]) + 15 * normal), 1], atol=1e-5)


@pytest.mark.parametrize("orientation", [AXIAL, (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 0, 0, -1)])
def test_handedness_is_the_same_for_all_orientations(tmp_path, orientation):
    """Slices follow the normal, from superior to inferior where one axis is mirrored; positions, spacing and affine say the same."""
    normal = np.cross(orientation[:3], orientation[3:])
    pixels = stack(4)
    shuffled(tmp_path, pixels, [3 * i * normal for i in range(4)], orientation=orientation)
    image, series, _ = dicom_series(tmp_path)
    np.testing.assert_array_equal(image, 2.0 * pixels - 1024)
    np.testing.assert_allclose(series.positions, [0, 3, 6, 9])
    assert series.spacing == (3, 0.8, 0.8) and np.linalg.det(series.affine) == pytest.approx(-3 * 0.8**2)
    np.testing.assert_allclose(series.affine[:3, :3], np.array([3 * normal, 0.8 * np.array(orientation[3:]), 0.8 * np.array(orientation[:3])]).T)


def test_gantry_tilt(tmp_path):
    """A tilted gantry and a table that moves along z: distances are along the normal, the affine is sheared."""
    angle = np.deg2rad(18)
    shuffled(tmp_path, stack(), [(0, 0, 5 * i) for i in range(6)], orientation=(1, 0, 0, 0, np.cos(angle), np.sin(angle)), GantryDetectorTilt=-18)
    series = dicom_series(tmp_path).series
    assert series.tilt == pytest.approx(angle, abs=1e-5) and series.nominal_tilt == -18
    assert series.spacing[0] == pytest.approx(5 * np.cos(angle), abs=1e-5)
    np.testing.assert_allclose(series.affine[:3, 0], [0, 0, 5], atol=1e-5)
    assert series.remarks == ("slices move 18.0 degrees off their normal (GantryDetectorTilt is -18 degrees): the volume is sheared",)


def test_tilt_that_only_the_header_tells(tmp_path):
    shuffled(tmp_path, stack(), [(0, 0, 5 * i) for i in range(6)], GantryDetectorTilt=10)
    assert listed(tmp_path).series[0].remarks == ("GantryDetectorTilt is 10 degrees, but slices move along their normal: the volume is not sheared",)


def test_missing_slices_and_uneven_ones(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shuffled(tmp_path / "a", stack(), [(0, 0, z) for z in (0, 2, 4, 10, 12, 14)])
    shuffled(tmp_path / "b", stack(), [(0, 0, z) for z in (0, 2, 4, 6, 7.3, 9.3)], series="1.2.4")
    first, second = listed(tmp_path).series
    assert first.remarks == ("slices 2 and 3 lie 6 mm apart instead of 2: 2 missing",) and first.spacing[0] == 2
    assert second.remarks == ("slices lie at uneven distances, 1.3 to 2 mm, most at 2",)
    with pytest.raises(InputError, match=r"holds 2 series \(0: ct 6 x 20 x 24, 1: ct 6 x 20 x 24\); the number of one is needed"):
        dicom_series(tmp_path)
    with pytest.raises(InputError, match="has no series 2"):
        dicom_series(tmp_path, 2)
    assert dicom_series(tmp_path, 1).series.remarks == second.remarks


def test_duplicates(tmp_path):
    """Of two slices in one place the first by InstanceNumber stays; the other is named."""
    pixels = stack(4)
    for i in range(3):
        write(tmp_path / f"{i}", pixels[i], (0, 0, i), InstanceNumber=i + 1)
    write(tmp_path / "0copy", pixels[3], (0, 0, 1), InstanceNumber=9)
    volume = dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.image, 2.0 * pixels[:3] - 1024)
    assert volume.skipped == ("0copy: lies in the place of another slice of its series",)
    assert volume.series.remarks == ("1 in the place of another slice left out",)


def test_echoes_and_planes_are_apart(tmp_path):
    """Two echoes of one series are two volumes, and so are two planes."""
    pixels = stack(8)
    for i in range(6):
        write(tmp_path / f"{i}", pixels[i], (0, 0, i % 3), modality="MR", EchoTime=[10, 80][i // 3], InstanceNumber=i)
    for i in (6, 7):
        write(tmp_path / f"{i}", pixels[i], (0, i, 0), (1, 0, 0, 0, 0, -1), modality="MR", EchoTime=10)
    found = listed(tmp_path)
    assert [one.shape[0] for one in found.series] == [3, 3, 2] and not found.skipped
    np.testing.assert_array_equal(dicom_series(tmp_path, 1).image, pixels[3:6])


def test_what_is_no_slice_is_named(tmp_path):
    """One file of many that ends too early, has no header, is a scout, a report or no DICOM: the rest is read."""
    pixels = stack(40)
    cut = shuffled(tmp_path, pixels, [(0, 0, i) for i in range(40)])[17]
    whole = (tmp_path / cut).read_bytes()
    (tmp_path / cut).write_bytes(whole[:-500])
    (tmp_path / "z_headless").write_bytes(whole[:300])
    (tmp_path / "z_notes.txt").write_text("DOE^JANE was here")
    write(tmp_path / "z_scout", pixels[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(tmp_path / "z_scout2", pixels[0], modality="MR", SeriesDescription="3-plane localizer DOE")
    write(tmp_path / "z_dose", pixels[0], Modality="RTDOSE")
    write(tmp_path / "z_no_place", pixels[0], ImagePositionPatient=None)
    write(tmp_path / "z_skewed", pixels[0], ImageOrientationPatient=[1, 0, 0, 0.5, 1, 0])
    report = pydicom.dcmread(tmp_path / "z_dose")
    del report.PixelData
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    report.save_as(tmp_path / "z_report")
    volume = dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.image, 2.0 * np.delete(pixels, 17, 0) - 1024)
    reasons = dict(line.split(": ", 1) for line in volume.skipped)
    assert {name: " ".join(line.split()[:5]) for name, line in reasons.items()} == {
        cut: "its pixels are truncated",
        "z_dose": "has DICOM modality 'RTDOSE'; CT",
        "z_headless": "is a DICOM file without",
        "z_no_place": "tells 0 numbers of ImagePositionPatient;",
        "z_notes.txt": "is truncated or not a",
        "z_report": "is a DICOM file without",
        "z_scout": "is a localizer; cross-sections are",
        "z_scout2": "is a localizer; cross-sections are",
        "z_skewed": "has an ImageOrientationPatient whose directions",
    }
    assert volume.series.remarks == ("slices 16 and 17 lie 2 mm apart instead of 1: 1 missing",)
    leaks_nothing(volume)


def test_pixels_that_no_decoder_reads(tmp_path):
    """A slice whose header is whole but whose compressed pixels are not is found when it is decoded; the place of the others stays right."""
    pixels = stack(5)
    for i in range(5):
        dataset = pydicom.dcmread(write(tmp_path / f"{i}", pixels[i], (0, 0, 2 * i)))
        dataset.compress(RLELossless, generate_instance_uid=False)
        if i == 3:
            dataset.PixelData = pydicom.encaps.encapsulate([b"\1\0\0\0" + b"\0" * 96])
        dataset.save_as(tmp_path / f"{i}")
    assert listed(tmp_path).series[0].shape[0] == 5
    volume = dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.image, 2.0 * pixels[[0, 1, 2, 4]] - 1024)
    assert len(volume.skipped) == 1 and volume.skipped[0].startswith("3: its pixels are compressed as RLE Lossless")
    assert volume.series.remarks == ("slices 2 and 3 lie 4 mm apart instead of 2: 1 missing",)
    np.testing.assert_allclose(volume.series.positions, [0, 2, 4, 8])


def test_enhanced_file(tmp_path):
    """Frames of one file, each with its own place, stored from head to feet, and a common spacing."""
    pixels = stack(4)
    dataset = pydicom.dcmread(write(tmp_path / "a", pixels[0]))
    frames = []
    for i in range(4):
        place, frame = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [0, 0, -3 * i]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    measures, shared = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, shared.PixelMeasuresSequence = [0.7, 0.7], [measures]
    del dataset.PixelSpacing, dataset.ImagePositionPatient
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.NumberOfFrames, dataset.PixelData = 4, pixels.astype("<i2").tobytes()
    dataset.save_as(tmp_path / "a")
    volume = dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.image, 2.0 * pixels[::-1] - 1024)
    assert volume.series.spacing == (3, 0.7, 0.7)


def patients(folder):
    """Ten patients of two series of two slices; the stored values are 10 patient + slice + 100."""
    for p in range(10):
        for i in range(4):
            (folder / f"p{p}").mkdir(exist_ok=True)
            pixels = np.full((20, 24), 100 + 10 * p + i)
            write(folder / f"p{p}" / f"{i}", pixels, (0, 0, i), series=f"1.{p}.{i // 2 + 1}", PatientID=f"MRN{p}")


def test_parts_are_split_by_patient(tmp_path):
    patients(tmp_path)
    found = files(str(tmp_path), 16, validation=0.25, test=0.15)
    assert found.num == {"train": 24, "validation": 8, "test": 8}
    whom = {}
    for part, num in found.num.items():
        values = [(found.read(part, i).image[8, 8] + 1024) / 2 for i in range(num)]
        whom[part] = {int(value - 100) // 10 for value in values}
        assert len(set(values)) == num
    assert [len(whom[part]) for part in ("train", "validation", "test")] == [6, 2, 2]
    assert len(whom["train"] | whom["validation"] | whom["test"]) == 10
    again = files(str(tmp_path), 16, validation=0.25, test=0.15)
    assert np.array_equal(found.read("test", 0).image, again.read("test", 0).image)
    with pytest.raises(ValueError, match="shares from 0, below 1 together"):
        files(str(tmp_path), 16, validation=0.5, test=0.5)
    with pytest.raises(InputError, match="holds no series of modality 'mri'"):
        files(str(tmp_path), 16, "mri")


def test_a_patient_is_one_whoever_issued_the_number(tmp_path):
    """Series of which some lack the issuer, or pad the number with blanks, are of one patient; without a number a study is one."""
    told = [{"IssuerOfPatientID": "A"}, {}, {"PatientID": " MRN4711 "}, {"PatientID": "MRN0815"}]
    told += [{"PatientID": "", "IssuerOfPatientID": issuer} for issuer in ("", "A")]
    for i, elements in enumerate(told):
        write(tmp_path / f"{i}", stack(1)[0], series=f"1.{i + 1}", **elements)
    numbers = [one.patient for one in listed(tmp_path).series]
    assert numbers[0] == numbers[1] == numbers[2] and numbers[4] == numbers[5] and len(set(numbers)) == 3


def test_slices_are_read_by_threads_as_they_are_asked_for(tmp_path, caplog):
    """Oblong pixels are made square, the padding is air, and a file that is damaged later is named when it is read."""
    pixels = stack(8, 32, 32)
    for i in range(8):
        write(tmp_path / f"{i}", pixels[i], (0, 0, i), spacing=(1.6, 0.8))
    (tmp_path / "notes").write_text("none")
    found = files(str(tmp_path), 64)
    assert found.num == {"train": 8, "validation": 0, "test": 0}
    assert "1 files or frames are left out, notes: is truncated or not a DICOM file" in caplog.text
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda i: found.read("train", i).image, range(8)))
    for image, truth in zip(images, pixels, strict=True):
        assert image.shape == (64, 64) and image.dtype == np.float32
        assert np.all(image[:, :16] == -1000) and np.all(image[:, 48:] == -1000)
        # Rows twice as high are interpolated at a quarter of them from their middles.
        truth = np.maximum(2.0 * truth - 1024, -1000)
        rows = 0.75 * truth[1:-1] + 0.25 * truth[:-2]
        np.testing.assert_allclose(image[2:-2:2, 16:48], rows, rtol=1e-5)
    (tmp_path / "3").write_bytes((tmp_path / "3").read_bytes()[:-100])
    with pytest.raises(InputError, match="3: its pixels are truncated"):
        found.read("train", 3)


def test_slices_of_mri_have_a_unit(tmp_path):
    """All slices are over the 99.5th percentile of the middle one."""
    pixels = stack(3, 20, 20) * np.array([1, 2, 3])[:, None, None]
    shuffled(tmp_path, pixels, [(0, 0, i) for i in range(3)], modality="MR")
    found = files(str(tmp_path), 20, "mri", 0, 0)
    for i in range(3):
        np.testing.assert_allclose(found.read("train", i).image, pixels[i] / np.percentile(pixels[1], 99.5), rtol=1e-5)
    write(tmp_path / "oblong", np.full((16, 20), 7), (0, 0, 0), modality="MR", series="5")
    image = files(str(tmp_path), 20, "mri", 0, 0).read("train", 3).image
    assert np.all(image[2:18] == 1) and not image[:2].any() and not image[18:].any()


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        listed(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no series of CT or MR images \(it is empty\)"):
        dicom_series(tmp_path)
    (tmp_path / "a").write_text("nothing")
    with pytest.raises(InputError, match=r"\(a: is truncated or not a DICOM file") as error:
        dicom_series(tmp_path)
    assert "\n" not in str(error.value)
