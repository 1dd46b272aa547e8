import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import legval

from worldjepa.datasets.lead_fields import (
    BANDS,
    CLASS_NAMES,
    CONDUCTIVITY,
    ELECTRODE_NAMES,
    ELECTRODE_PLACES,
    RADIUS,
    RATE,
    electrode_places,
    lead_field,
    load_eeg,
    oscillation_of_sample,
    random_eeg,
)

UNIT = 1e-3 / (4 * np.pi * CONDUCTIVITY * RADIUS**2)  # uV per nA m


def sphere(number):
    heights = 1 - (2 * np.arange(number) + 1) / number
    angles = np.arange(number) * np.pi * (3 - np.sqrt(5))
    wide = np.sqrt(1 - heights**2)
    return np.stack([wide * np.cos(angles), wide * np.sin(angles), heights], 1)


def test_a_dipole_in_the_middle_has_three_times_the_potential_of_endless_space():
    assert lead_field(np.zeros((1, 3)))[:, 0] == pytest.approx(3 * UNIT * ELECTRODE_PLACES)


@pytest.mark.parametrize("depth", [0.2, 0.6, 0.85])
def test_a_radial_dipole_agrees_with_its_series_of_legendre_polynomials(depth):
    electrodes = sphere(50)
    n = np.arange(1, 200)  # V = sum of (2n + 1) depth^(n-1) P_n(cos) over n >= 1, from the insulated boundary
    series = UNIT * legval(electrodes[:, 2], np.r_[0, (2 * n + 1) * depth ** (n - 1.0)])
    assert lead_field([[0, 0, depth]], electrodes)[:, 0, 2] == pytest.approx(series, rel=1e-6, abs=1e-9)


def test_turning_head_and_dipole_changes_nothing_and_the_mean_over_the_head_is_zero():
    rng, electrodes = np.random.default_rng(0), sphere(4000)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    places, moments = np.array([[0.3, -0.5, 0.2], [0.1, 0.1, 0.6]]), rng.standard_normal((2, 3))
    here = (lead_field(places, electrodes) * moments).sum(-1)
    there = (lead_field(places @ turn.T, electrodes @ turn.T) * (moments @ turn.T)).sum(-1)
    assert there == pytest.approx(here)
    assert np.abs(here.mean(0)).max() < 1e-3 * np.abs(here).max()


def test_electrodes_lie_where_their_names_say():
    place = dict(zip(ELECTRODE_NAMES, ELECTRODE_PLACES, strict=True))
    assert place["Cz"] == pytest.approx([0, 0, 1])
    assert place["Fz"][1] > 0.7 and place["Pz"][1] < -0.7 and place["T8"][0] > 0.99
    for left, right in (("Fp1", "Fp2"), ("F7", "F8"), ("C3", "C4"), ("P3", "P4"), ("O1", "O2")):
        assert place[left] == pytest.approx(place[right] * (-1, 1, 1), abs=1e-12) and place[left][0] < 0


def test_the_band_of_a_class_stands_out_and_its_map_is_seen():
    observation, labels = random_eeg(40, seed=2, num_samples=512)
    eeg = observation["eeg"].numpy()
    assert eeg.shape == (40, 19, 512) and observation["eeg"].dtype == torch.float32
    assert np.abs(eeg.mean(1)).max() < 1e-4
    assert 5 < eeg.std() < 60  # uV, as of people
    frequencies = np.fft.rfftfreq(512, 1 / RATE)
    found = 0
    for number, (recording, label) in enumerate(zip(eeg, labels.tolist(), strict=True)):
        truth = oscillation_of_sample(2, number, 512)
        assert truth.label == label
        power = (np.abs(np.fft.rfft(recording)) ** 2 * frequencies).mean(0)  # 1/f made flat
        low, high = list(BANDS.values())[label % len(BANDS)]
        found += low - 0.5 <= frequencies[power.argmax()] <= high + 0.5
        field = (lead_field(truth.place[None]) * truth.moment).sum((1, 2))
        seen = recording @ truth.course / (truth.course @ truth.course)
        assert np.corrcoef(field, seen)[0, 1] > 0.8
    assert found >= 36 and len(set(labels.tolist())) > 9 and labels.max() < len(CLASS_NAMES)


def test_background_power_falls_as_one_over_frequency():
    eeg = random_eeg(60, seed=4, num_samples=512)[0]["eeg"].numpy()
    frequencies, power = np.fft.rfftfreq(512, 1 / RATE), (np.abs(np.fft.rfft(eeg)) ** 2).mean((0, 1))
    low, high = ((frequencies >= a) & (frequencies <= b) for a, b in ((1, 2), (4, 7)))
    slope = np.log(power[high].mean() / power[low].mean()) / np.log(frequencies[high].mean() / frequencies[low].mean())
    assert slope == pytest.approx(-1, abs=0.35)


def test_a_sample_does_not_depend_on_the_size_of_the_set():
    few, many, other = (random_eeg(n, seed)[0]["eeg"] for n, seed in ((2, 7), (3, 7), (2, 8)))
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"num_samples must be a whole number >= 128, got 100"):
        random_eeg(1, seed=0, num_samples=100)
    with pytest.raises(ValueError, match="within the unit ball"):
        lead_field(np.array([[0, 0, 1.0]]))
    with pytest.raises(ValueError, match="on the unit sphere"):
        lead_field(np.zeros((1, 3)), electrodes=np.array([[0, 0, 0.9]]))


def test_electrodes_are_found_by_their_names_old_ones_too():
    places = electrode_places(["cz", "T3", "P8", "Fp1"])
    assert places == [ELECTRODE_PLACES[ELECTRODE_NAMES.index(name)].tolist() for name in ("Cz", "T7", "P8", "Fp1")]
    with pytest.raises(ValueError, match=r"'Fpz' is no electrode of the 10-20 system.*did you mean 'Fz'"):
        electrode_places(["Cz", "Fpz"])


def test_loaded_parts_are_of_seeds_of_their_own():
    train, held_out = load_eeg(3, num_train=6, num_held_out=4, num_samples=256)
    assert train.observation["eeg"].shape == (6, 19, 256) and len(held_out) == 4 and train.names == CLASS_NAMES
    assert torch.equal(train.observation["eeg"], random_eeg(6, 6)[0]["eeg"])
    assert torch.equal(held_out.observation["eeg"], random_eeg(4, 7)[0]["eeg"])
