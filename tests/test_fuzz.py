"""A thousand damaged files: each reader answers with finite numbers or refuses in one line, in little time and memory, and runs nothing of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from damage import damaged, nifti_files, numpy_files, wrapped

h5py = pytest.importorskip("h5py")
ismrmrd = pytest.importorskip("ismrmrd")
from damage_scans import dicom_files, hdf5_files  # noqa: E402

HERE = Path(__file__).parent
NUM, SEED = 250, 20240229
KINDS = {"dicom": dicom_files, "nifti": nifti_files, "hdf5": hdf5_files, "numpy": numpy_files}


def write_files(folder, kind, num=NUM):
    """`num` files of a kind, each in a folder of its own; returns the numbers of those that are whole, after which come those damaged at random."""
    rng = np.random.default_rng([SEED, list(KINDS).index(kind)])
    made, whole, sizes = KINDS[kind](folder, rng)
    specials = made + [(name, wrapped(name, data)) for name, data in whole]
    for i in range(num):
        name, data = specials[i] if i < len(specials) else random_file(rng, whole, sizes)
        place = folder / "files" / f"{i:04d}"
        place.mkdir(parents=True)
        (place / name).write_bytes(data)
    return range(len(made), len(specials))


def random_file(rng, whole, sizes):
    """A whole file that is damaged, every other time where it is packed inside of that, under a wrong name now and then."""
    name, data = whole[rng.integers(len(whole))]
    other = whole[rng.integers(len(whole))]
    if isinstance(data, dict) and rng.random() < 0.6:
        entry = str(rng.choice(list(data)))
        data = wrapped(name, data | {entry: damaged(rng, data[entry], wrapped(*other), sizes)})
    elif name.endswith(".gz") and rng.random() < 0.7:
        data = wrapped(name, damaged(rng, data, other[1], sizes))
    else:
        data = damaged(rng, wrapped(name, data), wrapped(*other), sizes)
    return (str(rng.choice(["a", "a.dcm", "a.nii", "a.nii.gz", "a.npy", "a.npz", "a.h5", "a.png"])) if rng.random() < 0.05 else name), data


def failures(folder) -> tuple[list[str], int, list[str]]:
    """What readers did wrong, a line each, the most memory [bytes] of the last process, and the files that it read."""
    found, first = [], 0
    num = len(list((folder / "files").iterdir()))
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    while first < num and len(found) < 100:
        words = [sys.executable, str(HERE / "read_damaged.py"), str(folder / "files"), str(first)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=250)
        lines = done.stdout.splitlines()
        found += [line for line in lines if line.startswith("fail ")]
        if lines and lines[-1].startswith("end "):
            return found, int(lines[-1].split()[1]), lines[-1].split()[2:]
        begun = [line.split()[1] for line in lines if line.startswith("begin ")]
        assert begun, done.stderr
        if not lines[-1].startswith("fail "):
            found.append(f"fail {begun[-1]} ended the process with {done.returncode}: {done.stderr[-1500:]}")
        first = int(begun[-1]) + 1
    return found, 0, []


@pytest.mark.filterwarnings("ignore")  # pydicom warns of what the test makes it write
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path, kind):
    """Seeds are fixed: the folder of the message holds the file, and `write_files` writes it again."""
    whole = write_files(tmp_path, kind)
    assert whole[-1] < 0.6 * NUM
    found, peak, read = failures(tmp_path)
    assert not found, f"{len(found)} in {tmp_path}/files\n" + "\n".join(found)
    assert 0 < peak < 10**9 and {f"{i:04d}" for i in whole} <= set(read)
    assert not list(tmp_path.rglob("*exploded*")) and not Path("/tmp/exploded.npy").exists()
