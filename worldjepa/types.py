"""The nouns of the library and the one shape legend.

Shapes, stated once:

    B  batch, or environments        N  candidate plans
    T  observed steps                P  tokens per frame (always present; 1 for a global latent)
    H  planned steps (never height)  D  latent width
    A  action width                  S  simulator-state width

Time is axis 1. ``action[:, t]`` leads from ``obs[:, t]`` to ``obs[:, t + 1]``. One *model* step may hold a block of
``frameskip`` raw actions, so a model action is ``A = frameskip * raw_action_dim`` wide, raw actions in order of time.
Pictures are ``uint8 (B, T, 3, height, width)`` in the library and ``uint8 (T, height, width, 3)`` in stores and
environments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

Observation = dict[str, Tensor]
"""Named, each (B,T,...): ``pixels`` uint8 (B,T,3,height,width), ``proprioception`` float32 (B,T,n), ``task`` (B,T),
``sweep`` float16 (B,T,beams,azimuths,2), ``points`` float32 (B,T,N,4). Of single samples each is (B,...), without T."""


@dataclass(frozen=True)
class FieldSpec:
    """One column of an episode: NumPy dtype name and shape of a single step."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_picture(self) -> bool:
        """uint8 (height,width,channels)."""
        return self.dtype == "uint8" and len(self.shape) == 3


@dataclass(frozen=True)
class EnvSpec:
    """What a store or a model must know about an environment, without importing it.

    Attributes:
        env_id: gymnasium id, such as ``worldjepa/PushT-v0``.
        fields: columns of an episode by name: ``pixels``, ``proprioception``, ``action``, ``state``, ...
        action_low, action_high: bounds of one raw action, length ``raw_action_dim``.
        state_names: names of the simulator state's numbers (probes and goals use them, training never does).
        frame_rate: environment steps per second of simulated time, Hz.
        tasks: what is to be done, in words; where there are several, a column ``task`` (int64) says which of them.
    """

    env_id: str
    fields: dict[str, FieldSpec]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    state_names: tuple[str, ...]
    frame_rate: float
    tasks: tuple[str, ...] = ()

    @property
    def raw_action_dim(self) -> int:
        return len(self.action_low)

    @property
    def hash(self) -> str:
        """Twelve hex digits that change whenever anything in the specification does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """JSON values. Without tasks nothing is said of them: stores that have none keep the hash they always had."""
        values = asdict(self)
        return values if self.tasks else {name: value for name, value in values.items() if name != "tasks"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EnvSpec:
        fields = {name: FieldSpec(f["dtype"], tuple(f["shape"])) for name, f in values["fields"].items()}
        return cls(
            env_id=values["env_id"],
            fields=fields,
            action_low=tuple(values["action_low"]),
            action_high=tuple(values["action_high"]),
            state_names=tuple(values["state_names"]),
            frame_rate=float(values["frame_rate"]),
            tasks=tuple(values.get("tasks", ())),
        )

    def differences(self, expected: EnvSpec) -> list[str]:
        """A sentence for everything in which this specification is not the expected one."""
        return _differences(self.to_dict(), expected.to_dict())

    @classmethod
    def from_env(cls, env) -> EnvSpec:
        """Reads the specification off an environment that follows :class:`GoalEnv`."""
        env = env.unwrapped
        fields = {
            name: FieldSpec(str(space.dtype), tuple(int(n) for n in space.shape))
            for name, space in env.observation_space.spaces.items()
        }
        fields["action"] = FieldSpec("float32", tuple(int(n) for n in env.action_space.shape))
        fields["state"] = FieldSpec("float32", (len(env.state_names),))
        if getattr(env, "rewarded", False):
            fields["reward"] = FieldSpec("float32", ())
        return cls(
            env_id=env.spec.id if env.spec is not None else type(env).__name__,
            fields=fields,
            action_low=tuple(float(x) for x in env.action_space.low),
            action_high=tuple(float(x) for x in env.action_space.high),
            state_names=tuple(env.state_names),
            frame_rate=float(env.metadata["render_fps"]),
        )


def _differences(found: Any, expected: Any, name: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(set(found) | set(expected))
        return [
            line
            for key in keys
            for line in _differences(found.get(key), expected.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if found == expected else [f"{name} is {found}, expected {expected}"]


@dataclass
class Episode:
    """One recorded episode of L observations and L - 1 actions.

    Attributes:
        arrays: column name -> array with leading axis L. ``action``, and ``reward`` where there is one, have L rows
            too; the last one is zero and leads nowhere, so that all columns have one length.
        group: name of the thing that must never be split between training and held-out data, such as
            ``human/17`` for every noisy replay of demonstration 17.
        policy: who acted, such as ``scripted`` or ``human_replay``.
    """

    arrays: dict[str, np.ndarray]
    group: str
    policy: str

    def __len__(self) -> int:
        return len(self.arrays["action"])


@dataclass
class Segment:
    """A batch of clips of T model steps.

    Attributes:
        observation: (B,T,...) by name.
        action: float32 (B,T-1,A) blocks of raw actions in the environment's units (the model holds the normaliser).
        state: float32 (B,T,S) simulator state, for probes only.
        reward: float32 (B,T-1) the task's reward in each model step, mean over its raw steps; None where there is none.
    """

    observation: Observation
    action: Tensor
    state: Tensor
    reward: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Segment:
        """``change`` applied to every tensor."""
        observation = {name: change(value) for name, value in self.observation.items()}
        reward = None if self.reward is None else change(self.reward)
        return Segment(observation, change(self.action), change(self.state), reward)

    def to(self, device) -> Segment:
        return self.map(lambda x: x.to(device, non_blocking=True))


@dataclass
class SampleBatch:
    """A batch of single things of one modality, such as pictures, clouds or recordings; they have no time axis.

    Attributes:
        observation: by name, each (B,...).
    """

    observation: Observation

    def map(self, change: Callable[[Tensor], Tensor]) -> SampleBatch:
        """``change`` applied to every tensor."""
        return SampleBatch({name: change(value) for name, value in self.observation.items()})

    def to(self, device) -> SampleBatch:
        return self.map(lambda x: x.to(device, non_blocking=True))


@dataclass
class Chunk:
    """A batch of moments and what followed them, the input of imitation.

    Attributes:
        observation: (B,1,...) by name, of the moment.
        action: float32 (B,H,raw_action_dim) the next H raw actions, environment units.
        valid: bool (B,H) False where the episode was over and the action is a repeat.
        future: (B,F,...) by name, observations of F moments after it.
        future_valid: bool (B,F) False where the episode was over and the observation is a repeat.
    """

    observation: Observation
    action: Tensor
    valid: Tensor
    future: Observation
    future_valid: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Chunk:
        """``change`` applied to every tensor."""
        observation, future = (
            {name: change(value) for name, value in part.items()} for part in (self.observation, self.future)
        )
        return Chunk(observation, change(self.action), change(self.valid), future, change(self.future_valid))

    def to(self, device) -> Chunk:
        return self.map(lambda x: x.to(device, non_blocking=True))


@dataclass
class Prediction:
    """What a world model said about a batch of clips; the input of its training objectives.

    Attributes:
        latent: (B,T,P,D) of the online encoder.
        target: (B,T,P,D) what predictions are compared with (the same, detached, or a teacher's).
        one_step: (B,T-1,P,D) predictions of frames 1.. from the true past.
        rollout: (B,T-1,P,D) predictions of frames 1.. from frame 0 alone; None where no term asks for them.
        action: (B,T-1,A) normalised.
        reward: (B,T-1) what was got, see :class:`Segment`; None where the data have none.
        guessed_reward: (B,T-1) from the true latents, and ``rollout_reward`` from the roll-out's, before and after
            each model step; None where the data have none.
    """

    latent: Tensor
    target: Tensor
    one_step: Tensor
    rollout: Tensor | None
    action: Tensor
    reward: Tensor | None = None
    guessed_reward: Tensor | None = None
    rollout_reward: Tensor | None = None


@dataclass
class Motion:
    """What was found in N pairs of pictures, both ways round; the input of MC-JEPA's training objectives.

    Lists hold one entry per level, finest first. Entries of 2N are those of the first pictures with the motion to the
    second ones, and then those of the second pictures with the motion back.

    Attributes:
        pictures: (2N,3,height_l,width_l) in 0..1, at full size and at every level's.
        flow: (2N,2,height_l,width_l) px of that size, x to the right and y down; one per entry of ``pictures``.
        seen: bool (2N,1,height_l,width_l) what neither leaves the picture nor is covered in the other one.
        features: (2N,C_l,height_l,width_l) of every level: all sizes but the first.
        views: (2,M,D) embeddings of two views each of M pictures; None where no term asks for them.
    """

    pictures: list[Tensor]
    flow: list[Tensor]
    seen: list[Tensor]
    features: list[Tensor]
    views: Tensor | None = None


@dataclass
class BevPrediction:
    """What was predicted of B bird's-eye views with hidden cells; the input of AD-L-JEPA's training objectives.

    Attributes:
        context: (B,D,Y,X) latents of the visible points, of length 1; tokens where cells are hidden or empty.
        prediction: (B,D,Y,X) of length 1, from ``context``.
        target: (B,D,Y,X) of length 1, of the hidden points; the empty token where there are none.
        occupied: bool (B,Y,X) cells with points.
        hidden: bool (B,Y,X) cells whose points the context has not seen.
    """

    context: Tensor
    prediction: Tensor
    target: Tensor
    occupied: Tensor
    hidden: Tensor


@dataclass
class Plan:
    """What a planner returns.

    Attributes:
        action: (B,H,A) the plan, normalised model actions within the bounds given.
        cost: (B,) cost of that plan.
        info: per-iteration curves and the like, each with leading axis B.
    """

    action: Tensor
    cost: Tensor
    info: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TokenSet:
    """Tokens of one modality with their places.

    Attributes:
        values: float (B,P,D) token contents.
        coords: float (B,P,C) or (P,C) coordinates, such as patch row and column, column id, or xyz.
        valid: bool (B,P); False marks padding.
        pinned: bool (P,); True marks tokens that belong to every context and are never predicted (CLS, REG).
    """

    values: Tensor
    coords: Tensor
    valid: Tensor
    pinned: Tensor


class Player(Protocol):
    """A privileged actor that makes data: it sees the simulator state, never pictures."""

    label: str

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """Starts an episode: the initial simulator state (S,) and the episode's group (see :class:`Episode`)."""

    def act(self, state: np.ndarray) -> np.ndarray:
        """Raw action (A,) in the environment's units for the simulator state (S,)."""

    def keep(self, states: np.ndarray) -> bool:
        """Whether a finished episode with ``states`` (L,S) is worth storing; a rejected one is drawn again."""


@runtime_checkable
class GoalEnv(Protocol):
    """What the library asks of an environment, beside gymnasium's own API.

    ``reset(options={"state": ..., "goal_state": ...})`` starts from an exact simulator state; observations are a
    dict with at least ``pixels`` uint8 (height, width, 3), or ``sweep`` (beams, azimuths, 2) of a LiDAR;
    ``info["state"]`` is the simulator state. ``rewarded``, where it is there and true, says that the rewards mean
    something and shall be stored. ``shown``, where it is there, is set to the names of the observations that somebody
    looks at; the environment may leave out others that take long to make.
    """

    state_names: tuple[str, ...]

    def get_state(self) -> np.ndarray:
        """Simulator state, float64 (S,)."""

    def observe_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of ``state`` (S,), without touching the simulation: goal pictures come from here."""

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the task's own tolerance between states (..., S)."""

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the goal asks for more than moving the robot itself."""

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> (..., k): smooth functions of the state that a good latent should reveal."""
