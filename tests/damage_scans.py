"""DICOM and HDF5 files to damage, beside those of `damage`."""

import io
import pickle
import struct
from pathlib import Path

import h5py
import numpy as np
import pydicom
from damage import Bomb, inflated
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from test_dicom_series import write
from volumes import HEADER, write_fastmri


def dicom_files(folder: Path, rng):
    """One slice and several, plain, packed and deflated; headers that lie and sequences without end."""
    pixels = rng.integers(-900, 900, (5, 20, 24))

    def stored(syntax=None, change=None, length=0, **elements):
        path = folder / "whole"
        write(path, pixels[0], **elements)
        dataset = pydicom.dcmread(path)
        if syntax == RLELossless:
            dataset.compress(RLELossless, generate_instance_uid=False)
        elif syntax:
            dataset.file_meta.TransferSyntaxUID = syntax
        if change:
            change(dataset)
        file = io.BytesIO()
        dataset.save_as(file, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        path.unlink()
        return file.getvalue()

    def frames(dataset):
        shared, measures, dataset.PerFrameFunctionalGroupsSequence = pydicom.Dataset(), pydicom.Dataset(), []
        measures.PixelSpacing, shared.PixelMeasuresSequence = [0.7, 0.7], [measures]
        for i in range(5):
            frame, place = pydicom.Dataset(), pydicom.Dataset()
            place.ImagePositionPatient, frame.PlanePositionSequence = [0, 0, 3 * i], [place]
            dataset.PerFrameFunctionalGroupsSequence.append(frame)
        dataset.SharedFunctionalGroupsSequence, dataset.NumberOfFrames = [shared], 5
        dataset.PixelData = pixels.astype("<i2").tobytes()

    def nested(depth):
        def change(dataset):
            inner = pydicom.Dataset()
            for _ in range(depth):
                outer = pydicom.Dataset()
                outer.PixelMeasuresSequence = [inner]
                inner = outer
            dataset.SharedFunctionalGroupsSequence = [inner]

        return change

    def private(dataset):
        dataset.private_block(0x0013, "X", create=True).add_new(1, "OB", pickle.dumps(Bomb(folder / "exploded")))
        dataset.PatientID, dataset.ImageType = "../../exploded\n\r\0", pickle.dumps(Bomb(folder / "exploded"), 0).decode()

    def damaged_pixels(dataset):
        dataset.PixelData = pydicom.encaps.encapsulate([struct.pack("<16I", 15, *range(64, 79)) + b"\x81\0" * 40])

    whole = [stored(), stored(change=frames), stored(RLELossless), stored(ImplicitVRLittleEndian), stored(modality="MR"), stored(change=private)]
    whole += [stored(DeflatedExplicitVRLittleEndian), stored(RLELossless, PixelPaddingValue=-5)]
    plain, deflated, deep = whole[0], whole[6], b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x28\x00\x10\x91SQ\0\0\xff\xff\xff\xff"
    specials = [("a.dcm", b""), ("a", plain[:132]), ("a.npz", plain), ("a.nii", plain), ("a.h5", plain), ("a", whole[5]), ("a.dcm", whole[5])]
    specials += [("a.dcm", stored(change=nested(depth))) for depth in (3, 60)]
    end = plain.index(b"\xe0\x7f\x10\x00")
    specials += [("a.dcm", plain[:end] + b"\0\x52\x29\x92SQ\0\0\xff\xff\xff\xff" + deep * depth + plain[end:]) for depth in (500, 5000, 50000)]
    begin = deflated.index(DeflatedExplicitVRLittleEndian.encode()) + len(DeflatedExplicitVRLittleEndian) + 1
    begin += begin % 2
    specials += [("a.dcm", deflated[:begin] + inflated(plain[end:], length)) for length in (1 << 20, 1 << 28, 1 << 31)]
    for name in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"):
        for syntax in (None, RLELossless):
            specials += [("a.dcm", stored(syntax, lambda dataset, n=name, v=value: setattr(dataset, n, v))) for value in (0, 1, 65535)]
    square = {"Rows": 65535, "Columns": 65535}
    specials += [("a.dcm", stored(syntax, lambda dataset: [setattr(dataset, *item) for item in square.items()])) for syntax in (None, RLELossless)]
    specials += [("a.dcm", stored(RLELossless, lambda dataset: (damaged_pixels(dataset), setattr(dataset, "Rows", 65535))))]
    specials += [
        ("a.dcm", stored(syntax, lambda d, v=v: setattr(d, "NumberOfFrames", v))) for v in (0, -5, 2**31 - 1, 10**6) for syntax in (None, RLELossless)
    ]
    for name in (
        "PixelSpacing",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleSlope",
        "GantryDetectorTilt",
        "InstanceNumber",
        "SliceThickness",
    ):
        for value in ("nan", "inf", "-1e308", "1e308", "1e-308", "0", "9" * 14, "1\\2", "x\n\ty"):
            specials += [("a.dcm", _with_text(stored(**{name: None}), name, value))]
    specials += [
        ("a.dcm", stored(change=lambda dataset, far=far: (frames(dataset), _positions(dataset, far)))) for far in ("1e308", "1e200", "-9e99")
    ]
    specials += [("a.dcm", stored(spacing=(50, 1)))]
    return specials, [("a.dcm", each) for each in whole], (20, 24, 960, 4800, 16, 5)


def _positions(dataset, far):
    """Frames from here to beyond the stars, in directions that are a bit too long."""
    for i, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = ["0", "0", far if i % 2 else str(i)]
    dataset.ImageOrientationPatient = ["1.004", "0", "0", "0", "1.004", "0"]


def _with_text(data, name, text):
    """A file with an element of any text in the place of an empty one."""
    tag = pydicom.datadict.tag_for_keyword(name)
    vr = pydicom.datadict.dictionary_VR(tag).encode()
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    count = {"PixelSpacing": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6}.get(name, 1)
    text = "\\".join([text] * count).encode()
    text += b" " * (len(text) % 2)
    return data.replace(head + b"\0\0", head + struct.pack("<H", len(text)) + text)


def hdf5_files(folder: Path, rng):
    """fastMRI of one coil and several, LoDoPaB-CT and ISMRMRD; data sets of any size that hold nothing, and headers that lie."""
    from test_raw_mri import COILS, H, W, encoding, line
    from test_raw_mri import write as write_raw

    def stored(fill):
        path = folder / "whole"
        fill(path)
        data = path.read_bytes()
        path.unlink()
        return data

    def made(fill, **options):
        def write_to(path):
            with h5py.File(path, "w", **options) as file:
                fill(file)

        return stored(write_to)

    def spread(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    def fast(kspace, header=HEADER, **options):
        return stored(lambda path: write_fastmri(path, kspace, header=header, **options))

    def raw(*encodings, lines=None):
        lines = lines or [line(spread(COILS, W), y) for y in range(H)]
        return stored(lambda path: write_raw(path, lines, *encodings))

    single, several = spread(2, 24, 20), spread(2, 3, 24, 20).astype(np.complex64)
    target = ("reconstruction_rss", np.ones((2, 12, 10), np.float32))
    images = {"shape": (2, 362, 362), "dtype": "f4", "compression": "gzip", "fillvalue": 0.1}
    sinograms = images | {"shape": (2, 1000, 513)}
    whole = [
        fast(several, target=target),
        fast(single, mask=np.ones(20)),
        raw(),
        raw(encoding(size=(1, H, W), kind="radial"), lines=[line(spread(COILS, W), trajectory=rng.normal(size=(W, 2)).astype(np.float32))] * 5),
    ]
    whole += [made(lambda file, each=each: file.create_dataset("data", **each)[:1].sum()) for each in (images, sinograms)]
    whole += [
        made(
            lambda file: (
                file.create_dataset("kspace", data=several, chunks=True, compression="gzip"),
                file.create_dataset("ismrmrd_header", data=HEADER),
            ),
            libver="latest",
        )
    ]
    (folder / "beside").mkdir()
    for name, data in zip(("ground_truth", "observation"), whole[4:6], strict=True):
        (folder / "beside" / f"{name}_test_000.hdf5").write_bytes(data)
    specials = [("a.h5", b""), ("a.npz", whole[0]), ("a", whole[0]), ("a.dcm", whole[0]), ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(500))]
    explode = np.void(pickle.dumps(Bomb(folder / "exploded")))
    specials += [("a.h5", made(lambda file: (file.attrs.update({"max": explode, "kspace": explode}), file.create_dataset("kspace", data=explode))))]
    specials += [
        ("a.h5", made(lambda file, n=name: file.create_dataset(n, data=np.full((2, 20, 20), explode)))) for name in ("kspace", "data", "dataset/data")
    ]
    header = {"data": HEADER}
    for shape in ((10**6, 10**5, 10**5), (2, 3, 10**5, 10**5), (2**62, 16, 16), (2, 2**40), (2**40,), (10**9, 0, 16), (), (3, 2**31, 20)):
        for name in ("kspace", "data"):
            chunks = None if 0 in shape or not shape else tuple(min(each, 64) for each in shape)
            specials += [
                (
                    "a.h5",
                    made(lambda f, n=name, s=shape, c=chunks: (f.create_dataset(n, s, "c8", chunks=c), f.create_dataset("ismrmrd_header", **header))),
                )
            ]
    big = {"shape": (2, 16384, 16384), "dtype": "f4", "chunks": (1, 16384, 16384), "compression": "gzip"}
    specials += [("a.h5", made(lambda file, n=name: file.create_dataset(n, **big))) for name in ("kspace", "data")]
    specials += [("a.h5", made(lambda file: [file.create_dataset(f"{i}", (4, 2000, 2000), "f4", chunks=(1, 100, 100)) for i in range(40)]))]
    specials += [("a.h5", made(lambda f: f.create_dataset("a", (20, 5000, 5000), "u1", chunks=(20, 1250, 1250), compression="gzip")[...].sum()))]
    for old in ("<x>12", "<y>10", ">15<", ">8<"):
        specials += [
            ("a.h5", fast(kspace, HEADER.replace(old, old[:-2] + new + ("<" if old[-1] == "<" else ""))))
            for kspace, new in zip((single, several) * 4, ("-5", "0", "99999999999999999999", "x", "1e5", "nan", "9" * 5000, ""), strict=True)
        ]
    specials += [
        ("a.h5", made(lambda file, t=text: (file.create_dataset("kspace", data=single), file.create_dataset("ismrmrd_header", data=t))))
        for text in ("<a>" * 100000, _laughs(), np.void(b"\0<a/>"), "<a/>", np.ones((3, 3)), 7.0, np.array(["x", "y"], object))
    ]
    specials += [
        ("a.h5", fast(single, mask=mask))
        for mask in (np.array("x", object), np.nan, np.full(20, np.nan), np.array([b"x"] * 20), np.zeros(20, [("a", "f4")]))
    ]
    for most in ODD_MOST:
        specials += [("a.h5", stored(lambda path, most=most: (write_fastmri(path, single), _attribute(path, "max", most))))]
    for lie in (
        dict(size=(8192, 8192, 8192)),
        dict(size=(8192, 8192, W)),
        dict(size=(1, H, 8192)),
        dict(fov=1e-300),
        dict(fov="1e308"),
        dict(fov="nan"),
        dict(centre=-(2**63)),
        dict(centre=2**70),
    ):
        specials += [("a.h5", raw(encoding(**lie)))]
    lines = [line(spread(COILS, W), y, repetition=r, slice=s) for y in range(0, H, 9) for r in range(3) for s in range(3)]
    specials += [
        ("a.h5", raw(encoding(size=(1, 8192, 8192)), lines=lines)),
        ("a.h5", raw(encoding(kind="spiral"))),
        ("a.h5", raw(encoding().replace("<", "<", 1) * 3)),
    ]
    heap = whole[2].index(b"GCOL") + 16
    for entry in (struct.pack("<HHIQ", 1, 1, 0, 2**64 - 16), bytes(16)):  # that come after themselves
        specials += [("a.h5", whole[2][:heap] + entry + whole[2][heap + 16 :])]
    return specials, [("a.h5", each) for each in whole], (2, 3, 24, 20, 362, 513, 1000, H, COILS, W, 2 * COILS * W, 8, 16)


ODD_MOST = (np.nan, 0, -1, 1e-320, "x", np.ones(3), np.void(b"xx"), 10**18)


def _attribute(path, name, value):
    with h5py.File(path, "a") as file:
        file.attrs[name] = value


def _laughs():
    """XML that would grow to a billion words."""
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "laugh">{entities}]><l>&l9;</l>'
