"""Slices of the LoDoPaB-CT data set: low-dose parallel-beam CT, simulated from chests of LIDC-IDRI.

Files `ground_truth_PART_NNN.hdf5` and `observation_PART_NNN.hdf5` hold a data set "data" of 128 slices each, `[128, 362, 362]` and
`[128, 1000, 513]` float32. Both are divided by mu_max = 81.35858 / m, the attenuation of 3071 HU, so that images lie in [0, 1] and an observation is
the line integral of such an image along its rays, in metres. The first axis of an image points along x, the second along y.
"""

import math
from pathlib import Path

import numpy as np

from medjax.data.files import Files, Stored
from medjax.data.hdf5_slices import hdf5_slices
from medjax.data.scan import InputError, checked_numbers, single

NUM_SLICES = {"train": 35820, "validation": 3522, "test": 3553}
"""Slices of each part."""
IMAGE_SIZE, NUM_VIEWS, NUM_DETECTORS = 362, 1000, 513
PIXEL_SIZE = 260 / IMAGE_SIZE
"""[mm]; an image spans 26 cm."""
DETECTOR_SPACING = 260 * math.sqrt(2) / NUM_DETECTORS
"""[mm]; the detector spans the diagonal of the image."""
ANGLES = (np.arange(NUM_VIEWS) + 0.5) * np.pi / NUM_VIEWS
"""[rad], `[1000]`: the middles of equal steps over half a turn."""
NUM_PHOTONS = 4096
"""Expected counts of a ray through air; a count of 0 was taken for 0.1."""

_PER_FILE = 128
_MU_WATER, _MU_AIR = 20.0, 0.02  # [1 / m]
_MU_MAX = 3071 * (_MU_WATER - _MU_AIR) / 1000 + _MU_WATER
_WATER = _MU_MAX / _MU_WATER


def lodopab(folder, part: str, index: int):
    """One slice, in the conventions of this house.

    `parallel_beam(IMAGE_SIZE, ANGLES, NUM_DETECTORS, DETECTOR_SPACING, PIXEL_SIZE)` of the image gives the sinogram, up to its noise.

    Args:
      folder: of the unpacked files.
      part: "train", "validation" or "test".
      index: of the slice in its part, from 0.

    Returns:
      `(image, sinogram)`: `[362, 362]` float32, mu / mu_water, x to the right and y up; `[1000, 513]` float32, lengths of water [mm].

    Raises:
      InputError: for another part or index, or a file that is missing or damaged, in one line.

    Reference:
      Leuschner, Schmidt, Otero Baguer & Maass (2021), LoDoPaB-CT, a benchmark dataset for low-dose computed tomography reconstruction,
      https://doi.org/10.1038/s41597-021-00893-z; units and geometry are those of its loader in dival.
    """
    if part not in NUM_SLICES:
        raise InputError(folder, f"part {part!r} of LoDoPaB-CT is asked for; one of {', '.join(NUM_SLICES)} is needed")
    if not 0 <= index < NUM_SLICES[part]:
        raise InputError(folder, f"part {part!r} of LoDoPaB-CT has {NUM_SLICES[part]} slices; slice {index} is not one of them")
    number, place = divmod(index, _PER_FILE)

    def stored(kind, shape, scale):
        path = Path(folder) / f"{kind}_{part}_{number:03d}.hdf5"
        found = hdf5_slices(path, place, {"data": {3: f"[{_PER_FILE}, {shape[0]}, {shape[1]}]"}})[0]["data"]
        if found.shape != shape:
            raise InputError(path, f"data has slices of {list(found.shape)}; {list(shape)} are needed")
        return single(path, "data", scale * checked_numbers(path, "data", found, "iuf"))

    image = stored("ground_truth", (IMAGE_SIZE, IMAGE_SIZE), np.float32(_WATER))
    sinogram = stored("observation", (NUM_VIEWS, NUM_DETECTORS), np.float32(1000 * _WATER))
    return image.T[::-1], sinogram


def files(folder: str) -> Files:
    """The images [HU], of which `hounsfield` makes mu / mu_water again, and sinograms of a folder that holds all parts."""

    def read(part, index):
        image, sinogram = lodopab(folder, part, index)
        return Stored(1000 * (image - 1), sinogram)

    return Files(NUM_SLICES, read)
