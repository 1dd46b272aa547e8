from dataclasses import replace

import numpy as np
import pytest
import torch

from worldjepa.datasets.tones import RATE, SPEAKERS, WORD_NAMES, load_tones, random_tones, word_of_sample


def spectrum(sound):
    return np.fft.rfftfreq(len(sound), 1 / RATE), np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2


def steady(number, **changes):
    """Word ``number`` with the first moment of a steady voice all along."""
    word = word_of_sample(0, number)
    frames = len(word.pitch)
    fixed = {"pitch": 120.0, "formants": (600.0, 1500.0, 2600.0), "loudness": (1.0, 0.0, 0.0), **changes}
    return replace(word, **{name: np.tile(np.asarray(value), (frames, 1)).squeeze() for name, value in fixed.items()})


def test_samples_are_the_words_of_their_numbers():
    observation, labels = random_tones(30, seed=4)
    wave, length = observation["wave"], observation["length"]
    assert wave.shape == (30, 6000) and wave.dtype == torch.float32 and length.dtype == torch.int64
    assert wave.abs().max() <= 1 and len(set(labels.tolist())) >= 8
    for number in range(30):
        word = word_of_sample(4, number)
        assert word.label == labels[number] and word.num_samples == length[number]
        assert (wave[number, length[number] :] == 0).all() and wave[number, : length[number]].std() > 0.01


def test_a_voice_has_power_at_multiples_of_its_pitch_alone():
    frequency, power = spectrum(steady(0).speak(np.random.default_rng(0)))
    near = np.abs(frequency / 120 - np.round(frequency / 120)) < 0.07
    assert power[near].sum() > 0.98 * power.sum() and power[frequency > 3900].sum() < 1e-4 * power.sum()


def test_a_voice_is_loudest_where_its_formants_are():
    for formants in ((300.0, 2200.0, 3000.0), (720.0, 1100.0, 2500.0)):
        frequency, power = spectrum(steady(1, formants=formants, pitch=60.0).speak(np.random.default_rng(0)))
        raised = power * frequency**2  # without the source's fall of 6 dB per octave
        smooth = np.convolve(raised, np.ones(40) / 40, "same")
        for wanted in formants:
            band = np.abs(frequency - wanted) < 250
            assert abs(frequency[band][smooth[band].argmax()] - wanted) < 90


def test_a_voice_is_as_loud_as_it_is_told_and_a_hiss_is_high():
    word = steady(2)
    assert word.speak(np.random.default_rng(0)).std() == pytest.approx(1, abs=0.05)
    hiss = steady(2, loudness=(0.0, 1.0, 0.0)).speak(np.random.default_rng(0))
    frequency, power = spectrum(hiss)
    assert power[frequency < 2400].sum() < 1e-6 * power.sum()


def test_speakers_keep_their_pitch():
    words = [word_of_sample(0, number) for number in range(200)]
    for index, (pitch, _) in enumerate(SPEAKERS):
        found = [word.pitch.mean() for word in words if word.speaker == index]
        assert np.mean(found) == pytest.approx(pitch, rel=0.04)


def test_a_sample_does_not_depend_on_the_size_of_the_set_and_no_part_has_anothers():
    few, many, other = (random_tones(n, seed)[0]["wave"] for n, seed in ((2, 7), (3, 7), (2, 8)))
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)
    train, held_out = load_tones(0, num_train=4, num_held_out=3, seconds=0.7)
    assert (len(train), len(held_out)) == (4, 3) and train.names == WORD_NAMES
    assert train.observation["wave"].shape == (4, 5600)
    assert not torch.equal(train.observation["wave"][:3], held_out.observation["wave"])


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"seconds must be >= 0\.65"):
        random_tones(1, seed=0, seconds=0.5)
    with pytest.raises(ValueError, match=r"count must be a whole number >= 1, got 0"):
        random_tones(0, seed=0)
