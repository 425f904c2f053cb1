"""Chest X-rays with their findings: PNG or JPEG images in folders, and a table of them.

The defaults are the layout of NIH ChestX-ray14: `Data_Entry_2017.csv` has the columns Image Index, Finding Labels (joined by "|", or
"No Finding"), Follow-up #, Patient ID, Patient Age, Patient Gender, View Position and sizes of the original; images lie in `images_001/images` to
`images_012/images`.
"""

import csv
import logging
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from medjax.data.declared import checked_size
from medjax.data.files import Files, Stored, parted
from medjax.data.fit import fit
from medjax.data.scan import InputError, checked_slice, reason

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Consolidation", "Edema"),
    *("Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
"""The fourteen of NIH ChestX-ray14."""
NONE = "No Finding"
"""What the table says of an image without any."""
SUFFIXES = (".png", ".jpg", ".jpeg")
_PIXEL = 8  # bytes, of colours and their luma


class Columns(NamedTuple):
    """Names of the columns of a table."""

    image: str = "Image Index"
    findings: str = "Finding Labels"
    patient: str = "Patient ID"
    view: str = "View Position"


NIH = Columns()


def files(
    folder: str,
    table: str,
    size: int = 128,
    findings: tuple[str, ...] = FINDINGS,
    views: tuple[str, ...] = (),
    columns: tuple[str, str, str, str] = NIH,
    none: str = NONE,
    validation: float = 0.1,
    test: float = 0.1,
    test_list: str = "",
) -> Files:
    """Images in [0, 1], `[size, size]` float32, with a class each, split by patient; an image is read when it is asked for.

    The class is 0 for "No Finding", or `none`, and i for the i-th of the findings asked for, from 1. Images with none of them, or more than one,
    have no class and are left out; other findings beside the one do not count. Without findings asked for all images are taken, without a class.

    Args:
      folder: of the images, in any folders below it.
      table: the CSV file, by its place in the folder or anywhere else.
      size: pixels a side; oblong images are padded with 0.
      findings: to tell apart.
      views: those to take, such as ("PA",); all by default. Takes the column of views only where there are any.
      columns: names of the columns of images (names or paths that end as the files do), findings (joined by "|"), patients and views.
      none: what the table says of an image without findings.
      validation: share of the patients.
      test: share of the patients; those of `test_list` where that is given.
      test_list: a file with a name of an image a line, all for tests, such as `test_list.txt` of NIH.

    Raises:
      InputError: where the folder, the table, a column or all images are missing, and on reading where an image is damaged.
      ValueError: for shares that leave nothing to train on.

    Reference:
      Wang et al. (2017), ChestX-ray8: hospital-scale chest X-ray database and benchmarks, https://arxiv.org/abs/1705.02315, and the read-me of its
      data for the layout.
    """
    path, columns = _table(folder, table), Columns(*columns)
    rows = _labelled(path, rows_of(path, columns, views), findings, none)
    places, missing = _places(folder, rows)
    if not places:
        raise InputError(
            folder, f"holds none of the {len(rows)} images of {path.name} that are asked for; .png or .jpg files of these names are needed"
        )
    if missing:
        logging.getLogger(__name__).warning("%s: %d of %d images of %s are missing and left out", folder, missing, len(rows), path.name)
    patients = np.array([patient for _, patient, _ in places])
    parts = _listed(folder, test_list, places, patients, validation) if test_list else parted(patients, validation, test)

    def read(part, index):
        source, _, label = places[parts[part][index]]
        return Stored(fit(grey(source), size, 0)[0], None, None if label is None else np.int32(label))

    return Files({part: len(each) for part, each in parts.items()}, read)


def grey(path):
    """An image in [0, 1], `[h, w]` float32: 16 bits are kept, colours become their luma, opacity is ignored.

    Raises:
      InputError: where Pillow is missing, or the file is damaged or neither PNG nor JPEG.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(path, "is a picture, which needs the package Pillow: pip install pillow") from None
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            checked_size(path, f"a picture of {image.height} x {image.width} pixels", _PIXEL * image.height * image.width)
            deep = image.mode == "I" or image.mode.startswith("I;16")
            values = np.asarray(image if deep else image.convert("L"), np.float32) / (65535 if deep else 255)
    except InputError:
        raise
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or neither PNG nor JPEG ({reason(error)})") from None
    return checked_slice(path, "image", values)


def _table(folder, table) -> Path:
    """The table, in the folder or elsewhere."""
    if not Path(folder).is_dir():
        raise InputError(folder, "is no folder; one of images is needed")
    found = next((path for path in (Path(folder) / table, Path(table)) if path.is_file()), None)
    if found is None:
        raise InputError(Path(folder) / table, "no such file; a table of the images (CSV) is needed")
    return found


def rows_of(path: Path, columns: Columns = NIH, views: tuple[str, ...] = ()) -> list[tuple[str, str, list[str]]]:
    """Name of the image, patient and findings of each row of a table, of the views asked for, or all.

    Raises:
      InputError: where it is no table, or has no such rows or columns.
    """
    needed = columns if views else columns[:3]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [name for name in needed if name not in (table.fieldnames or [])]
            if missing:
                raise InputError(path, f"has the columns {', '.join(table.fieldnames or []) or 'none'}; {missing[0]!r} is needed")
            rows = [row for row in table if not views or row[columns.view] in views]
    except InputError:
        raise
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise InputError(path, f"is no table of text ({type(error).__name__}); CSV is needed") from None
    if not rows:
        raise InputError(path, f"has no rows{' of the views ' * bool(views)}{', '.join(views)}; at least one is needed")
    if any(row[name] is None for row in rows for name in needed):
        raise InputError(path, f"has rows with fewer values than columns; all of {', '.join(needed)} are needed")
    return [(row[columns.image].strip(), row[columns.patient].strip(), row[columns.findings].split("|")) for row in rows]


def _labelled(path, rows, findings, none):
    """Name, patient and class of the rows that have one; of all, None each, where nothing is asked for."""
    if not findings:
        return [(name, patient, None) for name, patient, _ in rows]
    told = {finding.strip() for _, _, found in rows for finding in found}
    absent = [finding for finding in findings if finding not in told]
    if absent and findings != FINDINGS or len(absent) == len(findings):
        raise InputError(path, f"has no image with {absent[0]!r}; findings of the table are needed")
    labelled = []
    for name, patient, found in rows:
        asked = [findings.index(finding.strip()) + 1 for finding in found if finding.strip() in findings]
        if len(asked) == 1 or [finding.strip() for finding in found] == [none]:
            labelled.append((name, patient, asked[0] if asked else 0))
    return labelled


def _places(folder, rows):
    """File, patient and class of the rows whose image is there, and how many are not."""
    names: dict[str, list[Path]] = {}
    whole: dict[str, Path] = {}
    for path in sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        parts = path.relative_to(folder).parts
        whole["/".join(parts)] = path
        for i in range(len(parts)):
            names.setdefault("/".join(parts[i:]), []).append(path)
    places = []
    for name, patient, label in rows:
        parts = PurePosixPath(name).parts
        tails = (whole.get("/".join(parts[i:])) for i in range(len(parts)))
        found = names.get("/".join(parts)) or [path for path in tails if path][:1]
        if len(found) > 1:
            raise InputError(folder, f"holds {len(found)} files {name}; names that are one's own are needed, or paths in the table")
        places += [(path, patient, label) for path in found]
    return places, len(rows) - len(places)


def _listed(folder, test_list, places, patients, validation):
    """part -> indices, tests being those of a list."""
    path = _table(folder, test_list)
    tested = {PurePosixPath(line.strip()).name for line in path.read_text(errors="replace").splitlines() if line.strip()}
    chosen = np.array([source.name in tested for source, _, _ in places])
    both = set(patients[chosen]) & set(patients[~chosen])
    if both:
        raise InputError(path, f"has images of {len(both)} patients who have others that it lacks; all of a patient in one part are needed")
    rest = np.flatnonzero(~chosen)
    return {part: rest[each] for part, each in parted(patients[rest], validation, 0).items() if part != "test"} | {"test": np.flatnonzero(chosen)}
