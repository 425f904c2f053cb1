"""Volumes in the layout of fastMRI."""

import h5py

HEADER = """<?xml version="1.0" encoding="utf-8"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>24</x><y>20</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>12</x><y>10</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>15</maximum><center>8</center></kspace_encoding_step_1></encodingLimits>
</encoding></ismrmrdHeader>"""


def write_fastmri(path, kspace, target=None, mask=None, header=HEADER, patient=None):
    """A volume; `target` is a name and an array."""
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        if header:
            file["ismrmrd_header"] = header
        if target:
            file[target[0]] = target[1]
        if mask is not None:
            file["mask"] = mask
        file.attrs.update({"acquisition": "AXT2", "max": 1.5, "norm": 2.5})
        if patient is not None:
            file.attrs["patient_id"] = patient
