"""Images of random contrasts of label volumes: their law, their place, their parts."""

import concurrent.futures
import functools

import nibabel
import numpy as np
import pytest

from medjax.data import label_maps
from medjax.data.random_contrast import laws, random_contrast, smooth
from medjax.data.scan import InputError

PLAIN = {"bias": 0.0, "gamma": 0.0, "blur": (0.0, 0.0)}
FLAT = functools.partial(random_contrast, deviations=(0.0, 0.0), **PLAIN)


def head(shape=(20, 24, 22), seed=0):
    """A box of labels 1 to 4 at random, of which the lower half is brain, in air."""
    labels = np.zeros(shape, np.uint8)
    inside = tuple(slice(2, n - 2) for n in shape)
    labels[inside] = np.random.default_rng(seed).integers(1, 5, labels[inside].shape)
    labels[..., shape[2] // 2 :] *= 10
    return labels


def saved(folder, name="maps.npz", **arrays):
    np.savez(folder / name, **arrays)
    return str(folder), (name,)


def test_images_are_of_part_and_index_alone(tmp_path):
    """The same from another opening, in another order and from threads; other parts, indices and seeds give others."""
    where = saved(tmp_path, train_label=np.stack([head(seed=i) for i in range(4)]), test_label=head()[None], train_subject=np.arange(4))
    options = {"size": 32, "contrasts": 3, "planes": ("axial", "coronal"), "brain": (1, 4)}
    first, again = label_maps.files(*where, **options), label_maps.files(*where, **options)
    assert first.num == again.num and first.num["train"] % 3 == 0 and min(first.num.values()) > 0
    taken = [0, 1, first.num["train"] // 2, first.num["train"] - 1]
    images = [first.read("train", i).image for i in taken]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for one, other in zip(reversed(images), pool.map(lambda i: again.read("train", i), reversed(taken)), strict=True):
            np.testing.assert_array_equal(one, other.image)
            assert other.label is None and other.data is None and one.shape == (32, 32) and one.dtype == np.float32
    different = [*images, first.read("test", 0).image, label_maps.files(*where, **options, seed=1).read("train", 0).image]
    assert all(np.abs(different[i] - different[j]).max() > 0.01 for i in range(6) for j in range(i))


def test_parts_hold_whole_subjects(tmp_path):
    """A subject's volumes are told by their labels; the last subjects of training validate."""
    volumes = np.stack([np.where(head() > 0, 10 * s + 1, 0) for s in (0, 0, 1, 1, 2)]).astype(np.uint8)
    where = saved(
        tmp_path, train_label=volumes, test_label=volumes[:1] + (volumes[:1] > 0), train_subject=np.array([5, 5, 6, 6, 7]), test_subject=[8]
    )

    def seen(found):
        return {part: {int(found.read(part, i).image.max()) for i in range(num)} for part, num in found.num.items()}

    told = functools.partial(label_maps.files, size=32, image=lambda rng, labels, fine, gap: labels[1].astype(np.float32))
    assert seen(told(*where, validation=0.3)) == {"train": {1, 11}, "validation": {21}, "test": {2}}
    assert seen(told(*where, validation=0)) == {"train": {1, 11, 21}, "validation": set(), "test": {2}}
    saved(tmp_path, "other.npz", train_label=volumes, validation_label=volumes[:1] + 2 * (volumes[:1] > 0))
    assert seen(told(where[0], ("other.npz",))) == {"train": {1, 11, 21}, "validation": {3}, "test": set()}
    saved(tmp_path, "twice.npz", train_label=volumes, test_label=volumes[:2], train_subject=np.arange(5), test_subject=[7, 2])
    with pytest.raises(InputError, match=r"1 subjects are in both train and test; parts without a common one are needed$"):
        told(where[0], ("twice.npz",))
    for s in range(5):
        nibabel.save(nibabel.Nifti1Image(volumes[s], np.eye(4)), tmp_path / f"sub-{s // 2}_run-{s % 2}_seg.nii.gz")
    assert seen(told(str(tmp_path), pattern="*_seg.nii.gz", validation=0.3, test=0.3)) == {"train": {1}, "validation": {11}, "test": {21}}


def test_slices_of_little_brain_are_left_out(tmp_path):
    """Of 256 pixels a slice has 2 z of brain and as many of what is none; all volumes count their own."""
    labels = np.zeros((1, 16, 16, 16), np.uint8)
    for z in range(16):
        labels[0, :2, :z, z], labels[0, 4:6, :z, z] = 3, 9
    where = saved(tmp_path, train_label=labels)
    told = functools.partial(label_maps.files, *where, 16, brain=(3, 8), validation=0)
    for least, num in ((0.0, 16), (14 / 256, 9), (14.5 / 256, 8), (30 / 256, 1)):
        assert told(least=least).num["train"] == num
    lowest = told(least=14 / 256, image=lambda rng, labels, fine, gap: labels[:, :, ::-1]).read("train", 0).image
    assert [np.count_nonzero(each == 3) for each in lowest] == [12, 14, 16]
    with pytest.raises(InputError, match="none of the axial slices of train is 0.2 of 16 x 16 pixels brain; a lower `least` or other `planes`"):
        told(least=0.2)


@pytest.mark.parametrize("plane, place", [("sagittal", (6, 5)), ("coronal", (6, 4)), ("axial", (5, 4))])
def test_rows_run_from_anterior_or_superior(tmp_path, plane, place):
    """A labelled voxel lies as far up and left of the head's centre as it is superior or anterior and to the patient's right; slices are in order."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[1:19, 1:19, 1:19] = 1
    labels[14, 15, 16] = 2  # 4 to the right, 5 anterior, 6 superior of the middle of the box
    where = saved(tmp_path, train_label=labels[None])
    found = label_maps.files(*where, 24, (plane,), least=0, validation=0, image=lambda rng, labels, fine, gap: labels[1])
    assert found.num["train"] == 18 + 2  # least 0 keeps those without brain
    image = found.read("train", {"sagittal": 14, "coronal": 15, "axial": 16}[plane]).image
    np.testing.assert_array_equal(np.argwhere(image == 2), [[12 - 1 - place[0], 12 - 1 - place[1]]])
    assert np.count_nonzero(image == 1) == 18**2 - 1 and not np.any(image[[2, -3]]) and np.all(image[3:21, 3:21])


def test_nifti_by_its_affine(tmp_path):
    """Stored in another order, some axes backwards, with voxels of 1 x 2 x 3 mm: pixels of 2 mm are means over the two labels in each row of them."""
    canonical = np.zeros((40, 20, 14), np.uint16)
    canonical[4:36, 2:18, 2:12] = 17
    canonical[4:7, 10:12, 5] = 2035
    source = nibabel.Nifti1Image(canonical, np.diag([1.0, 2.0, 3.0, 1.0]))
    codes = [nibabel.orientations.axcodes2ornt(name) for name in ("RAS", "PLI")]
    nibabel.save(source.as_reoriented(nibabel.orientations.ornt_transform(*codes)), tmp_path / "a.nii.gz")
    gaps = []

    def image(rng, labels, fine, gap):
        gaps.append((fine, gap))
        return labels[1].reshape(20, fine, 20, fine).mean((1, 3))

    found = label_maps.files(str(tmp_path), (), 20, pixel_size=2.0, least=0, image=image, validation=0, test=0)
    wanted = np.zeros((20, 20))
    wanted[2:18, 2:18] = 17
    wanted[8:10, 17], wanted[8:10, 16] = 2035, (2035 + 17) / 2  # the patient's left is on the right
    np.testing.assert_array_equal(found.read("train", 5).image, wanted)
    assert gaps == [(2, 1.5)]
    share = 32 * 16 * 2 / 4 / 400  # of voxels of 2 mm^2 in pixels of 4
    told = functools.partial(label_maps.files, str(tmp_path), (), 20, pixel_size=2.0, brain=(1, 9999), validation=0, test=0)
    assert told(least=share).num["train"] == 10
    with pytest.raises(InputError, match="none of the axial slices"):
        told(least=share + 1e-3)
    nibabel.save(nibabel.Nifti1Image(np.full((20, 20, 20), 1.5, np.float32), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(InputError, match=r"b.nii.gz: volume has values from 1.5 to 1.5; whole numbers from 0 to 65535 are needed"):
        label_maps.files(str(tmp_path))


def test_intensities_are_those_drawn():
    """Without spread, blur, bias and gamma an image is mu over the largest mu, exactly; with spread each label has its mean and deviation."""
    labels = np.tile(np.array([0, 1, 2, 3]), (3, 8, 2)).astype(np.uint8)
    mean = laws(np.random.default_rng(3), 4, deviations=(0, 0))[:, 0].astype(np.float32)
    assert mean[0] == 0 and len(set(mean)) == 4
    np.testing.assert_array_equal(FLAT(np.random.default_rng(3), labels), (mean / mean.max())[labels[1]])
    labels = np.repeat(np.arange(3), 40_000).reshape(1, 600, 200)
    mean, deviation = laws(np.random.default_rng(5), 3, means=(100, 200), deviations=(5, 10)).T
    image = random_contrast(np.random.default_rng(5), labels, means=(100, 200), deviations=(5, 10), **PLAIN)
    assert not image[labels[0] == 0].any()
    found = [(np.mean(image[labels[0] == k], dtype=float), np.std(image[labels[0] == k], dtype=float)) for k in (1, 2)]
    unit = found[0][0] / mean[1]  # what the largest of all pixels made of a unit
    np.testing.assert_allclose(found[1][0] / unit, mean[2], atol=8 * deviation.max() / 200)  # 8 standard errors of 40,000 numbers
    np.testing.assert_allclose(np.array(found)[:, 1] / unit, deviation[1:], rtol=8 / np.sqrt(80_000))  # 8 standard errors


def test_laws_are_uniform_and_shared_in_a_class():
    """Ranges, shares of the background, and groups; a label's law is the same however many there are."""
    many = np.stack([laws(np.random.default_rng(i), 7, ((1, 4), (5, 3, 6)), (20, 60), (2, 4), 0.3) for i in range(2000)])
    np.testing.assert_array_equal(many[:, [1, 3, 3]], many[:, [4, 5, 6]])
    assert np.all(many[:, 1] != many[:, 2]) and np.all(many[:, 2] != many[:, 3])
    assert np.all(many[:, 1:, 0] >= 20) and np.all(many[:, 1:, 0] <= 60) and np.all(many[:, 1:, 1] >= 2) and np.all(many[:, 1:, 1] <= 4)
    for values, low, high in ((many[:, 2, 0], 20, 60), (many[:, 2, 1], 2, 4)):
        share = np.sort((values - low) / (high - low))
        assert np.abs(share - (np.arange(2000) + 0.5) / 2000).max() < 2.0 / np.sqrt(2000)  # Kolmogorov's distance, passed once in 1,500
    assert np.mean(many[:, 0, 0] > 0) == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 2000))  # 5 standard errors
    np.testing.assert_array_equal(laws(np.random.default_rng(1), 3, ((1, 4),)), laws(np.random.default_rng(1), 9, ((1, 4),))[:3])
    for classes in (((1, 2), (2, 3)), ((0, 1),), ((1, 1),)):
        with pytest.raises(ValueError, match="name a label twice or 0"):
            laws(np.random.default_rng(0), 5, classes)


def test_bias_is_smooth_and_of_its_strength():
    """The logarithm of what it does to a flat image is beta times the field; 0 gives none, exactly."""
    labels = np.ones((1, 64, 48), np.uint8)
    labels[0, 0, 0] = 0
    np.testing.assert_array_equal(FLAT(np.random.default_rng(2), labels), labels[0])
    told = np.log([np.where(labels[0], FLAT(np.random.default_rng(i), labels, bias=0.5), 1.0) for i in range(200)])
    steps = [np.abs(np.diff(told, 2, axis))[:, 1:, 1:].max() / np.ptp(told) for axis in (1, 2)]
    assert max(steps) < 0.02  # second differences of four knots over 48 pixels
    fields = np.array([smooth(np.random.default_rng(i), 64, 48) for i in range(2000)])
    np.testing.assert_allclose(fields[:, [0, 0, -1, -1], [0, -1, 0, -1]].std(0), 1, rtol=5 / np.sqrt(4000))  # 5 standard errors at knots
    spread = (told[:, -1, -1] - told[:, 0, -1]).std()  # beta is uniform up to 0.5: its mean square is 1/12
    assert spread == pytest.approx(np.sqrt(2 / 12), rel=0.25)  # 200 draws of a mixture of heavy tails


def test_blur_is_partial_volume():
    """A plane between slices and one between pixels mix their labels by the Gaussian; the total of a spot stays."""
    labels = np.zeros((3, 40, 40), np.uint8)
    labels[2, 10:] = 1
    labels[1, 10:, 20:] = 1
    labels[0, 30:] = 1
    sigma, gap = 0.8, 1.5
    image = FLAT(np.random.default_rng(0), labels, gap=gap, blur=(sigma, sigma))
    above = np.exp(-((gap / sigma) ** 2) / 2)
    middle = 1 / (1 + 2 * above)
    kernel = np.exp(-((np.arange(-2, 3) / sigma) ** 2) / 2)  # the filter ends at 3 sigma
    edge = np.concatenate([np.zeros(18), np.cumsum(kernel / kernel.sum()), np.ones(17)])  # of the step at 20
    np.testing.assert_allclose(image[20], middle * (above + edge), atol=1e-6)
    np.testing.assert_allclose(image[35], middle * (2 * above + edge), atol=1e-6)
    wide = FLAT(np.random.default_rng(0), labels, 2, gap, blur=(sigma / 2, sigma / 2))  # as many labels, half as many pixels, twice as far apart
    assert wide.shape == (20, 20)
    np.testing.assert_allclose(np.diff(wide[10]) / np.ptp(wide[10]), np.diff(edge.reshape(20, 2).mean(1)), atol=1e-6)
    spots = np.zeros((1, 40, 40), np.uint8)
    spots[0, 20:22, 20:22] = 1
    image = FLAT(np.random.default_rng(0), spots, fine=2)
    assert image.shape == (20, 20) and image[10, 10] == 1 and image.sum() == 1


def test_values_and_phase():
    """Magnitudes reach from 0 to 1, whatever is drawn; the phase is smooth, changes no magnitude and is 0 unless asked for."""
    labels = np.random.default_rng(0).integers(0, 9, (3, 48, 48)).astype(np.uint8)
    for i in range(20):
        rng = np.random.default_rng(i)
        image = random_contrast(rng, labels, background=0.5, blur=(0.0, 2.0))
        assert image.min() == 0 and image.max() == 1 and image.dtype == np.float32 and np.isfinite(image).all()
        turned = random_contrast(np.random.default_rng(i), labels, background=0.5, blur=(0.0, 2.0), phase=0.7)
        assert turned.dtype == np.complex64
        np.testing.assert_allclose(np.abs(turned), image, atol=1e-6)
    flat = np.tile(np.arange(48) > 0, (1, 48, 1)).astype(int)
    ones = [FLAT(np.random.default_rng(i), flat, phase=0.7) for i in range(300)]
    angles = np.unwrap(np.angle([one[:, 5] for one in ones]))
    assert np.abs(np.diff(angles, 2)).max() < 0.1
    assert np.abs(np.mean(np.exp(1j * angles[:, 0]))) < 4 / np.sqrt(300)  # uniform on the circle, 4 standard errors
    assert not random_contrast(np.random.default_rng(0), np.zeros((1, 16, 16), int)).any()


def test_bad_input(tmp_path):
    """One line that says what was found and what is needed."""
    good = head()[None]
    for arrays, message in (
        ({"labels": good}, "maps.npz: holds labels; train_label, validation_label or test_label is needed"),
        ({"train_label": good[0]}, r"train_label has shape \[20, 24, 22\] of uint8; whole numbers \[n, x, y, z\] are needed"),
        ({"train_label": good.astype(float)}, "of float64; whole numbers"),
        ({"train_label": good.astype(np.int16) - 1}, "train_label 0 has values from -1 to 39; whole numbers from 0"),
        ({"train_label": good, "train_subject": np.arange(3)}, r"train_subject has shape \[3\]; one entry for each of 1 volumes"),
        ({"train_label": 0 * good}, "train_label 0 has labels up to 0, none of them brain; some from 1 to 499, as `brain` says"),
        ({"test_label": good}, "hold no train_label"),
    ):
        with pytest.raises(InputError, match=message) as error:
            label_maps.files(*saved(tmp_path, **arrays))
        assert "\n" not in str(error.value)
    where = saved(tmp_path, train_label=good)
    with pytest.raises(InputError, match="train_label 0 has indices from 0 to 40; those of 3 `values` are needed"):
        label_maps.files(*where, values=(0, 2, 3))
    with pytest.raises(InputError, match="holds no NIfTI volumes"):
        label_maps.files(where[0])
    with pytest.raises(InputError, match="paths is 'maps.npz'; a tuple"):
        label_maps.files(where[0], "maps.npz")
    for options, message in (({"planes": ("oblique",)}, "planes is"), ({"planes": "axial"}, "planes is"), ({"size": 8}, "got size 8"),
                             ({"contrasts": 0}, "contrasts 0"), ({"least": 1.0}, "least 1.0"), ({"pixel_size": 0.0}, "pixel_size 0.0")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            label_maps.files(*where, **options)
    for options in ({"means": (9, 3)}, {"blur": (-1, 1)}, {"bias": -0.1}, {"gamma": np.nan}, {"background": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} is .*; (a number|numbers) from 0"):
            random_contrast(np.random.default_rng(0), good[0, :3], **options)
    for labels, fine in ((good[0][0], 1), (good[0][:2], 1), (good[0][:3], 5)):
        with pytest.raises(ValueError, match="an odd number of slices and sides that are multiples"):
            random_contrast(np.random.default_rng(0), labels, fine)


def test_values_are_labels(tmp_path):
    """Indices are turned into labels before anything asks for these."""
    labels = np.zeros((1, 18, 18, 18), np.uint8)
    labels[0, 2:9], labels[0, 9:16] = 1, 2
    where = saved(tmp_path, train_label=labels)
    found = label_maps.files(*where, 18, values=(0, 507, 41), validation=0, image=lambda rng, labels, fine, gap: labels[1])
    image = found.read("train", 0).image
    assert found.num["train"] == 18 and np.all(image[:, 2:9] == 41) and np.all(image[:, 9:16] == 507)
