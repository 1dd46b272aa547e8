import json
import signal

import numpy as np
import pytest
import torch

import worldjepa.training as training
from worldjepa.checkpoint import STATE_FILE, load_tensors
from worldjepa.config import TrainSettings
from worldjepa.datasets.store import EpisodeStore, is_held_out
from worldjepa.datasets.windows import Windows
from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.objectives import LatentSigReg, OneStepError, RolloutError
from worldjepa.predictors.residual_mlp import ResidualMlpPredictor
from worldjepa.systems.world_model import build_system, build_world_model
from worldjepa.targets import Ema, Live
from worldjepa.training import Interrupted, launch, learning_rate_factor, pick_precision, step_generator, train
from worldjepa.types import EnvSpec, Episode, FieldSpec

SIZE, FRAMES, FRAMESKIP = 16, 21, 2
SPEC = EnvSpec(
    env_id="Dot-v0",
    fields={
        "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "action": FieldSpec("float32", (2,)),
        "state": FieldSpec("float32", (2,)),
    },
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    state_names=("x", "y"),
    frame_rate=10.0,
)


def dot_store(path) -> EpisodeStore:
    """A bright dot that actions push around."""
    rng, store = np.random.default_rng(0), EpisodeStore.create(path, SPEC)
    episodes = []
    for i in range(30):
        action = rng.uniform(-1, 1, (FRAMES, 2)).astype(np.float32)
        action[-1] = 0
        start = rng.uniform(4, 12, 2)
        state = np.clip(start + np.cumsum(np.vstack([np.zeros(2), action[:-1]]), 0), 2, 13).astype(np.float32)
        pixels = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)
        for frame, (x, y) in zip(pixels, state.round().astype(int), strict=True):
            frame[y - 1 : y + 2, x - 1 : x + 2] = 255
        episodes.append(Episode({"pixels": pixels, "action": action, "state": state}, f"dot/{i}", "random"))
    store.write_shard("random", 0, episodes)
    store.refresh()
    return store


def build(store, seed=0, target=Live):
    torch.manual_seed(seed)
    model = build_world_model(
        ConvEncoder(SIZE, 6, widths=(4, 8), hidden=16),
        lambda **sizes: ResidualMlpPredictor(**sizes, width=16, condition_dim=8),
        store.spec,
        FRAMESKIP,
    )
    terms = {"one_step": OneStepError(), "rollout": RolloutError(), "sigreg": LatentSigReg(8)}
    system = build_system(model, terms, {"one_step": 1.0, "rollout": 1.0, "sigreg": 0.05}, target)
    return system, Windows(store, 4, FRAMESKIP, ("pixels",))


def settings(**changes):
    values = {"steps": 24, "batch_size": 6, "clip_frames": 4, "precision": "no", "processes": 1, "log_every": 4}
    return TrainSettings(**(values | {"trackers": (), "device": "cpu", "seed": 3, "warmup_steps": 5} | changes))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return dot_store(tmp_path_factory.mktemp("dots") / "store")


class InterruptAt:
    """Asks to stop, as Ctrl-C would, when the learning rate of a step is computed."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step, progress, settings):
        if step == self.step:
            signal.raise_signal(signal.SIGINT)
        return learning_rate_factor(step, progress, settings)


@pytest.mark.parametrize(("flags", "picked"), [({"avx2"}, "no"), ({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16")])
def test_bf16_is_taken_where_it_is_computed_and_where_it_is_asked_for(flags, picked, monkeypatch):
    monkeypatch.setattr("worldjepa.processor.processor_flags", lambda: flags)
    settings = {"steps": 1, "seed": 0, "device": "cpu"}
    assert pick_precision(TrainSettings(**settings)) == picked
    assert [pick_precision(TrainSettings(**settings, precision=asked)) for asked in ("bf16", "no")] == ["bf16", "no"]
    with pytest.raises(ValueError, match="'auto', 'bf16' or 'no', got 'fp8'"):
        TrainSettings(**settings, precision="fp8")


@pytest.mark.parametrize("target", [Live, Ema])
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(store, tmp_path, monkeypatch, target):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    system, windows = build(store, target=target)
    train(system, windows, settings(), whole)
    for step in (3, 13):
        monkeypatch.setattr(training, "learning_rate_factor", InterruptAt(step))
        system, windows = build(store, seed=99 + step, target=target)  # other initial weights: the checkpoint's count
        if step == 3:
            system, windows = build(store, target=target)
        with pytest.raises(Interrupted, match="repeat the command"):
            train(system, windows, settings(), broken)
    monkeypatch.setattr(training, "learning_rate_factor", learning_rate_factor)
    system, windows = build(store, seed=5, target=target)
    train(system, windows, settings(), broken)
    expected, found = load_tensors(whole / STATE_FILE)[0], load_tensors(broken / STATE_FILE)[0]
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 8, 12, 16, 20, 24]


@torch.no_grad()
def predicted_by_right_and_wrong_actions(system, store):
    """Predictions of held-out clips, and the control: with other clips' actions."""
    held_out = Windows(store, 4, FRAMESKIP, ("pixels",), "held_out").sample(64, 0, 0)
    system.eval()
    right = system.predict_clip(held_out)
    held_out.action = held_out.action.roll(1, 0)
    return right, system.predict_clip(held_out)


def test_training_predicts_better_than_copying_and_a_model_without_actions_does_not(store, tmp_path):
    """The dot moves by its actions alone: a model that learned anything beats "nothing changes" on held-out clips."""
    system, windows = build(store)
    train(system, windows, settings(steps=250, batch_size=32, learning_rate=5e-3), tmp_path)
    right, wrong = predicted_by_right_and_wrong_actions(system, store)
    copied = (right.latent[:, 1:] - right.latent[:, :1]).square().mean()
    errors = [(p.rollout - p.latent[:, 1:]).square().mean() / copied for p in (right, wrong)]
    assert errors[0] < 0.7 < 1 < errors[1]


@pytest.mark.parametrize("budget", [{"steps": 12}, {"steps": None, "minutes": 0.02}])
def test_the_last_evaluation_sees_the_finished_model(store, tmp_path, budget):
    """A budget of minutes runs out between two steps, and that must not swallow it."""
    system, windows = build(store)
    train(system, windows, settings(**budget, num_evaluations=2), tmp_path, lambda model: {"rankme": 1.0})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row["step"] for row in rows if "eval/rankme" in row]
    trained = [row["step"] for row in rows if "loss/total" in row]
    assert 1 <= len(evaluated) <= 2 and evaluated[-1] >= trained[-1]
    assert "eval/rankme" in rows[-1]


def test_held_out_groups_are_never_trained_on(store):
    _, windows = build(store)
    held_out = {i for i, group in enumerate(store.groups) if is_held_out(group)}
    assert held_out and not held_out & set(windows.episodes)


def test_the_loss_going_to_infinity_is_said_with_its_cure(store, tmp_path):
    system, windows = build(store)
    system.model.encoder.head[-1].weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(system, windows, settings(), tmp_path)


def test_learning_rate_warms_up_and_decays_to_its_floor():
    s = settings(warmup_steps=10, final_lr_fraction=0.1)
    assert learning_rate_factor(0, 0, s) == pytest.approx(0.1)
    assert learning_rate_factor(9, 0, s) == pytest.approx(1.0)
    assert learning_rate_factor(10**6, 0.5, s) == pytest.approx(0.55)
    assert learning_rate_factor(10**6, 1.0, s) == pytest.approx(0.1)


def test_every_step_has_its_own_random_stream():
    draws = {float(torch.rand(1, generator=step_generator(seed, step))) for seed in range(5) for step in range(50)}
    assert len(draws) == 250
    again = torch.rand(3, generator=step_generator(2, 7))
    assert torch.equal(again, torch.rand(3, generator=step_generator(2, 7)))


def test_settings_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="exactly one"):
        settings(minutes=3)
    with pytest.raises(ValueError, match="clip_frames"):
        settings(clip_frames=1)
    with pytest.raises(ValueError, match=r"train.batch_size must be > 0, got 0"):
        settings(batch_size=0)


def train_in_ranks(folder: str, processes: int) -> None:
    store = EpisodeStore.open(f"{folder}/store")
    system, windows = build(store)
    train(system, windows, settings(steps=8, processes=processes), __import__("pathlib").Path(folder))


def test_two_processes_agree_on_one_model(tmp_path):
    """Data-parallel training ends, and is the same each time; BatchNorm sees half batches, so it is no single run."""
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        dot_store(tmp_path / name / "store")
        launch(train_in_ranks, (str(tmp_path / name), 2), 2)
        models.append(load_tensors(tmp_path / name / STATE_FILE)[0])
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def fail_in_ranks(kind: type[BaseException]) -> None:
    raise kind("said in a rank") if kind is not KeyboardInterrupt else kind


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError, "said in a rank"), (Interrupted, "said in a rank"), (KeyboardInterrupt, "repeat the command")],
)
def test_what_a_process_says_reaches_the_user(raised, expected):
    kind = Interrupted if raised is KeyboardInterrupt else raised
    with pytest.raises(kind, match=expected):
        launch(fail_in_ranks, (raised,), 2)
