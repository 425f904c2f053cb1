"""PatchCamelyon: patches of 96 x 96 pixels of stained lymph nodes, labelled by whether there is tumour in their middle 32 x 32.

Files are HDF5: `x` `[n, 96, 96, 3]` uint8 and `y` `[n, 1, 1, 1]`, and a CSV with a line a patch, whose column `wsi` names the slide.
"""

import csv
import functools
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np

from medjax.data.hdf5_slices import num_slices
from medjax.data.scan import InputError, reason
from medjax.data.tfds_builder import Group, Source, built, needed

MD5 = {
    "camelyonpatch_level_2_split_train_x.h5.gz": "1571f514728f59376b705fc836ff4b63",
    "camelyonpatch_level_2_split_train_y.h5.gz": "35c2d7259d906cfc8143347bb8e05be7",
    "camelyonpatch_level_2_split_valid_x.h5.gz": "d8c2d60d490dbd479f8199bdfa0cf6ec",
    "camelyonpatch_level_2_split_valid_y.h5.gz": "60a7035772fbdb7f34eb86d4420cf66a",
    "camelyonpatch_level_2_split_test_x.h5.gz": "d5b63470df7cfa627aeec8b9dc0c066e",
    "camelyonpatch_level_2_split_test_y.h5.gz": "2b85f58b927af9964a4c15b8f7e8f179",
    "camelyonpatch_level_2_split_train_meta.csv": "5a3dd671e465cfd74b5b822125e65b0a",
    "camelyonpatch_level_2_split_valid_meta.csv": "3455fd69135b66734e1008f3af684566",
    "camelyonpatch_level_2_split_test_meta.csv": "67589e00a4a37ec317f2d1932c7502ca",
}
"""Checksums that https://github.com/basveeling/pcam publishes."""

_DESCRIPTION = """Patches of stained lymph nodes at 10x: image (RGB, 0 to 255), label (tumour in the middle 32 x 32 pixels), slide (of Camelyon16)."""
_INSTRUCTIONS = """Fetch the nine files camelyonpatch_level_2_split_{train,valid,test}_{x.h5.gz,y.h5.gz,meta.csv} from
https://github.com/basveeling/pcam and unpack them (gunzip --keep): the folder given must hold the six .h5 files and the three .csv files. Where the
.h5.gz files are there, too, they are held against the published checksums."""
_CITATION = """Veeling BS, Linmans J, Winkens J, Cohen T, Welling M (2018), Rotation equivariant CNNs for digital pathology,
https://arxiv.org/abs/1806.03962; Ehteshami Bejnordi B et al. (2017), https://doi.org/10.1001/jama.2017.14585"""
_PARTS = {"train": "train", "validation": "valid", "test": "test"}
_BLOCK = 1024


def builder(data_dir):
    """The builder of PatchCamelyon: official parts, which share no slide."""
    source = Source("patch_camelyon", _DESCRIPTION, "https://github.com/basveeling/pcam", _CITATION, _INSTRUCTIONS, _features, _groups)
    return built(source, data_dir)


def _features(tfds):
    """What an example holds."""
    return {
        "image": tfds.features.Image(shape=(96, 96, 3), dtype=np.uint8, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["normal", "tumour"]),
        "slide": tfds.features.Text(),
    }


def _groups(folder: Path):
    """part -> part -> Group."""
    groups, owner = {}, {}
    for part, word in _PARTS.items():
        x, y, meta = (needed(folder / f"camelyonpatch_level_2_split_{word}_{ending}", _INSTRUCTIONS) for ending in ("x.h5", "y.h5", "meta.csv"))
        _check(meta, meta)
        for path in (x, y):
            packed = path.with_name(f"{path.name}.gz")
            if packed.exists():
                _check(packed, path)
        with open(meta, newline="") as file:
            slides = [row.get("wsi") or "" for row in csv.DictReader(file)]
        if not len(slides) == num_slices(x, "x") == num_slices(y, "y") or not all(slides):
            counts = f"{num_slices(x, 'x')} images, {num_slices(y, 'y')} labels and {len(slides)} lines"
            raise InputError(meta, f"stands beside {counts}; as many lines with a column wsi are needed")
        for slide in set(slides):
            if owner.setdefault(slide, part) != part:
                raise InputError(meta, f"holds the slide {slide}, as the part {owner[slide]} does; parts without a common one are needed")
        groups[part] = {part: Group((x, y, meta), functools.partial(_examples, word, x, y, slides))}
    return groups


def _check(published, path):
    """Hold a file against its published checksum, and where it is packed what was unpacked against it."""
    with open(published, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
        if found != MD5[published.name]:
            raise InputError(published, f"has the MD5 {found}; {MD5[published.name]} is published, fetch it again")
        if published == path:
            return
        file.seek(-8, io.SEEK_END)  # RFC 1952: the CRC-32 of what was packed, and its length modulo 2^32
        told = tuple(np.frombuffer(file.read(8), "<u4").tolist())
    crc = length = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc, length = zlib.crc32(block, crc), length + len(block)
    if (crc, length % 2**32) != told:
        raise InputError(path, f"is not what {published.name} holds; unpack it again")


def _examples(word, x, y, slides):
    """All patches of a part."""
    import PIL.Image

    for index, (image, label) in enumerate(_pairs(x, y, len(slides))):
        if image.shape != (96, 96, 3) or image.dtype != np.uint8 or label.size != 1 or label.flat[0] not in (0, 1):
            found = f"is {list(image.shape)} {image.dtype} with the label {label.tolist()}"
            raise InputError(x, f"patch {index} {found}; [96, 96, 3] uint8 and 0 or 1 are needed")
        file = io.BytesIO()
        PIL.Image.fromarray(image).save(file, "PNG")
        file.seek(0)
        yield f"{word}_{index:06d}", {"image": file, "label": int(label.flat[0]), "slide": slides[index]}


def _pairs(x, y, num):
    """Patches and labels, read by the thousand."""
    import h5py

    try:
        with h5py.File(x, "r") as images, h5py.File(y, "r") as labels:
            for start in range(0, num, _BLOCK):
                block = slice(start, start + _BLOCK)
                yield from zip(np.asarray(images["x"][block]), np.asarray(labels["y"][block]), strict=True)  # pyright: ignore[reportIndexIssue]
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(x, f"or {y.name} is truncated ({reason(error)})") from None
