"""Those who play PushT to make data: they see the simulator state and answer with relative actions in [-1, 1].

All follow :class:`worldjepa.types.Player`. A player runs once per simulated step and must not cost more than the
physics, hence plain floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.pusht_physics import ACTION_SCALE, ARENA, GOAL_POSE, Physics, as_state, block_center, random_state, reached
from envs.pusht_pushing import (
    CONTACTS,
    INERTIA,
    Contact,
    Motion,
    Pose,
    Skill,
    Target,
    inside,
    needed_motion,
    push_at,
    push_gain,
    walk,
    walk_round,
)


def stays_inside(states: np.ndarray) -> bool:
    """Whether in ``states`` (L, >= 5) the block was never pressed through a wall."""
    block = states[:, 2:4]
    return bool(np.isfinite(states).all() and block.min() >= 15 and block.max() <= ARENA - 15)


class ScriptedPusher:
    """Plays without a purpose but with variety: mostly pushes, never the same twice.

    A mixture, drawn anew whenever a skill ends: pushes through a random point of the block in a random direction,
    mostly after walking round it; runs of pushes that bring the block towards a random pose; wandering near the block;
    free moves. Speed (18..55 px per step) and the size of the correlated noise on top (2, 6, 12 px) change with it.

    Args:
        label: written into every episode as its policy.
    """

    def __init__(self, label: str = "scripted"):
        self.label = label
        self._pose = Pose()

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A random start (7,) and a group of its own, since no two episodes share anything."""
        self._rng = rng
        self._skill: Skill = iter(())
        self._normals: list[float] = []
        self._noise_x = self._noise_y = 0.0
        return random_state(rng), f"{self.label}/{int(rng.integers(2**62)):016x}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) relative action in [-1, 1] for a state (>= 5,)."""
        pose = self._pose
        pose.update(state)
        target = next(self._skill, None)
        while target is None:
            self._skill = self._choose()
            target = next(self._skill, None)
        dx, dy = target[0] - pose.x, target[1] - pose.y
        shrink = min(1.0, self._speed / (math.hypot(dx, dy) + 1e-6))
        self._noise_x = 0.7 * (self._noise_x + self._noise * self._normal())
        self._noise_y = 0.7 * (self._noise_y + self._noise * self._normal())
        x = (dx * shrink + self._noise_x) / ACTION_SCALE
        y = (dy * shrink + self._noise_y) / ACTION_SCALE
        return np.array((min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)), dtype=np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Whether in ``states`` (L, 7) the block was never pressed through a wall."""
        return stays_inside(states)

    def _normal(self) -> float:
        # One call for many numbers: a call costs as much as a substep of the physics.
        if not self._normals:
            self._normals = self._rng.standard_normal(128).tolist()
        return self._normals.pop()

    def _choose(self) -> Skill:
        rng = self._rng
        self._speed = rng.uniform(18, 55)
        self._noise = (2.0, 6.0, 12.0)[rng.integers(3)]
        kind = rng.random()
        if kind < 0.62:
            return self._aimed_push()
        if kind < 0.74:
            return self._push_to_pose()
        return self._wander() if kind < 0.91 else self._go()

    def _aimed_push(self) -> Skill:
        rng, pose = self._rng, self._pose
        x, y = _point_of_tee(rng)
        angle = rng.uniform(-math.pi, math.pi)
        off_x, off_y = ARENA / 2 - pose.center_x, ARENA / 2 - pose.center_y
        if math.hypot(off_x, off_y) > 110 and rng.random() < 0.8:
            angle = math.atan2(off_y, off_x) + 0.6 * rng.standard_normal()  # away from the walls
        ux, uy = math.cos(angle), math.sin(angle)
        length, round_block = rng.uniform(30, 150), rng.random() < 0.75
        for _ in range(35):
            start_x, start_y = self._outside(*pose.to_world(x, y), ux, uy)
            if math.hypot(start_x - pose.x, start_y - pose.y) < 14:
                break
            yield walk(pose, start_x, start_y) if round_block else (start_x, start_y)
        else:
            return
        end_x, end_y = pose.x + ux * (length + 25), pose.y + uy * (length + 25)
        for _ in range(30):
            dx, dy = end_x - pose.x, end_y - pose.y
            if math.hypot(dx, dy) < 12 or dx * ux + dy * uy < 5:
                return
            yield end_x, end_y

    def _outside(self, x: float, y: float, ux: float, uy: float) -> Target:
        """From a point of the block back along -u until the agent stands clear of it."""
        for _ in range(40):
            lx, ly = self._pose.to_block(x, y)
            if not ((-78 < lx < 78 and -18 < ly < 48) or (-33 < lx < 33 and 12 < ly < 138)):
                break
            x, y = x - 5 * ux, y - 5 * uy
        return inside(x - 6 * ux), inside(y - 6 * uy)

    def _push_to_pose(self) -> Skill:
        rng, pose = self._rng, self._pose
        goal_x, goal_y = rng.uniform(130, 382, 2)
        goal_angle = pose.angle + rng.uniform(-math.pi / 2, math.pi / 2)
        for _ in range(int(rng.integers(1, 5))):
            need = needed_motion(pose, (goal_x, goal_y, goal_angle))
            # Not always the best contact: data should show the others too.
            gains = [(push_gain(need, contact) * rng.uniform(0.7, 1.0), contact) for contact in CONTACTS]
            gain, contact = max(gains)
            if gain < 8:
                return
            yield from push_at(pose, contact, (goal_x, goal_y, goal_angle), rng.uniform(40, 150))

    def _wander(self) -> Skill:
        rng, pose = self._rng, self._pose
        dx, dy = rng.standard_normal(2) * 70
        for _ in range(int(rng.integers(5, 20))):
            x, y = pose.center_x + dx, pose.center_y + dy
            if math.hypot(x - pose.x, y - pose.y) < 15:
                dx, dy = rng.standard_normal(2) * 70
            yield x, y

    def _go(self) -> Skill:
        x, y = self._rng.uniform(40, 472, 2)
        for _ in range(25):
            if math.hypot(x - self._pose.x, y - self._pose.y) < 15:
                return
            yield x, y


def _point_of_tee(rng: np.random.Generator) -> Target:
    """A point of the T in its own frame, uniform over its area (bar 120 x 30, stem 30 x 90)."""
    if rng.random() < 120 * 30 / (120 * 30 + 30 * 90):
        return rng.uniform(-60, 60), rng.uniform(0, 30)
    return rng.uniform(-15, 15), rng.uniform(30, 120)


class NoisyReplay:
    """Replays demonstrations from a random point on, with a displaced start and correlated noise on the targets.

    Args:
        states: float (N, 5) or (N, 7) of all demonstrations, one after the other.
        actions: float (N, 2) absolute targets, px.
        episode_ends: int (E,) one past each demonstration's last row.
        episodes: which demonstrations may be replayed; the held-out ones are left out here.
        label: written into every episode as its policy.
    """

    def __init__(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        episode_ends: np.ndarray,
        episodes: Sequence[int],
        label: str = "human_replay",
    ):
        states, actions = np.asarray(states, dtype=np.float64), np.asarray(actions, dtype=np.float64)
        if states.ndim != 2 or states.shape[1] not in (5, 7) or actions.shape != (len(states), 2):
            raise ValueError(
                f"expected states (N, 5) or (N, 7) and actions (N, 2), got {states.shape} and {actions.shape}"
            )
        if not (np.isfinite(states).all() and np.isfinite(actions).all()):
            raise ValueError("demonstrations hold numbers that are not finite")
        ends = np.asarray(episode_ends, dtype=np.int64)
        if ends.ndim != 1 or not len(ends) or (np.diff(ends, prepend=0) <= 0).any() or ends[-1] != len(states):
            raise ValueError(f"episode_ends must rise to {len(states)}, the number of rows, got {ends.tolist()[-3:]}")
        self._episodes = np.asarray(episodes, dtype=np.int64)
        if not len(self._episodes) or self._episodes.min() < 0 or self._episodes.max() >= len(ends):
            raise ValueError(f"episodes must name some of the {len(ends)} demonstrations, 0..{len(ends) - 1}")
        self.label = label
        self._states, self._actions = states, actions
        self._starts, self._ends = np.concatenate([[0], ends[:-1]]), ends

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A displaced state (7,) of a demonstration, at least 30 steps before its end where it is that long, and
        ``human/<demonstration>``."""
        self._rng = rng
        demo = int(rng.choice(self._episodes))
        start, self._last = int(self._starts[demo]), int(self._ends[demo]) - 1
        self._row = int(rng.integers(start, max(start + 1, self._last - 29)))
        self._sigma = rng.choice([0.0, 5.0, 10.0, 20.0, 40.0])
        self._noise = np.zeros(2)
        self._offset = rng.standard_normal(2) * rng.choice([0.0, 4.0, 12.0])
        state = self._states[self._row].copy()
        state[:2] = np.clip(state[:2] + rng.standard_normal(2) * rng.choice([0.0, 5.0, 15.0]), 20, ARENA - 20)
        return as_state(state), f"human/{demo}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) relative action in [-1, 1] for a state (>= 5,); past the end, the last target is held."""
        self._noise = 0.8 * self._noise + 0.6 * self._rng.standard_normal(2) * self._sigma
        target = self._actions[min(self._row, self._last)] + self._noise + self._offset
        self._row += 1
        return np.clip((target - state[:2]) / ACTION_SCALE, -1, 1).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Whether in ``states`` (L, 7) the block was never pressed through a wall."""
        return stays_inside(states)


Plan = list[tuple[np.ndarray, np.ndarray]]
"""Actions (2,), each with the state (7,) it is expected to lead to."""


@dataclass(frozen=True)
class _Branch:
    """A plan so far, the state at its end, how good that is, and how much of it is the first push."""

    plan: tuple[tuple[np.ndarray, np.ndarray], ...]
    state: np.ndarray
    cost: float
    first: int


class GoalPusher:
    """Brings agent and block to a goal state by searching over pushes in the true simulator: a reference controller.

    From the present state every contact is tried in a private copy of the physics: walk there, push, note where the
    block was nearest to the goal. The best few are followed by a second and a third push, and each of them by a walk
    to the agent's own goal; the quickest sequence that reaches the goal is then played back, else the start of the
    most promising one. A search is repeated only when the plan has been played or the simulation has left it.

    Args:
        width: how many states are kept between pushes.
        depth: how many pushes are looked ahead.
        tolerance: of the goal, see :func:`envs.pusht_physics.reached`.
        label: name of the controller in tables.
    """

    def __init__(self, width: int = 6, depth: int = 3, tolerance: float = 1.0, label: str = "goal_pusher"):
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be >= 1, got {width} and {depth}")
        self.width, self.depth, self.tolerance, self.label = width, depth, tolerance, label
        self._physics, self._pose = Physics(), Pose()

    def reset(self, state: np.ndarray, goal_state: np.ndarray) -> None:
        """Starts over, from ``state`` (5,) or (7,) towards ``goal_state`` (5,) or (7,)."""
        self._expected, self._goal = as_state(state), as_state(goal_state)
        self._goal_motion: Motion = (*block_center(self._goal).tolist(), float(self._goal[4]))
        self._plan: Plan = []

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) relative action in [-1, 1] for a state (7,)."""
        if not self._plan or np.abs(self._expected[:4] - state[:4]).max() > 3:
            self._plan = self._search(as_state(state))
        action, self._expected = self._plan.pop(0)
        return action

    def _search(self, state: np.ndarray) -> Plan:
        frontier, best = [_Branch((), state, math.inf, 0)], None
        for _ in range(self.depth + 1):
            finished = [plan for branch in frontier if (plan := self._walk_home(branch))]
            if finished:
                return min(finished, key=len)
            pushed = [self._push(branch, contact) for branch in frontier for contact in self._promising(branch)]
            frontier = sorted(filter(None, pushed), key=lambda branch: branch.cost)[: self.width]
            if not frontier:
                break
            if best is None or frontier[0].cost < best.cost:
                best = frontier[0]
        if best is None:  # nothing to push: walk, and look again from there
            return self._simulate((), state, self._walk())[:5]
        return list(best.plan[: best.first])

    def _promising(self, branch: _Branch) -> list[Contact]:
        self._pose.update(branch.state)
        need = needed_motion(self._pose, self._goal_motion)
        contacts = sorted(CONTACTS, key=lambda contact: -push_gain(need, contact))
        count = 10 if branch.plan else len(contacts)
        return [contact for contact in contacts[:count] if push_gain(need, contact) > 3]

    def _push(self, branch: _Branch, contact: Contact) -> _Branch | None:
        """``branch`` extended up to where the push brings the block nearest to the goal; None if there is no push."""
        plan = self._simulate(branch.plan, branch.state, push_at(self._pose, contact, self._goal_motion, 250.0))
        ends = range(len(branch.plan) + 1, len(plan) + 1)
        if not ends:
            return None
        cost, end = min((self._distance(plan[end - 1][1]) + 0.3 * end, end) for end in ends)
        return _Branch(tuple(plan[:end]), plan[end - 1][1], cost, branch.first or end)

    def _walk_home(self, branch: _Branch) -> Plan | None:
        """The plan of ``branch`` and a walk to the agent's goal, cut where the goal is reached; None if it is not."""
        skills: list[Skill] = [iter(())]
        if self._distance(branch.state) < 40:
            x, y = self._goal[:2].tolist()
            skills = [self._walk(), *(walk_round(self._pose, x, y, side) for side in (-1, 1))]
        plans = []
        for skill in skills:
            plan = self._simulate(branch.plan, branch.state, skill)
            ends = [i for i, (_, state) in enumerate(plan, 1) if reached(state, self._goal, self.tolerance)]
            plans += [plan[: ends[0]]] if ends else []
        return min(plans, key=len, default=None)

    def _walk(self) -> Skill:
        for _ in range(20):
            yield walk(self._pose, *self._goal[:2].tolist())

    def _distance(self, state: np.ndarray) -> float:
        """Of the block to its goal, px; turning by 1 rad counts as sqrt(INERTIA) = 55 px."""
        self._pose.update(state)
        dx, dy, turn = needed_motion(self._pose, self._goal_motion)
        return math.hypot(dx, dy, turn * math.sqrt(INERTIA))

    def _simulate(self, plan: Iterable[tuple[np.ndarray, np.ndarray]], state: np.ndarray, skill: Skill) -> Plan:
        """``plan`` and what ``skill`` makes of ``state``."""
        physics, pose, plan = self._physics, self._pose, list(plan)
        physics.restore(state)
        pose.update(state)
        for x, y in skill:
            dx, dy = (x - pose.x) / ACTION_SCALE, (y - pose.y) / ACTION_SCALE
            action = np.array((min(max(dx, -1.0), 1.0), min(max(dy, -1.0), 1.0)), dtype=np.float32)
            physics.step_relative(*action.tolist())
            state = physics.state()
            pose.update(state)
            plan.append((action, state))
        return plan


class Demonstrator:
    """Pushes the block onto the task's green zone, as people did, and then stands still: for policies that imitate.

    Acts in absolute targets (``action_mode="absolute"``).

    Args:
        tolerance: of the block's final pose, see :func:`envs.pusht_physics.reached`; 0.12 covers 95 % of the zone.
        label: written into every episode as its policy.
    """

    def __init__(self, tolerance: float = 0.12, label: str = "scripted"):
        self._pusher = GoalPusher(tolerance=tolerance)
        self.tolerance, self.label = tolerance, label

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A random state (7,), and a group of its own."""
        state = random_state(rng)
        self._goal = np.array([*rng.uniform(60, 452, 2), *GOAL_POSE])
        self._pusher.reset(state, self._goal)
        return state, f"{self.label}/{rng.integers(2**62)}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) absolute target in px for a state (7,)."""
        if self._done(state):
            return np.asarray(state[:2], np.float32)
        return np.clip(state[:2] + ACTION_SCALE * self._pusher.act(state), 20, ARENA - 20).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Whether ``states`` (L, 7) end with the block in its place."""
        return bool(self._done(states[-1]))

    def _done(self, state: np.ndarray) -> bool:
        goal = np.concatenate([state[:2], self._goal[2:]])  # wherever the agent is
        return bool(reached(state[:5], goal, self.tolerance))
