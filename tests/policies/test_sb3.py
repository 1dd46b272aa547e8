"""Stable-Baselines3's agents are kept without pickles, act the same afterwards, and see through our encoders."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

pytest.importorskip("stable_baselines3", reason="needs the extra sb3")

from policies.sb3 import AgentPolicy, LatentFeatures, Observing, load_agent_policy, train_agent
from worldjepa.checkpoint import CONFIG_FILE, MODEL_FILE, save_tensors
from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.predictors.residual_mlp import ResidualMlpPredictor
from worldjepa.rollout import Factory
from worldjepa.systems.world_model import build_world_model
from worldjepa.types import EnvSpec

ENV = Factory("gymnasium.make", {"id": "envs:worldjepa/TwoRoom-v0", "image_size": 32, "max_episode_steps": 20})
QUICK = {"n_steps": 32, "batch_size": 16, "n_epochs": 1}


@pytest.fixture(scope="module")
def world_model(tmp_path_factory):
    """An untrained run whose encoder an agent can look through."""
    folder = tmp_path_factory.mktemp("run")
    encoder = {"_target_": "worldjepa.encoders.convnet.ConvEncoder", "image_size": 32, "latent_dim": 8}
    encoder |= {"widths": [4, 8], "hidden": 16}
    predictor = {"_target_": "worldjepa.predictors.residual_mlp.ResidualMlpPredictor", "_partial_": True, "width": 16}
    spec = EnvSpec.from_env(ENV.build())
    torch.manual_seed(0)
    model = build_world_model(
        ConvEncoder(32, 8, widths=(4, 8), hidden=16),
        lambda **sizes: ResidualMlpPredictor(**sizes, width=16),
        spec,
        5,
    )
    save_tensors(folder / MODEL_FILE, model.state_dict(), {"spec": spec.to_dict()})
    words = {"encoder": encoder, "predictor": predictor, "env": {"frameskip": 5}}
    OmegaConf.save(OmegaConf.create(words), folder / CONFIG_FILE)
    return folder


def test_an_agent_is_kept_as_weights_and_words_alone(tmp_path):
    train_agent(ENV, tmp_path, algorithm="ppo", steps=64, progress=False, **QUICK)
    assert sorted(file.name for file in tmp_path.iterdir()) == [CONFIG_FILE, MODEL_FILE]
    policy = load_agent_policy([0], path=str(tmp_path))
    assert isinstance(policy, AgentPolicy) and policy.observes == ("state",)
    states = np.random.default_rng(0).uniform(0, 1, (3, 2))
    together = policy.act({"state": states})
    alone = np.concatenate([policy.act({"state": states[i : i + 1]}) for i in range(3)])
    assert together.shape == (3, 2) and together.dtype == np.float32 and np.abs(together).max() <= 1
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, policy.act({"state": states}))


def test_an_agent_learns_through_a_frozen_encoder(tmp_path, world_model):
    observes = ["pixels", "proprioception"]
    train_agent(
        ENV,
        tmp_path,
        algorithm="ppo",
        observes=observes,
        world_model=str(world_model),
        steps=64,
        progress=False,
        **QUICK,
    )
    policy = load_agent_policy([0], path=str(tmp_path))
    features = policy.agent.policy.features_extractor
    assert isinstance(features, LatentFeatures) and features.features_dim == 8 + 2
    from worldjepa.checkpoint import load_world_model

    kept = load_world_model(world_model)[0].encoder.state_dict()
    for name, tensor in features.encoder.state_dict().items():
        assert torch.equal(tensor, kept[name]), name
    env = ENV.build().unwrapped
    shown = env.reset(seed=0)[0]
    assert policy.act({name: value[None] for name, value in shown.items()}).shape == (1, 2)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="algorithm must be one of sac"):
        train_agent(ENV, tmp_path, algorithm="dqn", progress=False)
    with pytest.raises(ValueError, match="observations must be some of pixels"):
        Observing(ENV.build(), ["touch"])
    with pytest.raises(ValueError, match="expected a trained agent"):
        load_agent_policy([0], path=str(tmp_path / "none"))
