from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate

from worldjepa.config import LoopSettings
from worldjepa.tokenizers.signals import EcgTokenizer, EegTokenizer

B, CHANNELS, WINDOWS, WINDOW = 2, 3, 5, 7
PLACES = [[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [0.0, -1.2, 0.0]]


def signal(name: str, channels: int = CHANNELS, samples: int = WINDOWS * WINDOW) -> dict[str, torch.Tensor]:
    return {name: torch.randn(B, channels, samples, generator=torch.Generator().manual_seed(0))}


def test_a_token_of_an_ecg_holds_one_window_of_all_leads():
    ecg = signal("ecg")
    tokens = EcgTokenizer(CHANNELS, WINDOW)(ecg)
    assert tokens.values.shape == (B, WINDOWS, CHANNELS * WINDOW) and tokens.valid.all() and not tokens.pinned.any()
    assert torch.equal(tokens.values[:, 3], ecg["ecg"][:, :, 3 * WINDOW : 4 * WINDOW].flatten(1))
    assert tokens.coords.tolist() == [[0], [1], [2], [3], [4]]


def test_a_token_of_an_eeg_holds_one_window_of_one_channel_and_knows_its_electrode():
    eeg = signal("eeg")
    tokens = EegTokenizer(PLACES, WINDOW, spacing=0.5)(eeg)
    assert tokens.values.shape == (B, CHANNELS * WINDOWS, WINDOW)
    for channel in range(CHANNELS):
        for window in range(WINDOWS):
            token = channel * WINDOWS + window
            part = eeg["eeg"][:, channel, window * WINDOW : (window + 1) * WINDOW]
            assert torch.equal(tokens.values[:, token], part)
            assert tokens.coords[token].tolist() == pytest.approx([2 * x for x in PLACES[channel]] + [window])


@pytest.mark.parametrize(
    "name, make", [("ecg", lambda: EcgTokenizer(CHANNELS, WINDOW)), ("eeg", lambda: EegTokenizer(PLACES, WINDOW))]
)
def test_a_token_depends_on_its_own_window_alone(name, make):
    changed = {name: signal(name)[name].clone()}
    changed[name][:, 1, 2 * WINDOW] += 1
    differs = (make()(signal(name)).values != make()(changed).values).any(-1).any(0)
    assert differs.nonzero()[:, 0].tolist() == [2 if name == "ecg" else WINDOWS + 2]


def test_leads_are_scaled_on_their_own_and_channels_of_an_eeg_together():
    x = signal("ecg")["ecg"] * torch.tensor([1.0, 10.0, 100.0])[:, None] + torch.tensor([5.0, 0.0, -5.0])[:, None]
    tokenizer = EcgTokenizer(CHANNELS, WINDOW)
    tokenizer.fit({"ecg": x})
    by_lead = tokenizer({"ecg": x}).values.unflatten(-1, (CHANNELS, WINDOW))
    std, mean = torch.std_mean(by_lead, (0, 1, 3))
    assert torch.allclose(mean, torch.zeros(3), atol=1e-5) and torch.allclose(std, torch.ones(3), atol=1e-5)
    tokenizer = EegTokenizer(PLACES, WINDOW)
    tokenizer.fit({"eeg": x})
    values = tokenizer({"eeg": x}).values
    assert values.mean().abs() < 1e-5 and values.std() == pytest.approx(1, abs=1e-5)
    by_channel = values.unflatten(1, (CHANNELS, WINDOWS)).std((0, 2, 3))
    assert by_channel[2] > 8 * by_channel[1] > 60 * by_channel[0]
    assert set(tokenizer.state_dict()) == {"mean", "std"}


def test_a_lead_that_was_off_stays_finite():
    tokenizer = EcgTokenizer(CHANNELS, WINDOW)
    off = {"ecg": signal("ecg")["ecg"] * torch.tensor([1.0, 0.0, 1.0])[:, None]}
    tokenizer.fit(off)
    assert tokenizer(off).values.isfinite().all()


def test_pinned_tokens_come_first_and_are_empty():
    for name, tokenizer in (("ecg", EcgTokenizer(3, 7, num_pinned=2)), ("eeg", EegTokenizer(PLACES, 7, num_pinned=2))):
        tokens = tokenizer(signal(name))
        assert tokens.pinned.tolist() == [True, True] + [False] * (tokens.values.shape[1] - 2)
        assert (tokens.values[:, :2] == 0).all() and (tokens.coords[:2] == -1).all()
        assert len(tokens.coords) == len(tokens.pinned)


def test_refusals_say_what_was_expected():
    ecg, eeg = EcgTokenizer(CHANNELS, WINDOW), EegTokenizer(PLACES, WINDOW)
    for name, tokenizer in (("ecg", ecg), ("eeg", eeg)):
        with pytest.raises(ValueError, match=rf"{name} must be float32 \(B, 3, samples\), got .* \(2, 4, 35\)"):
            tokenizer(signal(name, channels=4))
        with pytest.raises(ValueError, match=r"whole number of windows of 7 samples, got 36"):
            tokenizer(signal(name, samples=36))
        with pytest.raises(ValueError, match="whole number of windows"):
            tokenizer(signal(name, samples=0))
        with pytest.raises(ValueError, match="float64"):
            tokenizer({name: signal(name)[name].double()})
    with pytest.raises(ValueError, match=r"places must be \(channels, 3\).*got \(1, 2\)"):
        EegTokenizer([[0.0, 1.0]], WINDOW)
    with pytest.raises(ValueError, match="spacing above 0"):
        EegTokenizer(PLACES, WINDOW, spacing=0.0)
    with pytest.raises(ValueError, match="must be >= 1"):
        EcgTokenizer(3, 0)


def test_s_jepa_can_be_told_wrong_places_and_nothing_else_changes():
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base="1.3"):
        true, wrong = (compose("pretrain", ["model=s_jepa", *more]) for more in ([], ["data=dipoles_shuffled"]))
    eeg = signal("eeg", channels=19, samples=256)
    right, told = (instantiate(config.tokenizer)(eeg) for config in (true, wrong))
    assert torch.equal(right.values, told.values) and true.data.source == wrong.data.source
    assert {tuple(row) for row in right.coords.tolist()} == {tuple(row) for row in told.coords.tolist()}
    assert ((right.coords - told.coords)[:, :3].norm(dim=1) > 1.5).all()
    true, wrong = (torch.cdist(tokens.coords[::2, :3], tokens.coords[::2, :3]).flatten() for tokens in (right, told))
    apart = true > 0
    assert abs(torch.corrcoef(torch.stack([true[apart], wrong[apart]]))[0, 1]) < 0.1
