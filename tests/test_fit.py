"""A user's image on the grid of a prior: averages to coarser pixels, lines to finer ones, even padding."""

import numpy as np
import pytest

from medjax.data.fit import fit


def test_fit_averages_areas():
    image = np.arange(36, dtype=np.float32).reshape(6, 6)
    halved, factor = fit(image, 3, 0)
    np.testing.assert_allclose(halved, image.reshape(3, 2, 3, 2).mean((1, 3)), rtol=1e-6)
    assert factor == 2 and halved.dtype == np.float32
    np.testing.assert_array_equal(fit(image, 6, 0)[0], image)
    coarse, factor = fit(image.astype(float), 4, 0)
    assert factor == 1.5 and coarse[0, 0] == pytest.approx((0 + 0.5 * 1 + 0.5 * 6 + 0.25 * 7) / 2.25) and coarse.mean() == pytest.approx(image.mean())


def test_fit_pads_evenly_and_keeps_complex():
    image = np.full((2, 5), 3 + 4j, np.complex64)
    result, factor = fit(image, 5, -1)
    np.testing.assert_array_equal(result, np.array([-1, 3 + 4j, 3 + 4j, -1, -1], np.complex64)[:, None].repeat(5, 1))
    assert factor == 1 and result.dtype == np.complex64


def test_fit_is_linear_to_finer_pixels():
    ramp = np.tile(np.arange(8.0), (8, 1))
    fine, factor = fit(ramp, 16, 0)
    assert factor == 0.5
    np.testing.assert_allclose(fine[3], np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7), atol=1e-12)
    with pytest.raises(ValueError, match=r"got an image of shape \[8\]"):
        fit(ramp[0], 4, 0)
