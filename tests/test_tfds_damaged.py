"""Damaged files given to the builders of TensorFlow Datasets: one line that names the file, and no records."""

import re
import struct

import pydicom
import pytest
from test_tfds import SIZE, random_hu, write_brats, write_ixi, write_ldct, write_lidc, write_slice

from medjax.data.tfds_builder import main


def refusal(name, folder, capsys):
    """The line that a builder ends with."""
    assert main([name, "--manual-dir", str(folder / "manual"), "--data-dir", str(folder / "data")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert not list((folder / "data").rglob("*array_record*"))
    return told


def lying(data, **elements):
    """A DICOM file whose header tells other sizes."""
    for name, value in elements.items():
        head = struct.pack("<HH", *divmod(pydicom.datadict.tag_for_keyword(name), 1 << 16)) + b"US\2\0"
        place = data.index(head) + len(head)
        data = data[:place] + struct.pack("<H", value) + data[place + 2 :]
    return data


DICOM = {
    "header": (lambda data: data[:300], "perhaps truncated|is a DICOM file without pixels"),
    "pixels": (lambda data: data[:-100], "its pixels are truncated"),
    "no pixels": (lambda data: data[: data.index(b"\xe0\x7f\x10\x00")], "is a DICOM file without pixels"),
    "huge": (lambda data: lying(data, Rows=65535, Columns=65535), "would take 32767 MB but the file 0.00"),
    "other": (lambda data: b"", "is truncated or not a DICOM file"),
}


@pytest.mark.parametrize("damage", DICOM)
@pytest.mark.parametrize("name, write", [("lidc_idri", write_lidc), ("ldct", write_ldct)])
def test_damaged_dicom(tmp_path, capsys, name, write, damage):
    """The first file of a series, whose header is read to find it, and the last one."""
    patients, _ = write(tmp_path / "manual")
    files = sorted((tmp_path / "manual").rglob(f"{patients['train'][0]}/*/{'3*' if name == 'lidc_idri' else '*Low*'}/*.dcm"))
    change, told = DICOM[damage]
    for path in (files[0], files[-1]):
        data = path.read_bytes()
        path.write_bytes(change(data))
        line = refusal(name, tmp_path, capsys)
        assert line.startswith(f"{path}: ") and re.search(told, line)
        path.write_bytes(data)


def test_files_of_two_series_in_one_folder(tmp_path, capsys):
    """A slice of another shape, or of another series, is none of the volume."""
    patients, _ = write_lidc(tmp_path / "manual")
    for shape, series in (((SIZE, SIZE), "1.2.0"), ((SIZE, SIZE + 2), "7.7")):
        path = next((tmp_path / "manual" / "LIDC-IDRI" / patients["train"][0]).rglob("1-003.dcm"))
        write_slice(path, random_hu(*shape), -97.5, series=series)
        assert f"{path}: is of another series or grid than 1-001.dcm" in refusal("lidc_idri", tmp_path, capsys)


def test_slices_in_one_place(tmp_path, capsys):
    """Of two in one place the first by InstanceNumber stays."""
    patients, _ = write_lidc(tmp_path / "manual")
    path = next((tmp_path / "manual" / "LIDC-IDRI" / patients["test"][0]).rglob("1-003.dcm"))
    write_slice(path.with_name("1-004.dcm"), random_hu(SIZE, SIZE + 2), -97.5, uid="9.9", series=pydicom.dcmread(path).SeriesInstanceUID)
    assert main(["lidc_idri", "--manual-dir", str(tmp_path / "manual"), "--data-dir", str(tmp_path / "data")]) == 0
    info = next((tmp_path / "data").rglob("dataset_info.json")).read_text()
    assert info.count('"6"') == 3, info  # two patients of three slices in each part


NIFTI = {
    "header": (lambda data: data[:200], "is truncated or not a NIfTI file"),
    "voxels": (lambda data: data[: len(data) // 2], "is truncated"),
    "empty": (lambda data: b"", "is truncated or not a NIfTI file"),
}


@pytest.mark.parametrize("damage", NIFTI)
@pytest.mark.parametrize("name, write, pattern", [("ixi/t2", write_ixi, "IXI*-T2.nii.gz"), ("brats", write_brats, "*_seg.nii.gz")])
def test_damaged_nifti(tmp_path, capsys, name, write, pattern, damage):
    """A packed volume that ends early."""
    write(tmp_path / "manual")
    path = next((tmp_path / "manual").rglob(pattern))
    change, told = NIFTI[damage]
    path.write_bytes(change(path.read_bytes()))
    line = refusal(name, tmp_path, capsys)
    assert line.startswith(f"{path}: ") and re.search(told, line)
