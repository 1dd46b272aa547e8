"""The plugin's policies without LeRobot's commands: saved and loaded alike, honest refusals, a run taken as it is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("lerobot_policy_worldjepa", reason="needs the extra lerobot")

from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config
from lerobot_policy_worldjepa.encoders import KNOWN
from omegaconf import OmegaConf

B, SIZE = 2, 64
INPUTS = {
    "observation.image": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
    "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
}
OUTPUTS = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
STATS = {
    "observation.image": {"mean": torch.full((3, 1, 1), 0.5)},
    "action": {"mean": torch.zeros(2), "std": torch.ones(2), "min": -torch.ones(2), "max": torch.ones(2)},
}
SMALL = {
    "worldjepa_act": {"image_size": 32, "width": 16, "depth": 1, "heads": 2},
    "worldjepa_encoder": {"image_size": 32, "width": 16},
    "worldjepa_mpc": {"num_samples": 16, "num_iterations": 2, "num_elites": 4},
}


@pytest.fixture
def goal(tmp_path):
    import imageio.v3 as imageio

    imageio.imwrite(tmp_path / "goal.png", np.full((96, 96, 3), 30, np.uint8))
    return str(tmp_path / "goal.png")


def make(kind, goal, **settings):
    extra = {"goal": goal} if kind == "worldjepa_mpc" else {}
    values = {"input_features": INPUTS, "output_features": OUTPUTS, "device": "cpu", **SMALL[kind], **extra}
    config = make_policy_config(kind, **{**values, **settings})
    torch.manual_seed(0)
    return get_policy_class(kind)(config, dataset_stats=STATS).eval()


def seen(seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "observation.image": torch.rand(B, 3, SIZE, SIZE, generator=g),
        "observation.state": torch.randn(B, 2, generator=g),
    }


@pytest.mark.parametrize("kind", SMALL)
def test_a_saved_policy_acts_as_before(kind, goal, tmp_path):
    policy = make(kind, goal)
    policy.save_pretrained(tmp_path / "saved")
    if kind == "worldjepa_mpc":
        (tmp_path / "goal.png").unlink()  # the goal goes along
    again = type(policy).from_pretrained(tmp_path / "saved")
    for each in (policy, again):
        each.reset()
    for step in range(3):
        torch.testing.assert_close(again.select_action(seen(step)), policy.select_action(seen(step)))


def test_act_looks_once_per_chunk(goal):
    policy = make("worldjepa_act", goal, chunk_size=4, n_action_steps=3, prediction_every=2)
    chunk = policy.predict_action_chunk(seen())
    assert chunk.shape == (B, 4, 2)
    policy.reset()
    taken = [policy.select_action(seen(step)) for step in range(4)]
    for step in range(3):
        torch.testing.assert_close(taken[step], chunk[:, step])
    torch.testing.assert_close(taken[3], policy.predict_action_chunk(seen(3))[:, 0])


def test_the_loss_takes_what_lerobot_loads(goal):
    policy = make("worldjepa_act", goal, chunk_size=4, n_action_steps=2, prediction_every=2).train()
    assert policy.config.observation_delta_indices == [0, 2, 4] and policy.config.action_delta_indices == [0, 1, 2, 3]
    batch = {
        "observation.image": torch.rand(B, 3, 3, SIZE, SIZE),
        "observation.state": torch.randn(B, 3, 2),
        "action": torch.randn(B, 4, 2),
        "action_is_pad": torch.tensor([[False] * 4, [False, True, True, True]]),
        "observation.state_is_pad": torch.tensor([[False] * 3, [False, True, True]]),
    }
    loss, terms = policy(batch)
    assert set(terms) == {"imitation", "prediction"} and loss.requires_grad
    policy.eval()
    before = policy(batch)[1]
    batch["action"][1, 1:] = 99.0  # what LeRobot repeats past the end of an episode
    batch["observation.state"][1, 1:] = 99.0
    assert policy(batch)[1] == before


def test_each_of_several_tasks_has_its_token(goal, tmp_path):
    policy = make("worldjepa_act", goal, tasks=["push", "pull"])
    chunks = {task: policy.predict_action_chunk({**seen(), "task": [task] * B}) for task in ("push", "pull")}
    assert not torch.allclose(chunks["push"], chunks["pull"])
    policy.save_pretrained(tmp_path)
    again = type(policy).from_pretrained(tmp_path)
    torch.testing.assert_close(again.predict_action_chunk({**seen(), "task": ["pull"] * B}), chunks["pull"])
    with pytest.raises(ValueError, match="a task among 'push', 'pull', got 'lift'"):
        policy.predict_action_chunk({**seen(), "task": ["push"] * (B - 1) + ["lift"]})


def test_tasks_are_taken_from_the_dataset_where_there_are_several():
    import pandas

    for words, taken in ((["push"], []), (["push", "pull"], ["push", "pull"])):
        config = make_policy_config("worldjepa_act", input_features=INPUTS, output_features=OUTPUTS, device="cpu")
        tasks = pandas.DataFrame({"task_index": range(len(words))}, index=words)
        policy = get_policy_class("worldjepa_act")(config, dataset_meta=SimpleNamespace(tasks=tasks))
        assert policy.config.tasks == taken


def test_without_a_latent_loss_one_picture_is_loaded(goal):
    policy = make("worldjepa_act", goal, prediction_weight=0.0)
    assert policy.config.observation_delta_indices is None and policy.system.target is None


def test_a_frozen_encoder_is_not_trained(goal):
    for kind in ("worldjepa_act", "worldjepa_encoder"):
        policy = make(kind, goal, freeze_encoder=True).train()
        encoder = policy.system.model.encoder if kind == "worldjepa_act" else policy.policy.model.backbone.encoder
        assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


def test_the_planner_gives_actions_in_bounds_and_relative_ones_from_where_it_is(goal):
    policy = make("worldjepa_mpc", goal)
    assert float(policy.select_action(seen()).abs().max()) <= 1
    policy.config.relative_actions = 100.0
    policy.reset()
    action, state = policy.select_action(seen()), seen()["observation.state"]
    assert float((action - state).abs().max()) <= 100 and not torch.allclose(action, state)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("worldjepa_act", {"encoder": "resnet"}, "encoder must be one of conv_tokens"),
        ("worldjepa_act", {"n_action_steps": 99}, "between 1 and chunk_size"),
        ("worldjepa_act", {"prediction_every": 99}, "between 1 and chunk_size"),
        ("worldjepa_encoder", {"head": "vqbet"}, "head must be one of act, diffusion"),
        ("worldjepa_mpc", {"clip_steps": 1}, "clip_steps must be >= 2"),
        ("worldjepa_mpc", {"relative_actions": 100.0}, "belongs to a trained run"),
        ("worldjepa_mpc", {"run": "nowhere"}, "expected a run"),
        ("worldjepa_mpc", {"frameskip": 1, "replan_every": 6}, "at most the horizon's 5 steps"),
        ("worldjepa_mpc", {"num_elites": 17}, "at most num_samples"),
    ],
)
def test_bad_settings_are_refused(kind, settings, message, goal):
    with pytest.raises(ValueError, match=message):
        make(kind, goal, **settings)


def test_a_dataset_without_pictures_is_refused_by_name(goal):
    config = make_policy_config(
        "worldjepa_act",
        input_features={"observation.state": INPUTS["observation.state"]},
        output_features=OUTPUTS,
        device="cpu",
    )
    with pytest.raises(ValueError, match=r"at least one picture.*got \['observation.state'\]"):
        get_policy_class("worldjepa_act")(config)


def test_a_goal_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="goal must be a picture file"):
        make("worldjepa_mpc", str(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        make("worldjepa_mpc", str(tmp_path / "text.png"))
    with pytest.raises(ValueError, match="needs a dataset"):
        make("worldjepa_mpc", "episode:3")


def test_the_glimpse_encoder_is_the_one_that_our_own_policies_have():
    ours = OmegaConf.to_container(OmegaConf.load("configs/encoder/glimpse_tokens.yaml"))
    assert {**KNOWN["glimpse"], "image_size": ours["image_size"]} == ours
