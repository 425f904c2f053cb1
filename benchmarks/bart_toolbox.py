"""BART's programs as functions of arrays: its files are written and read here."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

THREADS = 2


def available():
    """Whether the program `bart` is installed."""
    return shutil.which("bart") is not None


class Toolbox:
    """A folder of arrays by name, and programs on them; a context."""

    def __init__(self, **arrays):
        self.folder = tempfile.TemporaryDirectory()
        for name, array in arrays.items():
            self.write(name, array)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def write(self, name, array):
        """Ours are `[h, w]` or `[coils, h, w]`, BART's `[h, w, 1, coils]` with the first axis fastest."""
        array = np.asarray(array, np.complex64)
        array = array if array.ndim == 2 else np.moveaxis(array, 0, -1)[:, :, None]
        path = Path(self.folder.name, name)
        path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, (*array.shape, *(1,) * (16 - array.ndim)))) + "\n")
        array.ravel("F").tofile(path.with_suffix(".cfl"))

    def read(self, name):
        """The array in our order."""
        path = Path(self.folder.name, name)
        shape = [int(n) for n in path.with_suffix(".hdr").read_text().split("\n")[1].split()]
        array = np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape, order="F").squeeze()
        return array if array.ndim == 2 else np.moveaxis(array, -1, 0)

    def run(self, *words):
        """The array that a program leaves in its last argument."""
        words = [str(word) for word in words]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
        subprocess.run(["bart", *words], check=True, cwd=self.folder.name, env=environment, stdout=subprocess.DEVNULL)
        return self.read(words[-1])
