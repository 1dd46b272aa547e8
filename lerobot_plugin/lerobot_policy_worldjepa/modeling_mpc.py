"""A latent world model as a LeRobot policy: worldjepa's model, losses and planner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
from hydra.utils import instantiate
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from lerobot_policy_worldjepa.configuration_mpc import WorldjepaMpcConfig
from lerobot_policy_worldjepa.encoders import as_pixels, fit_pictures
from policies.planning import PlanningPolicy
from worldjepa.checkpoint import load_world_model
from worldjepa.costs.goal_distance import GoalDistance
from worldjepa.normalizer import ActionNormalizer
from worldjepa.objectives import InverseDynamics, LatentSigReg, OneStepError, RolloutError
from worldjepa.planners import CEM
from worldjepa.systems.world_model import WorldModel, WorldModelSystem, build_system
from worldjepa.types import Segment

ENCODER = {"_target_": "worldjepa.encoders.glimpse.GlimpseEncoder"}
PREDICTOR = {"_target_": "worldjepa.predictors.residual_mlp.ResidualMlpPredictor", "_partial_": True}
WEIGHTS = {"one_step": 1.0, "rollout": 1.0, "sigreg": 0.05, "inverse_dynamics": 0.3}


class WorldjepaMpcPolicy(PreTrainedPolicy):
    """See :class:`WorldjepaMpcConfig`. Actions and states come and go as they are in the dataset.

    Args:
        config: features filled in.
        dataset_stats: LeRobot's statistics: spread and bounds of the actions, mean colour of the pictures.
        dataset_meta: for a goal out of the dataset.
    """

    config_class = WorldjepaMpcConfig
    name = "worldjepa_mpc"

    def __init__(
        self,
        config: WorldjepaMpcConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any = None,
        **_: Any,
    ):
        super().__init__(config)
        config.validate_features()
        saved = config.spec is not None
        model = self._built() if saved else self._of_run() if config.run else self._new(dataset_stats)
        if model.raw_action_dim != config.action_feature.shape[0]:
            raise ValueError(
                f"the world model's actions have {model.raw_action_dim} numbers, the dataset's or environment's "
                f"{config.action_feature.shape[0]}; give a run of the same environment"
            )
        terms = {
            "one_step": OneStepError(),
            "rollout": RolloutError(),
            "sigreg": LatentSigReg(num_directions=64),
            "inverse_dynamics": InverseDynamics,
        }
        config.validate_features()  # again: a run may have said that its actions are relative
        model.reward = None  # LeRobot's goal is a picture
        self.system: WorldModelSystem = build_system(model, terms, WEIGHTS)
        size = config.image_size
        self.register_buffer("goal", torch.zeros(size, size, 3, dtype=torch.uint8))
        if not saved:
            self.goal.copy_(self._goal_picture(dataset_meta))
        self.reset()

    # ---- building ---------------------------------------------------------------------------------------------

    def _of_run(self) -> WorldModel:
        """The run's model; what is needed to build it again goes into the configuration."""
        config = self.config
        model, run = load_world_model(config.run)
        if tuple(run["observations"]) != ("pixels",):
            raise ValueError(f"{config.run}: expected a model of pixels alone, it observes {run['observations']}")
        config.image_size, config.frameskip = run["env"]["image_size"], model.frameskip
        if config.relative_actions is None:
            relative = run["env"]["name"] == "pusht" and run["env"]["kwargs"]["action_mode"] == "relative"
            config.relative_actions = 100.0 if relative else 0.0
        normalizer = model.action_normalizer
        self._keep(run["encoder"], run["predictor"], normalizer.raw_low.tolist(), normalizer.raw_high.tolist())
        return model

    def _new(self, stats: dict[str, dict[str, Any]] | None) -> WorldModel:
        """A model to be trained, with the data's statistics in it."""
        config, size = self.config, self.config.action_feature.shape[0]
        if config.relative_actions:
            raise ValueError("relative_actions belongs to a trained run=; LeRobot's actions are taken as they are")
        config.relative_actions = 0.0
        action = {name: torch.as_tensor(value).float() for name, value in (stats or {}).get(ACTION, {}).items()}
        low, high = (action.get(name, torch.full((size,), bound)) for name, bound in (("min", -1.0), ("max", 1.0)))
        self._keep({**ENCODER, "image_size": config.image_size}, PREDICTOR, low.tolist(), high.tolist())
        model = self._built()
        if action:
            model.action_normalizer.fit(action["mean"], action["std"])
        fit_pictures(model.encoder, stats, [config.camera])
        return model

    def _keep(self, encoder: dict, predictor: dict, low: list[float], high: list[float]) -> None:
        self.config.spec = json.dumps({"encoder": encoder, "predictor": predictor, "low": low, "high": high})

    def _built(self) -> WorldModel:
        spec = json.loads(self.config.spec)
        encoder = instantiate(spec["encoder"])
        normalizer = ActionNormalizer(tuple(spec["low"]), tuple(spec["high"]), self.config.frameskip)
        sizes = {"latent_dim": encoder.latent_dim, "num_tokens": encoder.num_tokens}
        predictor = instantiate(spec["predictor"])(**sizes, action_dim=len(spec["low"]) * self.config.frameskip)
        return WorldModel(encoder, predictor, normalizer)

    def _goal_picture(self, meta: Any) -> Tensor:
        """uint8 (image_size,image_size,3)."""
        goal = self.config.goal
        kind, _, number = goal.partition(":")
        if kind == "episode" and number.isdecimal():
            if meta is None:
                raise ValueError(f"goal={goal} needs a dataset, and there is none here; give a picture file")
            if int(number) >= meta.total_episodes:
                raise ValueError(f"goal={goal}: the dataset has {meta.total_episodes} episodes, 0 to one less")
            from lerobot.datasets.lerobot_dataset import LeRobotDataset

            data = LeRobotDataset(meta.repo_id, root=meta.root, episodes=[int(number)], video_backend="pyav")
            picture = data[len(data) - 1][self.config.camera]
        elif Path(goal).is_file():
            try:
                content = imageio.imread(goal, mode="RGB")
            except (OSError, ValueError, TypeError) as error:
                raise ValueError(f"goal={goal}: not a picture ({error})") from error
            picture = torch.from_numpy(np.array(content)).movedim(-1, 0) / 255
        else:
            raise ValueError(f"goal must be a picture file, or episode:<number> of the dataset, got {goal!r}")
        return as_pixels(picture[None], self.config.image_size)[0, 0].round().byte().movedim(0, -1)

    # ---- LeRobot ----------------------------------------------------------------------------------------------

    def get_optim_params(self) -> Iterator[torch.nn.Parameter]:
        return self.parameters()

    def reset(self) -> None:
        """To be called when an episode starts."""
        self._player: PlanningPolicy | None = None

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Total loss of a batch of clips, and its terms by name."""
        if self.config.relative_actions:
            raise ValueError("a run with relative actions is trained with scripts/train_world_model.py, not here")
        pixels = as_pixels(batch[self.config.camera], self.config.image_size)
        action = batch[ACTION].unflatten(1, (-1, self.config.frameskip)).flatten(2)
        losses = self.system(Segment({"pixels": pixels}, action, pixels.new_zeros(len(pixels), pixels.shape[1], 0)))
        return losses["total"], {name: loss.item() for name, loss in losses.items() if name != "total"}

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """(B,action): plans towards the goal picture every ``replan_every`` steps."""
        self.eval()
        picture = as_pixels(batch[self.config.camera], self.config.image_size)[:, 0]
        if self._player is None:
            self._player = self._planner(len(picture))
        pixels = picture.round().byte().movedim(1, -1).cpu().numpy()
        action = torch.from_numpy(self._player.act({"pixels": pixels})).to(picture.device)
        if self.config.relative_actions:
            action = batch[OBS_STATE][:, : action.shape[1]] + self.config.relative_actions * action
        return action

    def predict_action_chunk(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """(B,1,action): a planner answers for the present step only."""
        return self.select_action(batch)[:, None]

    def _planner(self, num_envs: int) -> PlanningPolicy:
        config = self.config
        cem = CEM(num_samples=config.num_samples, num_iterations=config.num_iterations, num_elites=config.num_elites)
        player = PlanningPolicy(
            self.system.model, cem, GoalDistance(), horizon=config.horizon, replan_every=config.replan_every
        )
        goals = self.goal.cpu().numpy()[None].repeat(num_envs, 0)
        player.reset({"pixels": goals}, range(config.seed, config.seed + num_envs))
        return player
