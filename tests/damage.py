"""Small files of every format that users bring, and a thousand ways to damage them, the same ones each time."""

import gzip
import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

HUGE = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
ODD = (np.nan, np.inf, -np.inf, 1e308, -1e-308, 0.0)


class Bomb:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def damaged(rng, data: bytes, other: bytes, sizes) -> bytes:
    """`data` after one to three of: an end or a piece missing, bits flipped, a number or size that lies, another file's end, a piece doubled."""
    for _ in range(rng.integers(1, 4)):
        data = _DAMAGE[rng.integers(len(_DAMAGE))](rng, data or b"\0", other, sizes)
    return data


def _place(rng, data):
    """A place, every other time where headers are."""
    return int(rng.integers(min(len(data), rng.choice([400, len(data)]))))


def _cut(rng, data, other, sizes):
    return data[: _place(rng, data)]


def _without(rng, data, other, sizes):
    i = _place(rng, data)
    return data[:i] + data[i + int(rng.integers(1, 64)) :]


def _flipped(rng, data, other, sizes):
    changed = bytearray(data)
    for _ in range(rng.integers(1, 33)):
        changed[_place(rng, data)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _number(rng, data, other, sizes):
    width, i = int(rng.choice([1, 2, 4, 8])), _place(rng, data)
    value = rng.choice(HUGE) if rng.random() < 0.7 else struct.unpack("<Q", struct.pack("<d", rng.choice(ODD)))[0]
    return data[:i] + (int(value) % 256**width).to_bytes(width, rng.choice(["little", "big"])) + data[i + width :]


def _lie(rng, data, other, sizes):
    """One of the places that tell a size, or look as if they did, tells another."""
    width, size = int(rng.choice([2, 4, 8])), int(rng.choice(sizes))
    places, i = [], data.find(size.to_bytes(width, "little"))
    while i >= 0 and len(places) < 40:
        places.append(i)
        i = data.find(size.to_bytes(width, "little"), i + 1)
    if not places:
        return _number(rng, data, other, sizes)
    i = int(rng.choice(places))
    return data[:i] + (int(rng.choice(HUGE)) % 256**width).to_bytes(width, "little") + data[i + width :]


def _spliced(rng, data, other, sizes):
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def _doubled(rng, data, other, sizes):
    i = _place(rng, data)
    piece = data[i : i + int(rng.integers(1, 256))]
    return data[:i] + piece * int(rng.integers(2, 20)) + data[i:]


_DAMAGE = (_cut, _without, _flipped, _flipped, _number, _number, _lie, _lie, _lie, _spliced, _doubled)


def packed(entries: dict, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of bytes by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def npy(array, shape: str = "", pickled: bool = False) -> bytes:
    """An array, whose header may tell another shape."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    data = file.getvalue()
    if not shape:
        return data
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(-(len(header) + 11) % 64 + len(header)) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data[10 + struct.unpack("<H", data[8:10])[0] :]


def numpy_files(folder: Path, rng):
    """Images, sinograms, k-space and stacks; pickles, zip bombs and names that lead elsewhere."""
    image, angles = rng.normal(-400, 300, (24, 20)), np.linspace(0, 3, 12)
    kspace, stack = np.fft.fft2(image[:20]), rng.normal(size=(6, 17, 16)).astype(np.float32)
    beside = {"images_label": npy(np.arange(6) % 3), "images_subject": npy(np.array(["a", "b", "c", "d", "e", "f"])), "images_data": npy(stack)}
    parts = {f"train_{name.replace('images_', '')}": data for name, data in beside.items()} | {"train_image": npy(stack)}
    whole = {
        "image": {"image": npy(image), "pixel_size": npy(np.array([0.7, 0.7])), "modality": npy(np.array("ct"))},
        "sinogram": {
            "sinogram": npy(rng.random((12, 30))),
            "angles": npy(angles),
            "detector_spacing": npy(np.array(1.0)),
            "image_size": npy(np.array(20)),
        },
        "kspace": {"kspace": npy(kspace), "mask": npy(np.ones(kspace.shape)), "sigma": npy(np.array(0.1))},
        "stack": {"images": npy(stack)},
        "parts": parts,
        "maps": {"train_label": npy(rng.integers(0, 9, (3, 16, 17, 20)).astype(np.uint8)), "train_subject": npy(np.array(["a", "b", "c"]))},
    }
    bomb, zeros = Bomb(folder / "exploded"), np.zeros((1 << 27,), np.uint8)
    objects, pickled = npy(np.array([bomb] * 20, object), pickled=True), pickle.dumps(bomb)
    specials = [("a.npy", objects), ("a.npy", pickled), ("a.npz", pickled), ("a.npz", packed({"image.npy": objects})), ("a.npy", b"")]
    specials += [("a.npz", packed(_named(parts | {name: objects}))) for name in parts]
    specials += [
        ("a.npz", packed({name: pickled})) for name in ("image", "images", "image.npy", "../exploded", "/tmp/exploded.npy", "..\\exploded.npy")
    ]
    specials += [("a.npz", packed({"image": b"x" * 500})), ("a.npz", packed({"images": b"x" * 500})), ("a.npz", packed({"train_image": b"x" * 500}))]
    specials += [("a.npz", packed({"image.npy": npy(zeros, shape)})) for shape in ("(16384, 8192)", "(2, 16)")]
    specials += [
        ("a.npz", packed(_named({"images": npy(zeros[: 1 << 20], "(4, 512, 512)")}), method)) for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    ]
    specials += [("a.npz", packed({f"{i}.npy": npy(zeros[: 1 << 24], "(64, 512, 512)") for i in range(6)}))]
    shapes = ("(100000, 100000)", "(4294967296, 4294967296)", "(1000000000, 16, 16, 0)", "(-1, 16)", "(16, -16)", "()", "(24, True)", "(2, 10**9)")
    shapes += (
        "(9999999999999, 16, 16)",
        f"({'(' * 90}1{')' * 90}, 16)",
        f"({'9' * 5000}, 16)",
        f"({'16, ' * 65})",
        "(1000000000, 0, 16)",
        "('a', 16)",
    )
    specials += [("a.npy", npy(image, shape)) for shape in shapes]
    specials += [("a.npz", packed(_named({name: npy(stack, shape)}))) for shape in shapes for name in ("image", "images", "train_image")]
    dtypes = [
        np.zeros((20, 20), kind) for kind in ("S0", "U9", "V8", "M8[s]", "m8[s]", "?", "f2", "c16", ">i8", "u8", [("a", "f4"), ("b", "O")], "g")
    ]
    specials += [("a.npz", packed(_named({"image": npy(each, pickled=True), "images": npy(each[None], pickled=True)}))) for each in dtypes]
    pixels = rng.integers(0, 255, (20, 24)).astype(np.uint8)
    specials += [("a.png", picture(pixels, *size)) for size in ((20, 24), (13000, 13000), (2**31 - 1, 2**31 - 1), (0, 24))]
    specials += [("a.png", damaged(rng, picture(pixels, 20, 24), npy(image), (20, 24))) for _ in range(8)]
    for arrays in whole.values():
        for key in arrays:
            lies = [npy(np.full(np.shape(rng.random(3)), value)) for value in ODD[:4]] + [npy(np.array(value)) for value in (*ODD, "../x", b"\xff")]
            specials += [("a.npz", packed(_named(arrays | {key: lies[rng.integers(len(lies))]}))), ("a.npz", packed(_named(arrays | {key: pickled})))]
    specials += [("a.npz", packed(_named(parts | {"train_subject": npy(np.zeros(6, "S0")), "train_label": npy(np.full(6, 2**63, np.uint64))})))]
    return specials, [(f"a{name}.npz", _named(arrays)) for name, arrays in whole.items()] + [("a.npy", npy(image))], (24, 20, 12, 30, 6, 17, 16)


def picture(pixels, height: int, width: int) -> bytes:
    """A grey PNG whose header may tell another size."""
    pieces = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))),
    )
    written = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in (*pieces, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _named(arrays):
    return {f"{name}.npy": data for name, data in arrays.items()}


def nifti_files(folder: Path, rng):
    """Volumes and slices, packed and not, of both versions of the header."""
    import nibabel

    def stored(shape, kind=np.int16, image=nibabel.Nifti1Image, affine=np.diag([-1.0, 1, 3, 1]), extension=False, **fields):  # noqa: B008
        volume = image(rng.integers(-900, 900, shape).astype(kind), affine)
        if extension:
            volume.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"who it is"))
        for name, value in fields.items():
            volume.header[name] = value
        return volume.to_bytes()

    whole = [
        stored((20, 18, 5)),
        stored((20, 18, 5), np.float32),
        stored((24, 20)),
        stored((20, 18, 5, 1)),
        stored((20, 18, 4), image=nibabel.Nifti2Image),
    ]
    whole += [stored((17, 16, 5), extension=True), stored((17, 16, 5), np.complex64), stored((17, 16, 5), scl_slope=2, scl_inter=-1000)]
    plain, second, extended = whole[0], whole[4], whole[5]
    specials = [("a.nii", b""), ("a.nii.gz", b""), ("a.nii.gz", plain), ("a.nii", gzip.compress(plain)), ("a.dcm", plain), ("a", plain)]
    for dims in (
        (3, 32767, 32767, 32767),
        (2, 32767, 32767),
        (3, 32767, 32767, 1),
        (3, -5, 16, 16),
        (7, *[32767] * 7),
        (3, 0, 16, 16),
        (4, 900, 900, 900, 1),
    ):
        lie = plain[:40] + struct.pack("<8h", *dims, *[1] * (7 - len(dims[1:]))) + plain[56:]
        specials += [("a.nii", lie), ("a.nii.gz", gzip.compress(lie)), ("a.nii.gz", gzip.compress(lie + bytes(1 << 26)))]
    for dims in ((3, 2**40, 16, 16), (3, 2**62, 2**62, 4), (3, -1, -1, 16), (2**40, 1, 1, 1)):
        specials += [("a.nii", second[:16] + struct.pack("<4q", *dims) + second[48:])]
    for i, code in ((70, 1536), (70, 0), (70, 128), (70, 2048), (70, -1), (72, 4096), (0, 540), (123, 255), (252, 9), (254, -4)):
        specials += [("a.nii", plain[:i] + struct.pack("<h", code) + plain[i + 2 :])]
    for i in (76, 80, 84, 88, 108, 112, 116, 256, 268, 280, 284, 300, 320):
        specials += [("a.nii", plain[:i] + struct.pack("<f", value) + plain[i + 4 :]) for value in (*ODD[:3], 3e38, 0)]
    for size in (2**31 - 1, -16, 0, 8, 16, 2**30):
        lie = extended[:352] + struct.pack("<i", size) + extended[356:]
        specials += [("a.nii", lie), ("a.nii.gz", gzip.compress(lie + bytes(1 << 26)))]
        specials += [("a.nii", extended[:108] + struct.pack("<f", size) + extended[112:])]
    specials += [("a.nii", second[:168] + struct.pack("<q", 2**40) + second[176:])]
    return specials, [("a.nii", each) for each in whole] + [("b.nii.gz", each) for each in whole], (20, 18, 5, 24, 17, 16, 352, 16, 3, 4, 540)


def wrapped(name: str, data) -> bytes:
    """A file of its content, packed as its name tells."""
    if isinstance(data, dict):
        return packed(data, zipfile.ZIP_STORED if name.startswith("as") else zipfile.ZIP_DEFLATED)
    return gzip.compress(data, mtime=0) if name.endswith(".gz") else data


def inflated(data, length: int) -> bytes:
    """Raw deflated bytes of `data` and zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start, again = (packer.compress(each) + packer.flush(zlib.Z_FULL_FLUSH) for each in (data, bytes(1 << 20)))
    return start + again * (length >> 20) + packer.flush()
