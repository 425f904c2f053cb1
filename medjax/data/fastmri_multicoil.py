"""Images and coil maps of the multi-coil volumes of fastMRI, kept on disk once they are computed.

ESPIRiT takes seconds a slice, so images (1 MB each) are computed when they are first read, maps (1 MB a coil) only where an evaluation asks for them.
A kept file is `PART_VOLUME_SLICE_KIND_KEY.npz`, KEY being of the settings and the size of the volume; its check sums tell damage, and it is then
computed anew.
"""

import hashlib
import json
import threading
from pathlib import Path

import jax
import numpy as np

from medjax.data.arrays import load_arrays
from medjax.data.fastmri import cropped_images, fastmri, volume_files
from medjax.data.files import Files, Stored
from medjax.data.scan import InputError
from medjax.physics.espirit import espirit
from medjax.report.atomic import prepare_folder, write_atomically

_VERSION = 1
_ONE_AT_A_TIME = threading.Lock()
_espirit = jax.jit(espirit, static_argnames=("calibration_width", "kernel_width"))


def multicoil_files(folder: str, cache: str, calibration_width: int = 24, kernel_width: int = 6, threshold=0.02, crop=0.95) -> Files:
    r"""Complex images of `folder/multicoil_train` and `folder/multicoil_val`, over the largest magnitude of their volume; data are to be simulated.

    .. math:: x = \frac{\sum_c S_c^* x_c}{\sum_c |S_c|^2}

    is 0 where the maps S of `maps` are. Volumes are parted as by `singlecoil_files`, and images are cropped to the size of their reconstruction.

    Args:
      folder: of the two folders.
      cache: a folder for what is computed; it may be shared by processes.
      calibration_width, kernel_width, threshold, crop: of `espirit`.

    Raises:
      InputError: where a folder is missing or holds no volume; a slice, when it is read, as `maps`.
      OSError: where the cache cannot be written, in one line.
    """
    prepare_folder(cache)
    settings = calibration_width, kernel_width, threshold, crop
    return volume_files(folder, "multicoil", lambda path, index: Stored(_kept("image", path, index, cache, settings)))


def maps(path, index: int, cache: str, calibration_width: int = 24, kernel_width: int = 6, threshold=0.02, crop=0.95) -> np.ndarray:
    """Coil maps of a slice, for `sense`.

    Args:
      path: the volume.
      index: of the slice, from 0.
      cache: as of `multicoil_files`.
      calibration_width, kernel_width, threshold, crop: of `espirit`, which sees the k-space of the coil images cropped to the size of the
        reconstruction, whose fully sampled centre is that of the scan.

    Returns:
      `[coils, h, w]` complex64, of unit root sum of squares, or 0 where `espirit` finds no signal.

    Raises:
      InputError: for a slice that cannot be read or has no fully sampled centre of that width, in one line.
      OSError: where the cache cannot be written.

    Reference:
      Uecker et al. (2014), ESPIRiT, https://doi.org/10.1002/mrm.24751.
    """
    prepare_folder(cache)
    return _kept("maps", path, index, cache, (calibration_width, kernel_width, threshold, crop))


def _kept(kind, path, index, cache, settings):
    """The image or the maps of a slice from the cache, or computed and put there."""
    place = _place(kind, path, index, cache, settings)
    found = _whole(place, kind)
    if found is not None:
        return found
    with _ONE_AT_A_TIME:
        found = _whole(place, kind)
        if found is None:
            found = _computed(path, index, settings)[kind]
            with write_atomically(place) as temporary:
                np.savez(temporary, **{kind: found})
    return found


def _place(kind, path, index, cache, settings):
    """The file of a slice; without its volume there is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file")
    key = hashlib.sha256(json.dumps([_VERSION, path.stat().st_size, *settings]).encode()).hexdigest()[:16]
    return Path(cache) / f"{path.parent.name}_{path.stem}_{index:04d}_{kind}_{key}.npz"


def _whole(place, kind):
    """What a file of the cache holds, None where there is none or it is damaged."""
    if not place.is_file():
        return None
    try:
        found = load_arrays(place)
    except InputError:
        return None
    array = found.get(kind) if isinstance(found, dict) else None
    whole = array is not None and array.dtype == np.complex64 and array.ndim == {"image": 2, "maps": 3}[kind] and np.isfinite(array).all()
    return array if whole else None


def _computed(path, index, settings):
    """`{"image": [h, w], "maps": [coils, h, w]}` of a slice."""
    calibration_width, kernel_width, threshold, crop = settings
    found = fastmri(path, index)
    coils = cropped_images(path, found, several=True)
    if not 1 <= kernel_width <= calibration_width <= min(coils.shape[1:]):
        sizes = f"kernels of {kernel_width} in a centre of {calibration_width}"
        raise InputError(path, f"has reconstructions of {list(coils.shape[1:])}; ones that hold {sizes} samples are needed")
    width, measured = found.mask.shape[1], np.flatnonzero(found.mask[0])
    reach = -(-calibration_width * width // (2 * coils.shape[2]))  # samples of a cropped image are further apart in k-space, and so is its centre
    if not set(range(max(width // 2 - reach, 0), min(width // 2 + reach, width))) <= set(measured) or np.ptp(measured) >= len(measured):
        raise InputError(path, f"has columns of k-space that were not measured; all, among them the middle {2 * reach}, are needed")
    axes = (1, 2)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coils, axes), norm="ortho"), axes).astype(np.complex64)
    sensitivities, _ = _espirit(kspace, calibration_width=calibration_width, kernel_width=kernel_width, threshold=threshold, crop=crop)
    sensitivities = np.asarray(sensitivities[0], np.complex64)
    power = np.sum(np.abs(sensitivities) ** 2, 0)
    image = np.sum(sensitivities.conj() * coils, 0) / np.where(power > 0, power, 1)
    return {"image": image.astype(np.complex64), "maps": sensitivities}
