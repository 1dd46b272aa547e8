"""Stable-Baselines3 here: train an expert, keep it without pickles, act by it; our encoders as its eyes.

SB3's own files hold pickled objects. Ours hold the policy's weights as safetensors and, beside them, the words that
build the policy again; replay buffers are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldjepa.checkpoint import CONFIG_FILE, MODEL_FILE, load_tensors, load_weights, load_world_model, save_tensors
from worldjepa.rollout import Factory

try:
    import stable_baselines3 as sb3
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import DummyVecEnv
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"policies.sb3 needs Stable-Baselines3: pip install 'worldjepa[sb3]' ({error})") from None

ALGORITHMS = {"sac": sb3.SAC, "ppo": sb3.PPO, "td3": sb3.TD3}


class Observing(gym.Wrapper):
    """Shows an agent the named observations alone; ``state`` is the simulator state, for experts.

    Args:
        env: follows :class:`worldjepa.types.GoalEnv`.
        observes: names.
    """

    def __init__(self, env: gym.Env, observes: Sequence[str]):
        super().__init__(env)
        inside = env.unwrapped
        state = gym.spaces.Box(-np.inf, np.inf, (len(inside.state_names),), np.float32)
        known = {**env.observation_space.spaces, "state": state}
        unknown = [name for name in observes if name not in known]
        if unknown or not observes:
            raise ValueError(f"observations must be some of {', '.join(known)}, got {', '.join(observes) or 'none'}")
        self.observes = tuple(observes)
        self.observation_space = gym.spaces.Dict({name: known[name] for name in observes})

    def reset(self, **arguments):
        observation, info = self.env.reset(**arguments)
        return self._shown(observation), info

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._shown(observation), reward, terminated, truncated, info

    def _shown(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        known = {**observation, "state": self.env.unwrapped.get_state().astype(np.float32)}
        return {name: known[name] for name in self.observes}


class LatentFeatures(BaseFeaturesExtractor):
    """A world model's encoder as the eyes of an SB3 agent: latents of ``pixels``, everything else beside them.

    ``PPO("MultiInputPolicy", env, policy_kwargs=dict(features_extractor_class=LatentFeatures,
    features_extractor_kwargs=dict(run_dir="runs/reacher"), normalize_images=False))``

    Args:
        observation_space: Dict with ``pixels`` (SB3 makes them channels first) and flat others.
        run_dir: a trained world model.
        finetune: let the agent's gradients into the encoder.
    """

    def __init__(self, observation_space: gym.spaces.Dict, run_dir: str, finetune: bool = False):
        if "pixels" not in observation_space.spaces:
            raise ValueError(
                f"LatentFeatures needs the observation 'pixels', got {', '.join(observation_space.spaces)}"
            )
        model, _ = load_world_model(run_dir)
        others = [name for name in observation_space.spaces if name != "pixels"]
        num_others = sum(int(np.prod(observation_space[name].shape)) for name in others)
        super().__init__(observation_space, model.num_tokens * model.latent_dim + num_others)
        self.encoder, self.finetune, self._others = model.encoder.requires_grad_(finetune), finetune, others

    def train(self, mode: bool = True) -> LatentFeatures:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        self.encoder.train(mode and self.finetune)
        return self

    def apply(self, fn) -> LatentFeatures:
        """Does nothing: SB3 would give every network that it is handed new random weights this way."""
        return self

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """(B,features_dim)."""
        pixels = observations["pixels"]
        if pixels.shape[1] != 3:
            pixels = pixels.movedim(-1, 1)
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            latent = self.encoder({"pixels": pixels[:, None]}).flatten(1)
        return torch.cat([latent, *(observations[name].flatten(1) for name in self._others)], -1)


def train_agent(
    env: Factory,
    folder: Path,
    *,
    algorithm: str = "sac",
    observes: Sequence[str] = ("state",),
    world_model: str | None = None,
    steps: int = 100_000,
    num_envs: int = 1,
    seed: int = 0,
    progress: bool = True,
    **arguments: Any,
) -> None:
    """Trains an agent on an environment's own rewards and writes it to ``folder``.

    Args:
        env: makes the environment.
        folder: for ``config.yaml`` and ``model.safetensors``.
        algorithm: of :data:`ALGORITHMS`.
        observes: observations shown; ``state`` makes a privileged expert.
        world_model: folder of a run whose frozen encoder looks at ``pixels``; None leaves it to SB3's own networks.
        steps: environment steps.
        num_envs: environments side by side.
        seed: of everything random.
        progress: show a bar.
        arguments: SB3's, such as ``learning_rate``.

    Raises:
        ValueError: an unknown algorithm or observation.
    """
    from omegaconf import OmegaConf

    words = {
        "env": {"_target_": env.target, **env.params},
        "algorithm": algorithm,
        "observes": list(observes),
        "world_model": world_model,
        "steps": steps,
        "num_envs": num_envs,
        "seed": seed,
        "arguments": arguments,
    }
    agent = _build(words)
    agent.learn(steps, progress_bar=progress)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / MODEL_FILE, agent.policy.state_dict(), {"steps": steps})
    OmegaConf.save(OmegaConf.create(words), folder / CONFIG_FILE)


class AgentPolicy:
    """Acts by a trained agent, without noise. Follows :class:`worldjepa.evaluation.protocol.Policy`.

    Args:
        agent: an SB3 algorithm.
        observes: what it was trained on.
    """

    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, agent, observes: Sequence[str]):
        self.agent, self.observes = agent, tuple(observes)

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Nothing to remember: agents know no goals."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions float32 (B,raw_action_dim)."""
        # One at a time: on the CPU rounding would depend on the batch.
        rows = range(len(next(iter(observation.values()))))
        shown = ({name: _as_agent_sees(observation[name][i]) for name in self.observes} for i in rows)
        return np.stack([self.agent.predict(one, deterministic=True)[0] for one in shown]).astype(np.float32)


def load_agent_policy(tasks: Sized, *, path: str) -> AgentPolicy:
    """A trained agent; ``functools.partial`` of this is what evaluation workers are given."""
    return AgentPolicy(*_load(str(Path(path).resolve())))


@lru_cache(maxsize=1)
def _load(path: str):
    from omegaconf import OmegaConf

    folder = Path(path)
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder}: expected a trained agent with {CONFIG_FILE} and {MODEL_FILE}")
    words = OmegaConf.to_container(OmegaConf.load(folder / CONFIG_FILE))
    agent = _build({**words, "num_envs": 1})
    tensors, _ = load_tensors(folder / MODEL_FILE)
    load_weights(agent.policy, tensors, folder / MODEL_FILE)
    return agent, words["observes"]


def _build(words: dict[str, Any]):
    """An untrained agent and its environments, from the words that are kept beside the weights."""
    if words["algorithm"] not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {words['algorithm']!r}")
    env = Factory.from_config(words["env"])
    envs = DummyVecEnv([lambda: Observing(env.build(), words["observes"]) for _ in range(words["num_envs"])])
    policy_arguments: dict[str, Any] = {}
    if words["world_model"] is not None:
        policy_arguments = {
            "features_extractor_class": LatentFeatures,
            "features_extractor_kwargs": {"run_dir": words["world_model"]},
            "normalize_images": False,
        }
    algorithm = ALGORITHMS[words["algorithm"]]
    return algorithm(
        "MultiInputPolicy",
        envs,
        seed=words["seed"],
        policy_kwargs=policy_arguments,
        device="cpu" if not torch.cuda.is_available() else "auto",
        **words["arguments"],
    )


def _as_agent_sees(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == np.float64 else value
