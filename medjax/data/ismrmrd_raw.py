"""Raw data in the ISMRM raw data format (ISMRMRD, MRD): readouts with their headers in an HDF5 file."""

import xml.etree.ElementTree

import numpy as np

from medjax.data.hdf5_slices import hdf5_slices
from medjax.data.raw_mri import COUNTERS, RawMri, Readout, checked_space, sorted_scan, straightened
from medjax.data.scan import InputError, reason

_SPACE = {"i": "http://www.ismrm.org/ISMRMRD"}
_NOISE, _CALIBRATION, _CALIBRATION_AND_IMAGE, _REVERSE = 19, 20, 21, 22
_NO_IMAGE = (23, 24, 26, 27, 28, 29, 30, 31)  # navigators, phase correction, feedback, dummy, surface coil correction, phase stabilisation
_HEAD = ("flags", "number_of_samples", "active_channels", "discard_pre", "discard_post", "center_sample", "encoding_space_ref")


def ismrmrd_raw(path, dataset: str = "dataset", encoding: int = 0, remove_oversampling: bool = True, centre=None) -> RawMri:
    """A scan of an ISMRMRD file.

    Readouts go where their encoding counters and the centres of the encoding limits say, asymmetric echoes by their `center_sample`; what was
    measured several times (averages, segments) is averaged, reversed readouts are flipped. Navigators, phase correction, feedback, dummy scans and
    scans for surface coil correction are left out. Vendors differ in the sign of the Fourier transform, so that an image may come out mirrored.

    Args:
      path: the `.h5` or `.mrd` file.
      dataset: the group of the file; converters number those of several scans.
      encoding: which `encoding` of the header the image is.
      remove_oversampling: cut the field of view along Cartesian readouts down to that of the header's `reconSpace`; near the missing samples of
        an asymmetric echo the k-space that comes of it is approximate.
      centre: (partition, line), the counters of k = 0 where the encoding limits are wrong, as some conversions of partial Fourier scans have them.

    Returns:
      A `RawMri`. Calibration readouts keep the grid of the encoding they refer to.

    Raises:
      InputError: for a file that is missing, damaged or holds no such scan, for echo planar readouts that are yet to be regridded, and for
        readouts outside the k-space that the header tells, in one line.

    Reference:
      Inati et al. (2017), ISMRM Raw data format, https://doi.org/10.1002/mrm.26089; schema/ismrmrd.xsd, doc/mrd_raw_data.md and
      include/ismrmrd/ismrmrd.h of https://github.com/ismrmrd/ismrmrd; Kellman & McVeigh (2005), https://doi.org/10.1002/mrm.20713, for the noise
      bandwidth.
    """
    try:
        return _scan(path, dataset, encoding, remove_oversampling, centre)
    except InputError:
        raise
    except Exception as error:  # fields of other types than those of the format raise anything
        raise InputError(path, f"is damaged or not ISMRMRD ({reason(error)})") from None


def _scan(path, dataset, encoding, remove_oversampling, centre) -> RawMri:
    """What `ismrmrd_raw` returns."""
    names = f"{dataset}/xml", f"{dataset}/data"
    found, _ = hdf5_slices(path, 0, {}, whole=names)
    for name in names:
        if name not in found or not np.size(found[name]):
            raise InputError(path, f"holds nothing at {name!r}; the xml and data of ISMRMRD are needed, in the group that `dataset` names")
    root, acquisitions = _root(path, np.ravel(found[names[0]])[0]), _acquisitions(path, np.ravel(found[names[1]]))
    heads = acquisitions["head"]
    flagged = {flag: (heads["flags"] >> np.uint64(flag - 1)) & np.uint64(1) > 0 for flag in range(1, 32)}
    noise, calibration = flagged[_NOISE], flagged[_CALIBRATION] | flagged[_CALIBRATION_AND_IMAGE]
    other = np.any([flagged[flag] for flag in _NO_IMAGE], 0) | noise
    image = ~other & (~flagged[_CALIBRATION] | flagged[_CALIBRATION_AND_IMAGE]) & (heads["encoding_space_ref"] == encoding)
    space = _space(path, root, encoding, centre)
    chosen = np.flatnonzero(calibration & ~other)
    reference = int(heads["encoding_space_ref"][chosen[0]]) if len(chosen) else encoding
    chosen = chosen[heads["encoding_space_ref"][chosen] == reference]
    spaces = space, space if reference == encoding else _space(path, root, reference, None)
    image_part, calibration_part = [
        (each, [_readout(path, acquisitions[i], flagged[_REVERSE][i], each.cartesian) for i in places])
        for each, places in zip(spaces, (np.flatnonzero(image), chosen), strict=True)
    ]
    silent = [_data(path, acquisitions[i]) for i in np.flatnonzero(noise)]
    ratio = _bandwidth_ratio(path, root, heads["sample_time_us"], image, noise)
    return sorted_scan(path, image_part, calibration_part, silent, ratio, remove_oversampling)


def _root(path, text):
    """The header."""
    try:
        return xml.etree.ElementTree.fromstring(text)
    except (xml.etree.ElementTree.ParseError, TypeError, ValueError) as error:
        raise InputError(path, f"its header is no XML ({reason(error)}); that of ISMRMRD is needed") from None


def _acquisitions(path, stored):
    """The readouts, `[n]` of the compound type {head, traj, data}."""
    names = stored.dtype.names or ()
    heads = (stored.dtype["head"].names or ()) if "head" in names else ()
    if not {"head", "traj", "data"} <= set(names) or not {*_HEAD, "idx", "trajectory_dimensions", "sample_time_us"} <= set(heads):
        raise InputError(path, f"data is of {', '.join(names) or stored.dtype}; readouts {{head, traj, data}} of ISMRMRD are needed")
    return stored


def _data(path, acquisition):
    """`[coils, samples]` complex64 of a readout."""
    shape = int(acquisition["head"]["active_channels"]), int(acquisition["head"]["number_of_samples"])
    numbers = np.asarray(acquisition["data"], np.float32)
    if numbers.size != 2 * shape[0] * shape[1] or not numbers.size:
        raise InputError(path, f"a readout holds {numbers.size} numbers; two for each of {shape[1]} samples of {shape[0]} coils are needed")
    return numbers.view(np.complex64).reshape(shape)


def _readout(path, acquisition, reverse, cartesian):
    """One acquisition as a `Readout`; those off the grid run as their trajectory says."""
    head, index = acquisition["head"], acquisition["head"]["idx"]
    discard = int(head["discard_pre"]), int(head["discard_post"])
    data, zero = straightened(path, _data(path, acquisition), int(head["center_sample"]), bool(reverse and cartesian), discard)
    encode = int(index["kspace_encode_step_2"]), int(index["kspace_encode_step_1"])
    trajectory = None
    if not cartesian and head["trajectory_dimensions"]:
        num, dims = int(head["number_of_samples"]), int(head["trajectory_dimensions"])
        trajectory = np.asarray(acquisition["traj"], np.float32)
        if trajectory.size != num * dims:
            raise InputError(path, f"a trajectory holds {trajectory.size} numbers; {dims} for each of {num} samples are needed")
        trajectory = trajectory.reshape(num, dims)[discard[0] : num - discard[1], ::-1]
    return Readout(data, zero, encode, tuple(int(index[name]) for name in COUNTERS), trajectory)


def _number(path, parent, name, kind=float, default=None):
    """A number of the header by its path below `parent`."""
    text = parent.findtext("/".join(f"i:{part}" for part in name.split("/")), None, _SPACE)
    if text is None and default is not None:
        return default
    try:
        return kind(text or "")
    except (TypeError, ValueError):
        raise InputError(path, f"its header tells {name} as {text!r}; a number is needed") from None


def _space(path, root, index, centre):
    """The `Space` of an encoding."""
    encodings = root.findall("i:encoding", _SPACE)
    if not 0 <= index < len(encodings):
        raise InputError(path, f"its header has {len(encodings)} encodings; encoding {index} is not one of them")
    found = encodings[index]
    kind = found.findtext("i:trajectory", "cartesian", _SPACE).strip().lower()
    if kind == "epi" and found.find("i:trajectoryDescription", _SPACE) is not None:
        raise InputError(path, "holds echo planar readouts sampled along ramps; data on a grid are needed, regrid and phase correct them first")
    matrix = [_number(path, found, f"encodedSpace/matrixSize/{axis}", int) for axis in "zyx"]
    encoded, shown = [[_number(path, found, f"{space}/fieldOfView_mm/{axis}") for axis in "zyx"] for space in ("encodedSpace", "reconSpace")]
    steps = zip((2, 1), matrix[:2], strict=True)
    told = [_number(path, found, f"encodingLimits/kspace_encoding_step_{step}/center", int, size // 2) for step, size in steps]
    return checked_space(path, matrix, encoded, shown, told if centre is None else centre, kind in ("cartesian", "epi"))


def _bandwidth_ratio(path, root, sample_time, image, noise):
    """Noise bandwidth of imaging over that of the noise readouts, 1 where it is not told."""
    if not (image.any() and noise.any()):
        return 1.0
    relative = _number(path, root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth", float, 1.0)
    times = float(sample_time[noise][0]), float(sample_time[image][0])
    return times[0] / (times[1] * relative) if min(*times, relative) > 0 else 1.0
