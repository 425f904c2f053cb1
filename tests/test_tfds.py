"""Builders of TensorFlow Datasets without TensorFlow, on small folders of the official layouts."""

import csv
import gzip
import hashlib
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset

from medjax.config import Spec, build
from medjax.data import tfds_patch_camelyon
from medjax.data.files import PARTS, batch
from medjax.data.scan import InputError
from medjax.data.tfds_builder import NAMES, builder, main, part_of, prepare
from medjax.data.tfds_files import files

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")
h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
SIZE = 16


def names_of(pattern, num=1):
    """part -> the first `num` names of a pattern that are of that part."""
    return {part: list(itertools.islice((n for n in map(pattern.format, range(1000)) if part_of(n) == part), num)) for part in PARTS}


def write_slice(path, hu, z, description="", uid=None, series="1.2.3", modality="CT"):
    """A CT slice of 0.5 mm pixels, stored with a slope and an intercept."""
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = pydicom.uid.CTImageStorage, uid or f"{series}.{int(10 * z) + 1000}", series
    data.Modality, data.SeriesDescription, data.PatientID, data.PatientName = modality, description, "P", "Name^Real"
    data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = [-4, -4, z], [1, 0, 0, 0, 1, 0], [0.5, 0.5]
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    data.SamplesPerPixel, data.PhotometricInterpretation, (data.Rows, data.Columns) = 1, "MONOCHROME2", hu.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = ((hu + 1024) // 2).astype("<u2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def random_hu(*shape):
    return 2 * RNG.integers(-500, 500, shape).astype(np.int16)  # even, as a slope of 2 makes them


def write_nifti(path, volume, spacings, axes="RAS"):
    """`volume` towards right, anterior and superior, stored along `axes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(volume, np.diag([*spacings, 1.0]))
    moves = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes))
    nibabel.save(image.as_reoriented(moves), path)


def stored(name, manual, folder):
    """part -> examples as they lie there, and the metadata, of a data set that is prepared twice and must not differ."""
    paths = [prepare(name, manual, folder / once) for once in ("one", "two")]
    found = [{path.name: path.read_bytes() for path in sorted(each.iterdir()) if "array_record" in path.name} for each in paths]
    assert found[0] == found[1] and found[0]
    metadata = [json.loads((path / "metadata.json").read_text()) for path in paths]
    assert metadata[0] == metadata[1] and all(len(digest) == 64 for digest in metadata[0]["sha256"].values())
    reader = tfds.builder_from_directory(str(paths[0]))
    assert b"Name^Real" not in b"".join(found[0].values()) and "tensorflow" not in sys.modules
    return {part: list(reader.as_data_source(part)) for part in reader.info.splits}, metadata[0]["sha256"]


def owners(examples, feature="patient"):
    """part -> whom its examples are of; nobody is in two parts."""
    found = {part: {each[feature].decode() for each in of} for part, of in examples.items()}
    assert sum(map(len, found.values())) == len(set().union(*found.values()))
    return found


def roi(uid, z, corners, inclusion="TRUE"):
    """The outline of a rectangle from column and row `corners[:2]` to `corners[2:]`, all its pixels told in turn."""
    x0, y0, x1, y1 = corners
    width, height = x1 - x0, y1 - y0
    ring = np.cumsum([(x0, y0), *[(1, 0)] * width, *[(0, 1)] * height, *[(-1, 0)] * width, *[(0, -1)] * (height - 1)], 0)
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in ring)
    return f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{uid}</imageSOP_UID><inclusion>{inclusion}</inclusion>{edges}</roi>"


def nodule(*rois, large=True):
    """A nodule of 3 mm and more, or a smaller one."""
    return f"<unblindedReadNodule>{'<characteristics><subtlety>4</subtlety></characteristics>' * large}{''.join(rois)}</unblindedReadNodule>"


def annotation(series, *sessions):
    """The XML of a series, one session a reader."""
    header = f'<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>'
    return header + "".join(f"<readingSession>{each}</readingSession>" for each in sessions) + "</LidcReadMessage>"


def write_lidc(folder):
    """Patients of three slices, files in no order of position; the first has annotations and a radiograph. Returns part -> ids, and the volumes."""
    patients, volumes = names_of("LIDC-IDRI-{:04d}", 2), {}
    for number, name in enumerate(sum(patients.values(), [])):
        volumes[name], series = random_hu(3, SIZE, SIZE + 2), f"1.2.{number}"
        at = folder / "LIDC-IDRI" / name / "01-01-2000-NA-NA-30178" / "3000566.000000-NA-03192"
        for file, index in (("1-001", 2), ("1-002", 0), ("1-003", 1)):
            write_slice(at / f"{file}.dcm", volumes[name][index], 2.5 * index - 100, series=series)
    at = folder / "LIDC-IDRI" / patients["train"][0] / "01-01-2000-NA-NA-30178"
    write_slice(at / "1.000000-NA-1" / "1-1.dcm", random_hu(SIZE, SIZE), 0, series="1.9", modality="DX")
    uid = "1.2.0.25"  # the slice at -97.5 mm
    holed = nodule(roi(uid, -97.5, (2, 3, 8, 9)), roi(uid, -97.5, (4, 5, 6, 7), "FALSE"))
    small, elsewhere = nodule(roi(uid, -97.5, (10, 10, 13, 13)), large=False), nodule(roi("1.9.9.9", -95, (1, 1, 4, 4)))
    text = annotation("1.2.0", holed + small, nodule(roi(uid, -97.5, (2, 3, 8, 9))) + elsewhere, "")
    (at / "3000566.000000-NA-03192" / "069.xml").write_text(text)
    (at / "1.000000-NA-1" / "070.xml").write_text(annotation("1.9", nodule(roi("1.9.1000", 0, (2, 2, 9, 9)))))  # of the radiograph
    return patients, volumes


def test_lidc_idri(tmp_path):
    """Slices in order of position in HU; a mask counts the readers, without outlines, holes and nodules below 3 mm."""
    patients, volumes = write_lidc(tmp_path / "manual")
    examples, digests = stored("lidc_idri", tmp_path / "manual", tmp_path)
    assert owners(examples) == {part: set(names) for part, names in patients.items()} and set(digests) == set(volumes)
    for each in itertools.chain(*examples.values()):
        np.testing.assert_array_equal(each["image"], volumes[each["patient"].decode()][each["slice"]])
        np.testing.assert_array_equal(each["spacing"], [2.5, 0.5, 0.5])
    first = [each for each in examples["train"] if each["patient"].decode() == patients["train"][0]]
    assert [each["slice"] for each in first] == [0, 1, 2] and [each["readers"] for each in first] == [3, 3, 3]
    wanted = np.zeros((3, SIZE, SIZE + 2), int)
    wanted[1, 4:9, 3:8] = 2
    wanted[1, 5:8, 4:7] = 1  # the hole of the first reader, its outline included
    wanted[2, 2:4, 2:4] = 1
    np.testing.assert_array_equal([each["mask"] for each in first], wanted)
    assert not any(each["mask"].any() or each["readers"] for each in examples["test"])
    found = files("lidc_idri", str(tmp_path / "one"), size=8, background=-1000, lowest=-400)
    images = batch(found, "train", [1, 4]).image
    padded = np.pad(np.maximum(first[1]["image"].astype(float), -400), ((1, 1), (0, 0)), constant_values=-1000)
    mean = padded[:9, :9].mean()  # the quarter that 4 x 4 of 8 x 8 new pixels cover
    assert found.num == dict.fromkeys(PARTS, 6) and images.shape == (2, 8, 8) and images.dtype == np.float32
    assert images[0, :4, :4].mean() == pytest.approx(mean, rel=1e-5)


def test_bad_lidc_idri(tmp_path):
    """An outline of a slice that is not there stops the build, and nothing stays behind."""
    patients, _ = write_lidc(tmp_path / "manual")
    path = next((tmp_path / "manual" / "LIDC-IDRI" / patients["train"][0]).rglob("069.xml"))
    text = path.read_text()
    for bad, match in (
        (text.replace("<imageZposition>-95<", "<imageZposition>-93<"), "in the slice 1.9.9.9 at -93 mm"),
        (text[:-5], "is damaged or no"),
    ):
        path.write_text(bad)
        with pytest.raises(InputError, match=f"069.xml: .*{match}") as error:
            prepare("lidc_idri", tmp_path / "manual", tmp_path / "data")
        assert "\n" not in str(error.value) and not list((tmp_path / "data").rglob("*.array_record*"))


def write_ldct(folder):
    """A patient of each part, and one of GE without images of low dose."""
    patients, volumes = names_of("L{:03d}"), {}
    for number, name in enumerate([*sum(patients.values(), []), "C999"]):
        volumes[name] = random_hu(2, 2, SIZE, SIZE)
        for dose, of, study in (("Full dose images", 0, "08-23-2018-84608"), ("Low Dose Images", 1, "08-23-2018-10971")):
            for index in range(0 if name == "C999" and of else 2):
                path = folder / "LDCT-and-Projection-data" / name / study / f"1.000000-{dose}-59704" / f"1-{9 - index}.dcm"
                write_slice(path, volumes[name][of, index], 3.0 * index, dose, series=f"1.{number}.{of}")
        path = folder / "LDCT-and-Projection-data" / name / "08-23-2018-10971" / "1.000000-Full dose projections-1" / "1-1.dcm"
        write_slice(path, random_hu(SIZE, SIZE), 0, "Full dose projections", series=f"1.{number}.7")
    return patients, volumes


def test_ldct(tmp_path):
    """Pairs at the same place; patients without a pair are left out."""
    patients, volumes = write_ldct(tmp_path / "manual")
    examples, digests = stored("ldct", tmp_path / "manual", tmp_path)
    assert owners(examples) == {part: set(names) for part, names in patients.items()} and "C999" not in digests
    for each in itertools.chain(*examples.values()):
        np.testing.assert_array_equal([each["image"], each["low_dose"]], volumes[each["patient"].decode()][:, each["slice"]])
        assert each["spacing"].tolist() == [3, 0.5, 0.5] and each["exam"] == 1
    found = files("ldct", str(tmp_path / "one"), ("image", "low_dose"), "exam")
    images, _, label = batch(found, "test", [1])
    np.testing.assert_array_equal(np.moveaxis(images[0], -1, 0), volumes[patients["test"][0]][:, 1])
    assert label is not None and label.dtype == np.int32 and label.tolist() == [1]
    path = next((tmp_path / "manual").rglob("1.000000-Low*/1-8.dcm"))
    write_slice(path, random_hu(SIZE, SIZE), 3.5, "Low Dose Images", series=pydicom.dcmread(path).SeriesInstanceUID)
    with pytest.raises(InputError, match="1-8.dcm: lies at 3.5 mm, its pair of full dose at 3 mm"):
        prepare("ldct", tmp_path / "manual", tmp_path / "three")


def write_brats(folder):
    """Cases of 2020 and of 2023, the latter with two time points of a patient; the lowest slice shows nothing."""
    patients, volumes = names_of("BraTS20_Training_{:03d}"), {}
    late = names_of("BraTS-GLI-{:05d}")["test"][0]
    for case in [*sum(patients.values(), []), f"{late}-000", f"{late}-001"]:
        join, endings = ("-", ("t1n", "t1c", "t2w", "t2f")) if "GLI" in case else ("_", ("t1", "t1ce", "t2", "flair"))
        volumes[case] = RNG.integers(1, 900, (5, SIZE, SIZE + 2, 3)).astype(np.float32)
        volumes[case][..., 0] = 0
        volumes[case][4] = RNG.choice([0, 1, 2, 3 if "GLI" in case else 4], (SIZE, SIZE + 2, 3))
        for ending, volume in zip((*endings, "seg"), volumes[case], strict=True):
            write_nifti(folder / case / f"{case}{join}{ending}.nii.gz", volume.astype(np.int16), (1, 1, 1), "LPS")
    return patients, late, volumes


def test_brats(tmp_path):
    """Axial slices as a radiologist sees them, one set of labels for all years, time points of a patient together."""
    patients, late, volumes = write_brats(tmp_path / "manual")
    examples, digests = stored("brats", tmp_path / "manual", tmp_path)
    assert owners(examples) == {part: {*names, *[late] * (part == "test")} for part, names in patients.items()} and late in digests
    assert [each["slice"] for each in examples["train"]] == [1, 2]
    for each in itertools.chain(*examples.values()):
        seen = volumes[each["case"].decode()][:, ::-1, ::-1, each["slice"]].transpose(0, 2, 1)
        np.testing.assert_array_equal([each[name] for name in ("t1", "t1ce", "t2", "flair")], seen[:4])
        np.testing.assert_array_equal(each["seg"], np.where(seen[4] == 4, 3, seen[4]))
        assert each["t2_max"] == volumes[each["case"].decode()][2].max() and each["seg"].max() == 3
    found = build(Spec("tfds_files.files", {"data_set": "brats", "data_dir": str(tmp_path / "one"), "image": "flair", "over": "flair_max"}))
    np.testing.assert_allclose(found.read("train", 0).image, examples["train"][0]["flair"] / examples["train"][0]["flair_max"], rtol=1e-6)
    case = patients["train"][0]
    (tmp_path / "manual" / case / f"{case}_seg.nii.gz").unlink()
    with pytest.raises(InputError, match=f"holds no {case}_seg.nii.gz; all four contrasts"):
        prepare("brats", tmp_path / "manual", tmp_path / "three")


def write_ixi(folder):
    """A subject of each part: T1 stored sagittally as posterior, superior, right; T2 axially."""
    patients, volumes = names_of("IXI{:03d}"), {}
    for name, site in zip(sum(patients.values(), []), ("Guys", "HH", "IOP"), strict=True):
        volumes[name, "t1"], volumes[name, "t2"] = (RNG.integers(1, 900, shape).astype(np.int16) for shape in ((3, SIZE, 18), (18, SIZE, 4)))
        write_nifti(folder / f"{name}-{site}-0828-T1.nii.gz", volumes[name, "t1"], (1.2, 0.9375, 0.9375), "PSR")
        write_nifti(folder / "IXI-T2" / f"{name}-{site}-0828-T2.nii.gz", volumes[name, "t2"], (0.9375, 0.9375, 1.25))
    return patients, volumes


def test_ixi(tmp_path):
    """Slices in the plane of square pixels, which is sagittal for T1 and axial for T2; subjects are parted alike."""
    patients, volumes = write_ixi(tmp_path / "manual")
    for config, across, spacing in (("t1", 0, (1.2, 0.9375, 0.9375)), ("t2", 2, (1.25, 0.9375, 0.9375))):
        examples, _ = stored(f"ixi/{config}", tmp_path / "manual", tmp_path)
        assert owners(examples) == {part: set(names) for part, names in patients.items()}
        for each in itertools.chain(*examples.values()):
            volume = volumes[each["patient"].decode(), config]
            np.testing.assert_array_equal(each["image"], np.moveaxis(volume, across, 0)[each["slice"], ::-1, ::-1].T)
            np.testing.assert_allclose(each["spacing"], spacing, rtol=1e-6)
            assert each["volume_max"] == volume.max()
        assert [each["site"] for each in examples["validation"]] == [1] * len(examples["validation"])
    assert files("ixi/t1", str(tmp_path / "one"), label="site", over="volume_max").num == dict.fromkeys(PARTS, 3)
    with pytest.raises(InputError, match="holds no IXINNN-SITE-SSSS-PD.nii.gz; what is needed: Fetch IXI-PD.tar from"):
        prepare("ixi/pd", tmp_path / "manual", tmp_path / "one")


COLUMNS = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height]"


def write_chest(folder):
    """Patients of the official lists, of which the first image is stored in colours; those of the test list would else be of other parts."""
    (folder / "images").mkdir(parents=True)
    patients = names_of("{:08d}")
    rows, lists, images = [f"{COLUMNS},OriginalImagePixelSpacing[x,y],"], {"train_val_list.txt": [], "test_list.txt": []}, {}
    tested = [n for n in map("{:08d}".format, range(2000, 2100)) if part_of(n) == "train"][:1]
    for patient in [*patients["train"], *patients["validation"], *tested]:
        for visit, (found, view) in enumerate((("Cardiomegaly|Hernia", "PA"), ("No Finding", "AP"))):
            name = f"{patient}_{visit:03d}.png"
            images[name] = RNG.integers(0, 255, (SIZE, SIZE), np.uint8)
            image = PIL.Image.fromarray(images[name])
            (image.convert("RGBA") if not images.keys() - {name} else image).save(folder / "images" / name)
            rows.append(f"{name},{found},{visit},{int(patient)},058Y,M,{view},32,48,0.1,0.2,")
            lists["test_list.txt" if patient in tested else "train_val_list.txt"].append(name)
    (folder / "Data_Entry_2017.csv").write_text("\n".join(rows))
    for name, listed in lists.items():
        (folder / name).write_text("\n".join(listed))
    return {"train": patients["train"], "validation": patients["validation"], "test": tested}, images


def test_chest_xray14(tmp_path):
    """Official lists, of whose first a tenth of the patients is to validate; grey images, findings, and the spacing of the small image."""
    patients, images = write_chest(tmp_path / "manual")
    examples, digests = stored("chest_xray14", tmp_path / "manual", tmp_path)
    assert owners(examples) == {part: set(names) for part, names in patients.items()} and "tables" in digests
    for each, (name, image) in zip(itertools.chain(*(examples[part] for part in PARTS)), images.items(), strict=True):
        np.testing.assert_array_equal(each["image"], image[..., None])
        assert np.flatnonzero(each["findings"]).tolist() == ([1, 13] if "_000" in name else [])
        assert each["label"] == ("_000" in name) and each["view"] == ("_001" in name)
        np.testing.assert_allclose(each["spacing"], [0.2 * 48 / SIZE, 0.1 * 32 / SIZE], rtol=1e-6)
    assert files("chest_xray14", str(tmp_path / "one"), label="label").read("test", 1).image.shape == (SIZE, SIZE)
    (tmp_path / "manual" / "images" / next(iter(images))).unlink()
    with pytest.raises(InputError, match="_000.png: no such file or folder; what is needed: Fetch Data_Entry_2017.csv"):
        prepare("chest_xray14", tmp_path / "manual", tmp_path / "three")
    (tmp_path / "manual" / "test_list.txt").write_text("\n".join(images))
    with pytest.raises(InputError, match="2 patients are in both lists"):
        prepare("chest_xray14", tmp_path / "manual", tmp_path / "three")


def write_camelyon(folder, monkeypatch, slides=None):
    """Three patches a part, whose published checksums are those of what is written."""
    folder.mkdir(exist_ok=True)
    patches, checksums = {}, {}
    for word in ("train", "valid", "test"):
        x, y, meta = (folder / f"camelyonpatch_level_2_split_{word}_{ending}" for ending in ("x.h5", "y.h5", "meta.csv"))
        patches[word] = RNG.integers(0, 256, (3, 96, 96, 3), np.uint8)
        with h5py.File(x, "w") as images, h5py.File(y, "w") as labels:
            images["x"], labels["y"] = patches[word], np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1)
        with open(meta, "w", newline="") as file:
            named = [(i, 1, 1, False, False, slides or f"camelyon16_{word}_{i // 2}") for i in range(3)]
            csv.writer(file).writerows([("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"), *named])
        packed = x.with_name(f"{x.name}.gz")
        packed.write_bytes(gzip.compress(x.read_bytes()))
        checksums |= {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in (packed, meta)}
    assert checksums.keys() <= tfds_patch_camelyon.MD5.keys()
    monkeypatch.setattr(tfds_patch_camelyon, "MD5", checksums)
    return patches


def test_patch_camelyon(tmp_path, monkeypatch):
    """Official parts in the order of the files; published checksums are asked for, of packed files those of what was unpacked, too."""
    manual = tmp_path / "manual"
    patches = write_camelyon(manual, monkeypatch)
    examples, _ = stored("patch_camelyon", manual, tmp_path)
    assert owners(examples, "slide")["validation"] == {"camelyon16_valid_0", "camelyon16_valid_1"}
    for part, word in (("train", "train"), ("validation", "valid"), ("test", "test")):
        np.testing.assert_array_equal([each["image"] for each in examples[part]], patches[word])
    images, _, labels = batch(files("patch_camelyon", str(tmp_path / "one"), label="label"), "validation", range(3))
    np.testing.assert_array_equal(images, patches["valid"])
    assert labels is not None and labels.tolist() == [0, 1, 1]
    packed = manual / "camelyonpatch_level_2_split_test_x.h5.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-9] + b"x" + whole[-8:])
    with pytest.raises(InputError, match="test_x.h5.gz: has the MD5 .* is published, fetch it again"):
        prepare("patch_camelyon", manual, tmp_path / "three")
    packed.write_bytes(whole)
    (manual / "camelyonpatch_level_2_split_test_x.h5").write_bytes((manual / "camelyonpatch_level_2_split_valid_x.h5").read_bytes())
    with pytest.raises(InputError, match="test_x.h5: is not what .*test_x.h5.gz holds; unpack it again"):
        prepare("patch_camelyon", manual, tmp_path / "three")
    write_camelyon(manual, monkeypatch, slides="camelyon16_one")
    with pytest.raises(InputError, match="holds the slide camelyon16_one, as the part train does"):
        prepare("patch_camelyon", manual, tmp_path / "three")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_to_be_fetched(tmp_path, name, capsys):
    """No folder, an empty one and one of other files are answered in one line by what is needed, with status 2."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "notes").mkdir(parents=True)
    assert "https://" in builder(name, tmp_path / "data").MANUAL_DOWNLOAD_INSTRUCTIONS
    for manual in ("missing", "empty", "other"):
        assert main([name, "--manual-dir", str(tmp_path / manual), "--data-dir", str(tmp_path / "data")]) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert str(tmp_path / manual) in told and "Fetch " in told and "https://" in told


def test_the_command(tmp_path, capsys):
    """It says where the records are; what is there already is not written over, and another name is refused."""
    write_ixi(tmp_path / "manual")
    arguments = ["--manual-dir", str(tmp_path / "manual"), "--data-dir", str(tmp_path / "data")]
    assert main(["ixi/t2", *arguments]) == 0 and str(tmp_path / "data" / "ixi" / "t2" / "1.0.0") in capsys.readouterr().out
    assert main(["ixi/t2", *arguments]) == 2 and "is prepared already" in capsys.readouterr().err
    assert main(["ixi", *arguments]) == 2 and "ixi: is no data set that can be prepared; one of brats, " in capsys.readouterr().err


def test_records_in_several_files(tmp_path, monkeypatch):
    """A part of more bytes than a file takes keeps its order, and no TensorFlow is asked for, as beyond 1 GB TensorFlow Datasets would."""
    write_ixi(tmp_path / "manual")
    monkeypatch.setattr("medjax.data.tfds_builder.SHARD", 2000)
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 0)
    examples, _ = stored("ixi/t2", tmp_path / "manual", tmp_path)
    assert [each["slice"] for each in examples["train"]] == [0, 1, 2, 3] and len(list((tmp_path / "one").rglob("ixi-train.array_record-*"))) == 2
    with ThreadPoolExecutor(8) as pool:
        read = files("ixi/t2", str(tmp_path / "one")).read
        seen = list(pool.map(lambda i: read("train", i % 4).image, range(400)))
    assert all(np.array_equal(image, examples["train"][i % 4]["image"]) for i, image in enumerate(seen))


def test_files_of_what_is_not_there(tmp_path):
    write_ixi(tmp_path / "manual")
    prepare("ixi/t1", tmp_path / "manual", tmp_path)
    with pytest.raises(InputError, match="python -m medjax.data.tfds_builder brats --manual-dir DIR"):
        files("brats", str(tmp_path))
    for options in ({"image": "t1"}, {"image": "patient"}, {"image": ("image", "site")}, {"label": "volume_max"}, {"over": "image"}, {"image": ()}):
        with pytest.raises(InputError, match="has the features image, patient, site, .* is none of them that is") as error:
            files("ixi/t1", str(tmp_path), **options)
        assert "\n" not in str(error.value)
    found = files("ixi/t1", str(tmp_path))
    record = next((tmp_path / "ixi" / "t1" / "1.0.0").glob("ixi-test*"))
    record.write_bytes(record.read_bytes()[:-200])
    with pytest.raises(InputError, match="has no whole record 0 of the part test"):
        found.read("test", 0)
    (tmp_path / "ixi" / "t1" / "1.0.0" / "features.json").unlink()
    with pytest.raises(InputError, match="is no whole prepared data set"):
        files("ixi/t1", str(tmp_path))


def test_parts_are_by_name_alone():
    """One in ten each to validate and test, and the same ones for ever."""
    parts = [part_of(f"LIDC-IDRI-{number:04d}") for number in range(10000)]
    assert all(abs(parts.count(part) / 10000 - 0.1) < 0.01 for part in ("validation", "test"))
    assert [number for number in range(30) if parts[number] == "test"] == [20, 22, 25]
