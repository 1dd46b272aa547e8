import numpy as np
import pytest
import torch
from test_training import FRAMESKIP, InterruptAt, build, dot_store, settings

import worldjepa.training as training
from worldjepa.checkpoint import STATE_FILE, load_tensors
from worldjepa.config import RefinementSettings
from worldjepa.datasets.store import EpisodeStore, is_held_out
from worldjepa.datasets.windows import Windows
from worldjepa.refinement import encode_episodes, refine
from worldjepa.training import Interrupted, launch, learning_rate_factor, read_metrics, train


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return dot_store(tmp_path_factory.mktemp("dots") / "store")


def no_evaluation(model):
    return {}


def rollout_error(model, store):
    """Held-out open-loop error over that of copying the first frame."""
    clips = Windows(store, 4, FRAMESKIP, ("pixels",), "held_out").sample(64, 0, 0)
    model.eval()
    with torch.no_grad():
        latent = model.encode(clips.observation)
        action = model.normalize_action(clips.action)
        imagined = model.rollout(latent[:, :1], action[:, :0], action[:, None])[:, 0]
    return float((imagined - latent[:, 1:]).square().mean() / (latent[:, :1] - latent[:, 1:]).square().mean())


def test_the_predictor_gets_better_and_the_encoder_stays(store, tmp_path):
    system, windows = build(store)
    train(system, windows, settings(steps=100, batch_size=32, learning_rate=5e-3), tmp_path)
    before = {name: tensor.clone() for name, tensor in system.model.encoder.state_dict().items()}
    joint = rollout_error(system.model, store)
    seen = []

    def evaluate(model):
        seen.append(rollout_error(model, store))
        return {}

    refinement = RefinementSettings(steps=300, batch_size=128, learning_rate=5e-3)
    refine(system, windows, settings(), refinement, tmp_path, evaluate)
    assert all(torch.equal(before[name], tensor) for name, tensor in system.model.encoder.state_dict().items())
    assert rollout_error(system.model, store) < 0.8 * joint
    assert seen == [rollout_error(system.model, store)], "the whole model is judged, with what the predictor became"
    assert [path.name for path in (tmp_path / "refinement").iterdir() if path.is_dir()] == [], "latents are removed"
    assert "latents_per_s" in read_metrics(tmp_path / "refinement")[-2]


def test_stored_latents_are_those_of_the_training_episodes(store, tmp_path):
    system, windows = build(store)
    system.model.eval()
    latents = encode_episodes(system.model, windows, tmp_path, bf16=False)
    kept = [i for i, group in enumerate(store.groups) if not is_held_out(group)]
    assert latents.groups == [store.groups[i] for i in kept] and len(kept) < store.num_episodes
    pixels = torch.tensor(store.episode(kept[2]).arrays["pixels"][:])[None].permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        expected = system.model.encode({"pixels": pixels})[0].numpy()
    found = latents.episode(2).arrays
    np.testing.assert_allclose(found["latent"], expected, atol=1e-5)
    np.testing.assert_array_equal(found["action"], store.episode(kept[2]).arrays["action"])


def test_an_interrupted_refinement_ends_bit_for_bit_like_an_uninterrupted_one(store, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    (whole / "refinement/removed/shards").mkdir(parents=True)  # what a kill at the very end may leave
    refinement = RefinementSettings(steps=12, batch_size=8)

    def fresh():
        system, windows = build(store)
        return system, windows, settings(), refinement

    refine(*fresh(), whole, no_evaluation)
    monkeypatch.setattr(training, "learning_rate_factor", InterruptAt(7))
    with pytest.raises(Interrupted, match="repeat the command"):
        refine(*fresh(), broken, no_evaluation)
    monkeypatch.setattr(training, "learning_rate_factor", learning_rate_factor)
    refine(*fresh(), broken, no_evaluation)
    states = [load_tensors(folder / "refinement" / STATE_FILE)[0] for folder in (whole, broken)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def refine_in_ranks(folder: str) -> None:
    from pathlib import Path

    system, windows = build(EpisodeStore.open(f"{folder}/store"))
    refinement = RefinementSettings(steps=6, batch_size=8)
    train(system, windows, settings(steps=3), Path(folder))
    refine(system, windows, settings(steps=3), refinement, Path(folder), no_evaluation)


def test_two_processes_refine_what_one_does(tmp_path):
    """No BatchNorm is left in this phase, so the same batch in two halves is the same step."""
    system, windows = build(dot_store(tmp_path / "store"))
    launch(refine_in_ranks, (str(tmp_path),), 2)
    both = load_tensors(tmp_path / "refinement" / STATE_FILE)[0]
    tensors = load_tensors(tmp_path / STATE_FILE)[0]
    joint = {name.removeprefix("system."): tensors[name] for name in tensors if name.startswith("system.")}
    system.load_state_dict(joint)
    alone = tmp_path / "alone"
    refine(system, windows, settings(steps=3), RefinementSettings(steps=6, batch_size=8), alone, no_evaluation)
    one = load_tensors(alone / "refinement" / STATE_FILE)[0]
    predictor = [name for name in one if name.startswith("system.model.predictor")]
    assert predictor
    for name in predictor:
        torch.testing.assert_close(one[name], both[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="refinement needs steps >= 0"):
        RefinementSettings(**wrong)
