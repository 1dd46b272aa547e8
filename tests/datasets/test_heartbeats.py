import numpy as np
import pytest
import torch

from worldjepa.datasets.heartbeats import (
    CLASS_NAMES,
    LEAD_NAMES,
    LEAD_VECTORS,
    RHYTHMS,
    heartbeats_of_sample,
    load_heartbeats,
    random_ecg,
)

COUNT, SEED, RATE = 160, 5, 250


@pytest.fixture(scope="module")
def hearts():
    """ECG (N,8,T), labels, and the truth of each."""
    observation, labels = random_ecg(COUNT, SEED)
    truths = [heartbeats_of_sample(SEED, number) for number in range(COUNT)]
    return observation["ecg"].numpy(), labels.numpy(), truths


def lead(name: str, recordings: np.ndarray) -> np.ndarray:
    return recordings[..., LEAD_NAMES.index(name), :]


def beat(truths, label: str, name: str, number: int = 0) -> np.ndarray:
    """(beats,T): a lead around the R peaks of all hearts of a class, -0.3 s to 0.5 s, without noise."""
    pieces = []
    for truth in truths:
        if truth.label == CLASS_NAMES.index(label):
            course = lead(name, LEAD_VECTORS @ truth.dipole)
            starts = np.round((truth.times - 0.3) * RATE).astype(int)
            pieces += [course[s : s + 200] for s in starts if s >= 0 and s + 200 <= len(course)]
    return np.stack(pieces)


def at(seconds: float) -> int:
    return round((0.3 + seconds) * RATE)


def test_an_ecg_is_its_dipole_seen_by_the_leads_and_little_else(hearts):
    ecg, labels, truths = hearts
    assert ecg.shape == (COUNT, 8, 2500) and ecg.dtype == np.float32
    assert labels.tolist() == [truth.label for truth in truths] and set(labels) == set(range(8))
    for recording, truth in zip(ecg, truths, strict=True):
        seen = LEAD_VECTORS @ truth.dipole
        assert np.linalg.matrix_rank(seen, tol=1e-6) == 3
        rest = recording - seen
        assert 0.008 < np.diff(rest).std() / np.sqrt(2) < 0.045, "noise in mV: wander is slow"
        assert np.abs(rest).max() < 2
        assert 0.4 < np.abs(seen).max() < 6


def test_limb_leads_obey_einthoven():
    """Of the dipole's axes, III = II - I points down and to the right, aVF down."""
    first, second = LEAD_VECTORS[:2]
    third, foot = second - first, second - first / 2
    assert third[0] < 0 < third[1] and abs(foot[1]) > 5 * abs(foot[0])


def test_the_mean_rate_is_the_one_asked_for_and_beats_are_where_the_truth_says(hearts):
    _, _, truths = hearts
    for truth in truths:
        rhythm = RHYTHMS[CLASS_NAMES[truth.label]]
        assert rhythm.rates[0] <= truth.rate <= rhythm.rates[1]
        found = 60 * (len(truth.times) - 1) / (truth.times[-1] - truth.times[0])
        assert found == pytest.approx(truth.rate, rel=0.25 if rhythm.spread > 0.1 else 0.12)
        assert (np.diff(truth.times) > 0.25).all()
        assert truth.times[0] >= 0 and truth.times[-1] < 10
        if CLASS_NAMES[truth.label] == "normal":
            slopes = np.abs(np.diff(LEAD_VECTORS @ truth.dipole)).sum(0)
            apart = np.abs(np.flatnonzero(slopes > 0.5 * slopes.max())[:, None] / RATE - truth.times)
            assert apart.min(0).max() < 0.06, "every beat is steep"
            assert np.sort(apart.min(1))[: int(0.9 * len(apart))].max() < 0.06, "and little else is: one cut at an end"


def test_only_fibrillation_and_premature_beats_are_irregular(hearts):
    _, _, truths = hearts
    for truth in truths:
        between = np.diff(truth.times)
        spread = between.std() / between.mean()
        name = CLASS_NAMES[truth.label]
        if name == "atrial fibrillation":
            assert spread > 0.08
        elif name == "premature ventricular beats":
            early = np.flatnonzero(truth.ventricular)
            assert len(early) >= 1
            for index in early[(early > 0) & (early < len(between))]:
                pause = between[index - 1] + between[index]
                assert between[index - 1] < 0.72 * 60 / truth.rate < 1.2 * 60 / truth.rate < between[index]
                assert pause == pytest.approx(2 * 60 / truth.rate, rel=0.12), "the pause makes up for it"
        else:
            assert spread < 0.06 and not truth.ventricular.any()


def test_shapes_have_the_signs_of_the_textbook(hearts):
    _, _, truths = hearts
    normal = {name: beat(truths, "normal", name).mean(0) for name in LEAD_NAMES}
    assert normal["I"][at(0)] > 0.2 and normal["II"][at(0)] > 0.4 and normal["V1"].min() < -0.3
    assert normal["V1"].max() < normal["V5"].max(), "R grows from V1 to V5"
    p_wave = slice(at(-0.25), at(-0.08))
    assert normal["II"][p_wave].max() > 0.08 > np.abs(beat(truths, "atrial fibrillation", "II").mean(0)[p_wave]).max()
    left, right = (
        {name: beat(truths, f"{side} bundle branch block", name).mean(0) for name in LEAD_NAMES}
        for side in ("left", "right")
    )

    def width(course: np.ndarray) -> int:
        near = course[at(-0.1) : at(0.12)]
        return int((np.abs(near) > 0.3 * np.abs(near).max()).sum())

    assert width(left["V6"]) > 2 * width(normal["V6"])
    assert left["V1"][at(0.035)] < -0.5 and left["V6"][at(0.3)] < -0.1 < 0.1 < left["V1"][at(0.3)]
    assert right["V1"][at(0.06)] > 0.4 and right["I"][at(0.06)] < -0.1 and right["V6"][at(0.06)] < -0.2
    raised = beat(truths, "raised ST", "V3").mean(0)
    assert raised[at(0.13)] > normal["V3"][at(0.13)] + 0.2


def test_fibrillating_atria_have_waves_of_their_own(hearts):
    _, _, truths = hearts
    power = {}
    for name in ("normal", "atrial fibrillation"):
        found = []
        for truth in truths:
            if CLASS_NAMES[truth.label] == name:
                course = lead("V1", LEAD_VECTORS @ truth.dipole)
                quiet = np.ones(len(course), bool)
                for time in truth.times:
                    quiet[max(0, int((time - 0.3) * RATE)) : int((time + 0.55) * RATE)] = False
                quiet[:RATE], quiet[-RATE:] = False, False  # beats just outside reach in
                found += [course[quiet].std()] if quiet.sum() > 50 else []
        power[name] = np.mean(found)
    assert power["atrial fibrillation"] > 3 * power["normal"]


def test_a_sample_does_not_depend_on_the_size_of_the_set_and_rates_agree():
    few, many, other = (random_ecg(n, seed)[0]["ecg"] for n, seed in ((2, 7), (3, 7), (2, 8)))
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)
    slow, fast = heartbeats_of_sample(7, 1, rate=250), heartbeats_of_sample(7, 1, rate=500)
    assert np.array_equal(slow.times, fast.times)
    if CLASS_NAMES[slow.label] != "atrial fibrillation":
        assert slow.dipole == pytest.approx(fast.dipole[:, ::2], abs=0.03)
    train, held_out = load_heartbeats(3, num_train=3, num_held_out=2, rate=100, seconds=4)
    assert train.observation["ecg"].shape == (3, 8, 400) and len(held_out) == 2 and train.names == CLASS_NAMES


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rate must be a whole number >= 100, got 50"):
        random_ecg(1, seed=0, rate=50)
    with pytest.raises(ValueError, match="seconds must be a whole number >= 4, got 2"):
        heartbeats_of_sample(0, 0, seconds=2)
    with pytest.raises(ValueError, match="count must be"):
        random_ecg(0, seed=0)
