"""Who trains, validates and tests."""

import numpy as np

from medjax.data.files import split_subjects


def parted(subjects, validation: float, test: float) -> dict[str, np.ndarray]:
    """part -> indices of its examples: all of the last subjects by name are for tests, all of those before them for validation.

    Each of both parts gets one subject at least, as long as one is left to train on.

    Args:
      subjects: `[n]`, whom each example is of.
      validation: share of the subjects.
      test: share of the subjects.

    Raises:
      ValueError: for shares that are not from 0, or leave nothing to train on.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f"validation is {validation} and test {test}; shares from 0, below 1 together, are needed")
    subjects = np.asarray(subjects)
    tested = split_subjects(subjects, test)
    rest = np.flatnonzero(~tested)
    validated = split_subjects(subjects[rest], validation / (1 - test))
    parts = {"train": rest[~validated], "validation": rest[validated], "test": np.flatnonzero(tested)}
    if not len(parts["train"]):
        raise ValueError(f"{len(np.unique(subjects))} subjects, {validation:g} of them for validation and {test:g} for tests, leave none to train on")
    return parts
