"""NIfTI volumes and chest X-rays in folders, as their data sets lay them out."""

import concurrent.futures

import nibabel
import numpy as np
import pytest
from PIL import Image

from medjax.data import chest_xray, nifti_volumes
from medjax.data.files import batch, parted
from medjax.data.fit import square_pixels
from medjax.data.scan import InputError

RNG = np.random.default_rng(0)
HEAD = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
HEAD += "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"


def volume(path, voxels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(voxels, np.float32), np.eye(4) if affine is None else affine), path)


def test_parts_hold_whole_subjects():
    subjects = RNG.permutation(np.repeat([f"s{i}" for i in range(10)], 3))
    found = parted(subjects, 0.2, 0.1)
    assert [sorted(set(subjects[found[part]])) for part in ("validation", "test")] == [["s7", "s8"], ["s9"]]
    assert sorted(np.concatenate(list(found.values()))) == list(range(30))
    assert {part: len(each) for part, each in parted(["a", "b", "c"], 0.01, 0.01).items()} == {"train": 1, "validation": 1, "test": 1}
    assert {part: len(each) for part, each in parted(["a", "b"], 0, 0).items()} == {"train": 2, "validation": 0, "test": 0}
    for shares in ((0.5, 0.5), (-0.1, 0.1), (0.1, float("nan"))):
        with pytest.raises(ValueError, match="shares from 0, below 1 together"):
            parted(subjects, *shares)
    with pytest.raises(ValueError, match="2 subjects, 0 of them for validation and 0.9 for tests, leave none"):
        parted(["a", "b"], 0, 0.9)


def test_square_pixels():
    """A plane stays a plane: rows of 2 mm become two of 1 mm each."""
    rows, columns = np.arange(6) + 0.5, np.arange(5) + 0.5
    image, side = square_pixels(2 * rows[:, None] + 7 * columns, (2.0, 1.0))
    assert image.shape == (12, 5) and side == 1
    np.testing.assert_allclose(image[1:-1], (np.arange(1, 11) + 0.5)[:, None] + 7 * columns)
    image, side = square_pixels(rows[:, None] + 9j * columns, (1.0, 3.0))
    assert image.shape == (6, 15) and np.allclose(image[:, 4], rows + 9j * 1.5)


@pytest.mark.parametrize("axis, place", [(0, 5), (1, 30), (2, 9)])
def test_slices_follow_the_affine(tmp_path, axis, place):
    """Voxels stored in another order of axes, some backwards, with slices of 2 mm: the slice is as a radiologist sees it, in square pixels."""
    canonical = RNG.normal(50, 9, (24, 40, 20)).astype(np.float32)
    source = nibabel.Nifti1Image(canonical, np.diag([1.0, 1.0, 2.0, 1.0]))
    stored = source.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt("SPL"))
    )
    assert stored.shape == (20, 40, 24)
    volume(tmp_path / "a.nii.gz", stored.get_fdata(), stored.affine)
    found = nifti_volumes.files(str(tmp_path), 40, axis, "ct", validation=0, test=0)
    assert found.num["train"] == canonical.shape[axis]
    image = found.read("train", place).image
    truth = np.take(canonical, place, axis)[::-1, ::-1].T
    if axis == 2:
        assert image.shape == (40, 40) and np.all(image[:, :8] == -1000)
        np.testing.assert_array_equal(image[:, 8:32], truth)
    else:  # rows of 2 mm are interpolated at a quarter of them from their middles
        left = (40 - truth.shape[1]) // 2
        wanted = 0.75 * truth[1:] + 0.25 * truth[:-1]
        np.testing.assert_allclose(image[2::2, left : left + truth.shape[1]], wanted, rtol=1e-5)


def test_units_of_volumes(tmp_path):
    """CT by its air stays in HU; MR is over the 99.5th percentile of the middle slice; both may be told."""
    hu = np.full((20, 20, 3), 40.0)
    hu[:10] = -990
    volume(tmp_path / "ct" / "a.nii", hu)
    mr = np.arange(1.0, 4)[None, None] * np.arange(320.0).reshape(20, 16, 1)
    volume(tmp_path / "mr" / "a.nii", mr)
    read = nifti_volumes.files(str(tmp_path / "ct"), 20, validation=0, test=0).read
    np.testing.assert_allclose(read("train", 1).image, hu[::-1, ::-1, 1].T)
    read = nifti_volumes.files(str(tmp_path / "mr"), 20, validation=0, test=0).read
    np.testing.assert_allclose(read("train", 2).image, np.pad(mr[::-1, ::-1, 2].T / np.percentile(mr[..., 1], 99.5), ((2, 2), (0, 0))), rtol=1e-6)
    assert nifti_volumes.files(str(tmp_path / "mr"), 20, modality="ct", validation=0, test=0).read("train", 2).image.max() == 3 * 319


def test_subjects_of_bids(tmp_path, caplog):
    """Sessions and runs of a subject are in one part; masks beside the images, damaged files and those of four axes are not taken."""
    for s in range(1, 6):
        for session in (1, 2):
            name = tmp_path / f"sub-{s:02d}" / f"ses-{session}" / "anat" / f"sub-{s:02d}_ses-{session}_T1w.nii.gz"
            volume(name, np.full((16, 16, 2), 10 * s + session))
            volume(name.with_name("brain_mask.nii.gz"), np.ones((16, 16, 9)))
    volume(tmp_path / "sub-09" / "dwi_T1w.nii.gz", np.ones((16, 16, 2, 3)))
    (tmp_path / "sub-08_T1w.nii").write_bytes(b"nothing" * 100)
    found = nifti_volumes.files(str(tmp_path), 16, pattern="*_T1w.*", modality="ct", validation=0.3, test=0.3)
    assert found.num == {"train": 8, "validation": 4, "test": 8}
    whom = {part: {int(found.read(part, i).image[0, 0]) // 10 for i in range(num)} for part, num in found.num.items()}
    assert whom == {"train": {1, 2}, "validation": {3}, "test": {4, 5}}
    assert "2 volumes are left out" in caplog.text and "sub-08_T1w.nii: is truncated or not a NIfTI file" in caplog.text


def test_bad_volumes(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        nifti_volumes.files(str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"holds no NIfTI volumes \* \(no .nii or .nii.gz of that name\)"):
        nifti_volumes.files(str(tmp_path))
    with pytest.raises(ValueError, match="got axis 3 and modality ''"):
        nifti_volumes.files(str(tmp_path), axis=3)
    volume(tmp_path / "a.nii", np.full((16, 16, 2), np.nan))
    with pytest.raises(InputError, match="a.nii: image holds 256 NaN"):
        nifti_volumes.files(str(tmp_path), 16).read("train", 0)
    volume(tmp_path / "a.nii", np.ones((16, 16, 2)), np.diag([1, 99, 1, 1]))
    with pytest.raises(InputError, match=r"has pixels of 99 x 1 mm; positive sides of the same order"):
        nifti_volumes.files(str(tmp_path), 16).read("train", 0)


def nih(folder, rows, head=HEAD):
    """A table of (image, findings, patient, view) in the layout of NIH ChestX-ray14."""
    text = "\n".join([head, *(f"{name},{findings},0,{patient},058,F,{view},2682,2749,0.143,0.143," for name, findings, patient, view in rows)])
    (folder / "Data_Entry_2017.csv").write_text(text + "\n")


def picture(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def xrays(folder):
    """Twenty images of ten patients in two folders; the grey value is 10 patient + image."""
    findings = ["No Finding", "Effusion", "Mass|Effusion", "Hernia", "Mass|Hernia"]
    rows = [(f"{p:08d}_{i:03d}.png", findings[(2 * p + i) % 5], p, "PA" if i else "AP") for p in range(1, 11) for i in range(2)]
    for name, _, p, _ in rows:
        i = int(name[-5])
        picture(folder / f"images_{1 + p % 2:03d}" / "images" / name, np.full((20, 16), 10 * p + i, np.uint8))
    nih(folder, rows)
    return rows


def test_chest_x_rays(tmp_path):
    """Classes in the order asked for; images of several of them, or of others only, are left out; a patient is in one part."""
    rows = xrays(tmp_path)
    found = chest_xray.files(str(tmp_path), "Data_Entry_2017.csv", 20, ("Mass", "Effusion"), validation=0.2, test=0.2)
    seen, whom = {}, {}
    for part, num in found.num.items():
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            stored = list(pool.map(lambda i, part=part: found.read(part, i), range(num)))
        values = [round(255 * float(one.image[10, 10])) for one in stored]
        whom[part] = {value // 10 for value in values}
        seen |= dict(zip(values, [int(one.label) for one in stored], strict=True))
        assert all(one.label.dtype == np.int32 and one.image.dtype == np.float32 and one.image.shape == (20, 20) for one in stored)
        assert all(not one.image[:, :2].any() and not one.image[:, 18:].any() for one in stored)
    classes = {"No Finding": 0, "Effusion": 2, "Mass|Hernia": 1}
    assert seen == {10 * p + int(name[-5]): classes[findings] for name, findings, p, _ in rows if findings in classes}
    assert not whom["train"] & whom["test"] and not whom["train"] & whom["validation"] and not whom["test"] & whom["validation"]
    assert whom["test"] and whom["validation"]
    whole = chest_xray.files(str(tmp_path), "Data_Entry_2017.csv", 20, (), views=("PA",), validation=0, test=0)
    assert whole.num["train"] == 10 and batch(whole, "train", [0, 1]).label is None
    fourteen = chest_xray.files(str(tmp_path), str(tmp_path / "Data_Entry_2017.csv"), 20, validation=0, test=0)
    labels = [fourteen.read("train", i).label for i in range(fourteen.num["train"])]
    assert sorted(set(labels)) == [0, 3, 14]  # Mass with another one is of two classes


def test_official_tests(tmp_path):
    rows = xrays(tmp_path)
    (tmp_path / "test_list.txt").write_text("\n".join(name for name, _, p, _ in rows if p in (2, 7)) + "\n")
    found = chest_xray.files(str(tmp_path), "Data_Entry_2017.csv", 20, (), validation=0.25, test_list="test_list.txt")
    assert found.num == {"train": 12, "validation": 4, "test": 4}
    assert sorted({round(255 * float(found.read("test", i).image[10, 10])) // 10 for i in range(4)}) == [2, 7]
    (tmp_path / "test_list.txt").write_text(rows[2][0])
    with pytest.raises(InputError, match="has images of 1 patients who have others that it lacks"):
        chest_xray.files(str(tmp_path), "Data_Entry_2017.csv", 20, (), test_list="test_list.txt")


def test_missing_pictures_and_paths_in_the_table(tmp_path, caplog):
    """Another table, of paths from above the folder; images of one name in two folders are told apart; those not there are left out."""
    for p in range(3):
        picture(tmp_path / "train" / f"patient{p}" / "view1.jpg", np.full((16, 16), 50 * p, np.uint8))
    rows = [f"Set-small/train/patient{p}/view1.jpg,{'Normal' if p else 'Mass'},P{p}" for p in range(5)]
    (tmp_path / "train.csv").write_text("\n".join(["Path,Label,Who", *rows]))
    columns = ("Path", "Label", "Who", "")
    found = chest_xray.files(str(tmp_path), "train.csv", 16, ("Mass",), (), columns, "Normal", validation=0, test=0)
    assert [(round(255 * float(found.read("train", i).image[0, 0])), int(found.read("train", i).label)) for i in range(3)] == [
        (0, 1),
        (50, 0),
        (100, 0),
    ]
    assert found.num["train"] == 3 and "2 of 5 images of train.csv are missing and left out" in caplog.text
    (tmp_path / "train.csv").write_text("Path,Label,Who\nview1.jpg,Mass,P0\n")
    with pytest.raises(InputError, match="holds 3 files view1.jpg"):
        chest_xray.files(str(tmp_path), "train.csv", 16, ("Mass",), (), columns)


def test_kinds_of_pictures(tmp_path):
    """Sixteen bits are kept, colours and opacity become grey."""
    deep = RNG.integers(0, 65536, (16, 18)).astype(np.uint16)
    picture(tmp_path / "deep.png", deep)
    np.testing.assert_allclose(chest_xray.grey(tmp_path / "deep.png"), deep / 65535, rtol=1e-6)
    flat = RNG.integers(0, 256, (16, 18)).astype(np.uint8)
    opaque = np.full_like(flat, 255)
    pictures = {"L": flat, "LA": np.stack([flat, opaque], -1), "RGB": np.stack(3 * [flat], -1), "RGBA": np.stack([flat, flat, flat, opaque // 2], -1)}
    for mode, values in pictures.items():
        picture(tmp_path / f"{mode}.png", values)
        assert Image.open(tmp_path / f"{mode}.png").mode == mode
        np.testing.assert_allclose(chest_xray.grey(tmp_path / f"{mode}.png"), flat / 255, rtol=1e-6)
    green = np.zeros((16, 18, 3), np.uint8)
    green[..., 1] = 255
    picture(tmp_path / "green.png", green)
    assert chest_xray.grey(tmp_path / "green.png")[0, 0] == pytest.approx(0.587, abs=0.003)
    Image.fromarray(flat).convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(chest_xray.grey(tmp_path / "bits.png"))) == {0, 1}
    Image.fromarray(flat).quantize(256).save(tmp_path / "palette.png")
    np.testing.assert_allclose(chest_xray.grey(tmp_path / "palette.png"), flat / 255, atol=4 / 255)
    (tmp_path / "cut.png").write_bytes((tmp_path / "deep.png").read_bytes()[:300])
    Image.fromarray(flat).save(tmp_path / "a.gif")
    for name in ("cut.png", "a.gif"):
        with pytest.raises(InputError, match=f"{name}: is truncated or neither PNG nor JPEG") as error:
            chest_xray.grey(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"table": "none.csv"}, "none.csv: no such file; a table of the images"),
        ({"findings": ("Efusion",)}, "has no image with 'Efusion'"),
        ({"views": ("LL",)}, "has no rows of the views LL"),
        ({"columns": ("Name", "Finding Labels", "Patient ID", "")}, "has the columns Image Index, .*; 'Name' is needed"),
        ({"table": "short.csv"}, "has rows with fewer values than columns"),
        ({"table": "binary.csv"}, "is no table of text"),
        ({"folder": "images_001/images/00000002_000.png"}, "is no folder"),
        ({"folder": "empty", "table": "../Data_Entry_2017.csv"}, "holds none of the 12 images of Data_Entry_2017.csv"),
    ],
)
def test_bad_tables(tmp_path, options, match):
    xrays(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.csv").write_text("Image Index,Finding Labels,Patient ID\na.png\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x80" * 20)
    options = {"folder": "", "table": "Data_Entry_2017.csv"} | options
    with pytest.raises(InputError, match=match) as error:
        chest_xray.files(**(options | {"folder": str(tmp_path / options["folder"])}))
    assert "\n" not in str(error.value)
