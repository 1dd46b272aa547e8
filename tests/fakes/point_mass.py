"""A point that goes where it is told, and a world model that knows (or is wrong about) how."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.datasets.store import EpisodeStore, is_held_out
from worldjepa.types import EnvSpec, Episode

STEP = 4.0  # px per unit of raw action
UNIT = 20.0  # px per unit of latent


class PointMass(gym.Env):
    """State (x, y, charge): x and y in px of a 100 px arena, the charge is constant and means nothing."""

    metadata = {"render_modes": [], "render_fps": 10}
    state_names = ("x", "y", "charge")
    observation_space = gym.spaces.Dict(
        pixels=gym.spaces.Box(0, 255, (6, 6, 3), np.uint8), proprioception=gym.spaces.Box(0, 100, (2,), np.float32)
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = np.array(options["state"], np.float64)
        return self.observe_state(self._state), {"state": self._state}

    def step(self, action):
        move = STEP * np.clip(np.asarray(action, np.float64), -1, 1)
        self._state = np.array([*np.clip(self._state[:2] + move, 0, 100), self._state[2]])
        return self.observe_state(self._state), 0.0, False, False, {"state": self._state}

    def get_state(self):
        return self._state.copy()

    def observe_state(self, state):
        return {"pixels": np.zeros((6, 6, 3), np.uint8), "proprioception": np.asarray(state[:2], np.float32)}

    def reached(self, state, goal_state):
        return np.linalg.norm(state[..., :2] - goal_state[..., :2], axis=-1) < 5

    def moved(self, state, goal_state):
        return np.linalg.norm(state[..., :2] - goal_state[..., :2], axis=-1) > 25

    def probe_targets(self, state):
        return {"xy": state[..., :2]}


class PointModel(nn.Module):
    """Latent = position. ``gain`` 1 is true, -1 believes that everything goes the other way."""

    latent_dim, num_tokens = 2, 1
    frameskip, raw_action_dim, action_dim = 5, 2, 10

    def __init__(self, gain: float = 1.0, num_history: int = 3):
        super().__init__()
        self.gain, self.num_history = gain, num_history
        self.register_buffer("scale", torch.tensor([0.25, 0.5]).repeat(5))
        self.register_buffer("action_low", -1 / self.scale)
        self.register_buffer("action_high", 1 / self.scale)

    def encode(self, obs: dict[str, Tensor]) -> Tensor:
        return (obs["proprioception"] / UNIT)[:, :, None]

    def rollout(self, latent: Tensor, past_action: Tensor, action: Tensor) -> Tensor:
        assert latent.shape[1] == past_action.shape[1] + 1 <= self.num_history
        move = self.denormalize_action(action).unflatten(-1, (5, 2)).sum(-2) * (self.gain * STEP / UNIT)
        return (latent[:, -1:] + move.cumsum(2))[:, :, :, None]

    def normalize_action(self, raw: Tensor) -> Tensor:
        return raw / self.scale

    def denormalize_action(self, action: Tensor) -> Tensor:
        return action * self.scale


class Seeker:
    """A scripted player that walks straight to the goal."""

    def reset(self, state, goal_state):
        self.goal = goal_state[:2]

    def act(self, state):
        return np.clip((self.goal - state[:2]) / STEP, -1, 1)


def make_store(path, *, num_episodes: int = 12, policy: str = "scripted", held_out: bool = True) -> EpisodeStore:
    """Episodes of 41 frames that walk steadily; every third stands still from frame 10 to 35."""
    env = PointMass()
    store = EpisodeStore.create(path, EnvSpec.from_env(env))
    rng = np.random.default_rng(0)
    names = (f"{policy}/{i}" for i in range(10_000))
    groups = [name for name in names if is_held_out(name) == held_out][:num_episodes]
    episodes = []
    for number, group in enumerate(groups):
        direction = rng.uniform(0, 2 * np.pi)
        env.reset(options={"state": [*rng.uniform(35, 65, 2), rng.normal()]})
        states, actions = [env.get_state()], []
        for t in range(40):
            direction += 0.1 * rng.normal()
            speed = 0.0 if number % 3 == 0 and 10 <= t < 35 else 0.35
            actions.append(speed * np.array([np.cos(direction), np.sin(direction)]))
            env.step(actions[-1])
            states.append(env.get_state())
        states, actions = np.array(states, np.float32), np.array([*actions, np.zeros(2)], np.float32)
        arrays = {
            "pixels": np.zeros((41, 6, 6, 3), np.uint8),
            "proprioception": states[:, :2].copy(),
            "action": actions,
            "state": states,
        }
        episodes.append(Episode(arrays, group, policy))
    store.write_shard(f"{policy}_held" if held_out else policy, 0, episodes)
    store.refresh()
    return store
