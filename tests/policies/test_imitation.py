"""Chunk policies: what is executed when, averaging over chunks, and training that goes from a store to a policy."""

import json
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from policies.chunk_policy import ChunkPolicy, load_chunk_policy
from policies.imitation import build_imitation, imitation_config, train_imitation
from worldjepa import training
from worldjepa.checkpoint import load_tensors
from worldjepa.config import TrainSettings
from worldjepa.datasets.store import EpisodeStore
from worldjepa.types import EnvSpec, Episode, FieldSpec

H = 4


class Counter(nn.Module):
    """Says at look n: action (n, step of the chunk), whatever it sees."""

    horizon, observes, num_history = H, ("pixels",), 1

    def __init__(self):
        super().__init__()
        self.register_buffer("nothing", torch.zeros(0))
        self.looks = 0

    def forward(self, obs, generator):
        chunk = torch.tensor([[[float(self.looks), float(step)] for step in range(H)]])
        self.looks += 1
        return chunk


SEEN = {"pixels": np.zeros((1, 8, 8, 3), np.uint8)}


def acted(policy, steps):
    policy.reset({}, [0])
    return [policy.act(SEEN)[0].tolist() for _ in range(steps)]


def test_a_chunk_is_executed_as_far_as_asked():
    assert acted(ChunkPolicy(Counter(), execute=3), 5) == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert acted(ChunkPolicy(Counter(), execute=1), 2) == [[0, 0], [1, 0]]


def test_averaging_weighs_the_oldest_chunk_most():
    """At step 5 chunks 2, 3, 4 and 5 speak of it; weights exp(-m n), n = 0 for the oldest."""
    policy = ChunkPolicy(Counter(), execute=1, ensemble=0.5)
    weights = np.exp(-0.5 * np.arange(H))
    weights /= weights.sum()
    wanted = weights @ np.array([[2, 3], [3, 2], [4, 1], [5, 0]], float)
    np.testing.assert_allclose(acted(policy, 6)[-1], wanted, rtol=1e-6)
    assert policy.model.looks == 6


def test_a_reset_forgets_the_chunk():
    policy = ChunkPolicy(Counter(), execute=4)
    acted(policy, 2)
    assert acted(policy, 1) == [[1, 0]]


@pytest.mark.parametrize("execute", [0, H + 1])
def test_more_than_the_chunk_cannot_be_executed(execute):
    with pytest.raises(ValueError, match="between 1 and the chunk's 4"):
        ChunkPolicy(Counter(), execute)


# ---- from a store to a policy -----------------------------------------------------------------------------------

SIZE = 16
SPEC = EnvSpec(
    "test/Env-v0",
    {
        "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "proprioception": FieldSpec("float32", (2,)),
        "action": FieldSpec("float32", (2,)),
        "state": FieldSpec("float32", (2,)),
    },
    (-1.0, -1.0),
    (1.0, 1.0),
    ("x", "y"),
    10.0,
)


@pytest.fixture
def config(tmp_path):
    """Episodes that act by where they are: action = -state."""
    store = EpisodeStore.create(tmp_path / "store", SPEC)
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(30):
        state = np.clip(np.cumsum(rng.normal(0, 0.2, (12, 2)), 0), -1, 1).astype(np.float32)
        action = -state.copy()
        action[-1] = 0
        pixels = np.full((12, SIZE, SIZE, 3), 100, np.uint8)
        arrays = {"pixels": pixels, "proprioception": state, "action": action, "state": state}
        episodes.append(Episode(arrays, f"human/{number}", "human"))
    store.write_shard("human", 0, episodes)
    encoder = {
        "_target_": "worldjepa.encoders.feature_map.ConvTokens",
        "image_size": "${env.image_size}",
        "latent_dim": 8,
        "widths": [4, 8],
    }
    queries = {"_target_": "worldjepa.predictors.queries.QueryPredictor", "_partial_": True, "width": 8, "heads": 2}
    context = {"_target_": "worldjepa.systems.act_jepa.ContextEncoder", "_partial_": True, "width": 8, "depth": 1}
    policy = {
        **{"name": "act_jepa", "horizon": H, "execute": 2, "ensemble": None, "feels": True},
        **{"encoder": encoder, "context": {**context, "heads": 2, "dropout": 0.0}},
        **{"decoder": queries, "predictor": queries, "predicts": "proprioception", "every": 2},
        "target": {"_target_": "worldjepa.targets.Ema", "_partial_": True},
        **{
            "imitation": 1.0,
            "prediction": 1.0,
            "frozen": "nothing",
            "shift": 1,
            "two_stage": False,
            "loss": "l1",
            "overshoot": None,
        },
    }
    train = vars(TrainSettings(steps=4, batch_size=16, processes=1, precision="no", seed=0, num_evaluations=1))
    env = {
        "name": "test",
        "id": None,
        "image_size": 64,
        "imitation": {"image_size": SIZE, "store": str(tmp_path / "store")},
    }
    train = {**train, "trackers": [], "log_every": 1}
    rest = {"data": {"demonstrations": "none"}, "seed": 0, "collection_seed": 0, "collection_workers": None}
    return OmegaConf.create({"env": env, "policy": policy, "run": None, "train": train, **rest})


def train_in(made, folder):
    folder.mkdir()
    OmegaConf.save(made, folder / "config.yaml")
    train_imitation(str(folder))


def trained(config, folder):
    train_in(imitation_config(config), folder)
    return load_tensors(folder / "model.safetensors")[0]


@pytest.mark.parametrize("changes", [{}, {"predictor": None}, {"predicts": "pixels"}, {"two_stage": True}])
def test_a_policy_is_trained_saved_and_acts(config, tmp_path, changes):
    config.policy.update(changes)
    trained(config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {name for row in rows for name in row}
    assert "loss/imitation" in logged and {"eval/held_out_error", "eval/probe/state/later"} <= logged
    assert ("loss/prediction" in logged) == (changes.get("predictor", 1) is not None and "two_stage" not in changes)
    policy = load_chunk_policy([0], path=str(tmp_path / "run"))
    assert policy.observes == ("pixels", "proprioception") and policy.execute == 2
    policy.reset({}, [0, 1])
    seen = {"pixels": np.zeros((2, SIZE, SIZE, 3), np.uint8), "proprioception": np.zeros((2, 2), np.float32)}
    action = policy.act(seen)
    assert action.shape == (2, 2) and np.abs(action).max() <= 1


def test_a_policy_that_knows_the_task_does_the_opposite_where_that_is_asked(config, tmp_path):
    """Half of the episodes go right and up, half left and down: without the task nothing beats the mean action."""
    old, rng = EpisodeStore.open(tmp_path / "store"), np.random.default_rng(0)
    errors = {}
    for tasks in (("right", "left"), ()):
        field = {"task": FieldSpec("int64", ())} if tasks else {}
        store = EpisodeStore.create(
            tmp_path / f"store{len(tasks)}", replace(SPEC, fields=SPEC.fields | field, tasks=tasks)
        )
        episodes = []
        for index, which in enumerate(rng.integers(2, size=old.num_episodes)):
            arrays = {name: np.asarray(array) for name, array in old.episode(index).arrays.items()}
            arrays["action"] = np.full_like(arrays["action"], (0.5 - which) * (np.arange(12) < 11)[:, None])
            told = {"task": np.full(len(arrays["action"]), which)} if tasks else {}
            episodes.append(Episode(arrays | told, f"human/{index}", "human"))
        store.write_shard("human", 0, episodes)
        made = config.copy()
        made.env.imitation.store = str(store.path)
        made.train.update({"steps": 200, "learning_rate": 3e-3, "warmup_steps": 10})
        trained(made, tmp_path / f"run{len(tasks)}")
        rows = [json.loads(line) for line in (tmp_path / f"run{len(tasks)}" / "metrics.jsonl").read_text().splitlines()]
        errors[bool(tasks)] = next(row["eval/held_out_error"] for row in rows if "eval/held_out_error" in row)
    assert errors[True] < 0.5 * errors[False], errors


def test_the_second_stage_leaves_what_the_first_learned(config, tmp_path):
    config.policy.two_stage = True
    made = trained(config, tmp_path / "run")
    first = load_tensors(tmp_path / "run" / "pretraining" / "checkpoint.safetensors")[0]
    for name, value in made.items():
        if name.startswith(("encoder.", "context.")):
            torch.testing.assert_close(first[f"system.model.{name}"], value)


def test_the_same_seed_gives_the_same_policy(config, tmp_path):
    one, two = (trained(config, tmp_path / name) for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_interrupted_run_ends_like_an_uninterrupted_one_with_dropout_and_shifts(config, tmp_path, monkeypatch):
    """Nothing that a step draws may depend on how many steps this process has made."""
    config.policy.context.dropout, config.policy.shift, config.train.steps = 0.5, 2, 12
    whole = trained(config, tmp_path / "whole")
    factor = training.learning_rate_factor

    def interrupts(step, *words):
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return factor(step, *words)

    monkeypatch.setattr(training, "learning_rate_factor", interrupts)
    with pytest.raises(training.Interrupted):
        trained(config, tmp_path / "part")
    monkeypatch.setattr(training, "learning_rate_factor", factor)
    train_imitation(str(tmp_path / "part"))
    found = load_tensors(tmp_path / "part" / "model.safetensors")[0]
    assert all(torch.equal(whole[name], found[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_train_and_measure_together(config, tmp_path):
    config.train.num_evaluations = 2
    made = imitation_config(config)
    (tmp_path / "run").mkdir()
    OmegaConf.save(made, tmp_path / "run" / "config.yaml")
    training.launch(train_imitation, (str(tmp_path / "run"),), 2)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("eval/held_out_error" in row for row in rows) == 2


def test_statistics_are_those_of_the_training_split(config):
    made = imitation_config(config)
    model, chunks = build_imitation(made, EpisodeStore.open(made.env.store))
    mean, std = chunks.statistics("action")
    torch.testing.assert_close(model.action_normalizer.center, mean)
    torch.testing.assert_close(model.action_normalizer.scale, std)
    torch.testing.assert_close(model.encoder.normalizer.mean, torch.full((3, SIZE, SIZE), 100.0))


def test_what_imitation_changes_of_an_environment(config):
    config.env.kwargs = {"image_size": "${env.image_size}", "reward": "none"}
    config.env.imitation.kwargs = {"reward": "coverage"}
    made = imitation_config(config)
    assert made.env.kwargs == {"image_size": SIZE, "reward": "coverage"} and "imitation" not in made.env
    assert made.policy.encoder.image_size == SIZE


def test_episodes_that_lack_what_a_policy_needs_are_refused_by_name(config, tmp_path):
    fields = {name: field for name, field in SPEC.fields.items() if name != "proprioception"}
    spec = EnvSpec("lerobot/blind", fields, SPEC.action_low, SPEC.action_high, SPEC.state_names, 10.0)
    arrays = {name: np.zeros((9, *field.shape), field.dtype) for name, field in fields.items()}
    arrays["action"][:-1] = np.random.default_rng(0).normal(size=(8, 2))
    store = EpisodeStore.create(tmp_path / "blind", spec)
    store.write_shard("human", 0, [Episode(arrays, f"human/{number}", "human") for number in range(9)])
    config.env.imitation.store = str(tmp_path / "blind")
    store.refresh()
    with pytest.raises(
        ValueError, match=r"act_jepa needs proprioception, the episodes of lerobot/blind have action, pixels"
    ):
        build_imitation(imitation_config(config), store)
    config.policy.update({"feels": False})
    with pytest.raises(ValueError, match="'proprioception' is no observation of the store"):
        build_imitation(imitation_config(config), store)
    config.policy.update({"predictor": None})
    assert build_imitation(imitation_config(config), store)[0].observes == ("pixels",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 5}, "policy.every must be in 1..policy.horizon"),
        ({"execute": 5}, "policy.execute must be in 1..policy.horizon"),
        ({"encoder.image_size": 18}, "image_size must be divisible by 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_trained(config, settings, message):
    for key, value in settings.items():
        OmegaConf.update(config, f"policy.{key}", value)
    made = imitation_config(config)
    with pytest.raises(ValueError, match=message):
        build_imitation(made, EpisodeStore.open(made.env.store))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (partial(OmegaConf.update, key="env", value=None), "give env=<environment>"),
        (lambda config: config.env.pop("imitation"), "no section imitation"),
    ],
)
def test_an_environment_without_demonstrations_is_refused(config, change, message):
    change(config)
    with pytest.raises(ValueError, match=message):
        imitation_config(config)


def test_a_folder_without_a_policy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a trained policy"):
        load_chunk_policy([0], path=str(tmp_path))


@pytest.mark.parametrize(
    ("frozen", "asked", "used"), [("nothing", None, 4), ("encoder", None, 0), ("encoder", 2, 2), ("nothing", 0, 0)]
)
def test_pictures_are_moved_unless_the_encoder_is_frozen_or_it_is_said_how_far(frozen, asked, used, config):
    config.policy.frozen, config.policy.shift = frozen, asked
    assert imitation_config(config).policy.shift == used
