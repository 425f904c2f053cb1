"""Line integrals of a volume along cones of rays in any position: each view has its own source, detector and tilt.

The axes are those of `cone_beam`: x right, y up, z towards higher slices, the volume `[num_slices, n, n]` centred on the origin. The
detector of a view holds the points c + (k - (num_columns - 1) / 2) u + (r - (num_rows - 1) / 2) v of its centre c and the steps u from
column to column and v from row to row.
"""

import dataclasses
import itertools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax import checks, linalg
from medjax.operators import divergent_rays
from medjax.operators.chosen_views import chosen_views
from medjax.typing import Leaf

MINOR = ((1, 2), (0, 2), (0, 1))
"""The two other axes of each axis of the volume."""


def cone_vectors(image_size, num_slices, vectors, num_rows, num_columns, pixel_size=1.0, slice_spacing=None, reach=None):
    r"""Line integrals of a volume along the rays of cones given by vectors, by Joseph's method in three dimensions.

    .. math::
        (A x)_{i r k} = \ell_{i r k} \sum_j \sum_{a, b} x_{j a b} \max(0, 1 - |a - a_{i r k j}|) \max(0, 1 - |b - b_{i r k j}|)

    where j runs over the axis of the volume along which the ray takes the fewest voxels' widths, z among them, and l is the ray's length
    [mm] from one layer to the next. For upright detectors, with v along z and u across it, `cone_beam` is many times faster and the same.

    Args:
      image_size: n, the volume is `[num_slices, n, n]`.
      num_slices: slices, along z.
      vectors: `[num_views, 12]` [mm]: source (x, y, z), detector centre, step u from column to column, step v from row to row; may be traced
        and differentiated.
      num_rows: detector rows, along v.
      num_columns: detector columns, along u.
      pixel_size: of the volume in x and y [mm].
      slice_spacing: of the volume in z [mm], the pixel size by default.
      reach: (rows, columns), the farthest that the rays of a voxel may lie from its centre's image on the detector; computed from the
        vectors, and needed only where these are traced.

    Returns:
      A `ConeVectors`: `[num_slices, n, n]` -> `[num_views, num_rows, num_columns]`, in units of x times [mm].

    Raises:
      ValueError: for vectors of a wrong shape or not finite, a size that is no integer of at least 1, a spacing that is not positive, or a volume
        not wholly before the source.

    Warns:
      UserWarning: where known vectors miss rays through a part of the volume's inscribed cylinder, with that part: the points that no view sees,
        or that some view has beyond its detector's farther side along u (what the nearer one of a shifted detector misses, opposite views see).

    Reference:
      Joseph (1982), An improved algorithm for reprojecting rays through pixel images, https://doi.org/10.1109/TMI.1982.4307572
    """
    slice_spacing = pixel_size if slice_spacing is None else slice_spacing
    divergent_rays.check_whole(image_size=image_size, num_slices=num_slices, num_rows=num_rows, num_columns=num_columns)
    divergent_rays.check_positive(pixel_size=pixel_size, slice_spacing=slice_spacing)
    with checks.known_now(vectors):
        vectors = jnp.asarray(vectors, float)
    if vectors.ndim != 2 or vectors.shape[0] == 0 or vectors.shape[1] != 12:
        raise ValueError(f"got vectors of shape {vectors.shape}, [num_views, 12] with at least one view is needed")
    spacing = (float(slice_spacing), float(pixel_size), float(pixel_size))
    if checks.is_concrete(vectors):
        found = _reach(np.asarray(vectors, float), (num_slices, image_size, image_size), spacing)
        reach = found if reach is None else reach
        _warn_of_loss(np.asarray(vectors, float), (num_slices, image_size, image_size), spacing, num_rows, num_columns)
    if reach is None:
        raise ValueError("got traced vectors without reach, the pair (rows, columns) is needed")
    return ConeVectors(vectors, image_size, num_slices, num_rows, num_columns, spacing, (float(reach[0]), float(reach[1])))


def _reach(vectors, shape, spacing):
    """A bound, by the mean value theorem, on how far from its centre's image a voxel's rays meet the detector: (rows, columns)."""
    if not np.all(np.isfinite(vectors)):
        raise ValueError("got vectors that are not finite, all must be")
    ends = [(-step * (size + 1) / 2, step * (size + 1) / 2) for step, size in zip(spacing[::-1], shape[::-1], strict=True)]
    corners = np.array(list(itertools.product(*ends)))
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if 0 in step]) * np.array(spacing[::-1])
    source, centre, u, v = np.split(vectors, 4, axis=1)
    normal = np.cross(u, v)
    distance = np.sum((centre - source) * normal, axis=1)
    depth = ((corners[None] - source[:, None]) * normal[:, None]).sum(2) / distance[:, None]
    if not np.all(depth > 0):
        view = int(np.argmin(depth.min(1)))
        raise ValueError(f"got the source of view {view} beside or inside the volume, all of the volume must lie before it")
    bounds = []
    for across in (np.cross(normal, u), np.cross(v, normal)):
        step = v if not bounds else u
        dual = across / np.sum(across * step, axis=1, keepdims=True)
        image = ((corners[None] - source[:, None]) * dual[:, None]).sum(2) / depth  # position from the foot of the source
        slope = dual[:, None] - image[:, :, None] * (normal / distance[:, None])[:, None]
        bounds.append(float(np.max(np.abs(slope @ steps.T).max((1, 2)) / depth.min(1))) * (1 + 1e-6))
    return tuple(bounds)


def _warn_of_loss(vectors, shape, spacing, num_rows, num_columns):
    """Say how much of the volume the detectors never see completely, by a grid of 16 x 16 x 16 points."""
    inside = (np.arange(16) + 0.5) / 16 - 0.5
    points = np.stack(np.meshgrid(inside, inside, inside), -1).reshape(-1, 3)
    points = np.concatenate([np.zeros((1, 3)), points[np.hypot(points[:, 0], points[:, 1]) < 0.5]])  # the centre, then those of the cylinder
    points = points * np.array([size * step for size, step in zip(shape, spacing, strict=True)])[::-1]
    seen, within = np.zeros(len(points), bool), np.ones(len(points), bool)
    for source, centre, u, v in vectors.reshape(-1, 4, 3):
        normal, apart = np.cross(u, v), points - source
        hit = apart * ((centre - source) @ normal / (apart @ normal))[:, None] - (centre - source)
        column, row = np.linalg.pinv(np.stack([u, v], 1)) @ hit.T
        seen |= (np.abs(column) <= num_columns / 2) & (np.abs(row) <= num_rows / 2)
        within &= np.abs(column - column[0]) <= num_columns / 2 + np.abs(column[0])
    lost = 1 - np.mean((seen & within)[1:])
    if lost > 0:
        part = f"{100 * lost:.2g} % of the volume's inscribed cylinder lie where rays are missing even in a full turn"
        warnings.warn(f"the {num_rows} x {num_columns} detector is too small: {part}", stacklevel=3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ConeVectors:
    """Cone-beam projector of views in any position; build it with `cone_vectors`.

    vectors: `[num_views, 12]` [mm], a leaf.
    spacing: of the voxels along (z, y, x) [mm].
    reach: (rows, columns), a bound on the distance of a voxel's rays from its centre's image.
    """

    vectors: Leaf
    image_size: int = dataclasses.field(metadata={"static": True})
    num_slices: int = dataclasses.field(metadata={"static": True})
    num_rows: int = dataclasses.field(metadata={"static": True})
    num_columns: int = dataclasses.field(metadata={"static": True})
    spacing: tuple = dataclasses.field(metadata={"static": True})
    reach: tuple = dataclasses.field(metadata={"static": True})

    @linalg.traced_once
    def __call__(self, x):
        """A x: `[num_slices, n, n]` -> `[num_views, num_rows, num_columns]`."""
        linalg.checked_shape(x, self._shape(), "volume")
        return linalg.linear_with_adjoint(self._project, self._backproject, x, self.vectors)

    @linalg.traced_once
    def adjoint(self, y):
        """A^H y: `[num_views, num_rows, num_columns]` -> `[num_slices, n, n]`."""
        linalg.checked_shape(y, (self.vectors.shape[0], self.num_rows, self.num_columns), "stack of projections")
        return linalg.linear_with_adjoint(self._backproject, self._project, y, self.vectors)

    def views(self, indices):
        """The operator of the views `indices`, an integer array, a list or a slice."""
        indices = chosen_views(indices, self.vectors.shape[0])
        return dataclasses.replace(self, vectors=self.vectors[indices])

    def _shape(self):
        return self.num_slices, self.image_size, self.image_size

    def _rays(self, dtype):
        """Of each view, in voxels along (slice, row, column): source, the direction to detector (0, 0) and its steps v and u, `[num_views, 4, 3]`."""
        source, centre, u, v = jnp.split(self.vectors, 4, axis=1)
        corner = centre - source - u * ((self.num_columns - 1) / 2) - v * ((self.num_rows - 1) / 2)
        scale = jnp.array([1, -1, 1]) / jnp.array(self.spacing)  # rows count downwards
        rays = jnp.stack([source, corner, v, u], axis=1)[:, :, ::-1] * scale[None, None, :]
        middle = (jnp.array(self._shape()) - 1) / 2
        return rays.at[:, 0].add(middle[None, :]).astype(dtype)

    def _directions(self, ray, rows, columns):
        """Directions from the source to the given rows and columns of the detector, the three components in a list."""
        _, corner, v, u = ray
        return [corner[i] + v[i] * rows + u[i] * columns for i in range(3)]

    def _grid(self, dtype):
        """Rows and columns of the detector, each `[num_rows, num_columns]`."""
        return jnp.meshgrid(jnp.arange(self.num_rows, dtype=dtype), jnp.arange(self.num_columns, dtype=dtype), indexing="ij")

    def _axes(self, ray, dtype):
        """The axis that each ray of a view is stepped along, `[num_rows, num_columns]`, and a step's length [mm]."""
        direction = self._directions(ray, *self._grid(dtype))
        size = jnp.abs(jnp.stack(direction))
        axis = jnp.argmax(size, axis=0)
        length = jnp.sqrt(sum((d * step) ** 2 for d, step in zip(direction, self.spacing, strict=True)))
        return axis, length / jnp.max(size, axis=0)

    def _project(self, x):
        """Gather along each ray's own axis, four voxels a layer."""
        dtype, shape = x.real.dtype, self._shape()
        padded = jnp.pad(x, ((1, 2),) * 3)
        strides = jnp.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
        flat = padded.reshape(-1)

        def view(ray):
            axis, length = self._axes(ray, dtype)
            direction = jnp.stack(self._directions(ray, *self._grid(dtype)))
            layers = jnp.array(shape)[axis]
            minor = [jnp.array([pair[i] for pair in MINOR])[axis] for i in (0, 1)]
            lead = jnp.take_along_axis(direction, axis[None], axis=0)[0]
            slopes = [jnp.take_along_axis(direction, i[None], axis=0)[0] / lead for i in minor]
            start, origins, ends = ray[0][axis], [ray[0][i] for i in minor], [jnp.array(shape)[i] for i in minor]

            def step(total, j):
                index, weights = (j.astype(jnp.int32) + 1) * strides[axis], []
                for slope, origin, end, i in zip(slopes, origins, ends, minor, strict=True):
                    lower, weight = linalg.cell(jnp.clip(origin + (j - start) * slope + 1, 0, end + 1), max(shape))
                    weights.append(weight)
                    index = index + lower.astype(jnp.int32) * strides[i]
                index = jnp.where(j < layers, index, 0)
                rows, columns = ((1 - w, w) for w in weights)
                for (p, a), (q, b) in itertools.product(enumerate(rows), enumerate(columns)):
                    total = total + linalg.take(flat, index + p * strides[minor[0]] + q * strides[minor[1]]) * jnp.where(j < layers, a * b, 0)
                return total, None

            layer = jnp.arange(max(shape), dtype=dtype)
            return lax.scan(step, jnp.zeros(axis.shape, x.dtype), layer)[0] * length

        return lax.map(view, self._rays(dtype))

    def _backproject(self, y):
        """Gather over views: a voxel reads a window of the detector around its centre's image, with each ray's own weight."""
        dtype, (num_slices, n, _) = y.real.dtype, self._shape()
        taps = [max(1, math.ceil(2 * reach)) for reach in self.reach]
        row, column = jnp.arange(n, dtype=dtype)[:, None], jnp.arange(n, dtype=dtype)[None, :]
        padding = [(t, t) for t in taps]

        def view(total, current):
            ray, data = current
            axis, length = self._axes(ray, dtype)
            axis, data = jnp.pad(axis, padding).reshape(-1), jnp.pad(data * length, padding).reshape(-1)

            def slab(inputs):
                layer, z = inputs
                apart = [z - ray[0][0], row - ray[0][1], column - ray[0][2]]
                first = [
                    jnp.clip(linalg.below(image - reach, size + n) + 1, -t, size)
                    for image, reach, t, size in zip(_image(ray, apart), self.reach, taps, (self.num_rows, self.num_columns), strict=True)
                ]
                corner = (first[0].astype(jnp.int32) + taps[0]) * (self.num_columns + 2 * taps[1]) + first[1].astype(jnp.int32) + taps[1]

                def tap(number, layer):
                    i, j = number // taps[1], number % taps[1]
                    index = corner + (i * (self.num_columns + 2 * taps[1]) + j)
                    direction = self._directions(ray, first[0] + i.astype(dtype), first[1] + j.astype(dtype))
                    return layer + linalg.take(data, index) * _hats(direction, apart, linalg.take(axis, index))

                return lax.fori_loop(0, taps[0] * taps[1], tap, layer)

            return lax.map(slab, (total, jnp.arange(num_slices, dtype=dtype))), None

        return lax.scan(view, jnp.zeros(self._shape(), y.dtype), (self._rays(dtype), y))[0]


def _image(ray, apart):
    """Where points at the offsets `apart` from the source are seen: fractional (row, column)."""
    _, corner, v, u = ray
    normal = jnp.cross(u, v)
    depth = sum(normal[i] * apart[i] for i in range(3)) / (normal @ corner)
    images = []
    for step, across in ((v, jnp.cross(normal, u)), (u, jnp.cross(v, normal))):
        dual = across / (across @ step)
        images.append(sum(dual[i] * apart[i] for i in range(3)) / depth - dual @ corner)
    return images


def _hats(direction, apart, axis):
    """The weight of voxels `apart` from the source in rays of a direction stepped along `axis`."""
    lead = [jnp.where(axis == 0, a[0], jnp.where(axis == 1, a[1], a[2])) for a in (direction, apart)]
    scale = lead[1] / lead[0]
    weight = jnp.ones_like(scale)
    for i in range(3):
        weight = weight * jnp.where(axis == i, 1, jnp.maximum(0, 1 - jnp.abs(direction[i] * scale - apart[i])))
    return weight
