import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from point_mass import PointMass, PointModel, Seeker, make_store

from policies.baselines import baselines
from policies.planning import PlanningPolicy
from worldjepa.costs import GoalDistance
from worldjepa.datasets.store import is_held_out
from worldjepa.evaluation.pairs import Pairs, sample_pairs
from worldjepa.evaluation.protocol import evaluate, judge, pair_seed
from worldjepa.planners import CEM
from worldjepa.types import EnvSpec


def make_planning(pairs, gain=1.0):
    planner = CEM(num_samples=40, num_elites=6, num_iterations=4)
    model = PointModel(gain).eval()
    return PlanningPolicy(model, planner, GoalDistance(), observes=("proprioception",), bf16=False)


def make_baselines():
    return baselines(EnvSpec.from_env(PointMass()), (0.0, 0.0), (0.25, 0.25), 5, Seeker)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store")
    make_store(path, policy="scripted", held_out=False)
    make_store(path, policy="human", num_episodes=4)
    return make_store(path, policy="scripted")


@pytest.fixture(scope="module")
def pairs(store):
    return sample_pairs(store, PointMass(), policy="scripted", num_pairs=31, seed=5)


def test_pairs_are_held_out_unsolved_and_recorded(store, pairs):
    env = PointMass()
    episodes = {store.groups[i]: store.episode(i).arrays for i in range(store.num_episodes)}
    assert len(pairs) == pairs.num_requested == 31
    for i, group in enumerate(pairs.group):
        start = pairs.start_step[i]
        arrays = episodes[group]
        assert is_held_out(group) and group.startswith("scripted/")
        np.testing.assert_array_equal(pairs.start_state[i], arrays["state"][start])
        np.testing.assert_array_equal(pairs.goal_state[i], arrays["state"][start + 25])
        np.testing.assert_array_equal(pairs.action[i], arrays["action"][start : start + 25])
    assert not env.reached(pairs.start_state, pairs.goal_state).any()
    np.testing.assert_array_equal(pairs.moved, env.moved(pairs.start_state, pairs.goal_state))
    assert 0 < pairs.moved.sum() < 31


def test_every_pair_that_exists_is_drawn_or_counted(store):
    env = PointMass()
    held_out = [
        i for i in range(store.num_episodes) if store.policies[i] == "scripted" and is_held_out(store.groups[i])
    ]
    states = [store.episode(i).arrays["state"].astype(np.float64) for i in held_out]
    solved = sum(int(env.reached(s[:-25], s[25:]).sum()) for s in states)
    pairs = sample_pairs(store, env, policy="scripted", num_pairs=1000)
    assert solved > 0 and pairs.excluded_solved == solved
    assert len(pairs) == 12 * 16 - solved and pairs.num_requested == 1000
    assert len(set(zip(pairs.group, pairs.start_step.tolist(), strict=True))) == len(pairs)


def test_draws_are_even_over_episodes_and_far_apart(store):
    pairs = sample_pairs(store, PointMass(), policy="human", num_pairs=11, seed=1)
    counts = [pairs.group.count(group) for group in set(pairs.group)]
    # Turns whose draw was already solved are lost, the rest is even.
    assert len(counts) == 4 and min(counts) >= 2 and max(counts) <= 4
    for group in set(pairs.group):
        starts = [t for g, t in zip(pairs.group, pairs.start_step.tolist(), strict=True) if g == group]
        # 16 starts exist; the second is the farthest end from the first.
        assert len(starts) < 2 or abs(starts[0] - starts[1]) >= 8


def test_seed_decides_the_draw(store, pairs):
    again = sample_pairs(store, PointMass(), policy="scripted", num_pairs=31, seed=5)
    other = sample_pairs(store, PointMass(), policy="scripted", num_pairs=31, seed=6)
    assert again.hash == pairs.hash != other.hash


def test_manifest_round_trip(pairs, tmp_path):
    file = tmp_path / "deep" / "scripted.json"
    pairs.save(file)
    again = Pairs.load(file)
    assert again.hash == pairs.hash and again.to_dict() == pairs.to_dict()
    for name in ("start_state", "goal_state", "action", "moved", "index", "start_step"):
        a, b = getattr(pairs, name), getattr(again, name)
        assert a.dtype == b.dtype and np.array_equal(a, b)
    again.save(file)  # the same pairs may be frozen again


def test_hash_sees_one_changed_number(pairs):
    state = pairs.start_state.copy()
    state[7, 1] += 1e-12
    assert replace(pairs, start_state=state).hash != pairs.hash
    assert pairs.select(range(30)).hash != pairs.hash


def test_frozen_manifests_are_protected(pairs, tmp_path):
    file = tmp_path / "pairs.json"
    pairs.save(file)
    with pytest.raises(ValueError, match="holds other pairs"):
        pairs.select(range(3)).save(file)
    content = json.loads(file.read_text())
    content["pairs"]["goal_state"][0][0] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="was changed after it was frozen"):
        Pairs.load(file)
    file.write_text("{}")
    with pytest.raises(ValueError, match="not a manifest"):
        Pairs.load(file)


def test_refuses_splits_that_do_not_exist(store):
    env = PointMass()
    with pytest.raises(ValueError, match="held-out policies: human, scripted"):
        sample_pairs(store, env, policy="robot", num_pairs=3)
    with pytest.raises(ValueError, match="more than 41 steps"):
        sample_pairs(store, env, policy="scripted", num_pairs=3, goal_offset=41)
    with pytest.raises(ValueError, match="solved from the start"):
        sample_pairs(store, env, policy="scripted", num_pairs=3, goal_offset=1)
    with pytest.raises(ValueError, match="num_pairs"):
        sample_pairs(store, env, policy="scripted", num_pairs=0)


@pytest.fixture(scope="module")
def judged(pairs):
    policies = {"planner": make_planning, "wrong": partial(make_planning, gain=-1.0), **make_baselines()}
    return judge({"scripted": pairs}, policies, PointMass, seed=3)


def test_floors_ceiling_and_planner(judged):
    rates = {name: result.any.mean() for name, result in judged[1]["scripted"].items()}
    assert rates["planner"] > 0.95 and rates["replay"] == 1 and rates["scripted_pusher"] == 1
    assert rates["still"] == 0 and rates["random"] < 0.25 and rates["wrong"] < 0.25
    replay = judged[1]["scripted"]["replay"]
    assert replay.at_offset.all() and replay.end.all()
    np.testing.assert_allclose(replay.trajectories[:, 25], replay.pairs.goal_state, atol=1e-3)


def test_table_is_what_planning_json_holds(judged, pairs):
    table, results = judged
    row = json.loads(json.dumps(table))["scripted"]
    assert row["n"] == 31 and row["excluded_solved"] == pairs.excluded_solved > 0 and row["manifest_hash"] == pairs.hash
    assert row["n_moved"] == row["planner"]["any_moved"]["n"] == pairs.moved.sum()
    for name, result in results["scripted"].items():
        rate = row[name]["any"]
        assert rate["rate"] == rate["successes"] / 31 == pytest.approx(result.any.mean())
        assert rate["ci95"][0] <= rate["rate"] <= rate["ci95"][1]
        assert row[name]["at_25_moved"]["successes"] == result.at_offset[pairs.moved].sum()
        assert (row[name]["ms_per_plan"] is None) == (name not in ("planner", "wrong"))
    assert results["scripted"]["planner"].num_plans == 31 * 10


def test_outcomes_are_those_of_the_trajectories(judged, pairs):
    env = PointMass()
    for result in judged[1]["scripted"].values():
        assert result.trajectories.shape == (31, 51, 3)
        np.testing.assert_array_equal(result.trajectories[:, 0], pairs.start_state)
        reached = env.reached(result.trajectories, pairs.goal_state[:, None])
        np.testing.assert_array_equal(result.any, reached[:, 1:].any(1))
        np.testing.assert_array_equal(result.at_offset, reached[:, 25])
        np.testing.assert_array_equal(result.end, reached[:, 50])
        assert (result.any >= result.at_offset).all() and (result.any >= result.end).all()


@pytest.mark.parametrize("name", ["planner", "random"])
def test_batches_order_and_subsets_change_nothing(judged, pairs, name):
    expected = judged[1]["scripted"][name].trajectories
    make = make_planning if name == "planner" else make_baselines()["random"]
    order = np.random.default_rng(0).permutation(31)[:9]
    for batch_size in (1, 4):
        result = evaluate(make, PointMass, pairs.select(order), seed=3, batch_size=batch_size)
        np.testing.assert_array_equal(result.trajectories, expected[order])
    other = evaluate(make, PointMass, pairs.select(order), seed=4)
    assert not np.array_equal(other.trajectories, expected[order])


def test_workers_change_nothing(judged, pairs):
    finished = []
    result = evaluate(make_planning, PointMass, pairs, seed=3, num_workers=2, batch_size=8, on_progress=finished.append)
    np.testing.assert_array_equal(result.trajectories, judged[1]["scripted"]["planner"].trajectories)
    assert finished == [8, 8, 8, 7] and result.num_plans == 310


def test_seeds_of_pairs_differ():
    seeds = {pair_seed(seed, index) for seed in range(3) for index in range(50)}
    assert len(seeds) == 150 and all(0 <= seed < 2**63 for seed in seeds)


def test_policies_get_what_they_asked_for_and_no_more(pairs):
    class Curious:
        observes = ("proprioception",)
        num_plans, plan_seconds = 0, 0.0

        def reset(self, goal_observation, seeds):
            assert set(goal_observation) == {"proprioception"}
            np.testing.assert_allclose(goal_observation["proprioception"], pairs.goal_state[:3, :2], rtol=1e-6)

        def act(self, observation):
            assert set(observation) == {"proprioception"} and observation["proprioception"].shape == (3, 2)
            return np.zeros((3, 2))

    evaluate(lambda _: Curious(), PointMass, pairs.select([0, 1, 2]))
    Curious.observes = ("touch",)
    with pytest.raises(ValueError, match="observes touch, but the environment has only"):
        evaluate(lambda _: Curious(), PointMass, pairs.select([0, 1, 2]))


def test_bad_actions_and_budgets_are_refused(pairs):
    class Broken:
        observes, num_plans, plan_seconds = (), 0, 0.0

        def reset(self, goal_observation, seeds):
            pass

        def act(self, observation):
            return np.full((2, 2), np.nan)

    with pytest.raises(ValueError, match="finite actions"):
        evaluate(lambda _: Broken(), PointMass, pairs.select([0, 1]))
    with pytest.raises(ValueError, match=r"goal offset \(25"):
        evaluate(make_planning, PointMass, pairs, budget=24)
    with pytest.raises(ValueError, match="num_workers"):
        evaluate(make_planning, PointMass, pairs, num_workers=0)
