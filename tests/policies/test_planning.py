import numpy as np
import pytest
import torch
from point_mass import STEP, UNIT, PointModel

from policies.planning import PlanningPolicy
from worldjepa.costs import GoalDistance
from worldjepa.planners import CEM, ICEM, Gradient
from worldjepa.types import Plan


class Recorder:
    """Plans nothing: block h of environment i is the number 10 * plans_so_far + h, and remembers what it was given."""

    environments_per_chunk = None

    def __init__(self, elites: int = 0):
        self.calls, self.elites = [], elites

    def chunks(self, num_environments, device):
        return [slice(i, i + 1) for i in range(num_environments)]

    def plan(self, evaluate, **settings):
        self.calls.append(settings)
        b, horizon = len(settings["generators"]), settings["horizon"]
        blocks = 10.0 * len(self.calls) + torch.arange(horizon)
        action = blocks[None, :, None].repeat(b, 1, 10) / 100
        info = {"elites": -action[:, None].repeat(1, self.elites, 1, 1)} if self.elites else {}
        evaluate(action[:, None], slice(0, b))
        return Plan(action, torch.zeros(b), info)


def observation(*positions):
    return {"proprioception": np.array(positions, np.float32)}


def make_policy(planner=None, model=None, **settings):
    model = model or PointModel()
    settings = {"observes": ("proprioception",), "bf16": False} | settings
    return PlanningPolicy(model.eval(), planner or Recorder(), GoalDistance(), **settings)


def play(policy, num_blocks, num_envs=2):
    """Raw actions (steps,B,2) while the observation stays the same."""
    policy.reset(observation(*[(50, 50)] * num_envs), range(num_envs))
    return np.stack([policy.act(observation(*[(10, 20)] * num_envs)) for _ in range(5 * num_blocks)])


@pytest.mark.parametrize(
    "settings, horizons",
    [
        ({"horizon": 3}, [3, 2, 1, 3, 2, 1, 3]),
        ({"horizon": 3, "shrink_horizon": False}, [3, 3, 3, 3, 3, 3, 3]),
        ({"horizon": 5, "replan_every": 10}, [5, 3, 1, 5]),
        ({"horizon": 4, "replan_every": 20}, [4, 4]),
        ({"horizon": 3, "replan_every": 10, "shrink_horizon": False}, [3, 3, 3, 3]),
        ({"horizon": 2, "replan_every": 2}, [2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2]),
    ],
)
def test_horizons_over_seven_blocks(settings, horizons):
    planner = Recorder()
    policy = make_policy(planner, **settings)
    play(policy, 7)
    assert [call["horizon"] for call in planner.calls] == horizons
    assert policy.num_plans == 2 * len(horizons) and policy.plan_seconds > 0


def test_blocks_become_raw_actions_in_order_of_time():
    model = PointModel()

    class Ramp(Recorder):
        def plan(self, evaluate, **settings):
            plan = super().plan(evaluate, **settings)
            return Plan(torch.linspace(-1, 1, 10).expand(2, 5, 10), plan.cost)

    actions = play(make_policy(Ramp(), model), 1)
    expected = (torch.linspace(-1, 1, 10) * model.scale).reshape(5, 2).numpy()
    assert actions.shape == (5, 2, 2) and actions.dtype == np.float32
    np.testing.assert_allclose(actions[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(actions[:, 1], expected, rtol=1e-6)


def test_plan_is_done_block_by_block_between_looks():
    actions = play(make_policy(replan_every=10, horizon=4), 4, num_envs=1)[:, 0, 1]
    np.testing.assert_allclose(actions[::5] / 0.5, [0.10, 0.11, 0.20, 0.21], rtol=1e-6)


def test_warm_start_is_the_last_plan_shifted():
    planner = Recorder(elites=2)
    play(make_policy(planner, horizon=3), 5, num_envs=1)
    warm = [call["warm_start"] for call in planner.calls]
    assert warm[0] is None and warm[3] is None  # nothing is left of a plan that was done to its end
    torch.testing.assert_close(warm[1][0, :, :, 0], torch.tensor([[11.0, 12], [-11, -12], [-11, -12]]) / 100)
    torch.testing.assert_close(warm[2][0, :, :, 0], torch.tensor([[21.0], [-21], [-21]]) / 100)
    torch.testing.assert_close(warm[4][0, :, :, 0], torch.tensor([[41.0, 42], [-41, -42], [-41, -42]]) / 100)


def test_fixed_horizon_fills_up_with_average_actions():
    planner = Recorder()
    play(make_policy(planner, horizon=3, shrink_horizon=False), 2, num_envs=1)
    torch.testing.assert_close(planner.calls[1]["warm_start"][0, 0, :, 0], torch.tensor([11.0, 12, 0]) / 100)


def test_history_holds_what_was_seen_and_done():
    """The model gets at most num_history looks, one per block, and the normalised blocks between them."""
    seen = []

    class Watched(PointModel):
        def rollout(self, latent, past_action, action):
            seen.append((latent[0, :, 0, 0].tolist(), past_action[0, :, 0].tolist()))
            return super().rollout(latent, past_action, action)

    policy = make_policy(model=Watched(num_history=3), horizon=5)
    policy.reset(observation((50, 50)), [0])
    for step in range(20):
        policy.act(observation((step, 0)))
    at = [step / UNIT for step in (0, 5, 10, 15)]
    for (looks, blocks), (want_looks, want_blocks) in zip(
        seen, [(at[:1], []), (at[:2], [0.1]), (at[:3], [0.1, 0.2]), (at[1:], [0.2, 0.3])], strict=True
    ):
        assert looks == pytest.approx(want_looks) and blocks == pytest.approx(want_blocks)


def test_looking_again_within_a_block_keeps_the_history_s_spacing():
    """Every two raw steps a plan; what the model is shown lies one model step (five raw steps) apart all the same."""
    seen = []

    class Watched(PointModel):
        def rollout(self, latent, past_action, action):
            seen.append((latent[0, :, 0, 0].tolist(), past_action[0].tolist()))
            return super().rollout(latent, past_action, action)

    model = Watched(num_history=2)
    policy = make_policy(model=model, horizon=5, replan_every=2)
    policy.reset(observation((50, 50)), [0])
    done = [policy.act(observation((step, 0)))[0] for step in range(13)]
    for plan, (looks, blocks) in enumerate(seen):
        now = 2 * plan
        before = [now - 5] if now >= 5 else []
        assert looks == pytest.approx([step / UNIT for step in [*before, now]])
        if before:
            raw = torch.from_numpy(np.concatenate(done[now - 5 : now]))
            assert blocks[0] == pytest.approx((raw / model.scale).tolist(), rel=1e-5)


def test_reset_forgets():
    policy = make_policy(CEM(num_samples=20, num_elites=4, num_iterations=2))
    first = play(policy, 3)
    assert np.array_equal(first, play(policy, 3))


def walk(policy, start, goal, num_blocks):
    position = np.array(start, np.float32)
    policy.reset(observation(*goal), range(len(position)))
    for _ in range(5 * num_blocks):
        position = position + STEP * policy.act(observation(*position))
    return position


@pytest.mark.parametrize("planner", [CEM(num_samples=60, num_elites=8), ICEM(num_samples=60, num_elites=8), Gradient()])
def test_a_true_model_arrives_and_a_wrong_one_does_not(planner):
    start, goal = [(10, 10), (80, 40)], [(40, 25), (60, 70)]
    arrived = walk(make_policy(planner), start, goal, 5)
    assert np.linalg.norm(arrived - goal, axis=1).max() < 2
    lost = walk(make_policy(planner, PointModel(gain=-1.0)), start, goal, 5)
    assert (np.linalg.norm(lost - goal, axis=1) > np.linalg.norm(np.subtract(start, goal), axis=1)).all()


def test_same_actions_alone_or_among_others():
    policy = make_policy(CEM(num_samples=30, num_elites=5, num_iterations=3))
    starts, goals = np.array([(10, 10), (80, 40), (30, 60)]), np.array([(40, 25), (60, 70), (0, 0)])

    def actions(rows):
        policy.reset(observation(*goals[rows]), [100 + row for row in rows])
        return np.stack([policy.act(observation(*starts[rows])) for _ in range(10)], 1)

    together = actions([0, 1, 2])
    for row in range(3):
        assert np.array_equal(together[row], actions([row])[0])


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"replan_every must be between 1 and the horizon's 10 raw steps, got 11"):
        make_policy(horizon=2, replan_every=11)
    with pytest.raises(ValueError, match="training mode"):
        PlanningPolicy(PointModel().train(), Recorder(), GoalDistance())


def test_pictures_become_channels_first():
    class Looker(PointModel):
        def encode(self, obs):
            assert obs["pixels"].shape == (1, 1, 3, 6, 7) and obs["pixels"].dtype == torch.uint8
            return obs["pixels"][:, :, :2, 4, 5].float()[:, :, None]

    policy = make_policy(model=Looker(), observes=("pixels",))
    picture = np.random.default_rng(0).integers(0, 255, (2, 6, 7, 3), np.uint8)
    policy.reset({"pixels": picture}, [0, 1])
    np.testing.assert_array_equal(policy._goal[:, 0].numpy(), picture[:, 4, 5, :2])
