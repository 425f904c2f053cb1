"""The Bloch equation against closed forms, and the signal equations against it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from medjax.physics.balanced_ssfp import balanced_ssfp
from medjax.physics.bloch import bloch
from medjax.physics.bulk_magnetisation import bulk_magnetisation
from medjax.physics.flip_angle import flip_angle
from medjax.physics.inversion_recovery import inversion_recovery
from medjax.physics.larmor import GAMMA_BAR, larmor
from medjax.physics.sinc_pulse import sinc_pulse
from medjax.physics.spin_echo import spin_echo
from medjax.physics.spoiled_gradient_echo import spoiled_gradient_echo

INF = jnp.inf
HARD = 1e-6  # [ms], a pulse that nothing else happens in
simulate = jax.jit(bloch, static_argnames=("nucleus", "record"))


def still(num):
    """No gradient and the middle of the magnet."""
    return jnp.zeros((num, 3)), jnp.zeros(3)


def hard(angle):
    """B_1 [uT] of a pulse of this angle [rad] and the length HARD."""
    return angle / (2e-3 * np.pi * GAMMA_BAR["1H"] * HARD)


def test_larmor_frequencies():
    assert np.isclose(larmor(1.5), 63.866217, rtol=1e-6)  # 8 digits
    assert np.isclose(larmor(jnp.array([3.0])), 127.732435, rtol=1e-6)  # 9 digits
    # the source's table of gamma is that of gamma / 2 pi
    for nucleus, known in {"1H": 42.58, "3He": -32.43, "23Na": 11.26, "31P": 17.24}.items():
        assert abs(GAMMA_BAR[nucleus] - known) < 0.006
    with pytest.raises(ValueError, match="nuclei"):
        larmor(1.5, "4He")


def test_magnetisation_has_hbar_squared():
    assert np.isclose(bulk_magnetisation(1.5), 4.665e-3, rtol=2e-4)  # [A/m], 4 digits
    assert np.isclose(bulk_magnetisation(3.0, 155.0), 4 * bulk_magnetisation(1.5), rtol=1e-12)
    single = bulk_magnetisation(jnp.float32(1.5))
    assert single.dtype == jnp.float32 and np.isclose(single, bulk_magnetisation(1.5), rtol=1e-6)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="temperature > 0"):
            bulk_magnetisation(1.5, bad)
    sodium = bulk_magnetisation(1.5, nucleus="23Na", spin=1.5) / bulk_magnetisation(1.5)
    assert np.isclose(sodium, 5 * (GAMMA_BAR["23Na"] / GAMMA_BAR["1H"]) ** 2, rtol=1e-12)


@pytest.mark.parametrize("angle, phase", [(np.pi / 2, 0.0), (np.pi, 0.4), (0.3, 2.0), (5.0, -1.0)])
def test_a_hard_pulse_tips_exactly(angle, phase):
    b1 = jnp.full(7, hard(angle) / 7 * np.exp(1j * phase))
    assert np.isclose(flip_angle(b1, HARD), angle, rtol=1e-12)
    for steps in (b1, jnp.sum(b1, keepdims=True)):
        m = simulate(steps, still(len(steps))[0], HARD, jnp.zeros(3), 0.0, INF, INF)
        wanted = (-np.sin(angle) * np.sin(phase), np.sin(angle) * np.cos(phase), np.cos(angle))
        assert np.allclose(m, wanted, rtol=0, atol=1e-12)


def test_flip_angle_of_one_millisecond():
    assert np.isclose(np.rad2deg(flip_angle(jnp.full(10, 5.872), 0.1)), 90, rtol=1e-4)  # 4 digits


def test_free_precession_and_its_sign():
    """One step of 300 ms, 12,000 turns: phase -2 pi (gamma-bar G r + df) t, and decay."""
    gradient, place, df, t1, t2, time = jnp.array([[1.0, -2.0, 3.0]]), jnp.array([50.0, 20.0, 30.0]), 37.3, 800.0, 90.0, 300.0
    m = simulate(jnp.zeros(1), gradient, time, place, df, t1, t2, jnp.array([0.6, 0.0, -0.5]))
    turns = (GAMMA_BAR["1H"] * (50 - 40 + 90) + df) * 1e-3 * time
    wanted = 0.6 * np.exp(-time / t2 - 2j * np.pi * turns)
    assert turns > 1000 and np.isclose(m[0] + 1j * m[1], wanted, rtol=1e-9)  # 8e3 rad, rounding 2e-16 a rad, squared 18 times
    assert np.isclose(m[2], 1 - 1.5 * np.exp(-time / t1), rtol=1e-11)
    quarter = simulate(jnp.zeros(1), jnp.zeros((1, 3)), 1.0, place, 250.0, INF, INF, jnp.array([1.0, 0.0, 0.0]))
    assert np.allclose(quarter, [0, -1, 0], atol=1e-12)  # clockwise
    helium = simulate(
        jnp.zeros(1), jnp.array([[0.0, 0.0, 1.0]]), 1.0, jnp.array([0.0, 0.0, 1.0]), 0.0, INF, INF, jnp.array([1.0, 0.0, 0.0]), nucleus="3He"
    )
    assert helium[1] > 0


def test_many_turns_keep_their_length_in_single_precision():
    """10 s at 1 kHz, with and without a pulse: 10,000 turns in one step."""
    for b1 in (0.0, 10.0):
        m = simulate(jnp.array([b1], jnp.complex64), jnp.zeros((1, 3)), 1e4, jnp.zeros(3), 1e3, INF, INF, jnp.array([0.6, 0.0, 0.8]))
        assert m.dtype == jnp.float32 and abs(np.linalg.norm(m) - 1) < 1e-6


def _matrix(b1, field, t1, t2):
    """The Bloch equation of (M, 1) [1/ms]."""
    x, y, z = 2e-3 * np.pi * GAMMA_BAR["1H"] * np.array([b1.real, b1.imag, field])
    return np.array([[-1 / t2, z, -y, 0], [-z, -1 / t2, x, 0], [y, -x, -1 / t1, 1 / t1], [0, 0, 0, 0]])


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float64, 1e-11), (jnp.float32, 2e-4)])  # a few hundred rad in single precision
def test_steps_are_the_matrix_exponential(dtype, tolerance):
    """Steps from 1e-4 to 30 ms of everything at once: relaxation in the pulse, fast and slow."""
    rng = np.random.default_rng(0)
    for t1, t2 in ((900.0, 80.0), (5.0, 5.0), (3.0, 0.02)):
        b1, gradients = 20 * (rng.normal(size=8) + 1j * rng.normal(size=8)), rng.normal(size=(8, 3))
        dt, place = 10 ** rng.uniform(-4, 1.5, 8), rng.normal(size=3) * 10
        arguments = jnp.asarray(b1, jnp.complex64 if dtype == jnp.float32 else complex), jnp.asarray(gradients, dtype), jnp.asarray(dt, dtype)
        path = simulate(*arguments, jnp.asarray(place, dtype), 0.0, t1, t2, record=True)
        m = np.array([0, 0, 1.0, 1.0])
        for i in range(8):
            m = expm(_matrix(b1[i], gradients[i] @ place, t1, t2) * dt[i]) @ m
            assert np.allclose(path[i], m[:3], rtol=0, atol=tolerance)
        assert path.dtype == dtype


@pytest.mark.parametrize("df", [20.0, 3000.0])
def test_gradients_are_those_of_differences(df):
    """For every argument, through pulses that start at nothing, and through steps of few turns and of many."""
    b1, gradients = jnp.array([0.0, 3.0, 0.0, 1.0 + 2.0j]), jnp.arange(12.0).reshape(4, 3) / 5

    def loss(real, place, df, t1, t2, dt, equilibrium):
        return bloch(b1 + real, gradients, dt, place, df, t1, t2, None, equilibrium) @ jnp.array([0.3, 1.0, -0.7])

    at = (
        jnp.zeros(4),
        jnp.array([1.0, 2.0, -1.0]),
        jnp.asarray(df),
        jnp.asarray(30.0),
        jnp.asarray(4.0),
        jnp.array([0.5, 1.0, 2.0, 0.3]),
        jnp.asarray(1.5),
    )
    slopes = jax.jit(jax.grad(loss, tuple(range(7))))(*at)
    run = jax.jit(loss)
    for i, slope in enumerate(slopes):
        step = 1e-5 * jnp.ones_like(at[i])
        moved = [run(*(a + s * step if j == i else a for j, a in enumerate(at))) for s in (1, -1)]
        assert np.isclose((moved[0] - moved[1]) / 2e-5, jnp.sum(slope), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shapes", [((3,), (2, 3), (), (3,)), ((3,), (3,), (), (3,)), ((3,), (3, 3), (2,), (3,)), ((3,), (3, 3), (), ())])
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="bloch needs"):
        bloch(*(jnp.zeros(shape) for shape in shapes), 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "bad, text",
    [
        ({"initial": jnp.array([0.1, 0.2])}, r"initial magnetisation \[3\], got \[2\]"),
        ({"initial": 1.0}, "initial magnetisation"),
        ({"off_resonance": jnp.zeros(2)}, r"scalars, vmap over spins, got off_resonance \[2\], t1 \[\]"),
        ({"t2": jnp.ones(3)}, r"t2 \[3\]"),
        ({"t1": 0.0}, "t1 > 0"),
        ({"t2": -1.0}, "t2 > 0"),
        ({"t2": jnp.nan}, "t2 > 0"),
    ],
)
def test_refuses_spins_that_cannot_be(bad, text):
    with pytest.raises(ValueError, match=text):
        bloch(jnp.zeros(3), *still(3)[:1], 1.0, **{"position": jnp.zeros(3), "off_resonance": 0.0, "t1": 1.0, "t2": 1.0} | bad)


def test_balanced_signal_keeps_its_digits_in_single_precision():
    """TR / T1 of 1e-3 at two degrees, on resonance and near a dark band: 1 - E_1 cos(a) and the like would lose three digits."""
    for df in (0.0, 240.0):
        arguments = (1.0, 2000.0, 80.0, 2.0, 1.0, np.deg2rad(2.0), df)
        single, double = (balanced_ssfp(*(dtype(a) for a in arguments)) for dtype in (jnp.float32, jnp.float64))
        assert single.dtype == jnp.complex64
        assert abs(single - double) < 2e-6 * abs(double)  # a phase of 3 rad in float32, near a band that is dark to 1 / 30


def _profile(flip, thickness, centre, places, frequency_shift=0.0):
    """|M_xy| and M_xy after a slice-selective pulse and its rewinder."""
    num, duration, tbw = 200, 2.0, 8.0
    b1 = sinc_pulse(num, duration, tbw, flip)
    gradient = 1e3 * tbw / (GAMMA_BAR["1H"] * duration * thickness)
    t = (np.arange(num) + 0.5) * duration / num - duration / 2
    b1 = b1 * np.exp(-2e-3j * np.pi * GAMMA_BAR["1H"] * gradient * centre * t)
    # the rewinder: half the area; one long step
    b1 = jnp.concatenate([b1, jnp.zeros(1)])
    gradients = jnp.zeros((num + 1, 3)).at[:num, 2].set(gradient).at[num, 2].set(-gradient)
    dt = jnp.full(num + 1, duration / num).at[num].set(duration / 2)
    spins = jnp.stack([0 * places, 0 * places, places], 1)
    m = jax.jit(jax.vmap(lambda r: bloch(b1, gradients, dt, r, frequency_shift, INF, INF)))(spins)
    return m[:, 0] + 1j * m[:, 1], m[:, 2]


@pytest.mark.parametrize("thickness, centre", [(5.0, 0.0), (8.0, 12.0)])
def test_a_sinc_pulse_selects_its_slice(thickness, centre):
    flip, places = np.deg2rad(20.0), jnp.linspace(-10.0, 25.0, 701)
    profile, along = _profile(flip, thickness, centre, places)
    magnitude = np.abs(profile)
    middle = int(np.argmin(np.abs(places - centre)))
    assert np.isclose(magnitude[middle], np.sin(flip), rtol=1e-2)  # the small-angle profile ripples by 1 %
    excited = np.asarray(places)[magnitude > np.sin(flip) / 2]
    assert abs(excited.max() - excited.min() - thickness) < 0.02 * thickness  # half maximum at the bandwidth
    assert abs(excited.mean() - centre) < 0.03  # [mm], places are .05 mm apart
    outside = np.abs(np.asarray(places) - centre) > 0.75 * thickness
    assert magnitude[outside].max() < 0.01 * np.sin(flip) and np.abs(along[outside] - 1).max() < 1e-3
    inside = np.abs(np.asarray(places) - centre) < 0.3 * thickness
    assert np.ptp(np.angle(np.asarray(profile)[inside])) < 0.05  # refocused [rad]
    # small angles: the profile is the Fourier transform of the pulse, each step a box
    num, duration = 200, 2.0
    t = (np.arange(num) + 0.5) * duration / num - duration / 2
    b1 = np.asarray(sinc_pulse(num, duration, 8.0, 1e-3))
    gradient = 1e3 * 8.0 / (GAMMA_BAR["1H"] * duration * thickness)
    phase = np.exp(2e-3j * np.pi * GAMMA_BAR["1H"] * gradient * (np.asarray(places) - centre)[:, None] * t)
    box = np.sinc(1e-3 * GAMMA_BAR["1H"] * gradient * np.asarray(places) * duration / num)
    wanted = 2e-3j * np.pi * GAMMA_BAR["1H"] * box * (phase @ b1) * duration / num
    small, _ = _profile(1e-3, thickness, centre, places)
    assert np.abs(small - wanted).max() < 1e-9  # the next order of the angle, its cube


def test_off_resonance_moves_the_slice():
    thickness, places = 5.0, jnp.linspace(-10.0, 10.0, 801)
    magnitude = np.abs(_profile(0.2, thickness, 0.0, places, frequency_shift=400.0)[0])
    excited = np.asarray(places)[magnitude > np.sin(0.2) / 2]
    assert abs(excited.mean() + 400 / (8.0 / 2.0 * 1e3 / thickness)) < 0.05  # [mm]; 4 kHz over 5 mm


def test_bad_pulses():
    nan = np.nan
    for bad in ((0, 1.0, 4.0, 1.0), (10, 0.0, 4.0, 1.0), (10, 1.0, -1.0, 1.0), (10, nan, 4.0, 1.0), (10, 1.0, nan, 1.0), (10, 1.0, 4.0, nan)):
        with pytest.raises(ValueError, match="sinc_pulse"):
            sinc_pulse(*bad)


T1, T2 = 900.0, 80.0


def test_ernst_angle_is_the_best_of_simulated_steady_states():
    """Spoiling sets the transverse part to nothing before each pulse."""
    tr, te = 30.0, 5.0

    @jax.jit
    def steady(angle):
        b1, (gradients, place) = jnp.array([hard(1.0), 0.0]) * jnp.array([angle, 0.0]), still(2)

        def repeat(z, _):
            after = bloch(b1, gradients, jnp.array([HARD, tr]), place, 0.0, T1, T2, jnp.array([0.0, 0.0, 1.0]) * z)
            return after[2], None

        z, _ = jax.lax.scan(repeat, jnp.asarray(1.0), None, length=600)
        echo = bloch(b1, gradients, jnp.array([HARD, te]), place, 0.0, T1, T2, jnp.array([0.0, 0.0, 1.0]) * z)
        return echo[1]

    ernst = np.arccos(np.exp(-tr / T1))
    signals = [float(steady(ernst + d)) for d in (-0.02, 0.0, 0.02)]
    assert signals[1] > signals[0] and signals[1] > signals[2]
    assert np.isclose(signals[1], spoiled_gradient_echo(1.0, T1, T2, tr, te, ernst), rtol=1e-6)  # 1 ns pulses and 600 repetitions


def test_spin_echo_and_inversion_recovery_by_pulses():
    """180 - TI - 90 - TE / 2 - 180 - TE / 2, dephased by a field and refocused; the null, and a whole repetition."""
    te, df = 20.0, 43.0

    def echo(ti, tr, repetitions):
        b1 = jnp.array([hard(np.pi), 0.0, hard(np.pi / 2), 0.0, 1j * hard(np.pi), 0.0])
        dt = jnp.array([HARD, ti, HARD, te / 2, HARD, te / 2])
        z = 1.0
        for _ in range(repetitions):
            path = simulate(b1, jnp.zeros((6, 3)), dt, jnp.zeros(3), df, T1, T2, jnp.array([0.0, 0.0, z]), record=True)
            rest = simulate(jnp.zeros(1), jnp.zeros((1, 3)), tr - ti - te, jnp.zeros(3), df, T1, T2, jnp.array([0.0, 0.0, path[-1, 2]]))
            z = rest[2]
        return path[-1]

    for ti in (100.0, 623.8, 1500.0):
        m = echo(ti, 1e6, 1)
        assert abs(m[0]) < 1e-5 and np.isclose(m[1], inversion_recovery(1.0, T1, T2, 1e6, te, ti), atol=1e-6)  # 1 ns pulses
    # the equation takes TE for short against TR: the echo's 180 costs 2 exp(-(TR - TE / 2) / T1) - 2 exp(-TR / T1) at most
    m = echo(400.0, 2500.0, 4)
    assert np.isclose(m[1], inversion_recovery(1.0, T1, T2, 2500.0, te, 400.0), atol=3e-3)
    null = T1 * np.log(2 / (1 + np.exp(-2500.0 / T1)))
    assert abs(echo(null, 2500.0, 4)[1]) < 2e-3 < abs(echo(null + 50, 2500.0, 4)[1])
    plain = simulate(
        jnp.array([hard(np.pi / 2), 0.0, 1j * hard(np.pi), 0.0]), jnp.zeros((4, 3)), jnp.array([HARD, 10.0, HARD, 10.0]), jnp.zeros(3), df, T1, T2
    )
    assert np.isclose(plain[1], spin_echo(1.0, T1, T2, 1e9, te), rtol=1e-6)  # 1 ns pulses


@pytest.mark.parametrize("flip, off_resonance", [(0.6, 0.0), (0.6, 31.0), (1.1, -62.5), (0.6, 100.0), (1.5, 95.0)])
def test_balanced_ssfp_is_the_steady_state_of_alternating_pulses(flip, off_resonance):
    tr, te, t1, t2 = 5.0, 2.5, 300.0, 80.0

    @jax.jit
    def steady():
        def repeat(m, i):
            sign = 1.0 - 2.0 * (i % 2)
            m = bloch(jnp.array([hard(flip), 0.0]) * sign, jnp.zeros((2, 3)), jnp.array([HARD, te]), jnp.zeros(3), off_resonance, t1, t2, m)
            after = bloch(jnp.zeros(1), jnp.zeros((1, 3)), tr - te, jnp.zeros(3), off_resonance, t1, t2, m)
            return after, sign * (m[0] + 1j * m[1])

        return jax.lax.scan(repeat, jnp.array([0.0, 0.0, 1.0]), jnp.arange(1500.0))[1]

    signal = steady()
    assert np.isclose(signal[-1], signal[-2], rtol=1e-6)
    # a pulse along x tips to y: the phase of the signal equation is counted from there
    wanted = balanced_ssfp(1.0, t1, t2, tr, te, flip, off_resonance)
    assert np.isclose(signal[-1] / 1j, wanted, rtol=1e-5, atol=1e-7)  # 1 ns pulses


def test_balanced_ssfp_on_resonance_and_its_bands():
    tr, flip = 5.0, 0.6
    e1, e2 = np.exp(-tr / T1), np.exp(-tr / T2)
    wanted = 0.7 * np.sin(flip) * (1 - e1) / (1 - (e1 - e2) * np.cos(flip) - e1 * e2) * np.exp(-2.5 / T2)
    got = balanced_ssfp(0.7, T1, T2, tr, 2.5, flip)
    assert np.isclose(got, wanted, rtol=1e-12) and abs(jnp.imag(got)) < 1e-15
    shifts = jnp.linspace(-100.0, 100.0, 41)
    magnitude = np.abs(balanced_ssfp(0.7, T1, T2, tr, 2.5, flip, shifts))
    assert magnitude.argmin() in (0, 40) and magnitude[20] > 5 * magnitude[0]
    # in the limit of short TR it knows the ratio of T1 and T2 only, and is best at cos = (T1 / T2 - 1) / (T1 / T2 + 1)
    best = np.arccos((T1 / T2 - 1) / (T1 / T2 + 1))
    assert np.isclose(np.abs(balanced_ssfp(1.0, T1, T2, 1e-3, 0.0, best)), 0.5 * np.sqrt(T2 / T1), rtol=1e-4)  # TR / T2 = 1e-5
