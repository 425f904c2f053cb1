"""NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, with 14 findings that a program took from the reports.

`Data_Entry_2017.csv` has a line an image: its name, findings joined by `|` or "No Finding", patient, view, and width, height and pixel spacing [mm]
of the original, of which the PNG is a copy resampled to 1024 x 1024. The official lists part the patients into those to train on and those to test.
"""

import csv
import functools
import io
from pathlib import Path

import numpy as np

from medjax.data.scan import InputError, reason
from medjax.data.tfds_builder import Group, Source, built, needed, part_of

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Consolidation", "Edema"),
    *("Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
"""What the entries of `findings` are, in their order."""

_DESCRIPTION = f"""Radiographs: image (grey, 0 to 255), findings (1 where there is {", ".join(FINDINGS)}), label (whether there is any), view (PA
or AP), spacing between rows and columns [mm] and patient (the pseudonym of the data set)."""
_INSTRUCTIONS = """Fetch Data_Entry_2017.csv (or Data_Entry_2017_v2020.csv), train_val_list.txt, test_list.txt and all of images_001.tar.gz to
images_012.tar.gz from https://nihcc.app.box.com/v/ChestXray-NIHCC and unpack the archives: the folder given must hold the three files, and
all .png files in a folder images."""
_CITATION = """Wang X et al. (2017), ChestX-ray8: hospital-scale chest X-ray database and benchmarks on weakly-supervised classification and
localization of common thorax diseases, CVPR, 3462-3471, https://arxiv.org/abs/1705.02315"""
_TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_SIZES = ("Height]", "OriginalImage[Width", "y]", "OriginalImagePixelSpacing[x")  # the header's commas part "OriginalImage[Width,Height]"


def builder(data_dir):
    """The builder of ChestX-ray14: official test list; of the patients of the official other list one in ten is to validate."""
    source = Source("chest_xray14", _DESCRIPTION, "https://nihcc.app.box.com/v/ChestXray-NIHCC", _CITATION, _INSTRUCTIONS, _features, _groups)
    return built(source, data_dir)


def _features(tfds):
    """What an example holds."""
    return {
        "image": tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png"),
        "findings": tfds.features.Tensor(shape=(len(FINDINGS),), dtype=np.uint8),
        "label": tfds.features.ClassLabel(names=["no finding", "finding"]),
        "view": tfds.features.ClassLabel(names=["PA", "AP"]),
        "spacing": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "patient": tfds.features.Text(),
    }


def _groups(folder: Path):
    """part -> patient -> Group; the group "tables" has no examples."""
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), folder / _TABLES[0])
    with open(needed(table, _INSTRUCTIONS), newline="", encoding="utf-8-sig") as file:
        rows = {row["Image Index"]: row for row in csv.DictReader(file) if row.get("Image Index")}
    lists = {part: needed(folder / name, _INSTRUCTIONS) for part, name in _LISTS.items()}
    found = {"train": {}, "validation": {}, "test": {}}
    for official, path in lists.items():
        for name in path.read_text().split():
            if name not in rows:
                raise InputError(path, f"lists {name}, which {table.name} does not; a line for each image is needed")
            patient = _patient(table, rows[name])
            part = "validation" if official == "train" and part_of(patient) == "validation" else official
            found[part].setdefault(patient, []).append(rows[name])
    both = sorted(found["test"].keys() & (found["train"].keys() | found["validation"].keys()))
    if both:
        raise InputError(folder, f"{len(both)} patients are in both lists, {both[0]} among them; the official lists are needed")
    groups = {part: {patient: _group(folder / "images", table, patient, of) for patient, of in patients.items()} for part, patients in found.items()}
    return groups | {"train": {"tables": Group((table, *lists.values()), tuple), **groups["train"]}}


def _patient(table, row) -> str:
    """The number of a patient, in the eight digits that names of images begin with."""
    if not str(row.get("Patient ID", "")).isdecimal():
        raise InputError(table, f"has {row.get('Patient ID')!r} as Patient ID of {row['Image Index']}; a number is needed")
    return f"{int(row['Patient ID']):08d}"


def _group(images, table, patient, rows):
    """The images of a patient."""
    paths = tuple(needed(images / row["Image Index"], _INSTRUCTIONS) for row in rows)
    return Group(paths, functools.partial(_examples, table, patient, rows, paths))


def _examples(table, patient, rows, paths):
    """The radiographs of a patient."""
    for row, path in zip(rows, paths, strict=True):
        names = [] if row["Finding Labels"] == "No Finding" else row["Finding Labels"].split("|")
        unknown = set(names) - set(FINDINGS)
        if unknown or row["View Position"] not in ("PA", "AP"):
            raise InputError(table, f"has {row['Finding Labels']} and {row['View Position']} for {path.name}; known findings and PA or AP are needed")
        file, shape = _grey(path)
        try:
            size, spacing = np.asarray([row[name] for name in _SIZES], float).reshape(2, 2)
        except (KeyError, TypeError, ValueError):
            raise InputError(table, f"tells no {', '.join(_SIZES)} of {path.name}; numbers are needed") from None
        seen = np.asarray([name in names for name in FINDINGS], np.uint8)
        beside = {"label": int(seen.any()), "view": row["View Position"], "spacing": (spacing * size / shape).astype(np.float32), "patient": patient}
        yield path.stem, {"image": file, "findings": seen, **beside}


def _grey(path):
    """A PNG file of one channel, as it lies there or, where it has colours, turned grey, and its height and width."""
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            image.load()
            shape, file = (image.height, image.width), io.BytesIO(path.read_bytes())
            if image.mode != "L" or image.format != "PNG":
                file = io.BytesIO()
                image.convert("L").save(file, "PNG")
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or not a PNG file ({reason(error)})") from None
    file.seek(0)
    return file, shape
