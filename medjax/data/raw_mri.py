"""Readouts of an MRI scanner, sorted into k-space, whatever the format they come in."""

import math
from typing import Any, NamedTuple

import numpy as np

from medjax.data.declared import LONGEST, checked_size
from medjax.data.scan import InputError, checked_numbers

COUNTERS = ("slice", "contrast", "phase", "repetition", "set")
"""What tells one k-space of a scan from another."""
_LARGEST = 8192


class Lines(NamedTuple):
    """K-spaces of one purpose, imaging or calibration.

    kspace: `[n, coils, h, w]`, or `[n, coils, d, h, w]` of a 3-D scan, complex64, k = 0 at the middle (size // 2) of each axis as `sense` has it, 0
      where nothing was measured; of a non-Cartesian scan `[readouts, coils, samples]` in the order of the file.
    mask: `[n, h, w]` or `[n, d, h, w]` float32, 1 where measured; None of a non-Cartesian scan.
    counters: `[n, 5]` or `[readouts, 5]` int, what each is of, in the order of `COUNTERS`; of Cartesian scans sorted, slices slowest.
    trajectory: None of a Cartesian scan, else `[readouts, samples, 2 or 3]` float32, (ky, kx) or (kz, ky, kx) in the unit of the file.
    """

    kspace: np.ndarray
    mask: np.ndarray | None
    counters: np.ndarray
    trajectory: np.ndarray | None


class RawMri(NamedTuple):
    """A raw scan.

    `whiten(kspace, noise_covariance(noise, bandwidth_ratio))` makes its channels white. The image of a k-space, by the orthonormal transform, has the
    pixels of `spacing`; its middle of `recon_fov` is what the scanner shows.

    image: the imaging readouts.
    calibration: readouts flagged as of parallel calibration, those that belong to the image as well among them; None where there are none.
    noise: `[coils, samples]` complex64 of the noise readouts, None where there are none.
    bandwidth_ratio: noise bandwidth of imaging over that of the noise readouts, 1 where the file does not tell.
    fov: (d, h, w) [mm] that `image` encodes, d being the thickness of a slice in 2-D.
    spacing: (d, h, w) [mm] of its pixels.
    recon_fov: (d, h, w) [mm] that is to be shown.
    """

    image: Lines
    calibration: Lines | None
    noise: np.ndarray | None
    bandwidth_ratio: float
    fov: tuple[float, ...]
    spacing: tuple[float, ...]
    recon_fov: tuple[float, ...]


class Space(NamedTuple):
    """What k-space is to be filled.

    matrix: (d, h, w) samples.
    fov, recon_fov: (d, h, w) [mm], encoded and to be shown.
    centre: the counters of k = 0 along d and h.
    cartesian: whether readouts lie on the grid.
    """

    matrix: tuple[int, ...]
    fov: tuple[float, ...]
    recon_fov: tuple[float, ...]
    centre: tuple[int, ...]
    cartesian: bool


class Readout(NamedTuple):
    """One readout, running towards larger k.

    data: `[coils, samples]` complex64.
    zero: the sample of k = 0.
    encode: its counters along d and h.
    counters: in the order of `COUNTERS`.
    trajectory: `[samples, 2 or 3]` as in `Lines`, or None.
    """

    data: np.ndarray
    zero: int
    encode: tuple[int, int]
    counters: tuple[int, ...]
    trajectory: Any = None


def straightened(path, data, centre: int, reverse: bool, discard: tuple[int, int]) -> tuple[np.ndarray, int]:
    """A readout without the samples to be discarded, flipped where it runs backwards.

    Args:
      path: of the file, for the message.
      data: `[coils, samples]`.
      centre: the sample of k = 0, of a full readout n // 2 whichever way it runs: in a reversed one of even length n it is the sample before.
      reverse: whether it runs towards smaller k.
      discard: numbers of samples at its beginning and end, in time.

    Returns:
      The data that are left and their sample of k = 0.

    Raises:
      InputError: where nothing is left.

    Reference:
      The position of k = 0 in reversed readouts is that which measurements at a Siemens scanner show, https://github.com/PTB-MR/mrpro/pull/832.
    """
    num = data.shape[1]
    if sum(discard) >= num:
        raise InputError(path, f"a readout of {num} samples discards {discard[0]} and {discard[1]} of them; at least one is needed")
    data, zero = data[:, discard[0] : num - discard[1]], centre - discard[0]
    return (data[:, ::-1], data.shape[1] - zero - num % 2) if reverse else (data, zero)


def checked_space(path, matrix, fov, recon_fov, centre, cartesian: bool) -> Space:
    """A `Space` of sizes that can be; InputError where they cannot."""
    if not all(1 <= size <= _LARGEST for size in matrix):
        raise InputError(path, f"tells a k-space of {' x '.join(map(str, matrix))} samples; 1 to {_LARGEST} along each axis are needed")
    if not all(1 / LONGEST < length < LONGEST for length in (*fov, *recon_fov)):
        raise InputError(path, f"tells fields of view {list(fov)} and {list(recon_fov)} mm; positive numbers are needed")
    return Space(tuple(matrix), tuple(fov), tuple(recon_fov), tuple(centre), cartesian)


def sorted_scan(path, image, calibration, noise, bandwidth_ratio: float, remove_oversampling: bool) -> RawMri:
    """A scan of its readouts.

    Args:
      path: of the file, for messages.
      image: `(Space, [Readout, ...])`.
      calibration: the same; may have no readouts, and may be of another space.
      noise: list of `[coils, samples]`.
      bandwidth_ratio: as in `RawMri`.
      remove_oversampling: cut the field of view along Cartesian readouts down to that to be shown.

    Raises:
      InputError: where there are no readouts of the image, or they do not fit each other or their space.
    """
    space, readouts = image
    if not readouts:
        raise InputError(path, "holds no readouts of an image; at least one is needed")
    coils = len(readouts[0].data)
    if any(len(readout.data) != coils for readout in readouts + calibration[1]) or any(len(each) != coils for each in noise):
        raise InputError(path, f"has readouts of {coils} coils and of other numbers; one number is needed, a scan with the same coils throughout")
    found = _lines(path, space, readouts, remove_oversampling)
    apart = _lines(path, calibration[0], calibration[1], remove_oversampling) if calibration[1] else None
    spacing = tuple(length / size for length, size in zip(space.fov, space.matrix, strict=True))
    width = _shown(space) if remove_oversampling and space.cartesian else space.matrix[2]
    silent = checked_numbers(path, "noise", np.concatenate(noise, 1)) if noise else None
    return RawMri(found, apart, silent, bandwidth_ratio, (*space.fov[:2], width * spacing[2]), spacing, space.recon_fov)


def _lines(path, space, readouts, remove_oversampling):
    """Readouts as `Lines`."""
    if not space.cartesian:
        return _off_grid(path, readouts)
    (depth, height, width), coils = space.matrix, len(readouts[0].data)
    counters, frames = np.unique([readout.counters for readout in readouts], axis=0, return_inverse=True)
    shape = (len(counters), depth, height, coils, width)
    checked_size(path, f"k-space of shape {list(shape)}", np.dtype(np.complex64).itemsize * math.prod(shape))
    kspace = np.zeros(shape, np.complex64)
    count = np.zeros((len(counters), depth, height, width), np.float32)
    for frame, readout in zip(frames.reshape(-1), readouts, strict=True):
        place = tuple(at - zero + size // 2 for at, zero, size in zip(readout.encode, space.centre, (depth, height), strict=True))
        first, num = width // 2 - readout.zero, readout.data.shape[1]
        if not (0 <= place[0] < depth and 0 <= place[1] < height and 0 <= first <= width - num):
            found = f"a readout of {num} samples, k = 0 at {readout.zero}, is at step {list(readout.encode)} of phase encoding"
            raise InputError(path, f"{found}; one inside {depth} x {height} x {width} samples with k = 0 at step {list(space.centre)} is needed")
        kspace[frame, *place, :, first : first + num] += readout.data
        count[frame, *place, first : first + num] += 1
    kspace /= np.maximum(count, 1)[:, :, :, None]
    checked_numbers(path, "data", kspace)
    mask = (count > 0).astype(np.float32)
    if remove_oversampling and _shown(space) < width:
        kspace, mask = _without_oversampling(kspace, mask, _shown(space))
    kspace = np.ascontiguousarray(np.moveaxis(kspace, 3, 1))
    return Lines(kspace[:, :, 0], mask[:, 0], counters, None) if depth == 1 else Lines(kspace, mask, counters, None)


def _shown(space):
    """How many pixels along the readout the field of view to be shown has."""
    return min(max(round(space.matrix[2] * space.recon_fov[2] / space.fov[2]), 1), space.matrix[2])


def _without_oversampling(kspace, mask, width):
    """K-space of the middle `width` pixels along the last axis, and its mask."""
    full = kspace.shape[-1]
    left = full // 2 - width // 2
    images = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, -1), norm="ortho"), -1)[..., left : left + width]
    near = full // 2 + np.round((np.arange(width) - width // 2) * (full / width)).astype(int)
    mask = mask[..., np.clip(near, 0, full - 1)]
    kspace = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(images, -1), norm="ortho"), -1)
    return (kspace * mask[:, :, :, None]).astype(np.complex64), mask


def _off_grid(path, readouts):
    """Readouts of a non-Cartesian scan in their order."""
    shapes = {(readout.data.shape[1], None if readout.trajectory is None else readout.trajectory.shape[1]) for readout in readouts}
    if len(shapes) > 1 or any(dims not in (2, 3) for _, dims in shapes):
        found = ", ".join(f"{num} samples and {dims or 'no'} axes" for num, dims in shapes)
        raise InputError(path, f"has non-Cartesian readouts whose trajectories have {found}; one number of samples and 2 or 3 axes are needed")
    data = checked_numbers(path, "data", np.stack([readout.data for readout in readouts]))
    trajectory = checked_numbers(path, "trajectory", np.stack([readout.trajectory for readout in readouts]))
    return Lines(data, None, np.array([readout.counters for readout in readouts]), trajectory)
