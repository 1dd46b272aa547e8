"""What must hold of every model that learns from samples; the configurations are found by themselves."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import LoopSettings
from worldjepa.pretraining import build_samples_system, open_samples
from worldjepa.targets import Ema, FixedFeature, Live
from worldjepa.types import SampleBatch, TokenSet

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml") if "\ntokenizer:" in path.read_text())
B = 6


@cache
def parts(name: str):
    """A system and a batch of samples."""
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", [f"model={name}"])
        if "num_train" in config.data.source:
            sizes = ["data.source.num_train=40", "data.source.num_held_out=20"]
            config = compose("pretrain", [f"model={name}", *sizes])
    samples, _ = open_samples(config)
    return build_samples_system(config, samples), SampleBatch(samples[:B].observation)


def masked(name: str):
    system, batch = parts(name)
    if not hasattr(system, "sampler"):
        pytest.skip(f"{name} hides nothing: it compares views")
    return system.eval(), batch, system.model.tokenizer(batch.observation)


def changed(tokens: TokenSet, where: torch.Tensor) -> TokenSet:
    values = torch.where(where[..., None], tokens.values.flip(-1) + 3.0, tokens.values)
    return TokenSet(values, tokens.coords, tokens.valid, tokens.pinned)


def test_there_are_some():
    assert "i_jepa" in NAMES


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_masks_are_what_they_should_be(name, progress):
    system, _, tokens = masked(name)
    masks = system.sampler(tokens, torch.Generator().manual_seed(0), progress, system.target)
    again = system.sampler(tokens, torch.Generator().manual_seed(0), progress, system.target)
    assert torch.equal(masks.context, again.context) and torch.equal(masks.targets, again.targets)
    rows = len(masks.context) // B
    assert len(masks.context) == rows * B and masks.targets.shape[::2] == masks.context.shape
    valid = tokens.valid.repeat_interleave(rows, 0)
    assert not (masks.context[:, None] & masks.targets).any(), "a context that holds its target has nothing to predict"
    assert masks.context[:, tokens.pinned].all() and not masks.targets[:, :, tokens.pinned].any()
    assert not (masks.context & ~valid).any() and not (masks.targets & ~valid[:, None]).any()
    assert masks.context[:, ~tokens.pinned].any(1).all()
    assert masks.targets.flatten(1).any(1).all()


@pytest.mark.parametrize("name", NAMES)
def test_hidden_tokens_leave_the_prediction_bit_identical(name):
    system, _, tokens = masked(name)
    masks = system.sampler(tokens, torch.Generator().manual_seed(0), 0.5, system.target)
    rows = len(masks.context) // B
    context = masks.context.view(B, rows, -1)
    with torch.no_grad():
        before, _, valid = system.model.predict(tokens, masks)
        for row in range(rows):  # what one row hides another may show
            mine = torch.arange(row, rows * B, rows)
            after, _, _ = system.model.predict(changed(tokens, ~context[:, row]), masks)
            assert torch.equal(before[mine][valid[mine]], after[mine][valid[mine]])
        after, _, _ = system.model.predict(changed(tokens, context.any(1) & ~tokens.pinned), masks)
        assert not torch.allclose(before[valid], after[valid], atol=1e-3), "what is visible must matter"


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_has_no_gradient_and_follows_in_closed_form(name):
    system, batch = parts(name)
    system.train()
    system.zero_grad()
    losses = system(batch, torch.Generator().manual_seed(0))
    losses["total"].backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert sum(float(p.grad.norm()) for p in system.model.encoder.parameters() if p.grad is not None) > 0
    target = getattr(system, "target", None)
    if not isinstance(target, Ema):
        assert (
            target is None
            or isinstance(target, (Live, FixedFeature))
            or not any(p.requires_grad for p in target.parameters())
        )
        return
    assert all(p.grad is None for p in target.parameters())
    assert not any(module.training for module in target.module.modules())
    before = [p.clone() for p in target.module.parameters()]
    with torch.no_grad():
        for p in system.model.encoder.parameters():
            p.add_(0.1)
    system.update_target(0.25)
    momentum = target.momentum(0.25)
    for old, slow, fast in zip(before, target.module.parameters(), system.model.encoder.parameters(), strict=True):
        assert torch.allclose(slow, momentum * old + (1 - momentum) * fast, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_features_do_not_depend_on_the_batch(name):
    system, batch = parts(name)
    system.eval()
    with torch.no_grad():
        together = system.model.features(batch.observation)
        alone = system.model.features({key: x[2:3] for key, x in batch.observation.items()})
    assert together.shape[0] == B and torch.allclose(together[2:3], alone, atol=1e-4)
