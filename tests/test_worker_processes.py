"""What reads examples goes to processes that read ahead, as Grain sends it, and gives the same there."""

import pickle

import nibabel
import numpy as np
import pytest
from PIL import Image
from test_datasets import random_kspace, write_lodopab
from test_dicom_series import stack, write
from test_fastmri_multicoil import LARGE, phantom
from volumes import write_fastmri

from medjax.data import chest_xray, dicom_series, fastmri, fastmri_multicoil, label_maps, lodopab, nifti_volumes, stacks, tfds_files
from medjax.data.pipeline import Batches, pipeline
from medjax.data.scan import InputError

cloudpickle = pytest.importorskip("cloudpickle")
RNG = np.random.default_rng(0)


def dicom(folder):
    """Two series of MRI."""
    for s in range(2):
        for i, pixels in enumerate(stack(3)):
            write(folder / f"{s}{i}", pixels, (0, 0, i), modality="MR", series=f"1.{s}", PatientID=f"P{s}")
    return dicom_series.files(str(folder), 24, "mri", 0, 0)


def nifti(folder):
    """Two volumes of MRI."""
    for name in "ab":
        nibabel.save(nibabel.Nifti1Image(RNG.uniform(1, 9, (20, 20, 3)).astype(np.float32), np.eye(4)), folder / f"{name}.nii")
    return nifti_volumes.files(str(folder), 20, validation=0, test=0)


def maps(folder):
    """One label map."""
    np.savez(folder / "a.npz", train_label=RNG.integers(1, 5, (1, 20, 20, 20)))
    return label_maps.files(str(folder), ("a.npz",), 24, validation=0)


def arrays(folder):
    """Arrays of NumPy."""
    np.savez(folder / "a.npz", train_image=RNG.normal(size=(3, 16, 16)), train_label=np.arange(3))
    return stacks.files(str(folder), ("a.npz",), validation=0)


def chunks(folder):
    """Arrays of zarr."""
    group = pytest.importorskip("zarr").open_group(folder / "a.zarr", mode="w")
    group.create_array("train_image", data=RNG.normal(size=(3, 16, 16)), chunks=(1, 16, 16))
    return stacks.files(str(folder), ("a.zarr",), validation=0)


def radiographs(folder):
    """Three pictures of three patients."""
    for p in range(3):
        Image.fromarray(RNG.integers(0, 256, (16, 16)).astype(np.uint8)).save(folder / f"{p}.png")
    (folder / "t.csv").write_text("Image Index,Finding Labels,Patient ID\n" + "".join(f"{p}.png,No Finding,{p}\n" for p in range(3)))
    return chest_xray.files(str(folder), "t.csv", 16, (), validation=0, test=0)


def singlecoil(folder):
    """Emulated single coils in the layout of fastMRI."""
    for part in ("train", "val"):
        (folder / f"singlecoil_{part}").mkdir()
        write_fastmri(folder / f"singlecoil_{part}" / "a.h5", random_kspace(2, 24, 20))
    return fastmri.singlecoil_files(str(folder))


def multicoil(folder):
    """Several coils, whose images are computed."""
    for part in ("train", "val"):
        (folder / f"multicoil_{part}").mkdir()
        write_fastmri(folder / f"multicoil_{part}" / "a.h5", phantom(1)[2], header=LARGE)
    return fastmri_multicoil.multicoil_files(str(folder), str(folder / "cache"), 16, 4)


def records(folder):
    """A data set that was made ready."""
    written = pytest.importorskip("test_tfds")
    written.write_brats(folder / "manual")
    written.prepare("brats", folder / "manual", folder)
    return tfds_files.files("brats", str(folder), "flair")


def low_dose(folder):
    """A slice of LoDoPaB-CT."""
    write_lodopab(folder, part="train", place=0)
    return lodopab.files(str(folder))


@pytest.mark.parametrize("files", [dicom, nifti, maps, arrays, chunks, radiographs, singlecoil, multicoil, low_dose, records])
def test_reading_is_sent_to_processes(tmp_path, files):
    """Before anything is read and after: what was sent gives the same example."""
    found = files(tmp_path)
    sent = pickle.loads(cloudpickle.dumps(found))
    first = found.read("train", 0)
    for each in (sent, pickle.loads(cloudpickle.dumps(found))):
        assert each.num == found.num
        for one, other in zip(first, each.read("train", 0), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("path, message", [("a b.npz", "holds none: 3 are needed"), ("a.nii", "")])
def test_refusals_come_back_from_processes(path, message):
    """The line stays as it is."""
    error = InputError(path, message)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InputError and str(again) == str(error) and again.args == error.args


def test_a_process_reads_the_same_batches(tmp_path):
    """With one worker of Grain; a damaged file is told by the line that reading tells here."""
    pytest.importorskip("grain")
    found = nifti(tmp_path)
    batches = Batches(found, found.num["train"], 0, 2, (0, 1))
    alone, read = pipeline(batches), pipeline(batches, num_workers=1)
    for _ in range(2):
        np.testing.assert_array_equal(next(read).image, next(alone).image)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match=r"\.nii: has shape \[20, 20, 3\], truncated or with a header"):
        next(pipeline(batches, num_workers=1))
