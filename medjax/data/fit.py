"""A user's image on the grid of a prior."""

import numpy as np


def fit(image, size: int, background: float):
    """Pad to a square, then resample to `[size, size]`: by area averages to coarser pixels, linearly to finer ones.

    The padding is even on both sides (the odd pixel goes to the end), so the centre of the square stays where it was.

    Args:
      image: `[h, w]`, real or complex.
      size: pixels a side of the result.
      background: value of the padding.

    Returns:
      The image `[size, size]`, of the same dtype if that is inexact, and the factor: old pixels for one new pixel, so that the pixel size
      times the factor is the new one.

    Raises:
      ValueError: where the image has another rank or the size is not positive.
    """
    image = np.asarray(image)
    if image.ndim != 2 or size < 1:
        raise ValueError(f"got an image of shape {list(image.shape)} and size {size}, [h, w] and a positive size are needed")
    side = max(image.shape)
    padding = [padding_of(length, side) for length in image.shape]
    weights = _weights(side, size)
    square = np.pad(image, padding, constant_values=background)
    result = weights @ square @ weights.T
    return result.astype(image.dtype if image.dtype.kind in "fc" else np.float32), side / size


def square_pixels(image, sizes):
    """Resample linearly along the axis of the longer pixels, so that all are square and the image spans what it did, to half a pixel.

    Args:
      image: `[h, w]`, real or complex.
      sizes: (h, w) of a pixel.

    Returns:
      The image and the side of its pixels, the shorter one of `sizes`.
    """
    image, least = np.asarray(image), min(sizes)
    rows, columns = (round(length * size / least) for length, size in zip(image.shape, sizes, strict=True))
    result = _weights(image.shape[0], rows) @ image if rows != image.shape[0] else image
    return (result @ _weights(image.shape[1], columns).T if columns != image.shape[1] else result), float(least)


def padding_of(length: int, side: int) -> tuple[int, int]:
    """Pixels put before and after `length` pixels to make `side`."""
    before = (side - length) // 2
    return before, side - length - before


def _weights(side: int, size: int):
    """`[size, side]`, rows sum to 1."""
    factor = side / size
    new, old = np.arange(size)[:, None], np.arange(side)[None, :]
    if factor >= 1:
        overlap = np.minimum((new + 1) * factor, old + 1) - np.maximum(new * factor, old)
        return np.clip(overlap, 0, None) / factor
    position = np.clip((new + 0.5) * factor - 0.5, 0, side - 1)
    return np.clip(1 - np.abs(position - old), 0, None)
