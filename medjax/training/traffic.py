"""What the devices that share a training send each other."""

import collections
import math
import re

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CALL = re.compile(rf"= (\S.*?) ({'|'.join(_KINDS)})(?:-done)?\(")
_ARRAY = re.compile(r"\b[a-z]+(\d*)\w*\[([\d,]*)\]")


def sent(program: str) -> dict[str, int]:
    """Bytes of the results of each kind of collective on one device, of a compiled program's text (`jitted.lower(...).compile().as_text()`).

    Each collective counts once, also in a loop; one that runs beside other work, where it is done. Of B bytes over n devices in a ring, an
    all-reduce sends 2 B (n - 1) / n from each device, an all-gather or all-to-all B (n - 1) / n. The result of a reduce-scatter is a part of n of
    what is summed.

    Reference:
      Patarasuk & Yuan (2009), Bandwidth optimal all-reduce algorithms for clusters of workstations, https://doi.org/10.1016/j.jpdc.2008.09.002
    """
    found = collections.Counter()
    for result, kind in _CALL.findall(program):
        for bits, shape in _ARRAY.findall(result):
            found[kind] += max(int(bits or 8) // 8, 1) * math.prod(int(length) for length in shape.split(",") if length)
    return dict(found)
