"""LIDC-IDRI: CT of the thorax, with lung nodules outlined by up to four readers.

Annotations are XML of the namespace `http://www.nih.gov`: a `LidcReadMessage` names its series in `ResponseHeader/SeriesInstanceUid` and has a
`readingSession` for each reader, with an `unblindedReadNodule` for each nodule. Those of 3 mm and more have `characteristics`; each `roi` of them is
an outline in the slice `imageSOP_UID`, whose `edgeMap` points are pixels (column `xCoord`, row `yCoord`, from 0) around a region that belongs to the
nodule, or to a hole in it where `inclusion` is FALSE. Points of an outline are not of the region, as in pylidc's `Annotation.boolean_mask`.
"""

import functools
import xml.etree.ElementTree
from collections import defaultdict
from pathlib import Path

import numpy as np

from medjax.data.scan import InputError, reason
from medjax.data.tfds_builder import Group, Source, built, by_part, ct_series, dicom_folders, hounsfield_slice, image_feature, needed

_DESCRIPTION = """Axial slices of CT: image [HU], spacing between slices, rows and columns [mm], readers (how many read the series, 0 where there is
no annotation), mask (by how many of them a pixel is of a nodule of 3 mm or more), patient (the pseudonym of TCIA), series and slice from 0."""
_INSTRUCTIONS = """Fetch the images of the collection LIDC-IDRI, annotation files included, from
https://www.cancerimagingarchive.net/collection/lidc-idri/ with the NBIA Data Retriever. The folder given must hold
LIDC-IDRI/LIDC-IDRI-0001/STUDY/SERIES/ with the .dcm files of a series and its .xml, as the retriever leaves them."""
_CITATION = """Armato SG III et al. (2011), The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI): a completed
reference database of lung nodules on CT scans, Medical Physics 38, 915-931, https://doi.org/10.1118/1.3528204; data:
https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX"""
_SPACE = {"n": "http://www.nih.gov"}


def builder(data_dir):
    """The builder of LIDC-IDRI, `tfds_builder.built` says what it is; 80 % of the patients are for training, 10 % each to validate and test."""
    source = Source(
        "lidc_idri", _DESCRIPTION, "https://www.cancerimagingarchive.net/collection/lidc-idri/", _CITATION, _INSTRUCTIONS, _features, _groups
    )
    return built(source, data_dir)


def _features(tfds):
    """What an example holds."""
    return {
        "image": image_feature(tfds, np.int16),
        "mask": image_feature(tfds, np.uint8),
        "readers": tfds.features.Scalar(np.int32),
        "spacing": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "patient": tfds.features.Text(),
        "series": tfds.features.Scalar(np.int32),
        "slice": tfds.features.Scalar(np.int32),
    }


def _groups(folder: Path):
    """part -> patient -> Group."""
    groups = {}
    for patient in sorted(needed(folder / "LIDC-IDRI", _INSTRUCTIONS).glob("LIDC-IDRI-[0-9][0-9][0-9][0-9]")):
        series = [(uid, paths) for uid, modality, paths in dicom_folders(patient, "Modality") if modality == "CT"]
        if not series:
            raise InputError(patient, "holds no CT series of .dcm files; at least one is needed")
        notes = tuple(sorted(patient.rglob("*.xml")))
        files = tuple(path for _, paths in series for path in paths) + notes
        groups[patient.name] = Group(files, functools.partial(_examples, patient.name, series, notes))
    if not groups:
        raise InputError(folder / "LIDC-IDRI", f"holds no folders LIDC-IDRI-0001; what is needed: {_INSTRUCTIONS}")
    return by_part(groups)


def _examples(patient, all_series, notes):
    """All slices of a patient, in the order of `Series.slices`."""
    for number, (uid, paths) in enumerate(all_series):
        series, uids, spacing = ct_series(paths)
        readers, outlines = _outlines(notes, uid, dict(zip(uids, series.positions, strict=True)))
        for index, each in enumerate(uids):
            image = hounsfield_slice(series, index)
            mask = _mask(outlines[each], image.shape)
            beside = {"readers": readers, "spacing": spacing, "patient": patient, "series": number, "slice": index}
            yield f"{patient}_{number}_{index:04d}", {"image": image, "mask": mask, **beside}


def _outlines(notes, series, places):
    """How many readers a series of slices uid -> position [mm] had, and uid -> outlines (reader, nodule, inclusion, points `[n, 2]`)."""
    readers, outlines = 0, defaultdict(list)
    for path in notes:
        try:
            root = xml.etree.ElementTree.parse(path).getroot()
            if root.findtext("n:ResponseHeader/n:SeriesInstanceUid", "", _SPACE).strip() != series:
                continue
            for session in root.findall("n:readingSession", _SPACE):
                for number, nodule in enumerate(session.findall("n:unblindedReadNodule", _SPACE)):
                    if nodule.find("n:characteristics/*", _SPACE) is not None:
                        for roi in nodule.findall("n:roi", _SPACE):
                            uid, inclusion, points = _region(path, roi, places)
                            outlines[uid].append((readers, number, inclusion, points))
                readers += 1
        except (xml.etree.ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(path, f"is damaged or no annotation of LIDC ({reason(error)})") from None
    return readers, outlines


def _region(path, roi, places):
    """The slice of a `roi`, by its UID, else by its position, whether it is of the nodule, and its points (column, row)."""
    uid, z = roi.findtext("n:imageSOP_UID", "", _SPACE).strip(), float(roi.findtext("n:imageZposition", "nan", _SPACE))
    if uid not in places:
        nearest = min(places, key=lambda each: abs(places[each] - z))
        if not abs(places[nearest] - z) < 1e-3:
            raise InputError(path, f"outlines a nodule in the slice {uid or 'without UID'} at {z:g} mm; a slice of its series is needed")
        uid = nearest
    edges = roi.findall("n:edgeMap", _SPACE)
    points = np.asarray([[int(edge.findtext(f"n:{name}", None, _SPACE)) for name in ("xCoord", "yCoord")] for edge in edges], int).reshape(-1, 2)
    return uid, roi.findtext("n:inclusion", "", _SPACE).strip().upper() == "TRUE", points


def _mask(outlines, shape):
    """`[h, w]` uint8: by how many readers a pixel is of a nodule."""
    nodules = defaultdict(lambda: [np.zeros(shape, bool), np.zeros(shape, bool)])
    for reader, nodule, inclusion, points in outlines:
        filled, edge = _filled(points, shape)
        within, hole = nodules[reader, nodule]
        if inclusion:
            within |= filled & ~edge
        else:
            hole |= filled | edge
    of_reader = defaultdict(lambda: np.zeros(shape, bool))
    for (reader, _), (within, hole) in nodules.items():
        of_reader[reader] |= within & ~hole
    return sum((each.astype(np.uint8) for each in of_reader.values()), np.zeros(shape, np.uint8))


def _filled(points, shape):
    """The pixels inside of a polygon, by the even-odd rule, and its vertices, `[h, w]` bool each."""
    filled, edge = np.zeros(shape, bool), np.zeros(shape, bool)
    (x, y), (rows, columns) = points.T, np.indices(shape, sparse=True)
    ends = zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True)
    for x0, y0, x1, y1 in ends:
        if y0 != y1:
            filled ^= ((y0 > rows) != (y1 > rows)) & (columns < x0 + (x1 - x0) * (rows - y0) / (y1 - y0))
    seen = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    edge[y[seen], x[seen]] = True
    return filled, edge
