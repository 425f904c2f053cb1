"""Files of users: what is read, what is refused in one line, and results written back at their place."""

import pickle
import shutil

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medjax.data.fit import fit
from medjax.data.read import InputError, read, read_stack
from medjax.data.write import write_like

RNG = np.random.default_rng(0)
HU = np.linspace(-1000, 500, 20 * 24, dtype=np.float32).reshape(20, 24)
GREY = np.linspace(0, 900, 20 * 24, dtype=np.float32).reshape(20, 24)
OBLIQUE = np.array([[0.1, -1.4, 0.2, 30.0], [0.05, 0.15, 1.39, -40.0], [-4.9, -0.1, 0.03, 12.0], [0, 0, 0, 1.0]])
OBLIQUE[:3, 1:3] *= 1.4 / np.linalg.norm(OBLIQUE[:3, 1:3], axis=0)


def dicom(name="CT_small.dcm"):
    """A file that pydicom ships, without looking for it on the network."""
    return get_testdata_file(name, download=False)


def ct_dataset(pixels=None, **elements):
    """CT_small, with elements replaced."""
    dataset = pydicom.dcmread(dicom())
    if pixels is not None:
        dataset.PixelData, (dataset.Rows, dataset.Columns) = pixels.astype("<i2").tobytes(), pixels.shape[-2:]
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize("image, modality", [(HU, "ct"), (GREY, "mri"), (GREY.astype(np.uint16), "mri"), (GREY * (1 + 2j), "mri")])
def test_npy(tmp_path, image, modality):
    np.save(tmp_path / "a.npy", image)
    scan = read(tmp_path / "a.npy")
    assert (scan.modality, scan.pixel_size, scan.source) == (modality, None, (str(tmp_path / "a.npy"), "npy"))
    assert scan.image.dtype == (np.complex64 if np.iscomplexobj(image) else np.float32)
    np.testing.assert_array_equal(scan.image, image.astype(scan.image.dtype))
    assert read(tmp_path / "a.npy", modality="mri").modality == "mri"


def test_npz_image(tmp_path):
    np.savez(tmp_path / "a.npz", image=GREY, pixel_size=0.7, modality="ct")
    scan = read(tmp_path / "a.npz")
    assert (scan.modality, scan.pixel_size, scan.source[1]) == ("ct", 0.7, "npz")


def test_npz_sinogram(tmp_path):
    sinogram, angles = RNG.random((5, 30)), np.linspace(0, 3, 5)
    np.savez(tmp_path / "a.npz", sinogram=sinogram, angles=angles, pixel_size=2.0, image_size=20, num_photons=1e4, detector_offset=-0.5)
    scan = read(tmp_path / "a.npz")
    assert scan.modality == "ct" and scan.image is None and scan.pixel_size == 2.0
    np.testing.assert_array_equal(scan.measurement, sinogram.astype(np.float32))
    np.testing.assert_array_equal(scan.geometry.pop("angles"), angles.astype(np.float32))
    assert scan.geometry == {"detector_spacing": 2.0, "pixel_size": 2.0, "image_size": 20, "num_photons": 1e4, "detector_offset": -0.5}


def test_npz_kspace(tmp_path):
    mask = RNG.random((20, 24)) < 0.4
    kspace = mask * (RNG.normal(size=mask.shape) + 1j)
    np.savez(tmp_path / "with.npz", kspace=kspace, mask=mask, pixel_size=[1.5, 1.5])
    np.savez(tmp_path / "without.npz", kspace=kspace)
    for name, pixel_size in (("with.npz", 1.5), ("without.npz", None)):
        scan = read(tmp_path / name)
        assert (scan.modality, scan.image, scan.pixel_size) == ("mri", None, pixel_size)
        np.testing.assert_array_equal(scan.measurement, kspace.astype(np.complex64))
        np.testing.assert_array_equal(scan.geometry["mask"], mask)


def test_dicom_is_in_hounsfield_units(tmp_path):
    scan, dataset = read(dicom()), pydicom.dcmread(dicom())
    assert scan.modality == "ct" and scan.pixel_size == pytest.approx(0.661468) and scan.source[1] == "dicom"
    np.testing.assert_array_equal(scan.image, dataset.pixel_array.astype(np.float32) - 1024)
    assert read(dicom("MR_small.dcm")).modality == "mri"
    shutil.copy(dicom(), tmp_path / "1.2.840.113619")
    np.testing.assert_array_equal(read(tmp_path / "1.2.840.113619").image, scan.image)


def test_dicom_padding_is_air(tmp_path):
    pixels = np.full((20, 24), 1000)
    pixels[:3] = -2000
    ct_dataset(pixels, PixelPaddingValue=-2000, RescaleSlope=2, RescaleIntercept=-1000).save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").image, np.where(pixels == -2000, -1000, 1000))


def test_dicom_frames_and_inversion(tmp_path):
    frames = np.arange(5 * 20 * 24).reshape(5, 20, 24)
    ct_dataset(frames, NumberOfFrames=5, Modality="MR", RescaleIntercept=0, PhotometricInterpretation="MONOCHROME1").save_as(tmp_path / "a.dcm")
    for given, index in ((None, 2), (0, 0), (4, 4)):
        frame = frames[index]
        np.testing.assert_array_equal(read(tmp_path / "a.dcm", slice_index=given).image, frame.max() + frame.min() - frame)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_is_radiological(tmp_path, suffix):
    volume = np.zeros((20, 24, 7), np.int16)
    volume[17, 20, 3] = 5  # to the patient's right and in front
    for name, affine, data in (("ras", [1.5, 1.5, 3], volume), ("las", [-1.5, 1.5, 3], volume[::-1]), ("rps", [1.5, -1.5, 3], volume[:, ::-1])):
        nibabel.save(nibabel.Nifti1Image(data, np.diag([*affine, 1])), tmp_path / (name + suffix))
        scan = read(tmp_path / (name + suffix))
        assert (scan.modality, scan.pixel_size, scan.image.shape, scan.source[1]) == ("mri", 1.5, (24, 20), "nifti")
        assert np.argwhere(scan.image).tolist() == [[3, 2]]
    assert not read(tmp_path / f"ras{suffix}", slice_index=2).image.any()


def test_nifti_flat_and_coronal(tmp_path):
    nibabel.save(nibabel.Nifti1Image(HU, np.eye(4)), tmp_path / "flat.nii")
    assert read(tmp_path / "flat.nii").modality == "ct"
    np.testing.assert_array_equal(read(tmp_path / "flat.nii").image, HU[::-1, ::-1].T)
    nibabel.save(nibabel.Nifti1Image(GREY[:, None], np.diag([2, 5, 2, 1])), tmp_path / "coronal.nii")
    np.testing.assert_array_equal(read(tmp_path / "coronal.nii").image, GREY[::-1, ::-1].T)
    assert read(tmp_path / "coronal.nii").pixel_size == 2


def with_value(image, value, count):
    """`image` with `count` values replaced."""
    image = image.copy()
    image.ravel()[:count] = value
    return image


SINOGRAM = {"sinogram": np.ones((4, 30)), "angles": np.arange(4.0), "pixel_size": 1.0}
KSPACE = np.ones((20, 24), complex)
BAD_ARRAYS = {  # array of a .npy, or arrays of a .npz -> fragments of the message
    "object": (np.array([[{}]], dtype=object), "Python objects (pickle), which are never loaded"),
    "text": (np.full((20, 20), "x"), "dtype <U1; numbers are needed"),
    "bool": (np.ones((20, 20), bool), "dtype bool; numbers are needed"),
    "rank 1": (np.zeros(400), "shape [400]; one slice [h, w] is needed"),
    "rank 3": (np.zeros((3, 20, 20)), "shape [3, 20, 20]; one slice [h, w] is needed"),
    "nan": (with_value(HU, np.nan, 3), "3 NaN or infinite of 480 values"),
    "infinite": (with_value(HU * 1j, -np.inf, 2), "2 NaN or infinite of 480 values"),
    "small": (HU[:15], "shape [15, 24]; at least 16 x 16 pixels are needed"),
    "wrong keys": ({"picture": HU, "b": HU}, "holds the keys ['b', 'picture']; `image`, or `sinogram` and `angles`, or `kspace` are needed"),
    "no angles": ({"sinogram": HU}, "holds the keys ['sinogram']"),
    "object in npz": ({"image": np.array([None])}, "Python objects (pickle)"),
    "modality": ({"image": HU, "modality": "pet"}, "modality is 'pet'; one of ct, mri, image is needed"),
    "complex ct": ({"image": HU * 1j, "modality": "ct"}, "image is complex; CT needs real HU"),
    "pixel size": ({"image": HU, "pixel_size": [1.0, 1.1]}, "pixels are 1 x 1.1 mm; square ones are needed"),
    "negative pixel size": ({"image": HU, "pixel_size": -1.0}, "positive numbers are needed"),
    "rows": (SINOGRAM | {"angles": np.arange(5.0)}, "sinogram has 4 rows but there are 5 angles"),
    "no views": (SINOGRAM | {"sinogram": np.ones((0, 30)), "angles": np.ones(0)}, "has 0 views and 0 angles; at least one view is needed"),
    "sinogram rank": (SINOGRAM | {"sinogram": np.ones(30)}, "sinogram has shape [30] and angles [4]"),
    "complex sinogram": (SINOGRAM | {"sinogram": np.ones((4, 30)) * 1j}, "dtype complex128; real numbers are needed"),
    "nan sinogram": (SINOGRAM | {"sinogram": with_value(np.ones((4, 30)), np.nan, 1)}, "sinogram holds 1 NaN"),
    "degrees": (SINOGRAM | {"angles": np.arange(4) * 45.0}, "angles reach 135; radians are needed"),
    "no length": ({"sinogram": np.ones((4, 30)), "angles": np.arange(4.0)}, "`detector_spacing` or `pixel_size` [mm] is needed"),
    "photons": (SINOGRAM | {"num_photons": 0}, "num_photons is 0; a positive number is needed"),
    "image size": (SINOGRAM | {"image_size": 20.5}, "image_size is 20.5; a whole number"),
    "two spacings": (SINOGRAM | {"detector_spacing": [1.0, 2.0]}, "detector_spacing has shape [2]; one number is needed"),
    "mask shape": ({"kspace": KSPACE, "mask": np.ones((20, 20))}, "kspace has shape [20, 24] but mask [20, 20]"),
    "empty mask": ({"kspace": KSPACE, "mask": np.zeros((20, 24))}, "mask samples nothing"),
    "empty kspace": ({"kspace": 0 * KSPACE}, "mask samples nothing"),
    "coils": ({"kspace": np.ones((8, 20, 24))}, "kspace has shape [8, 20, 24]; one slice [h, w] is needed"),
    "kspace of ct": ({"kspace": KSPACE, "modality": "ct"}, "its modality is 'mri', not 'ct'"),
}


@pytest.mark.parametrize("content, fragment", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays(tmp_path, content, fragment):
    path = tmp_path / ("a.npz" if isinstance(content, dict) else "a.npy")
    np.savez(path, **content) if isinstance(content, dict) else np.save(path, content)
    refused(path, fragment)


def refused(path, fragment, **arguments):
    """`read` fails with one line that names the file and says `fragment`."""
    with pytest.raises(InputError) as caught:
        read(path, **arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and fragment in message and "\n" not in message


class Bomb:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    np.savez(tmp_path / "a.npz", image=np.array([Bomb(tmp_path / "exploded")], dtype=object))
    refused(tmp_path / "a.npy", "Python objects (pickle), which are never loaded")
    refused(tmp_path / "a.npz", "Python objects (pickle), which are never loaded")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.dcm", "a.nii", "a.nii.gz"])
def test_missing_empty_and_truncated(tmp_path, name):
    path = tmp_path / name
    refused(path, "no such file")
    path.touch()
    refused(path, "is empty")
    image = RNG.normal(size=(40, 40))
    if name.endswith(".dcm"):
        shutil.copy(dicom(), path)
    elif ".nii" in name:
        nibabel.save(nibabel.Nifti1Image(image[..., None], np.eye(4)), path)
    else:
        np.save(path, image) if name.endswith("npy") else np.savez_compressed(path, image=image)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.02):
        path.write_bytes(whole[: int(share * len(whole))])
        refused(path, "truncated")
    path.write_bytes(b"nothing that anyone could read" * 20)
    refused(path, "file")


def test_folder_and_unknown_suffix(tmp_path):
    refused(tmp_path, "is a folder")
    (tmp_path / "a.tar.png").write_bytes(b"x" * 200)
    refused(tmp_path / "a.tar.png", "unknown format .tar.png; .npy, .npz, .dcm, .nii or .nii.gz is needed")


BAD_DICOMS = {
    "without pixels": ("rtplan.dcm", {}, "is a DICOM file without pixels (RT Plan Storage)"),
    "other modality": ("rtdose.dcm", {}, "has DICOM modality 'RTDOSE'; CT or MR is needed"),
    "damaged header": ("badVR.dcm", {"modality": "ct"}, "its header is damaged"),
    "colour": ("SC_rgb_small_odd.dcm", {}, "is a colour image (RGB, 3 samples a pixel); a grey one is needed"),
    "palette": ("examples_palette.dcm", {}, "is a colour image (PALETTE COLOR, 1 samples a pixel)"),
    "truncated": ("MR_truncated.dcm", {}, "its pixels are truncated or cannot be read"),
    "slice": ("CT_small.dcm", {"slice_index": 1}, "has 1 slices; slice 1 is not one of 0 to 0"),
}


@pytest.mark.parametrize("name, arguments, fragment", BAD_DICOMS.values(), ids=BAD_DICOMS)
def test_bad_dicom(name, arguments, fragment):
    refused(dicom(name), fragment, **arguments)


def test_dicom_that_no_decoder_reads(tmp_path):
    dataset = ct_dataset()
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 100])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    dataset.save_as(tmp_path / "a.dcm")
    refused(tmp_path / "a.dcm", "compressed as MPEG2 Main Profile / Main Level")


def test_dicom_of_oblong_pixels(tmp_path):
    ct_dataset(PixelSpacing=[0.5, 0.6]).save_as(tmp_path / "a.dcm")
    refused(tmp_path / "a.dcm", "pixels are 0.5 x 0.6 mm; square ones are needed")


@pytest.mark.parametrize("shape", [(20,), (20, 20, 3, 2)])
def test_nifti_of_wrong_rank(tmp_path, shape):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", f"has shape {list(shape)}; a volume [x, y, z] or a slice [x, y] is needed")


def test_bad_nifti(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 20, 3), np.float32), np.diag([1, 1.2, 1, 1])), tmp_path / "oblong.nii")
    refused(tmp_path / "oblong.nii", "pixels are 1 x 1.2 mm")
    nibabel.save(nibabel.Nifti1Image(np.full((20, 20, 3), np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii")
    refused(tmp_path / "nan.nii", "400 NaN or infinite of 400 values")
    refused(tmp_path / "nan.nii", "slice 3 is not one of 0 to 2", slice_index=3)
    colour = np.zeros((20, 20, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "colour.nii")
    refused(tmp_path / "colour.nii", "numbers are needed")


def test_modality_that_is_none_of_ours(tmp_path):
    with pytest.raises(ValueError, match="got modality 'pet'"):
        read(tmp_path, modality="pet")


def test_stack_of_images(tmp_path):
    """The only array of rank 3, or the one that is named; anything else is refused in one line."""
    path = tmp_path / "many.npz"
    images = RNG.normal(size=(3, 20, 24))
    np.savez(path, test=images, labels=np.arange(3))
    name, found = read_stack(path)
    assert name == "test" and found.dtype == np.float32 and np.allclose(found, images, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="named tset is needed; it holds test"):
        read_stack(path, "tset")
    np.savez(path, a=images, b=images + 1j)
    assert read_stack(path, "b")[1].dtype == np.complex64
    with pytest.raises(InputError, match="it holds a, b; name one"):
        read_stack(path)
    np.savez(path, a=np.where(images == images.max(), np.inf, images))
    with pytest.raises(InputError, match="NaN or infinite"):
        read_stack(path)
    np.savez(path, a=1e300 * images)
    with pytest.raises(InputError, match="in float32"):
        read_stack(path)
    np.savez(path, a=images[:0])
    with pytest.raises(InputError, match="at least one image"):
        read_stack(path)
    with pytest.raises(InputError, match="no such file"):
        read_stack(tmp_path / "none.npz")


def test_dicom_round_trip(tmp_path):
    source, image = pydicom.dcmread(dicom()), RNG.normal(0, 400, (64, 64)).astype(np.float32)
    path = write_like(dicom(), image, tmp_path / "out.dcm", 2 * 0.661468, "medjax posterior mean")
    result = pydicom.dcmread(path)
    np.testing.assert_array_equal(result.pixel_array, np.rint(image))
    np.testing.assert_array_equal(read(path).image, np.rint(image))
    assert read(path).pixel_size == pytest.approx(2 * 0.661468)
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Modality", "SliceThickness"):
        assert result[name].value == source[name].value
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert result[name].value != source[name].value
    assert result.SeriesDescription == "medjax posterior mean" and list(result.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert result.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID
    assert (result.RescaleSlope, result.RescaleIntercept, result.PixelRepresentation, result.BitsStored) == (1, 0, 1, 16)
    assert not [element for element in result if element.tag.is_private] and "BurnedInAnnotation" not in result
    for told in ("YES", "NO"):
        ct_dataset(BurnedInAnnotation=told).save_as(tmp_path / "in.dcm")
        assert pydicom.dcmread(write_like(tmp_path / "in.dcm", image, tmp_path / "out.dcm", 1.0, "")).BurnedInAnnotation == told
    (tmp_path / "in.dcm").unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["out.dcm"]


def dicom_centroid(dataset, image):
    """Centre of mass in the patient [mm]."""
    rows, columns = np.indices(image.shape)
    row, column = (np.sum(i * image) / image.sum() for i in (rows, columns))
    orientation, spacing = np.asarray(dataset.ImageOrientationPatient, float), np.asarray(dataset.PixelSpacing, float)
    return np.asarray(dataset.ImagePositionPatient, float) + orientation[:3] * spacing[1] * column + orientation[3:] * spacing[0] * row


def test_dicom_stays_in_place(tmp_path):
    pixels = np.zeros((49, 72), np.int16)
    pixels[10:14, 50:52] = 1000
    source = ct_dataset(pixels, RescaleIntercept=0, ImageOrientationPatient=[0.8, 0.6, 0, 0, 0, -1], PixelSpacing=[0.5, 0.5])
    source.save_as(tmp_path / "in.dcm")
    image, factor = fit(read(tmp_path / "in.dcm").image, 36, 0)
    path = write_like(tmp_path / "in.dcm", image, tmp_path / "out.dcm", 0.5 * factor, "test")
    moved = dicom_centroid(pydicom.dcmread(path), pydicom.dcmread(path).pixel_array) - dicom_centroid(source, pixels)
    np.testing.assert_allclose(moved, 0, atol=1e-6)


def test_dicom_of_small_values_has_a_slope(tmp_path):
    image = RNG.random((32, 32))
    path = write_like(dicom("MR_small.dcm"), image, tmp_path / "out.dcm", None, "test")
    # Half a step of int16 over the range.
    np.testing.assert_allclose(read(path).image, image, atol=0.51 / 32767)
    assert pydicom.dcmread(path).SOPClassUID == pydicom.uid.MRImageStorage and read(path).pixel_size is None


@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([-1.4, -1.4, -4, 1])], ids=["permuted", "flipped"])
@pytest.mark.parametrize("index", [None, 1])
def test_nifti_stays_in_place(tmp_path, affine, index):
    axes = nibabel.io_orientation(affine)
    shape = np.array([49, 72, 5])[axes[:, 0].astype(int)]
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.zeros(shape, np.float32), affine))
    voxels = np.zeros((49, 72, 5), np.float32)
    voxels[30:34, 50:52, 2 if index is None else index] = 100
    back = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), axes)
    source = nibabel.Nifti1Image(voxels, canonical.affine).as_reoriented(back)
    assert np.allclose(source.affine, affine) and source.shape == tuple(shape)
    nibabel.save(source, tmp_path / "in.nii.gz")
    scan = read(tmp_path / "in.nii.gz", slice_index=index)
    assert scan.image.sum() == voxels.sum() and scan.pixel_size == pytest.approx(1.4)

    image, factor = fit(scan.image, 36, 0)
    path = write_like(tmp_path / "in.nii.gz", image, tmp_path / "out.nii.gz", 1.4 * factor, "test", slice_index=index)
    result = nibabel.load(path)
    np.testing.assert_array_equal(read(path).image, image)
    assert read(path).pixel_size == pytest.approx(2.8, rel=1e-6)

    def centroid(volume):
        data = volume.get_fdata()
        centre = np.array([np.sum(i * data) / data.sum() for i in np.indices(data.shape)])
        return volume.affine[:3, :3] @ centre + volume.affine[:3, 3]

    np.testing.assert_allclose(centroid(result), centroid(source), atol=1e-4)  # [mm]; affines are stored in f32
    assert result.header["descrip"] == b"test"


def test_write_refuses_and_leaves_nothing(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", HU)
    with pytest.raises(InputError, match="is npy; results are written like DICOM or NIfTI"):
        write_like(tmp_path / "a.npy", np.zeros((20, 20)), tmp_path / "out.dcm", 1.0, "test")
    with pytest.raises(ValueError, match=r"got an image of shape \[20, 24\]"):
        write_like(dicom(), HU, tmp_path / "out.dcm", 1.0, "test")

    def fail(path, dataset, **arguments):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pydicom, "dcmwrite", fail)
    with pytest.raises(OSError, match="disk full"):
        write_like(dicom(), np.zeros((20, 20)), tmp_path / "out.dcm", 1.0, "test")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
