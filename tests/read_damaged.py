"""Read damaged files by all readers that a user's file can reach, in a process of its own: python read_damaged.py FOLDER FIRST.

FOLDER holds a folder for each file. For each is told `begin NAME`, and `fail NAME READER WHAT` where a reader does anything but give finite numbers
or refuse in one line. The process ends early where a file takes too long or too much memory; else it tells `end`, the most memory it had, and the
names of files that some reader gave numbers of.
"""

import faulthandler
import functools
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path

SECONDS, BYTES = 10, 10**9
LODOPAB = ("ground_truth", "observation")
_FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_seen, _answered = [], []


def watch(event, arguments):
    """Note what no reader may do: unpickle, start processes, open a connection, write."""
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event in _FORBIDDEN or writes and arguments[0] != os.devnull:
        _seen.append(f"{event} {str(arguments)[:100]}")


def readers(path):
    """name -> a function that reads the file or its folder and gives numbers."""
    from medjax.data import chest_xray, dicom_series, label_maps, nifti_volumes, stacks
    from medjax.data.fastmri import cropped_images, fastmri
    from medjax.data.hdf5_slices import num_slices
    from medjax.data.inspect import inspect
    from medjax.data.ismrmrd_raw import ismrmrd_raw
    from medjax.data.lodopab import lodopab
    from medjax.data.read import read, read_stack

    folder = str(path.parent)

    def first(files):
        return [files.read(part, 0) for part, num in files.num.items() if num]

    def told(place):
        found = inspect(place)
        assert found.lines and not any(set("\n\r") & set(line) or "allocate" in line or "MemoryError" in line for line in found.lines), found.lines
        return found.images

    beside = path.parents[1].parent / "beside"
    return {
        "read": lambda: read(path),
        "read of CT": lambda: read(path, modality="ct"),
        "read_stack": lambda: read_stack(path),
        "inspect": lambda: told(path),
        "inspect of its folder": lambda: told(folder),
        "listed": lambda: dicom_series.listed(folder) and None,
        "parts of stacks": lambda: first(stacks.files(folder, (path.name,))),
        "stacks of a name": lambda: first(stacks.files(folder, (f"{path.name}:images",))),
        "dicom_series of CT": lambda: first(dicom_series.files(folder, 32, "ct", validation=0, test=0)),
        "dicom_series of MR": lambda: first(dicom_series.files(folder, 32, "mri", validation=0, test=0)),
        **{f"nifti_volumes {i}": lambda i=i: first(nifti_volumes.files(folder, 32, i, validation=0, test=0)) for i in range(3)},
        "label_maps": lambda: first(label_maps.files(folder, (path.name,), 32)),
        "label_maps of NIfTI": lambda: first(label_maps.files(folder, (), 32, validation=0, test=0)),
        "fastmri": lambda: fastmri(path, 0)._replace(attributes={}),
        "image of fastmri": lambda: cropped_images(path, fastmri(path, num_slices(path, "kspace") // 2)),
        "images of fastmri": lambda: cropped_images(path, fastmri(path, 0), several=True),
        "ismrmrd_raw": lambda: ismrmrd_raw(path),
        **{f"lodopab {kind}": lambda kind=kind: lodopab(linked(path, beside, kind), "test", 0) for kind in LODOPAB},
        "grey": lambda: chest_xray.grey(path),
    }


def linked(path, beside, kind):
    """A folder with the file as one of LoDoPaB-CT, and whole ones for the rest."""
    folder = beside / f"{path.parent.parent.name}_{path.parent.name}_{kind}"
    folder.mkdir(exist_ok=True, parents=True)
    for each in LODOPAB:
        name = f"{each}_test_000.hdf5"
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(path if each == kind else beside / name)
    return folder


def finite(found) -> bool:
    """Whether all numbers of nested tuples, lists and dictionaries are, or there are none."""
    import numpy as np

    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return all(map(finite, found))
    return found is None or isinstance(found, str | Path) or bool(np.isfinite(found).all())


def wrong(reader) -> str:
    """What a reader did that it may not, empty if nothing."""
    _seen.clear()
    try:
        found = reader()
        _answered.append(found is not None and not (isinstance(found, list) and not found))
        answer = "" if finite(found) else "gives numbers that are not finite"
    except Exception as error:
        answer = refused(error)
    return answer or "; ".join(_seen)


def refused(error) -> str:
    """What is wrong with a refusal, empty if nothing."""
    from medjax.data.scan import InputError

    if any("MemoryError" in text or "allocate m" in text or "memory allocation" in text or "Unable to allocate" in text for text in words(error)):
        return f"asks for too much memory: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = isinstance(error, InputError) or isinstance(error, ValueError) and "/medjax/" in frames[-1].filename
    return "" if ours and "\n" not in str(error) else f"{type(error).__name__} {error} at {' < '.join(f'{f.name}:{f.lineno}' for f in frames[::-1])}"


def words(error):
    """The kinds and words of an exception and of all that led to it."""
    while error is not None:
        yield f"{type(error).__name__} {error}"
        error = error.__context__


def most_memory() -> int:
    """[bytes] that were ever in use; `ru_maxrss` would count those of whoever started this process, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main(folder, first):
    """Read all files of a folder from number `first`."""
    import h5py  # noqa: F401  what is loaded late would be taken for what a file did
    import nibabel  # noqa: F401
    import PIL.Image  # noqa: F401
    import pydicom.pixels  # noqa: F401

    readers(Path(__file__))
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    warnings.simplefilter("ignore")
    sys.addaudithook(watch)
    taken = []
    say = functools.partial(print, flush=True)
    for place in sorted(Path(folder).iterdir())[first:]:
        (path,) = place.iterdir()
        say("begin", place.name)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        _answered.clear()
        for name, reader in readers(path).items():
            answer = wrong(reader)
            if (peak := most_memory()) > BYTES:
                say("fail", place.name, name, f"takes {peak / 1e9:.1f} GB")
                sys.exit(1)
            if answer:
                say("fail", place.name, name, answer.replace("\n", " | "))
        taken += [place.name] * any(_answered)
        faulthandler.cancel_dump_traceback_later()
    say("end", most_memory(), *taken)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
