import numpy as np
import pytest
import torch
from torch import nn

from worldjepa.evaluation import figures, representation
from worldjepa.types import Segment

T, P, D, A = 6, 7, 3, 4


class SumWorld(nn.Module):
    """A world whose latent is the state, moved by each action; the model may see actions at a wrong ``gain``."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.shift = torch.linspace(0, 1, P)[:, None]

    def encode(self, obs):
        assert not self.training
        return obs["place"][:, :, None, :] + self.shift

    def normalize_action(self, action):
        return action / 10

    def rollout(self, latent, past_action, action):
        batch, width = action.shape[0], action.shape[-1]
        assert latent.shape == (batch, 1, P, D) and past_action.shape == (batch, 0, width)
        moved = self.gain * 10 * action[..., :D].cumsum(dim=2)
        return latent[:, None, -1:] + moved[:, :, :, None, :]


def clips(num_clips: int, seed: int, height: int = 8) -> Segment:
    generator = torch.Generator().manual_seed(seed)
    action = torch.randn(num_clips, T - 1, A, generator=generator)
    start = torch.randn(num_clips, 1, D, generator=generator)
    place = torch.cat([start, start + action[..., :D].cumsum(dim=1)], dim=1)
    # the picture names its frame: clip number in one channel, step in the next
    pixels = torch.zeros(num_clips, T, 3, height, height + 2, dtype=torch.uint8)
    pixels[:, :, 0] = torch.arange(num_clips).reshape(-1, 1, 1, 1) % 256
    pixels[:, :, 1] = torch.arange(T).reshape(1, -1, 1, 1)
    return Segment({"place": place, "pixels": pixels}, action, place.clone())


def targets(state: np.ndarray) -> dict[str, np.ndarray]:
    return {"spot": state[..., :2] * 10, "turn_angle": np.stack([np.cos(state[..., 2]), np.sin(state[..., 2])], -1)}


def test_a_perfect_model_and_one_that_ignores_actions():
    train, held_out = clips(90, 1), clips(50, 2)
    perfect = representation.measure_representation(SumWorld(1.0), train, held_out, targets, batch_size=16)
    deaf = representation.measure_representation(SumWorld(0.0), train, held_out, targets)
    for h in range(1, T):
        assert perfect[f"rollout_over_copy/{h}"] < 1e-9
        assert deaf[f"rollout_over_copy/{h}"] == pytest.approx(1.0)
    assert f"rollout_over_copy/{T}" not in perfect
    assert perfect["action_sensitivity"] > 1e4
    assert deaf["action_sensitivity"] == pytest.approx(1.0)
    assert perfect["linear/spot/r2"] == pytest.approx(1.0, abs=1e-5)
    assert perfect["imagined/spot/rms"] == pytest.approx(perfect["linear/spot/rms"], abs=0.2)
    # the deaf model still stands at the start: off by 5 steps of a walk in two directions, 10 units each
    assert deaf["imagined/spot/rms"] == pytest.approx(10 * np.sqrt(2 * (T - 1)), rel=0.3)
    assert perfect["linear/turn_angle/median_degrees"] >= 0
    assert 1 <= perfect["rankme"] <= P * D
    assert all(type(value) is float for value in perfect.values())


def test_rollout_error_formula_and_batches_do_not_matter():
    train, held_out = clips(30, 3), clips(31, 4)
    whole = representation.measure_representation(SumWorld(0.5), train, held_out, targets)
    small = representation.measure_representation(SumWorld(0.5), train, held_out, targets, batch_size=7)
    assert whole["rollout_over_copy/3"] == pytest.approx(0.25, rel=1e-4)  # half of each move is missed
    for name, value in whole.items():
        assert small[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name


def test_the_model_keeps_its_mode_and_wrong_actions_are_all_wrong():
    model = SumWorld(1.0).train()
    representation.imagine(model, clips(5, 5))
    assert model.training
    for count in (2, 3, 11):
        permutation = representation._derangement(count, seed=0)
        assert sorted(permutation.tolist()) == list(range(count))
        assert (permutation != torch.arange(count)).all()


def test_too_few_clips_are_refused():
    with pytest.raises(ValueError, match="at least 2 held-out clips"):
        representation.measure_representation(SumWorld(1.0), clips(5, 6), clips(1, 7), targets)


def test_figures_hold_what_they_say(tmp_path):
    train, held_out = clips(60, 8), clips(20, 9)
    path = figures.collect_figures(
        SumWorld(1.0), train, held_out, targets, tmp_path / "figures.npz", num_rollouts=4, max_points=50
    )
    assert [p.name for p in tmp_path.iterdir()] == ["figures.npz"]
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    assert arrays["latent"].shape == (50, P * D)
    assert arrays["state"].shape == (50, 3)
    np.testing.assert_allclose(arrays["target/spot"], arrays["state"][:, :2] * 10, rtol=1e-5)
    np.testing.assert_allclose(arrays["probe/spot"], arrays["target/spot"], atol=0.1)
    real, retrieved = arrays["rollout_real"], arrays["rollout_retrieved"]
    assert real.shape == retrieved.shape == (4, T, 8, 10, 3)
    np.testing.assert_array_equal(real[:, :, 0, 0, 1], np.broadcast_to(np.arange(T), (4, T)))
    # a perfect model's imagined latent is the true one, so its nearest stored frame can be found from the states
    pool = train.state.flatten(0, 1)
    for clip in range(4):
        number = real[clip, 0, 0, 0, 0]
        for step in range(T):
            best = torch.cdist(held_out.state[number, step][None], pool).argmin()
            assert tuple(retrieved[clip, step, 0, 0, :2]) == (best // T, best % T)
            found = arrays["rollout_retrieved_target/spot"][clip, step]
            np.testing.assert_allclose(found, pool[best, :2] * 10, rtol=1e-5)


def test_a_model_without_pictures_has_no_rollouts_to_show(tmp_path):
    train, held_out = clips(30, 8), clips(10, 9)
    for segment in (train, held_out):
        del segment.observation["pixels"]
    path = figures.collect_figures(SumWorld(1.0), train, held_out, targets, tmp_path / "figures.npz")
    with np.load(path, allow_pickle=False) as stored:
        assert not [name for name in stored.files if name.startswith("rollout")]
    with pytest.raises(ValueError, match=r"figures\.npz"):
        figures.collect_figures(SumWorld(1.0), train, held_out, targets, tmp_path / "figures.pkl")
