"""Whom a NIfTI volume is of, told by its place: nobody is in two parts."""

import functools
import logging

import nibabel
import numpy as np
import pytest

from medjax.data import label_maps, nifti_volumes
from medjax.data.scan import InputError

PEOPLE, CONTRASTS = range(1, 5), ("FLAIR", "T1", "T2")
HOSPITAL = {(p, c): f"P{p:03d}/{name}.nii.gz" for p in PEOPLE for c, name in enumerate(CONTRASTS)}
LAYOUTS = {
    "hospital": HOSPITAL,
    "studies": {(p, c): f"P{p:03d}/2024010{c}/scan.nii" for p, c in HOSPITAL},
    "IXI": {(p, c): f"IXI{p:03d}-{('Guys', 'HH')[p % 2]}-{2000 + p}-{CONTRASTS[c]}.nii.gz" for p, c in HOSPITAL},
    "names in folders": {(p, c): f"P{p}/P{p}_{CONTRASTS[c]}.nii" for p, c in HOSPITAL},
    "BIDS": {(p, c): f"ses-{c}/sub-{p}_{CONTRASTS[c]}.nii" for p, c in HOSPITAL},
}


def written(folder, layout, value=lambda p, c: 10 * p + c):
    """Volumes whose voxels tell who and which they are."""
    for (p, c), name in layout.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.full((16, 16, 2), value(p, c), np.int16), np.eye(4)), folder / name)
    return str(folder)


def people(found):
    """part -> who is in it; nobody is in two."""
    whom = {part: {int(found.read(part, i).image[0, 0]) // 10 for i in range(num)} for part, num in found.num.items()}
    assert sum(map(len, whom.values())) == len(set.union(*whom.values()))
    return whom


told = functools.partial(nifti_volumes.files, size=16, modality="ct", validation=0.2, test=0.2)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_all_volumes_of_a_person_are_in_one_part(tmp_path, layout):
    assert people(told(written(tmp_path, layout))) == {"train": {1, 2}, "validation": {3}, "test": {4}}


def test_label_maps_of_a_person_are_in_one_part(tmp_path):
    """FreeSurfer keeps several maps of a person in one folder."""
    names = ("aseg", "aparc+aseg", "wmparc_seg")
    written(tmp_path, {(p, c): f"{'dcba'[p - 1]}/mri/{names[c]}.nii.gz" for p, c in HOSPITAL})
    options = {"size": 16, "pattern": "*seg.nii.gz", "least": 0, "image": lambda rng, labels, fine, gap: labels[1].astype(np.float32)}
    found = label_maps.files(str(tmp_path), validation=0.25, test=0.25, **options)
    assert people(found) == {"train": {4, 3}, "validation": {2}, "test": {1}}
    assert people(label_maps.files(str(tmp_path), validation=0, test=0.25, subject="^[bcd]|a", **options))["test"] == {1}


def test_an_expression_tells_whom(tmp_path):
    """A group of it or all that it finds, before anything else, labels of BIDS too; the path is that below the folder."""
    written(tmp_path / "P9", {(p, c): f"{name}/scan_P{p}.nii" for (p, c), name in ((k, CONTRASTS[k[1]]) for k in HOSPITAL)})
    for subject in (r"P\d", r"scan_(P\d)\.nii$", r"/scan_P(\d)"):
        assert people(told(str(tmp_path / "P9"), subject=subject)) == {"train": {1, 2}, "validation": {3}, "test": {4}}
    written(tmp_path / "b", {(p, 0): f"sub-{p}_T1.nii" for p in PEOPLE})
    assert people(told(str(tmp_path / "b"), subject="sub-[12]|[34]"))["test"] == {2}
    with pytest.raises(
        InputError, match=r"sub-3_T1.nii: has a place in which 'sub-\(\[12\]\)' finds no subject; an expression that finds one in all"
    ):
        told(str(tmp_path / "b"), subject="sub-([12])")
    for wrong, match in (("(", r"subject is '\(' \(.+\); a regular expression"), ("(a)(b)", "of 2 groups; one, or none, is needed")):
        with pytest.raises(ValueError, match=match):
            told(str(tmp_path / "b"), subject=wrong)


CROSSED = {
    "folders of contrasts": {(p, c): f"{CONTRASTS[c]}/P{p}.nii" for p, c in HOSPITAL},
    "and names": {(p, c): f"{CONTRASTS[c]}/P{p}_{CONTRASTS[c]}.nii" for p, c in HOSPITAL if (p, c) != (3, 1)},
    "and folders of people": {(p, c): f"{CONTRASTS[c]}/P{p}/scan.nii" for p, c in HOSPITAL},
    "names begun by contrasts": {(p, c): f"{CONTRASTS[c]}_P{p}.nii" for p, c in HOSPITAL},
}


@pytest.mark.parametrize("layout", CROSSED.values(), ids=CROSSED)
def test_contrasts_are_not_taken_for_people(tmp_path, layout):
    """Folders or beginnings of names that hold the same people each are refused, unless nothing is held out or an expression tells people."""
    folder = written(tmp_path, layout)
    with pytest.raises(
        InputError, match=r"volumes, taken to be of 3 subjects by their places, in most of which the same, .*; `subject`, an expr"
    ) as error:
        told(folder)
    assert "\n" not in str(error.value)
    assert people(told(folder, subject=r"P\d"))["test"] == {4}
    assert told(folder, validation=0, test=0).num["train"] == 2 * len(layout)


def test_one_subject_only(tmp_path, caplog):
    """Several volumes that are all taken to be of one are refused; of a single volume nothing is held out, which is told."""
    folder = written(tmp_path, {(p, 0): f"brain_{p}.nii" for p in PEOPLE})
    with pytest.raises(InputError, match=r"holds 4 volumes, taken to be of 1 subject by their places, of whom none can be held out; `subject`"):
        told(folder)
    assert people(told(folder, subject=r"\d"))["test"] == {4}
    with caplog.at_level(logging.WARNING):
        assert told(folder, pattern="*_1.nii").num == {"train": 2, "validation": 0, "test": 0}
    assert "all examples are of one subject: nothing is held out" in caplog.text
    caplog.clear()
    assert told(folder, validation=0, test=0).num["train"] == 8 and not caplog.text
