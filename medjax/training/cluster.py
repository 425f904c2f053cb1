"""One training in many processes."""

import os

import jax
import numpy as np

_OURS = ("MEDJAX_COORDINATOR", "MEDJAX_NUM_PROCESSES", "MEDJAX_PROCESS_ID")


def join() -> None:
    """Join the other processes of this training, where the environment tells of any; to be called before anything is computed.

    SLURM, Open MPI, Kubernetes and Cloud TPU are found by JAX from their own variables, where they tell of more than one process. Elsewhere
    `MEDJAX_COORDINATOR` (HOST:PORT of process 0), `MEDJAX_NUM_PROCESSES` and `MEDJAX_PROCESS_ID` say it.

    Raises:
      ValueError: where some of these variables are set and others are not, or a number is none.
    """
    told = {name: os.environ[name] for name in _OURS if os.environ.get(name)}
    if told and len(told) < len(_OURS):
        raise ValueError(f"{', '.join(told)} set, {', '.join(name for name in _OURS if name not in told)} not; all three are needed")
    if told:
        address, *numbers = (told[name] for name in _OURS)
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"MEDJAX_COORDINATOR is {address!r}; HOST:PORT of process 0 is needed")
        if not all(number.isdigit() for number in numbers) or int(numbers[1]) >= int(numbers[0]):
            raise ValueError(f"process {numbers[1]} of {numbers[0]} is asked for; whole numbers, the first below the second, are needed")
        jax.distributed.initialize(address, int(numbers[0]), int(numbers[1]))
    elif _cluster():
        jax.distributed.initialize()


def _cluster() -> bool:
    """Whether the variables of a cluster tell of more than one process, in a form that JAX reads."""
    found = os.environ
    if "JOB_COMPLETION_INDEX" in found and "KUBERNETES_SERVICE_HOST" in found:
        return True  # an indexed job
    counts = {"SLURM_NTASKS": "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE": "OMPI_MCA_orte_hnp_uri"}
    return "," in found.get("TPU_WORKER_HOSTNAMES", "") or any(int(found.get(n) or 1) > 1 and beside in found for n, beside in counts.items())


def first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def agreed(number: int) -> int:
    """The largest of what the processes say, in all of them; they meet here."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))
