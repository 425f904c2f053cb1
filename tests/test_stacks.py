"""Stacks of images in `.npz` and zarr, and their parts."""

import numpy as np
import pytest

from medjax.data import label_maps, stacks
from medjax.data.scan import InputError

RNG = np.random.default_rng(0)


def group(path, **arrays):
    """A zarr group of arrays, a chunk for each entry."""
    zarr = pytest.importorskip("zarr")
    found = zarr.open_group(path, mode="w")
    for name, array in arrays.items():
        found.create_array(name, data=np.asarray(array), chunks=(1, *np.shape(array)[1:]), config={"write_empty_chunks": True})
    return path


def chunk(path, name, place, rank=3):
    """The file of a chunk."""
    return path / name / "c" / str(place) / "/".join(["0"] * (rank - 1))


def one_line(match, *arguments):
    with pytest.raises(InputError, match=match) as error:
        stacks.files(*arguments)
    assert "\n" not in str(error.value)


def test_zarr_is_as_npz(tmp_path):
    """Images, labels, subjects and data are those of the same arrays in `.npz`; by name, too."""
    images = RNG.normal(size=(6, 16, 18)).astype(np.float32)
    arrays = {"train_image": images, "train_label": np.arange(6) % 2, "train_subject": np.arange(6) // 2, "train_data": RNG.normal(size=(6, 3))}
    arrays |= {"test_image": images[:2] + 1, "test_subject": [7, 8]}
    np.savez(tmp_path / "a.npz", **arrays)
    group(tmp_path / "a.zarr", **arrays)
    one, other = (stacks.files(str(tmp_path), (name,), 0.0, 0.3, 2.0) for name in ("a.npz", "a.zarr"))
    assert one.num == other.num == {"train": 4, "validation": 2, "test": 2}
    for part, num in one.num.items():
        for i in range(num):
            for wanted, found in zip(one.read(part, i), other.read(part, i), strict=True):
                np.testing.assert_array_equal(wanted, found)
    named = stacks.files(str(tmp_path), ("a.zarr:train_image",))
    assert named.num["train"] == 6
    np.testing.assert_array_equal(named.read("train", 5).image, images[5])


def test_damaged_chunks_of_zarr_are_named(tmp_path):
    """Garbage and a chunk that ends too early are found when they are read, with file, array and entry."""
    path = group(tmp_path / "a.zarr", train_image=RNG.normal(size=(5, 16, 16)), train_subject=np.arange(5))
    found = stacks.files(str(tmp_path), ("a.zarr",), validation=0)
    chunk(path, "train_image", 1).write_bytes(b"garbage")
    chunk(path, "train_image", 2).write_bytes(chunk(path, "train_image", 3).read_bytes()[:-700])
    assert np.isfinite(found.read("train", 3).image).all()
    for i in (1, 2):
        with pytest.raises(InputError, match=rf"a.zarr: entry {i} of train_image cannot be read, a chunk of it is damaged \(.+\)") as error:
            found.read("train", i)
        assert "\n" not in str(error.value)
    chunk(path, "train_subject", 4, 1).write_bytes(b"garbage")
    one_line("a.zarr: train_subject cannot be read, a chunk of it is damaged", str(tmp_path), ("a.zarr",))


@pytest.mark.parametrize("version", [2, 3])
def test_missing_chunks_of_zarr_are_no_zeros(tmp_path, version):
    """A chunk that is not there is refused before anything is trained on zeros; told shapes beyond all files are, too."""
    zarr = pytest.importorskip("zarr")
    made = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    made.create_array("train_image", data=RNG.normal(size=(4, 20, 16)), chunks=(2, 16, 16))
    made.create_array("sharded", data=RNG.normal(size=(4, 16, 16)), chunks=(1, 16, 16), shards=(2, 16, 16) if version == 3 else None)
    huge = made.create_array("huge", shape=(10**15, 16, 16), chunks=(1, 16, 16), dtype="f4")
    huge[:3] = 1
    assert stacks.files(str(tmp_path), ("a.zarr",)).num["train"] == stacks.files(str(tmp_path), ("a.zarr:sharded",)).num["train"] == 4
    lost = tmp_path / "a.zarr" / "train_image" / ("1.1.0" if version == 2 else "c/1/1/0")
    lost.rename(lost.with_name("elsewhere"))
    one_line(r"train_image has 3 of its 4 chunks, the others are lost or empty, and either is read as 0.0; all", str(tmp_path), ("a.zarr",))
    one_line(r"huge has 3 of its 1000000000000000 chunks", str(tmp_path), ("a.zarr:huge",))


def test_labels_and_subjects_are_one_an_image(tmp_path):
    """Labels beyond what arrays on devices hold would come out as others."""
    np.savez(tmp_path / "a.npz", train_image=flat(1, 2), train_label=[0, 2**32 + 1])
    np.savez(tmp_path / "b.npz", train_image=flat(1, 2), train_subject=[[0, 1], [2, 3]])
    one_line(r"a.npz: the labels of train_image are int64 \[2\]; whole numbers from 0 to 2\^31 - 1", str(tmp_path), ("a.npz",))
    one_line(r"b.npz: the subjects of train_image are \[2, 2\]; one name an image", str(tmp_path), ("b.npz",))


def test_label_maps_of_zarr(tmp_path):
    """Whole ones are taken, a damaged and a missing one are named."""
    labels = RNG.integers(1, 5, (2, 20, 20, 20)).astype(np.int16)
    path = group(tmp_path / "a.zarr", train_label=labels, train_subject=np.arange(2))
    where = str(tmp_path), ("a.zarr",), 24
    assert label_maps.files(*where, validation=0).num["train"] == 40
    whole = chunk(path, "train_label", 1, 4).read_bytes()
    chunk(path, "train_label", 1, 4).write_bytes(b"garbage")
    with pytest.raises(InputError, match="a.zarr: entry 1 of train_label cannot be read"):
        label_maps.files(*where, validation=0)
    chunk(path, "train_label", 1, 4).unlink()
    with pytest.raises(InputError, match="train_label has 1 of its 2 chunks"):
        label_maps.files(*where, validation=0)
    chunk(path, "train_label", 1, 4).write_bytes(whole)
    chunk(path, "train_subject", 0, 1).unlink()
    with pytest.raises(InputError, match="train_subject has 1 of its 2 chunks"):
        label_maps.files(*where, validation=0)


def seen(found):
    """part -> the values of its images, each of one value."""
    return {part: [int(found.read(part, i).image[0, 0]) for i in range(num)] for part, num in found.num.items()}


def flat(*values):
    return np.array(values, np.float32)[:, None, None] * np.ones((16, 16), np.float32)


def test_subjects_are_the_same_in_all_files(tmp_path):
    """Training stacks are parted together, those without subjects are for training only; files that number apart say so."""
    np.savez(tmp_path / "a.npz", train_image=flat(1, 2, 3, 4), train_subject=["p1", "p1", "p2", "p3"], own=flat(9))
    np.savez(tmp_path / "b.npz", train_image=flat(5, 6, 7), train_subject=["p3", "p0", "p1"])
    np.savez(tmp_path / "c.npz", train_image=flat(8))
    names = ("a.npz", "b.npz", "c.npz", "a.npz:own")
    assert seen(stacks.files(str(tmp_path), names, validation=0.25)) == {"train": [1, 2, 3, 6, 7, 8, 9], "validation": [4, 5], "test": []}
    apart = stacks.files(str(tmp_path), names, validation=0.2, separate=True)
    assert seen(apart) == {"train": [1, 2, 3, 4, 6, 7, 8, 9], "validation": [5], "test": []}
    assert seen(stacks.files(str(tmp_path), ("c.npz", "a.npz:own"))) == {"train": [8, 9], "validation": [], "test": []}
    np.savez(tmp_path / "d.npz", train_image=flat(1), test_image=flat(1), test_subject=["p2"])
    advice = r"1 subjects are in both train and test; parts .* are needed; `separate` says that each file numbers its own$"
    one_line(advice, str(tmp_path), ("a.npz", "d.npz"))
    assert seen(stacks.files(str(tmp_path), ("a.npz", "d.npz"), validation=0, separate=True))["test"] == [1]


def test_subjects_of_label_maps_are_the_same_in_all_files(tmp_path):
    """As those of images; volumes without told subjects are each of one."""
    volumes = np.arange(1, 4)[:, None, None, None] * np.ones((3, 18, 18, 18), int)
    for s, name in enumerate(("a.npz", "b.npz")):
        np.savez(tmp_path / name, train_label=volumes[s : s + 2], train_subject=np.arange(s, s + 2))
    np.savez(tmp_path / "c.npz", test_label=volumes[:1], test_subject=[1])
    np.savez(tmp_path / "d.npz", train_label=volumes[:1])
    options = {"size": 18, "validation": 0.3, "image": lambda rng, labels, fine, gap: labels[1].astype(np.float32)}
    found = label_maps.files(str(tmp_path), ("a.npz", "b.npz"), **options)
    assert set(seen(found)["train"]) == {1, 2} and set(seen(found)["validation"]) == {3}
    with pytest.raises(InputError, match="1 subjects are in both train and test; .*; `separate` says"):
        label_maps.files(str(tmp_path), ("a.npz", "c.npz"), **options)
    assert label_maps.files(str(tmp_path), ("a.npz", "c.npz"), separate=True, **options).num["test"] == 18
    assert label_maps.files(str(tmp_path), ("d.npz", "d.npz"), **options).num["train"] == 36
