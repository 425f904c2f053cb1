"""Scans of brains as complex images for `configs/brain_contrasts.py`: python benchmarks/scans_with_phase.py ARRAYS OUTPUT

ARRAYS is a `.npz` with, for each part, `train_image` `[n, h, w, channels]` of eight bits, T1 before contrast agent, FLAIR and T1 after,
`train_subject` `[n]`, `train_zfrac` `[n]`, the height in the head from 0 to 1, and `train_has_contrast` `[n, channels]`, whether a channel was
scanned or stands for another; OUTPUT, a `.npz`, gets the first two channels of the slices from .35 to .75, with a smooth phase, polynomials of
degree 2 with random coefficients: magnitudes are all that such archives keep, and a scanner measures more.
"""

import sys

import numpy as np

DEVIATIONS = (3.0, 1.0, 1.0, 0.5, 0.5, 0.5)
"""Of the coefficients of 1, x, y, x y, x^2 and y^2, x and y from -1 to 1 [rad]."""


def main(source, output):
    """Write OUTPUT from ARRAYS."""
    rng, made = np.random.default_rng(0), {}
    with np.load(source, allow_pickle=False) as found:
        for part in ("train", "test"):
            height, scanned = found[f"{part}_zfrac"].astype(float), found[f"{part}_has_contrast"][:, 0]
            kept, images = np.flatnonzero((height > 0.35) & (height < 0.75) & scanned), found[f"{part}_image"]
            rows, columns = images.shape[1:3]
            y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
            terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2])
            phases = np.exp(1j * np.einsum("ncd,dhw->nchw", rng.normal(size=(len(kept), 2, 6)) * DEVIATIONS, terms))
            pairs = images[kept][..., :2].transpose(0, 3, 1, 2) / 255 * phases
            made[f"{part}_image"] = pairs.reshape(-1, rows, columns).astype(np.complex64)
            made[f"{part}_subject"] = np.repeat(found[f"{part}_subject"][kept], 2)
            print(f"{part}: {len(made[f'{part}_image'])} images of {len(set(made[f'{part}_subject'].tolist()))} people")
    np.savez(output, **made)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
