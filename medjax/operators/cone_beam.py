"""Line integrals of a volume along the rays of a point source that turns on a circle or a helix, onto an upright detector.

Seen along z this is `fan_beam`: the same axes, angles, source position, fan angle and flat or curved detector (curved: a cylinder about
the vertical line through the source). The volume is `[num_slices, n, n]`; z points towards higher slices, slice k lying at
z = (k - (num_slices - 1) / 2) slice_spacing. In view i source and detector stand at height z = heights[i]. Detector row r lies at
v = (r - (num_rows - 1) / 2) row_spacing + row_offset above the source, so row 0 looks at the lowest slices; column k at
s = (k - (num_columns - 1) / 2) column_spacing + column_offset, as in `fan_beam`.
"""

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.operators import divergent_rays
from medjax.operators.chosen_views import chosen_views
from medjax.typing import Leaf


def cone_beam(
    image_size,
    num_slices,
    angles,
    source_distance,
    detector_distance,
    num_rows,
    num_columns,
    row_spacing=1.0,
    column_spacing=1.0,
    pixel_size=1.0,
    slice_spacing=None,
    row_offset=0.0,
    column_offset=0.0,
    pitch=0.0,
    detector="flat",
):
    r"""Line integrals of a volume along the rays of a cone, by Joseph's method in three dimensions.

    .. math::
        (A x)_{\beta, r, k} = \ell_{r k} \sum_j \sum_{i, l} x_{l j i} \max(0, 1 - |i - i_{\beta k j}|) \max(0, 1 - |l - l_{\beta r k j}|)

    where the ray crosses row j (column j, where the ray seen along z is nearer to the x axis) at the fractional column i and slice l, and
    is l_rk [mm] long from one row to the next. All rays of a detector column cross at one i: the slices are interpolated on i first, then
    on l, and the adjoint is the two steps' adjoints. The axis of the steps is the larger of x and y whatever the cone angle. Outside the
    volume x is zero.

    Args:
      image_size: n, the volume is `[num_slices, n, n]`.
      num_slices: slices, along z.
      angles: `[num_angles]` beta [rad], any values; may be traced and differentiated.
      source_distance: from source to the axis of rotation [mm], outside the volume's cylinder.
      detector_distance: from the axis to the detector [mm], may be 0.
      num_rows: detector rows, along z.
      num_columns: detector columns, along s.
      row_spacing: [mm] on the detector.
      column_spacing: [mm] on the detector.
      pixel_size: of the volume in x and y [mm].
      slice_spacing: of the volume in z [mm], the pixel size by default.
      row_offset: shift of the detector along z [mm]; may be traced and differentiated.
      column_offset: shift of the detector along s [mm]; may be traced and differentiated.
      pitch: advance of source and detector along z in a full turn [mm]: heights = pitch (beta - mean beta) / (2 pi); 0 is a circle. May be
        traced and differentiated; any other course of `heights` goes in by `dataclasses.replace`.
      detector: "flat" or "curved".

    Returns:
      A `ConeBeam`: `[num_slices, n, n]` -> `[num_angles, num_rows, num_columns]`, in units of x times [mm].

    Raises:
      ValueError: without views, with angles, offsets or a pitch that are not finite, where a size is no integer of at least 1 or a spacing is not
        positive, with the source inside the volume, or for a curved detector of more than a quarter turn to one side.

    Warns:
      UserWarning: where even a full turn misses rays through a part of the volume's inscribed cylinder, with that part.

    Reference:
      Feldkamp, Davis & Kress (1984), Practical cone-beam algorithm, https://doi.org/10.1364/JOSAA.1.000612, for the geometry.
      Joseph (1982), An improved algorithm for reprojecting rays through pixel images, https://doi.org/10.1109/TMI.1982.4307572
    """
    slice_spacing = pixel_size if slice_spacing is None else slice_spacing
    angles = divergent_rays.checked_angles(angles)
    divergent_rays.check_whole(num_slices=num_slices, num_rows=num_rows, num_columns=num_columns)
    divergent_rays.check_positive(row_spacing=row_spacing, slice_spacing=slice_spacing)
    divergent_rays.check_fan(image_size, source_distance, detector_distance, column_spacing, pixel_size, detector)
    divergent_rays.check_finite(row_offset=row_offset, column_offset=column_offset, pitch=pitch)
    divergent_rays.check_quarter_turn(num_columns, column_spacing, column_offset, source_distance + detector_distance, detector)
    A = ConeBeam(
        angles=angles,
        heights=jnp.asarray(pitch, float) * (angles - jnp.mean(angles)) / (2 * jnp.pi),
        row_offset=jnp.asarray(row_offset, float),
        column_offset=jnp.asarray(column_offset, float),
        image_size=image_size,
        num_slices=num_slices,
        num_rows=num_rows,
        num_columns=num_columns,
        source_distance=float(source_distance),
        source_to_detector=float(source_distance + detector_distance),
        row_spacing=float(row_spacing),
        column_spacing=float(column_spacing),
        pixel_size=float(pixel_size),
        slice_spacing=float(slice_spacing),
        detector=detector,
    )
    _warn_of_loss(A)
    return A


def _warn_of_loss(A):
    """Say how much of the volume the detector never sees completely."""
    if not checks.is_concrete(A.heights, A.row_offset, A.column_offset):
        return
    half = A.num_columns * A.column_spacing / 2
    first, last = (float(divergent_rays.fan_angles(A.column_offset + s, A.source_to_detector, A.detector)) for s in (-half, half))
    covered = divergent_rays.covered_fraction(A.image_size * A.pixel_size / 2, first, last, A.source_distance)
    magnification = A.source_to_detector / A.source_distance
    reach, shift = A.num_rows * A.row_spacing / 2 / magnification, float(A.row_offset) / magnification
    height = A.num_slices * A.slice_spacing
    top = min(height / 2, float(jnp.max(A.heights)) + shift + reach)
    bottom = max(-height / 2, float(jnp.min(A.heights)) + shift - reach)
    lost = 1 - covered * max(0.0, top - bottom) / height
    if lost > 1e-6:
        detector = f"{A.num_rows} x {A.num_columns} detector of {A.row_spacing:g} x {A.column_spacing:g} mm"
        warnings.warn(
            f"the {detector} is too small: {100 * lost:.3g} % of the volume's inscribed cylinder lie where rays are missing even in a full turn",
            stacklevel=3,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ConeBeam:
    """Cone-beam projector of a circular or helical scan; build it with `cone_beam`.

    angles: `[num_angles]` [rad], a leaf.
    heights: `[num_angles]` z of source and detector [mm], a leaf.
    row_offset, column_offset: scalars [mm], leaves.
    source_to_detector: the sum of source and detector distance [mm].
    """

    angles: Leaf
    heights: Leaf
    row_offset: Leaf
    column_offset: Leaf
    image_size: int = dataclasses.field(metadata={"static": True})
    num_slices: int = dataclasses.field(metadata={"static": True})
    num_rows: int = dataclasses.field(metadata={"static": True})
    num_columns: int = dataclasses.field(metadata={"static": True})
    source_distance: float = dataclasses.field(metadata={"static": True})
    source_to_detector: float = dataclasses.field(metadata={"static": True})
    row_spacing: float = dataclasses.field(metadata={"static": True})
    column_spacing: float = dataclasses.field(metadata={"static": True})
    pixel_size: float = dataclasses.field(metadata={"static": True})
    slice_spacing: float = dataclasses.field(metadata={"static": True})
    detector: str = dataclasses.field(metadata={"static": True})

    @linalg.traced_once
    def __call__(self, x):
        """A x: `[num_slices, n, n]` -> `[num_angles, num_rows, num_columns]`."""
        linalg.checked_shape(x, (self.num_slices, self.image_size, self.image_size), "volume")
        return linalg.linear_with_adjoint(self._project, self._backproject, x, self._leaves())

    @linalg.traced_once
    def adjoint(self, y):
        """A^H y: `[num_angles, num_rows, num_columns]` -> `[num_slices, n, n]`."""
        linalg.checked_shape(y, (*self.angles.shape, self.num_rows, self.num_columns), "stack of projections")
        return linalg.linear_with_adjoint(self._backproject, self._project, y, self._leaves())

    def views(self, indices):
        """The operator of the views `indices`, an integer array, a list or a slice."""
        indices = chosen_views(indices, self.angles.shape[0])
        return dataclasses.replace(self, angles=self.angles[indices], heights=self.heights[indices])

    def vectors(self):
        """Source, detector centre, column step and row step of each view, `[num_angles, 12]` [mm], as `cone_vectors` takes them."""
        if self.detector != "flat":
            raise ValueError(f"got a {self.detector} detector, vectors describe a flat one")
        cos, sin, zero = jnp.cos(self.angles), jnp.sin(self.angles), jnp.zeros_like(self.angles)
        behind = self.source_to_detector - self.source_distance
        source = [-self.source_distance * sin, self.source_distance * cos, self.heights]
        across = [self.column_offset * cos, self.column_offset * sin]
        centre = [behind * sin + across[0], -behind * cos + across[1], self.heights + self.row_offset]
        steps = [self.column_spacing * cos, self.column_spacing * sin, zero, zero, zero, zero + self.row_spacing]
        return jnp.stack([*source, *centre, *steps], axis=-1)

    def positions(self, dtype):
        """Detector positions: v `[num_rows]` and s `[num_columns]` [mm]."""
        rows = jnp.arange(self.num_rows, dtype=dtype) - (self.num_rows - 1) / 2
        columns = jnp.arange(self.num_columns, dtype=dtype) - (self.num_columns - 1) / 2
        return rows * self.row_spacing + self.row_offset.astype(dtype), columns * self.column_spacing + self.column_offset.astype(dtype)

    def _leaves(self):
        return self.angles, self.heights, self.row_offset, self.column_offset

    def _rays(self, dtype):
        """What the rays of each view and column are, a tuple of `[num_angles, num_columns]`: steep, origin, slope, near, gain.

        In pixels. A detector's height above the source appears at height h of the steps scaled by max(nearest, (h - near) gain), where
        `nearest` is a bound on that scale inside the volume.
        """
        cos, sin = jnp.cos(self.angles).astype(dtype)[:, None], jnp.sin(self.angles).astype(dtype)[:, None]
        source = self.source_distance / self.pixel_size
        tangent = divergent_rays.tangents(self.positions(dtype)[1], self.source_to_detector, self.detector)[None, :]
        steep, along, origin, slope = divergent_rays.lines(tangent, cos, sin, source)
        gain = self.pixel_size / (self.source_to_detector * along)
        if self.detector == "curved":
            gain = gain * jnp.sqrt(1 + tangent**2)
        return steep, origin, slope, jnp.where(steep, source * cos, -source * sin), gain

    def _nearest(self):
        """The least scale of a detector's height inside the volume."""
        radius = divergent_rays.support_radius(self.image_size) * self.pixel_size
        return (self.source_distance - radius) / self.source_to_detector

    def _lengths(self, dtype):
        """Length of the rays from step to step, `[num_angles, num_columns, num_rows]` [mm]."""
        v, s = self.positions(dtype)
        cos, sin = jnp.cos(self.angles).astype(dtype)[:, None], jnp.sin(self.angles).astype(dtype)[:, None]
        tangent = divergent_rays.tangents(s, self.source_to_detector, self.detector)
        along = divergent_rays.lines(tangent[None, :], cos, sin, self.source_distance)[1]
        secant = jnp.sqrt(1 + tangent**2)
        reach = self.source_to_detector * (secant if self.detector == "flat" else jnp.ones_like(secant))
        tilt = jnp.sqrt(1 + (v[None, :] / reach[:, None]) ** 2)
        return (self.pixel_size * secant[None, :] / jnp.abs(along))[:, :, None] * tilt[None]

    def _heights_on(self, scale, height, dtype):
        """Where the rays of all rows cross, in slices from the lowest: (first row, step from row to row), of the shape of `scale`."""
        lowest = self.positions(dtype)[0][0]
        return (height + scale * lowest) / self.slice_spacing + (self.num_slices - 1) / 2, scale * (self.row_spacing / self.slice_spacing)

    def _project(self, x):
        """Scan over rows: two columns of slices make the slices seen by a detector column, whose rows are then read off it."""
        n, dtype = self.image_size, x.real.dtype
        upwards = jnp.transpose(x, (1, 2, 0))[::-1]  # slices innermost, so that a column of them is one stretch of memory
        padding = ((0, 0), (1, 2), (1, 2))  # zeros outside the volume, so that clipped positions read 0
        planes = jnp.concatenate([jnp.pad(upwards, padding), jnp.pad(jnp.swapaxes(upwards, 0, 1), padding)], axis=1)
        steps = jnp.arange(n, dtype=dtype) - (n - 1) / 2
        r = jnp.arange(self.num_rows, dtype=dtype)[None, :]

        def view(geometry):
            height, steep, origin, slope, near, gain = geometry
            start = jnp.where(steep, 0, n + 3).astype(jnp.uint32)
            origin = origin + ((n - 1) / 2 + 1)

            def slices(plane, h):
                lower, weight = linalg.cell(jnp.clip(origin + h * slope, 0, n + 1), n)
                index, weight = start + lower, weight[:, None]
                return linalg.take(plane, index) * (1 - weight) + linalg.take(plane, index + 1) * weight

            def rows(columns, h):
                first, step = self._heights_on(jnp.maximum((h - near) * gain, self._nearest()), height, dtype)
                position = jnp.clip(first[:, None] + step[:, None] * r + 1, 0, self.num_slices + 1)
                lower, weight = linalg.cell(position, self.num_slices)
                return linalg.take_along(columns, lower) * (1 - weight) + linalg.take_along(columns, lower + 1) * weight

            def step(carry, current):
                # what is carried is computed once; XLA would compute `slices` again for each of its readers
                total, columns, h = carry
                return (total + rows(columns, h), slices(*current), current[1]), None

            empty = jnp.zeros((self.num_columns, self.num_rows), x.dtype), jnp.zeros((self.num_columns, self.num_slices + 3), x.dtype)
            total, columns, h = lax.scan(step, (*empty, steps[0]), (planes, steps))[0]
            return total + rows(columns, h)

        sums = lax.map(view, (self.heights.astype(dtype), *self._rays(dtype)))
        return jnp.swapaxes(sums * self._lengths(dtype), 1, 2)

    def _backproject(self, y):
        """Scan over rows and views: slices read the detector rows under their hats, pixels then the columns under theirs."""
        n, dtype = self.image_size, y.real.dtype
        steps = jnp.arange(n, dtype=dtype) - (n - 1) / 2
        num_taps = self._column_taps()
        padding = ((0, 0), (0, 0), (self._row_taps(), self._row_taps()))
        weighted = jnp.pad(jnp.swapaxes(y, 1, 2) * self._lengths(dtype), padding)
        turned = jnp.cos(self.angles).astype(dtype), jnp.sin(self.angles).astype(dtype)
        views = (weighted, self.heights.astype(dtype), *self._rays(dtype), *turned)

        def spread(carry):
            total, slices, index, weight = carry
            for i in range(num_taps):
                total = total + linalg.take(slices, index[:, i]) * weight[:, i : i + 1]
            return total

        def row(h):
            def step(carry, view):  # pixels of this view are read in the next step, for the reason given in `_project`
                rows, height, steep, origin, slope, near, gain, cos, sin = view
                scale = jnp.maximum((h - near) * gain, self._nearest())
                slices = self._to_slices(rows, *self._heights_on(scale, height, dtype), dtype)
                index, weight = self._columns_of_pixels(h, steps, steep, origin + h * slope, cos, sin)
                return (spread(carry), slices, index, weight), None

            index = jnp.zeros((2 * n, num_taps), jnp.int32)
            empty = jnp.zeros((2 * n, self.num_slices), y.dtype), jnp.zeros((self.num_columns, self.num_slices), y.dtype)
            return spread(lax.scan(step, (*empty, index, jnp.zeros(index.shape, dtype)), views)[0])

        rows = lax.map(row, steps)
        upwards = rows[:, :n] + jnp.swapaxes(rows[:, n:], 0, 1)
        return jnp.transpose(upwards[::-1], (2, 0, 1))

    def _row_taps(self):
        """The most detector rows under the hat of a slice."""
        return min(self.num_rows, math.ceil(2 * self.slice_spacing / (self.row_spacing * self._nearest()) * (1 + 1e-6)))

    def _column_taps(self):
        """The most detector columns under the hat of a pixel."""
        sizes = (self.source_distance, self.source_to_detector, self.column_spacing)
        source, detector, spacing = (length / self.pixel_size for length in sizes)
        return min(self.num_columns, divergent_rays.most_taps(self.image_size, source, detector, spacing, self.detector))

    def _to_slices(self, rows, first, step, dtype):
        """The adjoint of reading rows off slices: padded `[num_columns, num_rows + ...]` -> `[num_columns, num_slices]`."""
        num_taps = self._row_taps()
        inverse = 1 / step
        centre = jnp.arange(self.num_slices, dtype=dtype)[None, :]
        lowest = linalg.below((centre - 1) * inverse[:, None] - (first * inverse)[:, None], self.num_rows + self.num_slices) + 1
        lowest = jnp.clip(lowest, -num_taps, self.num_rows)
        index = (lowest + num_taps).astype(jnp.uint32)
        distance = first[:, None] + step[:, None] * lowest - centre
        taps = (linalg.take_along(rows, index + i) * jnp.maximum(0, 1 - jnp.abs(distance + i * step[:, None])) for i in range(num_taps))
        return sum(taps, start=jnp.zeros((), rows.dtype))

    def _columns_of_pixels(self, h, steps, steep, position, cos, sin):
        """Columns and weights, `[2 n, num_taps]`: those of steep rays in the pixels of row h, then of shallow rays in those of column h."""
        num_taps, span = self._column_taps(), (self.source_to_detector, self.detector)
        source, first = self.source_distance / self.pixel_size, self.positions(steps.dtype)[1][0]

        def column(x, y):
            centre = (x * cos + y * sin) / (source + x * sin - y * cos)
            return (divergent_rays.positions(centre, *span) - first) / self.column_spacing

        def taps(ends, mine):
            lowest = linalg.below(jnp.minimum(*ends), self.num_columns + self.image_size) + 1
            wanted = jnp.clip(lowest, -num_taps, self.num_columns).astype(jnp.int32)[:, None] + jnp.arange(num_taps, dtype=jnp.int32)[None, :]
            index = jnp.clip(wanted, 0, self.num_columns - 1)
            hat = jnp.maximum(0, 1 - jnp.abs(linalg.take(position, index) - steps[:, None]))
            return index, jnp.where((index == wanted) & linalg.take(mine, index), hat, 0)

        in_row = taps((column(steps - 1, h), column(steps + 1, h)), steep)
        in_column = taps((column(h, steps - 1), column(h, steps + 1)), ~steep)
        index, weight = (jnp.concatenate(both) for both in zip(in_row, in_column, strict=True))
        return index, weight
