"""Behaviour cloning: the right targets, a frozen encoder that stays, a policy that does not depend on its batch."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from point_mass import PointMass, PointModel, make_store

from policies.goal_cloning import CloningPolicy, CloningSystem, GoalActor
from worldjepa.datasets.windows import Windows
from worldjepa.types import Segment

T, FRAMESKIP = 5, 5


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return Windows(make_store(tmp_path_factory.mktemp("store"), held_out=False), T, FRAMESKIP, ("proprioception",))


def trained(clips, steps=400):
    torch.manual_seed(0)
    system = CloningSystem(PointModel(), GoalActor(2, 1, 10, width=64, depth=1))
    optimizer = torch.optim.Adam(system.actor.parameters(), 3e-3)
    losses = []
    for step in range(steps):
        loss = system(clips.sample(64, 0, step), torch.Generator().manual_seed(step))["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return system, losses


def test_it_learns_to_go_where_the_goal_is(clips):
    """Compared with the same actor told a goal that is not the clip's own."""
    system, losses = trained(clips)
    assert losses[-1] < 0.7 * losses[0]
    policy, env = CloningPolicy(system.model, system.actor, ("proprioception",)), PointMass()
    start, goals = (
        np.array([50.0, 50.0, 0.0]),
        [np.array([50 + 12 * dx, 50 + 12 * dy, 0.0]) for dx, dy in ((1, 0), (0, -1))],
    )
    ends = []
    for goal in goals:
        observation, _ = env.reset(options={"state": start})
        policy.reset({"proprioception": goal[None, :2].astype(np.float32)}, [0])
        for _ in range(10):
            observation = env.step(policy.act({"proprioception": observation["proprioception"][None]})[0])[0]
        ends.append(env.get_state())
    own = [np.linalg.norm(end[:2] - goal[:2]) for end, goal in zip(ends, goals, strict=True)]
    other = [np.linalg.norm(end[:2] - goal[:2]) for end, goal in zip(ends, goals[::-1], strict=True)]
    assert max(own) < 10 < min(other)


def test_the_target_is_the_block_after_the_frame_that_is_seen():
    """An actor that always says "1" has the mean distance to block 1 as its loss, and to no other."""

    class Ones(GoalActor):
        def forward(self, before, now, goal):
            return torch.ones(len(now), 10, requires_grad=True)

    model = PointModel()
    action = torch.arange(2 * 3 * 10.0).reshape(2, 3, 10) / 100
    segment = Segment({"proprioception": torch.zeros(2, 4, 2)}, action, torch.zeros(2, 4, 1))
    loss = CloningSystem(model, Ones(2, 1, 10))(segment)["imitation"]
    torch.testing.assert_close(loss.detach(), (1 - model.normalize_action(action[:, 1])).abs().mean())


def test_clips_without_a_goal_after_the_action_are_refused():
    segment = Segment({"proprioception": torch.zeros(2, 2, 2)}, torch.zeros(2, 1, 10), torch.zeros(2, 2, 1))
    with pytest.raises(ValueError, match="at least 3 frames"):
        CloningSystem(PointModel(), GoalActor(2, 1, 10))(segment)


def test_a_policy_does_not_depend_on_its_batch():
    policy = CloningPolicy(PointModel(), GoalActor(2, 1, 10, width=16), ("proprioception",))
    places = np.random.default_rng(0).uniform(20, 80, (4, 2)).astype(np.float32)

    def acted(rows):
        policy.reset({"proprioception": places[rows]}, range(len(rows)))
        return np.stack([policy.act({"proprioception": places[rows] + step}) for step in range(7)])

    together = acted([0, 1, 2, 3])
    assert together.shape == (7, 4, 2) and np.abs(together).max() <= 1
    for i in range(4):
        np.testing.assert_allclose(acted([i])[:, 0], together[:, i], atol=1e-6)


def test_a_folder_without_a_policy_is_refused(tmp_path):
    from policies.goal_cloning import load_cloning_policy

    with pytest.raises(ValueError, match="expected a trained policy"):
        load_cloning_policy([0], path=str(tmp_path))
    OmegaConf.save(OmegaConf.create({"world_model": str(tmp_path / "none")}), tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="expected a run"):
        load_cloning_policy([0], path=str(tmp_path))
