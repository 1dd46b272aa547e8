import math

import pytest
import torch

from worldjepa.tokenizers.spectrogram import FLOOR, SpectrogramTokenizer, mel_filters, mel_of

RATE, MELS, PATCH = 8000, 24, 4
HOP, COLUMN = 80, 320  # samples


def make(**options) -> SpectrogramTokenizer:
    return SpectrogramTokenizer(RATE, MELS, PATCH, **options)


def noise(batch: int = 3, samples: int = 2900, seed: int = 0) -> dict[str, torch.Tensor]:
    wave = 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))
    return {"wave": wave, "length": torch.tensor([samples, 1000, 321][:batch])}


def sine(frequency: float, samples: int = 2900) -> dict[str, torch.Tensor]:
    wave = 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(samples) / RATE)
    return {"wave": wave[None], "length": torch.tensor([samples])}


def test_the_mel_scale_is_htks():
    known = torch.tensor([0.0, 1000.0, 700.0, 4000.0])
    assert mel_of(known).tolist() == pytest.approx([0.0, 1000.0, 2595 * math.log10(2), 2146.06], abs=0.05)


def test_filters_have_their_centres_evenly_in_mel_and_sum_to_one_between_them():
    filters, hertz = mel_filters(RATE, 4096, 40), torch.arange(2049) * RATE / 4096
    centres = 2146.0645 / 41 * torch.arange(1, 41)
    assert filters.shape == (2049, 40) and filters.max() <= 1
    found = hertz[filters.argmax(0)]
    assert (mel_of(found) - centres).abs().max() < 3.2, "a bin of 1.95 Hz is up to 3.1 mel wide"
    between = (mel_of(hertz) >= centres[0]) & (mel_of(hertz) <= centres[-1])
    assert torch.allclose(filters.sum(1)[between], torch.ones(int(between.sum())), atol=1e-5)
    assert filters[0].sum() == 0, "a microphone's offset is no sound"


def test_bands_without_a_bin_are_refused_and_the_fft_gets_longer_for_them():
    with pytest.raises(ValueError, match=r"num_mels \(128\) bands are too narrow for 256 samples at 8000 Hz"):
        mel_filters(RATE, 256, 128)
    assert make().fft_size == 256 and SpectrogramTokenizer(RATE, 128).fft_size > 256


@pytest.mark.parametrize("frequency", [300.0, 1000.0, 2500.0])
def test_a_sine_is_loudest_in_the_band_of_its_frequency(frequency):
    values = make()(sine(frequency)).values[0].view(MELS // PATCH, -1, PATCH, PATCH)
    band = int(values.permute(0, 2, 1, 3).reshape(MELS, -1).mean(1).argmax())
    step = 2146.0645 / (MELS + 1)
    assert abs(float(mel_of(torch.tensor(frequency))) - step * (band + 1)) <= step / 2 + 1


def test_the_power_of_a_sine_is_that_of_its_window():
    peak = make()(sine(1000.0)).values.max()
    # The window's sum is 100, half of it goes to the positive frequency, and a band has the bins next to it too.
    assert math.log((0.5 * 0.5 * 100) ** 2) - 0.5 < peak < math.log(1.6 * (0.5 * 0.5 * 100) ** 2)


def test_coordinates_are_frequency_then_time_and_there_is_a_token_for_every_begun_column():
    tokens = make()(noise())
    columns = math.ceil(2900 / COLUMN)
    assert tokens.values.shape == (3, 6 * columns, 16) and tokens.coords.shape == (6 * columns, 2)
    assert tokens.coords[columns + 2].tolist() == [1.0, 2.0]
    assert tokens.valid.view(3, 6, columns).sum(-1).tolist() == [[columns] * 6, [4] * 6, [2] * 6]


def test_what_lies_after_a_recording_makes_no_difference():
    tokenizer, clean = make(), noise()
    dirty = {**clean, "wave": clean["wave"].clone()}
    for row, length in enumerate(clean["length"]):
        dirty["wave"][row, length:] = torch.nan
    a, b = tokenizer(clean), tokenizer(dirty)
    assert torch.equal(a.values, b.values) and torch.isfinite(a.values).all()
    longer = {"wave": torch.nn.functional.pad(clean["wave"][1:2], (0, 3000)), "length": clean["length"][1:2]}
    c = tokenizer(longer)
    assert torch.allclose(c.values[c.valid], a.values[1][a.valid[1]], atol=1e-5)


def test_a_moment_of_sound_is_heard_within_half_a_window_of_it_and_nowhere_else():
    tokenizer = make()
    click = {"wave": torch.zeros(1, 3200), "length": torch.tensor([3200])}
    click["wave"][0, 1000 + 120] = 1.0  # in the middle of column 3 (960 to 1279)
    values = tokenizer(click).values.view(6, 10, 16)
    heard = (values > math.log(FLOOR) + 0.1).any(-1).any(0)
    assert heard.tolist() == [column == 3 for column in range(10)]


def test_fit_brings_the_recordings_to_mean_zero_and_variance_one_without_their_padding():
    tokenizer = make()
    tokenizer.fit(noise())
    tokens = tokenizer(noise())
    kept = tokens.values[tokens.valid]
    assert abs(kept.mean()) < 1e-3 and abs(kept.std() - 1) < 1e-3
    again = make()
    again.load_state_dict(tokenizer.state_dict())
    assert torch.equal(again(noise()).values, tokens.values)


def test_refusals_say_what_was_expected():
    with pytest.raises(ValueError, match=r"multiple of patch \(5\), got 24"):
        SpectrogramTokenizer(RATE, 24, 5)
    with pytest.raises(ValueError, match="hop must be"):
        make(window=0.01, hop=0.02)
    good = noise()
    for wrong in ({"wave": good["wave"].double()}, {"wave": good["wave"][:, None]}, {"length": good["length"][:2]}):
        with pytest.raises(ValueError, match=r"float32 \(B,samples\)"):
            make()({**good, **wrong})
    with pytest.raises(ValueError, match="got 0 to 2900"):
        make()({**good, "length": torch.tensor([0, 5, 2900])})
    with pytest.raises(ValueError, match="expected observations wave and length, got wave"):
        make()({"wave": good["wave"]})
