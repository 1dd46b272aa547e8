"""LeRobot's own commands with each policy type, as the README shows them: train, then evaluate what was saved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.pusht import PushT
from envs.pusht_physics import random_state
from worldjepa.datasets.lerobot import export_lerobot
from worldjepa.datasets.store import EpisodeStore
from worldjepa.types import EnvSpec, Episode

pytest.importorskip("lerobot_policy_worldjepa", reason="needs the extra lerobot")

TYPES = {
    "worldjepa_act": [],
    "worldjepa_mpc": [],
    "worldjepa_encoder": [],
    "worldjepa_encoder with diffusion": ["--policy.head=diffusion", "--policy.width=32"],
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Three short episodes of an agent that wanders."""
    folder = tmp_path_factory.mktemp("lerobot")
    env = PushT(image_size=64, action_mode="absolute")
    store, rng, episodes = EpisodeStore.create(folder / "store", EnvSpec.from_env(env)), np.random.default_rng(0), []
    for number in range(3):
        observation, info = env.reset(options={"state": random_state(rng)})
        rows = []
        for _ in range(30):
            action = np.clip(info["state"][:2] + rng.normal(0, 40, 2), 0, 512).astype(np.float32)
            rows.append({**observation, "action": action, "state": info["state"].astype(np.float32)})
            observation, _, _, _, info = env.step(action)
        rows[-1]["action"] = np.zeros(2, np.float32)
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        episodes.append(Episode(arrays, f"wander/{number}", "wander"))
    store.write_shard("wander", 0, episodes)
    store.refresh()
    export_lerobot(store, folder / "data", "local/pusht", task="wander")
    return folder / "data"


def lerobot(command: str, *words: str, home: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_LEROBOT_HOME": str(home), "SDL_VIDEODRIVER": "dummy"}
    program = Path(sys.executable).with_name(f"lerobot-{command}")
    done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_trained_and_evaluated_offline(dataset, tmp_path, name):
    run = tmp_path / "run"
    lerobot(
        "train",
        *("--dataset.repo_id=local/pusht", f"--dataset.root={dataset}", f"--output_dir={run}", "--steps=50"),
        *(f"--policy.type={name.split()[0]}", "--policy.device=cpu", "--policy.push_to_hub=false", *TYPES[name]),
        *("--batch_size=8", "--num_workers=0", "--env_eval_freq=0", "--save_freq=50", "--wandb.enable=false"),
        home=tmp_path,
    )
    saved = run / "checkpoints" / "last" / "pretrained_model"
    assert {"config.json", "model.safetensors"} <= {path.name for path in saved.iterdir()}
    lerobot(
        "eval",
        *(f"--policy.path={saved}", "--policy.device=cpu", "--env.type=pusht", "--env.episode_length=20"),
        *("--eval.n_episodes=2", "--eval.batch_size=2", "--eval.use_async_envs=false", f"--output_dir={run}/eval"),
        home=tmp_path,
    )
    overall = json.loads((run / "eval" / "eval_info.json").read_text())["overall"]
    assert overall["n_episodes"] == 2 and 0 <= overall["avg_max_reward"] <= 1
