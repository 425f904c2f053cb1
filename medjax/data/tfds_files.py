"""Examples of a data set that `python -m medjax.data.tfds_builder` has made ready."""

import re
from pathlib import Path

import numpy as np

from medjax.data.files import PARTS, Files, Stored
from medjax.data.fit import fit
from medjax.data.scan import InputError, reason
from medjax.data.tfds_builder import import_tfds


def files(
    data_set: str,
    data_dir: str,
    image: str | tuple[str, ...] = "image",
    label: str = "",
    size: int = 0,
    background: float = 0.0,
    lowest: float | None = None,
    over: str = "",
) -> Files:
    """Examples of the parts of a prepared data set, in the order of patients and slices; nothing but the record asked for is read.

    Args:
      data_set: as it was prepared: "lidc_idri", "ixi/t1".
      data_dir: folder in which it was prepared.
      image: feature that is the image, or several, which become its channels `[h, w, c]`.
      label: feature that is the class, a whole number; empty where none is wanted.
      size: pixels a side that images are padded and resampled to by `fit`; 0 leaves them as they are.
      background: value of the padding, -1000 for CT [HU].
      lowest: images are clipped to this from below; -1000 for CT [HU], whose fields of view are padded with less.
      over: feature that images are divided by, such as the largest value of their volume; empty where there is none.

    Returns:
      `Files` of float32 images.

    Raises:
      InputError: where the data set is not prepared or damaged, or has no such features.
    """
    tfds = import_tfds(data_dir)
    names = (image,) if isinstance(image, str) else tuple(image)
    build = _prepared(tfds, data_set, data_dir)
    _check(build, names, label, over)
    sources = {part: build.as_data_source(part) for part in PARTS if part in build.info.splits}

    def read(part, index):
        try:
            found = sources[part][index]
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(build.data_path, f"has no whole record {index} of the part {part} ({reason(error)})") from None
        images = [_plain(found[each]) for each in names]
        if over and not found[over] > 0:
            raise InputError(build.data_path, f"example {index} of {part} has {over} {found[over]:g}; more than 0 is needed")
        images = [each / np.float32(found[over]) if over else each for each in images]
        images = [each if lowest is None else np.maximum(each, np.float32(lowest)) for each in images]
        images = [_fitted(each, size, background) if size else each for each in images]
        joined = images[0] if isinstance(image, str) else np.stack(images, -1)
        return Stored(joined, None, np.int32(found[label]) if label else None)

    return Files({part: len(sources[part]) if part in sources else 0 for part in PARTS}, read)


def _prepared(tfds, name, data_dir):
    """The newest prepared version of a data set, as a builder that only reads."""
    folder = Path(data_dir) / name
    versions = [path for path in folder.glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    if not versions:
        command = f"python -m medjax.data.tfds_builder {name} --manual-dir DIR --data-dir {data_dir}"
        raise InputError(folder, f"holds no prepared data set; {command} is needed first")
    newest = max(versions, key=lambda path: tuple(map(int, path.name.split("."))))
    try:
        return tfds.builder_from_directory(str(newest))
    except Exception as error:  # a parser of damaged files raises anything
        raise InputError(newest, f"is no whole prepared data set ({reason(error)})") from None


def _check(build, names, label, over):
    """InputError where a feature that is asked for is missing or of another kind."""
    features = build.info.features
    wanted = [(name, (2, 3), "iuf", "an image") for name in names or ("",)]
    wanted += [(label, (0,), "iu", "a class")] * bool(label) + [(over, (0,), "iuf", "a number")] * bool(over)
    for name, ranks, kinds, what in wanted:
        if name not in features or len(features[name].shape) not in ranks or np.dtype(features[name].np_dtype).kind not in kinds:
            raise InputError(build.data_path, f"has the features {', '.join(sorted(features))}; {name!r} is none of them that is {what}")


def _plain(image):
    """An image as float32, `[h, w]` where it has but one channel."""
    image = np.asarray(image, np.float32)
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def _fitted(image, size, background):
    """An image `[h, w]` or `[h, w, c]` on a grid of `size` pixels a side."""
    if image.ndim == 2:
        return fit(image, size, background)[0]
    return np.stack([fit(channel, size, background)[0] for channel in np.moveaxis(image, -1, 0)], -1)
