"""Public data sets made ready once, as TensorFlow Datasets does it, yet without TensorFlow: `python -m medjax.data.tfds_builder NAME`.

A file `tfds_NAME.py` says where a data set is to be fetched by hand, what its folder looks like and how it becomes examples; what all of them share
is here. Records are of the format ArrayRecord, in the order of patients and slices, and are read by `tfds_files.files`. They are written one by one
here, for the writer of TensorFlow Datasets needs TensorFlow as soon as a part has more than 1 GB.
"""

import argparse
import hashlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medjax.data.dicom_headers import texts
from medjax.data.dicom_series import Series, series_of, series_slice
from medjax.data.files import PARTS
from medjax.data.scan import InputError, isotropic

NAMES = ("brats", "chest_xray14", "ixi/pd", "ixi/t1", "ixi/t2", "ldct", "lidc_idri", "patch_camelyon")
"""The data sets that can be prepared; what follows a slash is a configuration of a data set."""
HELD_OUT = {"validation": 0.1, "test": 0.1}
"""Shares of the patients where a data set has no official parts."""
SHARD = 1 << 30
"""The most bytes that a file of several records holds."""


class Group(NamedTuple):
    """What belongs together in one part, such as all files of a patient.

    files: all that are read.
    examples: `() -> (key, example)` one after the other; a key is used once in a data set.
    """

    files: tuple[Path, ...]
    examples: Callable[[], Iterable[tuple[str, dict]]]


class Source(NamedTuple):
    """A data set that is fetched by hand.

    name: of the data set; a folder.
    description: what an example holds, with units.
    homepage: address of the official source.
    citation: as its authors wish it.
    instructions: what to fetch, from where, and how the folder must look.
    features: `tensorflow_datasets -> name -> feature`.
    groups: `folder -> part -> name -> Group`.
    config: name of the configuration, empty where there is but one.
    version: of the records.
    notes: version -> what is new in it.
    """

    name: str
    description: str
    homepage: str
    citation: str
    instructions: str
    features: Callable[[Any], dict]
    groups: Callable[[Path], dict[str, dict[str, Group]]]
    config: str = ""
    version: str = "1.0.0"
    notes: dict[str, str] = {"1.0.0": "First release."}  # noqa: RUF012


def import_tfds(path) -> Any:
    """The module `tensorflow_datasets`; an `InputError` about `path` where it is missing."""
    try:
        import array_record  # noqa: F401
        import tensorflow_datasets
    except ImportError:
        raise InputError(path, "is for TensorFlow Datasets: pip install tensorflow-datasets array-record") from None
    return tensorflow_datasets


def built(source: Source, data_dir):
    """The `tfds.core.GeneratorBasedBuilder` of a source.

    Its metadata hold, for each group of files, `sha256`: the digest of their names and digests, so that two builds can be compared.

    Args:
      source: the data set.
      data_dir: folder under which TensorFlow Datasets puts its data sets.

    Raises:
      InputError: where `tensorflow_datasets` or `array_record` is missing.
    """
    tfds, digests = import_tfds(data_dir), {}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
        """Writes the examples of the source."""

        name = source.name
        VERSION = tfds.core.Version(source.version)
        RELEASE_NOTES = source.notes
        MANUAL_DOWNLOAD_INSTRUCTIONS = source.instructions
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=source.config, description=source.description)] if source.config else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description=source.description,
                features=tfds.features.FeaturesDict(source.features(tfds)),
                homepage=source.homepage,
                citation=source.citation,
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(sha256=digests),
            )

        def _split_generators(self, dl_manager):
            found = source.groups(Path(dl_manager.manual_dir))
            return {part: self._generate_examples(found[part]) for part in PARTS if found.get(part)}

        def _generate_examples(self, groups):
            for name, group in groups.items():
                digests[name] = _digest(group.files)
                yield from group.examples()

        def _download_and_prepare(self, dl_manager, download_config):
            parts = self._split_generators(dl_manager)
            written = [_written(tfds, self, part, examples) for part, examples in parts.items()]
            self.info.set_splits(tfds.core.splits.SplitDict([info for info in written if info.num_examples]))

    return Builder(data_dir=str(data_dir), file_format="array_record")


def _written(tfds, build, part, examples):
    """Write a part record by record into files of at most `SHARD` bytes; its `SplitInfo`."""
    from array_record.python.array_record_module import ArrayRecordWriter

    pattern = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"
    template = tfds.core.naming.ShardedFileTemplate(build.data_path, pattern, build.name, part, "array_record")
    writer, lengths, size, total, keys = None, [], 0, 0, set()
    try:
        for key, example in tfds.core.utils.tqdm(examples, desc=part, unit=" examples", leave=False):
            record = build.info.features.serialize_example(example)
            if key in keys:
                raise InputError(build.name, f"has two examples of the name {key} in the part {part}; each file is needed once")
            if writer is None or size + len(record) > SHARD:
                if writer is not None:
                    writer.close()
                path = template.sharded_filepath(shard_index=len(lengths), num_shards=None)
                writer, size = ArrayRecordWriter(str(path), "group_size:1"), 0
                lengths.append(0)
            writer.write(record)
            keys.add(key)
            lengths[-1], size, total = lengths[-1] + 1, size + len(record), total + len(record)
    finally:
        if writer is not None:
            writer.close()
    return tfds.core.splits.SplitInfo(name=part, shard_lengths=lengths, num_bytes=total, filename_template=template)


def builder(name: str, data_dir):
    """The builder of one of `NAMES`.

    Raises:
      InputError: for another name, and as `built`.
    """
    if name not in NAMES:
        raise InputError(name, f"is no data set that can be prepared; one of {', '.join(NAMES)} is needed")
    module, _, config = name.partition("/")
    return importlib.import_module(f"medjax.data.tfds_{module}").builder(data_dir, *filter(None, [config]))


def prepare(name: str, manual_dir, data_dir) -> Path:
    """Write the records of a data set; they appear whole or not at all.

    Args:
      name: one of `NAMES`.
      manual_dir: folder of the files fetched by hand, as the data set's instructions say.
      data_dir: folder under which TensorFlow Datasets puts its data sets.

    Returns:
      The folder of the records.

    Raises:
      InputError: where the name is unknown, files are missing or damaged, or the data set is prepared already.
    """
    build = builder(name, data_dir)
    if build.data_path.exists():
        raise InputError(build.data_path, "is prepared already; to prepare it anew it must be removed, or another --data-dir is needed")
    if not Path(manual_dir).is_dir() or not any(Path(manual_dir).iterdir()):
        raise InputError(manual_dir, f"no such folder, or an empty one; what {name} needs: {build.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    config = import_tfds(data_dir).download.DownloadConfig(manual_dir=str(manual_dir))
    with tempfile.TemporaryDirectory() as nothing:
        build.download_and_prepare(download_dir=nothing, download_config=config)
    return Path(build.data_path)


def part_of(patient: str) -> str:
    """The part of a patient, by the SHA-256 of the name alone.

    `files.parted` takes the last patients of a folder by name, so that each part has one. Here who else is there must not count: a data set that
    is fetched in pieces, grows, or lies in several folders or contrasts keeps each patient in one part for ever.
    """
    place, start = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64, 0.0
    for part, share in HELD_OUT.items():
        start += share
        if place < start:
            return part
    return "train"


def by_part(groups: dict[str, Group]) -> dict[str, dict[str, Group]]:
    """part -> patient -> Group, of groups by patient."""
    return {part: {patient: group for patient, group in groups.items() if part_of(patient) == part} for part in PARTS}


def needed(path, instructions: str):
    """`path`, which must exist."""
    if not path.exists():
        raise InputError(path, f"no such file or folder; what is needed: {instructions}")
    return path


def image_feature(tfds, dtype):
    """The feature of an image `[h, w]`, compressed without loss."""
    return tfds.features.Tensor(shape=(None, None), dtype=dtype, encoding="zlib")


def _digest(files: Iterable[Path]) -> str:
    """SHA-256 over the names and digests of files, in their order."""
    found = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            found.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def dicom_folders(folder, keyword: str) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    """Of each folder below `folder`, which TCIA's downloads give one series each: SeriesInstanceUID, what the first header tells of a keyword, files.

    Raises:
      InputError: where the first file is damaged or no DICOM.
    """
    for each in sorted({path.parent for path in Path(folder).rglob("*.dcm")}):
        paths = tuple(sorted(each.glob("*.dcm")))
        uid, told = texts(paths[0], ("SeriesInstanceUID", keyword))
        if not uid:
            raise InputError(paths[0], "tells no SeriesInstanceUID, perhaps truncated; a DICOM file that is whole is needed")
        yield uid, told, paths


def ct_series(paths) -> tuple[Series, tuple[str, ...], np.ndarray]:
    """The CT series that files make, in the order of `Series.slices`.

    Returns:
      The series, the SOPInstanceUID of each slice, and the spacing `[3]` [mm] between slices (0 of a single one), rows and columns.

    Raises:
      InputError: as `series_of`, and where the images are not CT of square pixels.
    """
    series, uids = series_of(paths)
    if series.modality != "ct":
        raise InputError(paths[0], "is of MR; CT is needed")
    pixel = isotropic(paths[0], series.spacing[1:])
    return series, uids, np.asarray([series.spacing[0] or 0, pixel, pixel], np.float32)


def hounsfield_slice(series: Series, i: int) -> np.ndarray:
    """The values `[h, w]` int16 [HU] of a slice of CT.

    Raises:
      InputError: where its pixels cannot be decoded.
    """
    return np.clip(np.rint(series_slice(series, i)), -32768, 32767).astype(np.int16)


def plane(volume, axis: int, index: int) -> np.ndarray:
    """A slice `[h, w]` across an axis as a radiologist sees it: patient's right on the left, anterior (else superior) at the top."""
    return np.take(volume, index, axis)[::-1, ::-1].T


def plane_spacing(spacings, axis: int) -> np.ndarray:
    """Of a volume's spacings those between slices across `axis`, between rows and between columns, `[3]` [mm]."""
    column, row = np.delete(spacings, axis)
    return np.asarray([spacings[axis], row, column], np.float32)


def main(arguments=None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m medjax.data.tfds_builder", description="Make a public data set ready, from files fetched by hand."
    )
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--manual-dir", required=True, help="folder of the files fetched by hand; a missing one is answered by what it must hold")
    parser.add_argument("--data-dir", required=True, help="folder to prepare data sets in")
    given = parser.parse_args(arguments)
    try:
        path = prepare(given.name, given.manual_dir, given.data_dir)
    except (InputError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    print(f"prepared {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
