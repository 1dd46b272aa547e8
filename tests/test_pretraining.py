import json
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from safetensors.torch import load_file

from worldjepa.datasets.images import load_digits
from worldjepa.encoders.vit import Vit
from worldjepa.evaluation.classification import probe_encoder
from worldjepa.objectives.distances import make_distance
from worldjepa.predictors.masked import MaskedPredictor
from worldjepa.pretraining import PretrainSettings, learning_rate_factor, pretrain, pretrain_run
from worldjepa.samplers import MultiBlock
from worldjepa.studies.i_jepa_digits import CONFIGS
from worldjepa.systems.masked import MaskedJepa
from worldjepa.targets import Ema
from worldjepa.tokenizers import ImageTokenizer


def small_system() -> MaskedJepa:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(8, 2, channels=1, mean=0.305, std=0.376)
    return MaskedJepa(
        tokenizer,
        Vit(tokenizer.token_dim, 32, depth=1, heads=2),
        MultiBlock(num_targets=1, min_keep=4),
        MaskedPredictor(32, width=16, depth=1, heads=2),
        partial(Ema, start=0.996),
        make_distance("smooth_l1"),
    )


def test_learning_rate_rises_linearly_then_falls_as_a_cosine():
    factors = [learning_rate_factor(progress, 0.2) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert factors == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_training_is_reproducible_and_changes_the_encoder_and_the_teacher():
    train, _ = load_digits(seed=0)
    settings = PretrainSettings(steps=6, batch_size=8, log_every=2, num_evaluations=2, seed=3)

    def evaluate(system: MaskedJepa) -> dict[str, float]:
        assert not system.training and not torch.is_grad_enabled()
        return {"norm": float(sum(w.norm() for w in system.parameters()))}

    first, again, start = small_system(), small_system(), small_system()
    rows = pretrain(first, {"pixels": train.pixels}, settings, evaluate)
    pretrain(again, {"pixels": train.pixels}, settings, evaluate)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    changed = {name for name, weight in first.state_dict().items() if not torch.equal(weight, start.state_dict()[name])}
    assert {"encoder.embedding.weight", "target.module.embedding.weight", "predictor.mask_token"} <= changed
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6]
    assert [row["step"] for row in rows if "norm" in row] == [3, 6]


def test_a_diverged_loss_is_named():
    system = small_system()
    with torch.no_grad():
        system.encoder.embedding.weight.fill_(float("nan"))
    train, _ = load_digits(seed=0)
    with pytest.raises(FloatingPointError, match=r"step 0; lower train\.learning_rate"):
        pretrain(system, {"pixels": train.pixels}, PretrainSettings(steps=2, batch_size=8, seed=0))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"train.steps must be > 0, got 0"):
        PretrainSettings(steps=0, seed=0)
    with pytest.raises(ValueError, match=r"train.warmup_fraction must be in \[0, 1\)"):
        PretrainSettings(warmup_fraction=1.0, seed=0)


def test_a_run_leaves_weights_configuration_and_metrics(tmp_path):
    ConfigStore.instance().store("base_pretrain", {"train": PretrainSettings})
    overrides = ["model=i_jepa", "data=digits", f"run_dir={tmp_path}", "train.steps=4", "train.log_every=2"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", overrides)
    result = pretrain_run(config, show_progress=False)
    weights = load_file(tmp_path / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"encoder", "predictor", "target"}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["probe_accuracy"] == result["random_probe_accuracy"]
    assert rows[-1]["step"] == 4 and rows[-1]["probe_accuracy"] == result["probe_accuracy"]
    assert "seed: 0" in (tmp_path / "config.yaml").read_text()


@pytest.mark.slow
def test_learning_beats_the_mean_latent_and_keeps_the_rank():
    train, held_out = load_digits(seed=0)
    system = small_system()

    def evaluate(system: MaskedJepa) -> dict[str, float]:
        return probe_encoder(lambda pixels: system.encode({"pixels": pixels}).mean(1), train, held_out)

    with torch.no_grad():
        untrained = evaluate(system)["rankme"]  # about 2.8
    settings = PretrainSettings(steps=600, learning_rate=2e-3, num_evaluations=6, seed=0)
    rows = pretrain(system, {"pixels": train.pixels}, settings, evaluate)
    losses = [row for row in rows if "loss" in row][-5:]
    assert sum(row["loss"] for row in losses) < 0.8 * sum(row["mean_latent"] for row in losses)  # about 0.5
    ranks = [row["rankme"] for row in rows if "rankme" in row]
    assert min(ranks) > 2 and ranks[-1] > 1.2 * untrained
