"""Raw data of Siemens scanners: measurement files `.dat` (Twix) of the software versions VB and VD/VE."""

import contextlib
import io
from pathlib import Path

import numpy as np

from medjax.data.raw_mri import RawMri, Readout, checked_space, sorted_scan, straightened
from medjax.data.scan import InputError, reason

_NO_IMAGE = ("ACQEND", "RTFEEDBACK", "HPFEEDBACK", "SYNCDATA", "REFPHASESTABSCAN", "PHASESTABSCAN", "PHASCOR", "RETRO_DUMMYSCAN", "noname60")
_COUNTERS = ("Sli", "Eco", "Phs", "Rep", "Set")
_CARTESIAN, _VOLUME = 1, 4  # ucTrajectory, ucDimension
_RAMP = 2  # alRegridMode from here on: samples lie along ramps


def twix(path, measurement: int = -1, remove_oversampling: bool = True) -> RawMri:
    """A Cartesian scan of a Twix file.

    The file is read by the package twixtools, the numbers are sorted as by `ismrmrd_raw`: k = 0 is where the header of each readout says
    (`CenterCol`, `CenterLin`, `CenterPar`), readouts flagged REFLECT are flipped, those of NOISEADJSCAN kept apart, PATREFSCAN are calibration.
    Images may come out mirrored, for this vendor's transform has the other sign.

    Args:
      path: the `.dat` file.
      measurement: of the file, from VD on there may be several; the last is the image, earlier ones are adjustments.
      remove_oversampling: cut the field of view along the readout down to that of the protocol; as in `ismrmrd_raw`.

    Returns:
      A `RawMri`; its bandwidth ratio is 1, for the file does not tell how fast noise was sampled.

    Raises:
      InputError: where twixtools or the file is missing, for a file that is damaged or holds no such scan, for non-Cartesian scans and echo planar
        readouts that are yet to be regridded, in one line.

    Reference:
      twixtools, https://github.com/pehses/twixtools, for the layout (`mdh_def.py`) and the names of the protocol (`geometry.py`); the counters as
      https://github.com/ismrmrd/siemens_to_ismrmrd takes them.
    """
    scan = _scan(path, measurement)
    try:
        readouts = [_readout(path, block) for block in scan["mdb"]]
        space = _space(path, scan["hdr"], scan["mdb"], [kind for kind, *_ in readouts])
    except InputError:
        raise
    except Exception as error:  # a parser of damaged bytes leaves anything
        raise InputError(path, f"has a damaged readout or protocol ({reason(error)})") from None
    image, calibration = ([each for kind, each in readouts if part in kind] for part in ("image", "calibration"))
    noise = [each.data for kind, each in readouts if "noise" in kind and each is not None]
    return sorted_scan(path, (space, image), (space, calibration), noise, 1.0, remove_oversampling)


def _scan(path, measurement):
    """The headers and blocks of a measurement, as twixtools gives them."""
    if not Path(path).is_file():
        raise InputError(path, "no such file; a Twix file .dat is needed")
    try:
        import twixtools
    except ImportError:
        raise InputError(path, "is a Twix file, which needs the package twixtools: pip install twixtools") from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = twixtools.read_twix(str(path), parse_pmu=False, parse_geometry=False, keep_syncdata=False, keep_acqend=True, verbose=False)
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or not a Twix file ({reason(error)})") from None
    if not any(scan["mdb"] for scan in found):
        raise InputError(path, "is truncated or not a Twix file (no readouts were found)")
    if not -len(found) <= measurement < len(found):
        raise InputError(path, f"holds {len(found)} measurements; measurement {measurement} is not one of them")
    scan = found[measurement]
    if not (scan["mdb"] and scan["mdb"][-1].is_flag_set("ACQEND")):
        raise InputError(path, "is truncated (its last measurement lacks the mark of its end); a whole Twix file is needed")
    return scan


def _readout(path, block):
    """What a block is for, and its `Readout`; nothing for blocks that are to be left out."""
    header, counter = block.mdh, block.mdh.Counter
    if any(block.is_flag_set(flag) for flag in _NO_IMAGE):
        return (), None
    data = np.asarray(block.data, np.complex64)
    both = block.is_flag_set("PATREFANDIMASCAN")
    reference = block.is_flag_set("PATREFSCAN") or both
    if block.is_flag_set("NOISEADJSCAN"):
        kind, zero = ("noise",), 0
    else:
        kind = ("calibration",) * reference + ("image",) * (both or not reference)
        cut = int(header.CutOff.Pre), int(header.CutOff.Post)
        data, zero = straightened(path, data, int(header.CenterCol), block.is_flag_set("REFLECT"), cut)
    encode = int(counter.Par), int(counter.Lin)
    return kind, Readout(data, zero, encode, tuple(int(getattr(counter, name)) for name in _COUNTERS))


def _space(path, headers, blocks, kinds):
    """The `Space` of a protocol; the centre is that of the first readout of the image."""
    protocol, ramps = headers["MeasYaps"], headers.get("Meas", {}).get("alRegridMode") or [0]
    grid, extent = protocol["sKSpace"], protocol["sSliceArray"]["asSlice"][0]
    if int(grid["ucTrajectory"]) != _CARTESIAN:
        raise InputError(path, f"holds a scan of ucTrajectory {grid['ucTrajectory']}, not Cartesian; its trajectory is not in the file but needed")
    if int(ramps[0]) >= _RAMP:
        raise InputError(path, "holds echo planar readouts sampled along ramps; data on a grid are needed, regrid and phase correct them first")
    depth = int(grid["lPartitions"]) if int(grid["ucDimension"]) == _VOLUME else 1
    width, height = int(grid["lBaseResolution"]), int(grid["lPhaseEncodingLines"])
    shown = [float(extent[name]) for name in ("dThickness", "dPhaseFOV", "dReadoutFOV")]
    extra = [1 + float(grid.get(name, 0)) for name in ("dSliceOversamplingForDialog", "dPhaseOversamplingForDialog")] + [2]
    encoded = [length * factor for length, factor in zip(shown, extra, strict=True)]
    image = next((block.mdh for block, kind in zip(blocks, kinds, strict=True) if "image" in kind), None)
    centre = (0, 0) if image is None else (int(image.CenterPar) if depth > 1 else 0, int(image.CenterLin))
    return checked_space(path, (depth, height, 2 * width), encoded, shown, centre, True)
