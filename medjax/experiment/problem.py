"""From a phantom, an image or measured data to the inverse problem that all methods solve."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks
from medjax import config as configs
from medjax.data.files import Files, Stored, batch, spread
from medjax.data.fit import fit
from medjax.data.scan import InputError


class Problem(NamedTuple):
    """Data y = A(x) + noise, with what is needed to show an answer.

    A: operator. y: data. sigma_y: standard deviation of y, scalar or as y.
    truth: x that made the data, as networks see it, or None.
    pixel_size: [mm] or None.
    scale: displayed images are multiplied by this (user's MRI images have no unit of their own).
    factor: pixels of the user's image for one of the reconstruction, 1 where nothing was resampled.
    assumed: what the user's data did not tell and was taken from elsewhere, a line each.
    """

    A: Any
    y: jax.Array
    sigma_y: Any
    truth: jax.Array | None
    pixel_size: float | None
    scale: float = 1.0
    factor: float = 1.0
    assumed: tuple[str, ...] = ()


def operator(measure: configs.Measure, geometry: dict):
    """The config's operator, with arguments replaced by those of `geometry` (the mask of the outer one for MRI)."""
    if measure.modality != "mri" or not geometry:
        return configs.build(measure.operator, **geometry)
    fourier = measure.operator.args["A"]
    return configs.build(measure.operator, A=configs.Spec(fourier.name, {**fourier.args, **geometry}))


def noise_of(measure: configs.Measure, A):
    """The config's noise; that of MRI lives where the mask samples."""
    if measure.modality != "mri":
        return configs.build(measure.noise)
    if not hasattr(getattr(A, "outer", None), "mask"):
        raise configs.ConfigError(f"measure.modality is mri, but the operator is {measure.operator.name}; a masked transform of an image is needed")
    return configs.build(measure.noise, support=A.outer.mask)


def simulator(measure: configs.Measure, A):
    """The operator that makes data: the config's own where it names one, else A.

    Raises:
      ConfigError: where its rays are others than those of A.
    """
    if not measure.simulator:
        return A
    found = configs.build(measure.simulator)
    rays = getattr(found, "outer", found)
    for name in ("angles", "num_detectors", "detector_spacing", "detector_offset"):
        ours, theirs = getattr(A, name, None), getattr(rays, name, None)
        if ours is None or theirs is None or not checks.is_concrete(ours, theirs):
            continue
        if np.shape(ours) != np.shape(theirs) or not np.allclose(ours, theirs):
            raise configs.ConfigError(f"measure.operator and measure.simulator have different {name}; the same are needed")
    return found


def simulate(config: configs.Config, A, key, x, y=None) -> Problem:
    """Measure the image x `[...]`, as networks see it, once by the operator A, where its data y are not there yet; its pixel size is not told."""
    noise = noise_of(config.measure, A)
    y = noise.sample(key, simulator(config.measure, A)(x)) if y is None else y
    return Problem(A, y, noise.sigma(y), x, None)


def unseen(config: configs.Config, key) -> Problem:
    """An image that training never saw: generated, its key folded with a number of its own, or one of the test part of the config's files."""
    key_image, key_noise = jax.random.split(jax.random.fold_in(key, 2**31 - 1))
    A = operator(config.measure, {})
    if config.files:
        files = opened(config, A)
        spread(files, "test", 1)  # which says where there is none
        problem = simulate(config, A, key_noise, *example(config, files, "test", jax.random.randint(key_image, (), 0, files.num["test"])))
    else:
        image = jax.jit(phantom(config))(key_image).image
        problem = simulate(config, A, key_noise, configs.build(config.prior.units).encode(image))
    return problem._replace(pixel_size=getattr(problem.A, "pixel_size", None))


def phantom(config: configs.Config):
    """The config's function of a key that generates examples.

    Raises:
      ConfigError: where there is none.
    """
    if config.prior.data is None:
        raise configs.ConfigError(f"{config.name} generates no images (prior.data); files are needed")
    return configs.bind(config.prior.data)


def opened(config: configs.Config, A) -> Files:
    """The config's files.

    Raises:
      ConfigError: where the first example of training is not of the shape of the prior, or its data are not of that of A.
    """
    assert config.files is not None
    stored = configs.build(config.files)
    first = stored.read("train", 0)

    def read(part, index):
        found = stored.read(part, index)
        for what, one, other in zip(Stored._fields, found, first, strict=True):
            if np.shape(one) != np.shape(other) or np.iscomplexobj(one) != np.iscomplexobj(other):
                one, other = (f"{'complex ' * np.iscomplexobj(each)}{list(np.shape(each))}" for each in (one, other))
                raise InputError(f"example {index} of {part}", f"has {what} of {one}; {other}, those of the first one, are needed")
        return found

    files = stored._replace(read=read)
    x, y, _ = encoded(config, batch(files, "train", [0]))
    if jnp.iscomplexobj(x):
        unit = config.prior.units.name
        raise configs.ConfigError(
            f"{config.name}: images of {config.files.name} are complex, those of prior.units={unit} real; complex_signal takes both"
        )
    wanted = jax.eval_shape(A, jax.ShapeDtypeStruct(config.prior.shape, x.dtype))
    pairs = [("prior.shape takes images", config.prior.shape, x[0])]
    pairs += [("measure.operator gives data", wanted.shape, y[0])] if y is not None else []
    for needed, shape, found in pairs:
        if found.shape != tuple(shape):
            raise configs.ConfigError(f"{config.name}: {needed} of {list(shape)}, those of {config.files.name} are {list(found.shape)}")
    return files


def encoded(config: configs.Config, stored: Stored) -> Stored:
    """A batch of files, images as networks see them."""
    return jax.tree.map(jnp.asarray, stored._replace(image=jax.vmap(configs.build(config.prior.units).encode)(jnp.asarray(stored.image))))


def example(config: configs.Config, files: Files, part: str, index):
    """`(x, y or None)`, one of files."""
    x, y, _ = encoded(config, batch(files, part, [index]))
    return x[0], None if y is None else y[0]


def from_scan(config: configs.Config, key, scan) -> Problem:
    """The problem of a user's file: an image is resampled and measured, measured data are taken as they are.

    Args:
      config: experiment of the scan's modality.
      key: typed key of the simulated noise.
      scan: a `medjax.data.read.Scan`.

    Raises:
      ValueError: where the config is for another modality or the data do not fit the geometry.
    """
    if scan.modality != config.measure.modality:
        raise ValueError(f"{scan.source[0]} is {scan.modality}, the config {config.name} is for {config.measure.modality}")
    return _from_image(config, key, scan) if scan.measurement is None else _from_data(config, scan)


def fitted(config: configs.Config, image) -> tuple[np.ndarray, float, float]:
    """A user's image `[h, w]` as the prior takes it: `(image, scale, factor)`.

    Resampled to the size of the prior, `factor` pixels becoming one; CT clipped to air from below, MRI complex and divided by `scale`, the
    99th percentile of its magnitude; other pictures as they are.
    """
    ct, unit = config.measure.modality == "ct", configs.build(config.prior.units).name
    if ct and unit != "HU":
        raise ValueError(f"the image is in HU, the images of {config.name} are in {unit}; a config of images in HU is needed")
    if ct and np.iscomplexobj(image):
        raise ValueError(f"the image is complex, {config.name} is CT and needs real HU")
    image, factor = fit(image, config.prior.shape[0], -1000.0 if ct else 0.0)
    if ct:
        return np.clip(image, -1000, None), 1.0, factor
    if config.measure.modality == "image":
        return np.asarray(image, np.complex64 if np.iscomplexobj(image) else np.float32), 1.0, factor
    scale = float(np.percentile(np.abs(image), 99)) or 1.0
    return image.astype(np.complex64) / scale, scale, factor


def _from_image(config, key, scan):
    """Resample to the size of the prior, encode, measure."""
    units, (image, scale, factor) = configs.build(config.prior.units), fitted(config, scan.image)
    pixel_size = scan.pixel_size * factor if scan.pixel_size else None
    geometry = {"pixel_size": pixel_size, "detector_spacing": pixel_size} if pixel_size and scan.modality == "ct" else {}
    if geometry:  # the rays of a simulator would not follow
        config = dataclasses.replace(config, measure=dataclasses.replace(config.measure, simulator=None))
    problem = simulate(config, operator(config.measure, geometry), key, units.encode(jnp.asarray(image)))
    assumed = ()
    if pixel_size is None and scan.modality == "ct":
        assumed = (f"pixel size not told: measured as if it were {problem.A.pixel_size:.4g} mm, that of {config.name}",)
    return problem._replace(pixel_size=pixel_size, scale=scale, factor=factor, assumed=assumed)


def _from_data(config, scan):
    """Measured data: the geometry is the scan's, the noise model the config's."""
    return _from_kspace(config, scan) if scan.modality == "mri" else _from_sinogram(config, scan)


def _from_kspace(config, scan):
    """Measured k-space, scaled so that its zero-filled image has the magnitudes that the prior knows."""
    size, geometry, assumed = config.prior.shape[0], dict(scan.geometry), ()
    if scan.measurement.shape != (size, size):
        raise ValueError(f"{scan.source[0]}: k-space is {list(scan.measurement.shape)}, the prior of {config.name} is for [{size}, {size}]")
    A = operator(config.measure, {"mask": jnp.asarray(geometry["mask"], jnp.float32)})
    measured = jax.eval_shape(A, jax.ShapeDtypeStruct(config.prior.shape, jnp.float32)).shape
    if measured != scan.measurement.shape:
        raise ValueError(f"{scan.source[0]}: k-space is {list(scan.measurement.shape)}, the coils of {config.name} measure {list(measured)}")
    y = jnp.asarray(scan.measurement, jnp.complex64) * A.outer.mask
    scale = float(jnp.percentile(jnp.abs(A.outer.adjoint(y)), 99)) or 1.0
    if "sigma" in geometry:
        noise = configs.build(config.measure.noise, support=A.outer.mask, sigma=geometry["sigma"] / scale)
    else:
        noise = noise_of(config.measure, A)
        level = scale * float(jnp.mean(noise.sigma(y)))
        assumed = (f"noise of k-space not told (key sigma): {level:.3g} in each component assumed, as in {config.name}",)
    return Problem(A, y / scale, noise.sigma(y), None, scan.pixel_size, scale, assumed=assumed)


def _from_sinogram(config, scan):
    """Measured line integrals, in the unit of the config's images."""
    size, geometry, assumed = config.prior.shape[0], dict(scan.geometry), []
    found = geometry.pop("image_size", None) or size
    if found != size:
        raise ValueError(f"{scan.source[0]}: image_size is {found}, the prior of {config.name} is for {size}")
    width = scan.measurement.shape[1] * geometry["detector_spacing"]
    if "pixel_size" not in geometry:
        geometry["pixel_size"] = width / size
        assumed.append(f"pixel size not told (key pixel_size): {width / size:.4g} mm assumed, so that the image spans the detector")
    if not 0.5 < width / (size * geometry["pixel_size"]) < 4:
        spans = f"the detector spans {width:.4g} mm and the image {size * geometry['pixel_size']:.4g} mm"
        raise ValueError(f"{scan.source[0]}: {spans}; lengths in mm that fit each other are needed")
    num_photons = geometry.pop("num_photons", None)
    if num_photons is None:
        usual = ", ".join(f"{name} {value:.3g}" for name, value in config.measure.noise.args.items())
        assumed.append(f"photons a ray not told (key num_photons): {config.measure.noise.name} of {usual} assumed, as in {config.name}")
    angles = jnp.asarray(geometry.pop("angles"), jnp.float32)
    A = operator(config.measure, {"angles": angles, "num_detectors": scan.measurement.shape[1], **{k: float(v) for k, v in geometry.items()}})
    noise = configs.build(config.measure.noise, **({"num_photons": float(num_photons)} if num_photons else {}))
    y = jnp.asarray(scan.measurement, jnp.float32) / config.measure.noise.args.get("mu", 1.0)
    transmission = jnp.exp(-jnp.asarray(scan.measurement, jnp.float32))
    if not bool(jnp.all((transmission > 0) & (transmission < jnp.inf))):
        found = f"the sinogram reaches {scan.measurement.max():.3g}, where no photon is left"
        raise ValueError(f"{scan.source[0]}: {found}; -log of the transmission is needed")
    return Problem(A, y, noise.sigma(y), None, A.pixel_size, assumed=tuple(assumed))
