"""The cone-beam geometries and Feldkamp's algorithm against closed forms and each other."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.operators.cone_beam import cone_beam
from medjax.operators.cone_vectors import cone_vectors
from medjax.operators.fan_beam import fan_beam
from medjax.operators.fan_fbp import fan_fbp
from medjax.operators.fdk import fdk

SIZE, SLICES, CENTRE, RADIUS = 48, 20, (8.0, -10.0, 3.0), 7.0  # [mm], a sphere to the right, below and above the middle slice
X = np.arange(SIZE) - (SIZE - 1) / 2
Z = np.arange(SLICES) - (SLICES - 1) / 2
OFFSETS = (Z[:, None, None] - CENTRE[2], -X[:, None] - CENTRE[1], X - CENTRE[0])
DISTANCE = np.sqrt(sum(d**2 for d in np.broadcast_arrays(*OFFSETS)))
TURN = np.arange(120) * np.pi / 60

_apply = jax.jit(lambda A, x: A(x))
_adjoint = jax.jit(lambda A, y: A.adjoint(y))
_reconstruct = jax.jit(fdk, static_argnames=("window", "scan"))


def _cone(angles=TURN, num_rows=26, num_columns=84, **geometry):
    sizes = {"row_spacing": 1.6, "column_spacing": 1.2, **geometry}
    return cone_beam(SIZE, SLICES, angles, 100.0, 50.0, num_rows, num_columns, **sizes)


def _chords(A):
    """The sphere's projections; on a flat detector by the vectors."""
    v, s = (np.asarray(q) for q in A.positions(jnp.float64))
    b, far = np.asarray(A.angles)[:, None], A.source_to_detector
    central = np.concatenate([np.sin(b), -np.cos(b), 0 * b], 1)
    along = np.concatenate([np.cos(b), np.sin(b), 0 * b], 1)
    if A.detector == "flat":
        columns = far * central[:, None] + s[None, :, None] * along[:, None]
    else:
        columns = far * (np.cos(s / far)[None, :, None] * central[:, None] + np.sin(s / far)[None, :, None] * along[:, None])
    rays = columns[:, None] + np.array([0.0, 0.0, 1.0])[None, None, None] * v[None, :, None, None]
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    source = -A.source_distance * central + np.array([[0.0, 0.0, 1.0]]) * np.asarray(A.heights)[:, None]
    apart = (np.array([CENTRE]) - source)[:, None, None]
    squared = np.sum(apart**2, -1) - np.sum(apart * rays, -1) ** 2
    return jnp.asarray(2 * np.sqrt(np.maximum(RADIUS**2 - squared, 0)))


def _sphere(supersample=4):
    shift = (np.arange(supersample) + 0.5) / supersample - 0.5
    inside = np.zeros(DISTANCE.shape)
    for a, b, c in np.ndindex(*(supersample,) * 3):
        inside += (OFFSETS[0] + shift[a]) ** 2 + (OFFSETS[1] + shift[b]) ** 2 + (OFFSETS[2] + shift[c]) ** 2 <= RADIUS**2
    return jnp.asarray(inside / supersample**3)


def _relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize("detector", ["flat", "curved"])
@pytest.mark.parametrize("pitch", [0.0, 9.0])
def test_off_centre_sphere(detector, pitch):
    A = _cone(np.linspace(0, 6, 13), detector=detector, pitch=pitch, row_offset=0.7, column_offset=-1.1)
    y = _apply(A, _sphere())
    assert _relative(y, _chords(A)) < 0.07  # a voxel-averaged sphere differs from the sphere by one voxel's blur at its rim
    assert _relative(jnp.sum(y, (1, 2)), jnp.sum(_chords(A), (1, 2))) < 5e-3  # the same, over whole views


def test_signs_of_the_axes():
    A = cone_beam(65, 21, [0.0, np.pi / 2], 100.0, 50.0, 41, 131)
    voxel = jnp.zeros((21, 65, 65)).at[15, 12, 42].set(1.0)  # x = 10, y = 20, z = 5
    y = _apply(A, voxel)
    v, s = A.positions(y.dtype)
    total = jnp.sum(y, (1, 2))
    columns, rows = (jnp.einsum("vrc,r,c->v", y, a, b) / total for a, b in ((jnp.ones(41), s), (v, jnp.ones(131))))
    assert jnp.allclose(columns, jnp.array([150 * 10 / 80, 150 * 20 / 110]), rtol=0, atol=0.1)  # the voxel's shadow is 1.7 wide
    assert jnp.allclose(rows, jnp.array([150 * 5 / 80, 150 * 5 / 110]), rtol=0, atol=0.1)


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_central_slice_is_fan_beam(detector):
    angles = np.linspace(0, 6, 9)
    x = jax.random.normal(jax.random.key(0), (5, 20, 20))
    A = cone_beam(20, 5, angles, 40.0, 20.0, 11, 50, column_spacing=0.9, column_offset=0.3, detector=detector)
    B = fan_beam(20, angles, 40.0, 20.0, 50, 0.9, detector_offset=0.3, detector=detector, model="joseph")
    assert _relative(_apply(A, x)[:, 5], _apply(B, x[2])) < 1e-12
    central = _apply(B, x[2])
    y = jnp.zeros((9, 11, 50)).at[:, 5].set(central)
    assert _relative(_adjoint(A, y)[2], _adjoint(B, central)) < 1e-12
    assert _relative(_reconstruct(A, y)[2], jax.jit(fan_fbp)(B, central)) < 1e-12


def test_volume_and_source_move_together():
    x = jax.random.normal(jax.random.key(0), (9, 16, 16)).at[-2:].set(0)
    A = cone_beam(16, 9, np.linspace(0, 7, 8), 40.0, 20.0, 21, 30, 1.3, 1.3, pitch=3.0, slice_spacing=0.8)
    leaves, tree = jax.tree.flatten(A)
    leaves[1] = leaves[1] + 1.6
    assert _relative(_apply(jax.tree.unflatten(tree, leaves), jnp.roll(x, 2, axis=0)), _apply(A, x)) < 1e-12


def test_vectors_are_the_same_rays():
    A = cone_beam(16, 9, np.linspace(0, 7, 8), 40.0, 20.0, 13, 30, 1.3, 1.1, pitch=3.0, slice_spacing=0.9, row_offset=0.4, column_offset=-2.2)
    B = cone_vectors(16, 9, A.vectors(), 13, 30, slice_spacing=0.9)
    x, y = jax.random.normal(jax.random.key(0), (9, 16, 16)), jax.random.normal(jax.random.key(1), (8, 13, 30))
    assert _relative(_apply(B, x), _apply(A, x)) < 1e-11
    assert _relative(_adjoint(B, y), _adjoint(A, y)) < 1e-11


def test_vectors_turn_with_the_volume():
    """A quarter turn about x, after which the source circles over and under the slices and rays are stepped along z."""
    x = jax.random.normal(jax.random.key(0), (16, 16, 16))
    A = cone_beam(16, 16, np.linspace(0, 7, 8), 40.0, 20.0, 20, 30, 1.3, 1.1, row_offset=0.2)
    x_axis, y_axis, z_axis = (A.vectors().reshape(8, 4, 3)[:, :, i] for i in range(3))
    B = cone_vectors(16, 16, jnp.stack([x_axis, -z_axis, y_axis], -1).reshape(8, 12), 20, 30)
    # the slices of the turned volume go up y: [z, y downwards] -> [y, z downwards from the top of -y]
    assert _relative(_apply(B, jnp.swapaxes(x, 0, 1)[::-1]), _apply(A, x)) < 1e-11


def test_views_is_the_rows():
    A = _cone(np.linspace(0, 6, 7), pitch=2.0)
    x = jax.random.normal(jax.random.key(0), (SLICES, SIZE, SIZE))
    y = _apply(A, x)
    assert jnp.allclose(_apply(A.views([5, 2]), x), y[jnp.array([5, 2])], rtol=0, atol=1e-11)
    assert jnp.allclose(_apply(A.views(slice(1, 4)), x), y[1:4], rtol=0, atol=1e-11)
    with pytest.warns(UserWarning, match="the 3 x 4 detector is too small"):
        B = cone_vectors(SIZE, SLICES, A.vectors(), 3, 4)
    assert jnp.allclose(_apply(B.views([5, 2]), x), _apply(B, x)[jnp.array([5, 2])], rtol=0, atol=1e-11)


SCANS = {
    "full": (TURN, "full", {}),
    "short": (0.7 + TURN[:80], "short", {}),
    "offset": (TURN, "offset", {"num_columns": 60, "column_offset": 14.0}),
}


@pytest.mark.parametrize("detector", ["flat", "curved"])
@pytest.mark.parametrize("scan", SCANS)
def test_fdk_of_a_sphere(scan, detector):
    angles, weights, geometry = SCANS[scan]
    A = _cone(angles, detector=detector, **geometry)
    x = _reconstruct(A, _chords(A), scan=weights)
    for part in (DISTANCE < RADIUS - 3, (DISTANCE < RADIUS - 3) & (abs(Z) < 1)[:, None, None]):
        assert abs(float(jnp.mean(x[part])) - 1) < 5e-3  # Feldkamp's own error off the central slice
    outer = (DISTANCE > RADIUS + 3) & (np.hypot(X[:, None], X) < 22)[None]
    assert abs(float(jnp.mean(x[outer]))) < 3e-3
    near = jnp.where(DISTANCE < RADIUS + 4, x, 0)
    where = [jnp.sum(near * np.broadcast_to(d, x.shape)) / jnp.sum(near) for d in OFFSETS]
    assert max(abs(float(w)) for w in where) < 0.3  # the sphere is where it should be, but for streaks beside it


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_fdk_of_a_cylinder(detector):
    """Of a volume that does not change along z all slices are fan-beam reconstructions."""
    angles = np.linspace(0, 6, 9)
    A = cone_beam(16, 9, angles, 30.0, 20.0, 50, 50, column_offset=0.3, row_offset=-0.2, detector=detector)
    B = fan_beam(16, angles, 30.0, 20.0, 50, detector_offset=0.3, detector=detector, model="joseph")
    v, s = A.positions(jnp.float64)
    reach = jnp.sqrt(50**2 + s**2) if detector == "flat" else jnp.full_like(s, 50)
    flat = jax.random.normal(jax.random.key(0), (9, 50))
    x = _reconstruct(A, flat[:, None] * jnp.sqrt(1 + (v[:, None] / reach[None, :]) ** 2)[None])
    wanted = jax.jit(fan_fbp)(B, flat)
    assert _relative(x, jnp.broadcast_to(wanted, x.shape)) < 1e-12


def test_fdk_is_differentiable():
    A = cone_beam(12, 4, np.linspace(0, 6, 10), 40.0, 20.0, 8, 30)
    y, step = jax.random.normal(jax.random.key(0), (2, 10, 8, 30))

    def loss(angle, y):
        turned = cone_beam(12, 4, np.linspace(0, 6, 10) + angle, 40.0, 20.0, 8, 30)
        return jnp.sum(fdk(turned, y) ** 2)

    slope, loss = jax.jit(jax.grad(loss))(0.02, y), jax.jit(loss)
    assert abs(slope - (loss(0.02 + 1e-6, y) - loss(0.02 - 1e-6, y)) / 2e-6) < 1e-4 * abs(slope)  # kinks of the interpolation
    moved = jax.jit(lambda y, step: jax.jvp(lambda y: fdk(A, y), (y,), (step,))[1])(y, step)
    assert _relative(moved, _reconstruct(A, step)) < 1e-12


def test_warns_of_a_small_detector():
    height = 10 * 1.6 / 1.5 / SLICES
    with pytest.warns(UserWarning) as caught:
        low = _cone(num_rows=10)
    assert len(caught) == 1 and f"{100 * (1 - height):.3g} % of the volume's inscribed cylinder" in str(caught[0].message)
    with pytest.warns(UserWarning) as caught:
        narrow = _cone(num_columns=30)
    assert len(caught) == 1 and "the 26 x 30 detector of 1.6 x 1.2 mm is too small" in str(caught[0].message)
    assert (low.num_rows, narrow.num_columns) == (10, 30)  # warned of, and built as it was asked for


@pytest.mark.parametrize("scan", [{"num_rows": 10}, {"num_columns": 50}, {"num_columns": 40, "column_offset": 40.0}])
def test_vectors_warn_of_a_small_detector_like_the_upright_cone(scan):
    """A low detector, a narrow one, and one that does not see the middle; the same share up to the grid of points."""
    shares = []
    with pytest.warns(UserWarning) as caught:
        A = _cone(**scan)
        cone_vectors(SIZE, SLICES, A.vectors(), A.num_rows, A.num_columns)
    for warning in caught:
        shares.append(float(str(warning.message).split(": ")[1].split(" %")[0]))
    assert len(shares) == 2 and abs(shares[0] - shares[1]) < 10  # the low cone is higher behind the axis, which only vectors count


def test_vectors_of_a_shifted_detector_and_of_a_helix_lose_nothing():
    for scan in ({"num_columns": 60, "column_offset": 14.0}, {"num_rows": 8, "angles": np.arange(120) * np.pi / 15, "pitch": 5.0}):
        A = _cone(**scan)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            B = cone_vectors(SIZE, SLICES, A.vectors(), A.num_rows, A.num_columns)
        assert [str(warning.message) for warning in caught] == []
        assert jnp.array_equal(B.vectors, A.vectors())  # the rays that were asked for, all of them


def test_vectors_are_known_inside_jit():
    A, x = _cone([0.0, 1.0, 2.0]), jnp.ones((SLICES, SIZE, SIZE))
    vectors = np.asarray(A.vectors())
    found = jax.jit(lambda x: cone_vectors(SIZE, SLICES, vectors, A.num_rows, A.num_columns)(x))(x)
    assert jnp.allclose(found, A(x), rtol=0, atol=1e-9)  # millimetres, some 50 long


def test_reconstructs_what_is_not_float():
    A, key = _cone(num_rows=40), jax.random.key(0)
    counts = jax.random.randint(key, (120, 40, 84), 0, 9)
    real = fdk(A, 1.0 * counts)
    assert jnp.array_equal(fdk(A, counts), real)
    assert jnp.allclose(fdk(A, counts * (1 - 2j)), real * (1 - 2j), rtol=0, atol=1e-12)


def test_refuses_wrong_geometry():
    A = _cone([0.0, 1.0])
    with pytest.raises(ValueError, match=r"volume is \[48, 48, 20\], the geometry says \[20, 48, 48\]"):
        A(jnp.zeros((SIZE, SIZE, SLICES)))
    with pytest.raises(ValueError, match=r"stack of projections is \[2, 84, 26\], the geometry says \[2, 26, 84\]"):
        A.adjoint(jnp.zeros((2, 84, 26)))
    for wrong in ({"angles": []}, {"angles": [np.inf]}, {"num_rows": 0}, {"row_spacing": 0.0}, {"slice_spacing": -1.0}, {"detector": "round"}):
        with pytest.raises(ValueError, match="got"):
            _cone(**{"angles": [0.0], **wrong})
    for wrong in (
        {"pitch": np.nan},
        {"pitch": np.ones(8)},
        {"row_offset": 1j},
        {"row_offset": np.inf},
        {"column_offset": np.nan},
        {"num_rows": 26.0},
        {"num_columns": 83.5},
    ):
        with pytest.raises(ValueError, match=f"got {next(iter(wrong))}"):
            _cone(**{"angles": [0.0], **wrong})
    with pytest.raises(ValueError, match="less than a quarter turn about the source"):
        _cone([0.0], num_columns=400, detector="curved")
    with pytest.raises(ValueError, match="got num_slices 20.0, an integer"):
        cone_vectors(SIZE, 20.0, A.vectors(), 26, 84)
    with pytest.raises(ValueError, match="inside the image"):
        cone_beam(SIZE, SLICES, [0.0], 30.0, 50.0, 4, 4)
    with pytest.raises(ValueError, match="fdk needs an operator of cone_beam, got FanJoseph"):
        fdk(fan_beam(SIZE, [0.0], 100.0, 50.0, model="joseph"), jnp.zeros((1, 84)))
    with pytest.raises(ValueError, match="got a curved detector"):
        _cone(detector="curved").vectors()
    with pytest.raises(ValueError, match=r"a source that moves 4.95"):
        fdk(_cone(pitch=5.0, num_rows=40), jnp.zeros((120, 40, 84)))
    for vectors in (np.zeros((0, 12)), np.zeros((2, 9)), np.full((1, 12), np.nan)):
        with pytest.raises(ValueError, match="got vectors"):
            cone_vectors(SIZE, SLICES, vectors, 4, 4)
    with pytest.raises(ValueError, match="source of view 1 beside or inside the volume"):
        cone_vectors(SIZE, SLICES, A.vectors().at[1, :3].multiply(0.2), 4, 4)
    with pytest.raises(ValueError, match="traced vectors without reach"):
        jax.jit(lambda v: cone_vectors(SIZE, SLICES, v, 4, 4).vectors)(A.vectors())
