"""Tokens of a LiDAR's sweeps: where they come from, what is trained, and from which run."""

import pytest
import torch
from omegaconf import OmegaConf

from worldjepa.checkpoint import MODEL_FILE, save_tensors, start_from
from worldjepa.encoders.bev import BevEncoder
from worldjepa.encoders.bev_tokens import BevTokens
from worldjepa.sweeps import RangeImage
from worldjepa.voxels import VoxelGrid

SENSOR = RangeImage(8, 64)
GRID = VoxelGrid((-6.4, -6.4, -2.0), (6.4, 6.4, 1.0), (0.4, 0.4, 0.5))
AREA = {"x": (-6.4, 6.4), "y": (-6.4, 6.4)}
SMALL = {
    "sensor": SENSOR,
    "area": AREA,
    "grid": GRID,
    "widths": (8, 8),
    "bev_dim": 8,
    "head_widths": (8, 16),
    "latent_dim": 12,
}


def sweeps(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ranges = 1 + 5 * torch.rand(*shape, 8, 64, 1, generator=generator)
    return torch.cat([ranges, torch.rand(*shape, 8, 64, 1, generator=generator)], -1).half()


def test_a_thing_shows_in_the_tokens_of_its_place_alone():
    torch.manual_seed(0)
    encoder = BevTokens(**SMALL).eval()
    assert encoder.coords.shape == (encoder.num_tokens, 2) == (16, 2)
    before = sweeps(1, 1)
    after = before.clone()
    points = SENSOR.directions * before[0, 0, ..., :1].float()
    there = (points[..., 0] > 3.5) & (points[..., 1] > 3.5)  # ahead, to the left: the last cell of 4 x 4
    assert there.any()
    after[0, 0][there] = 0
    changed = (encoder({"sweep": before}) - encoder({"sweep": after})).abs().sum(-1)[0, 0] > 1e-6
    place = encoder.coords.long()
    assert changed[(place == 3).all(1)]
    # Convolutions look a little beyond their cells, and the norm of a group at all of them: nothing moves but there.
    strongest = (encoder({"sweep": before}) - encoder({"sweep": after})).abs().sum(-1)[0, 0].argmax()
    assert (place[strongest] >= 2).all()


def test_a_frozen_view_neither_learns_nor_counts():
    torch.manual_seed(0)
    encoder = BevTokens(**SMALL).train()
    kept = {name: x.clone() for name, x in encoder.view.encoder.state_dict().items()}
    encoder({"sweep": sweeps(3, 1)}).square().sum().backward()
    assert all(p.grad is None for p in encoder.view.encoder.parameters())
    assert all(p.grad is not None for p in encoder.head.parameters())
    assert all(torch.equal(x, kept[name]) for name, x in encoder.view.encoder.state_dict().items())
    thawed = BevTokens(**SMALL, frozen=False).train()
    thawed({"sweep": sweeps(3, 1)}).square().sum().backward()
    assert all(p.grad is not None for p in thawed.view.encoder.parameters())


def test_it_starts_from_a_pretrained_view_and_its_statistics(tmp_path):
    torch.manual_seed(1)
    before = BevEncoder(GRID, (8, 8), 8)
    for module in before.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean += 0.3
            module.running_var *= 2.0
    save_tensors(tmp_path / MODEL_FILE, {f"encoder.{k}": v for k, v in before.state_dict().items()}, {})
    encoder = BevTokens(**SMALL, init=str(tmp_path))
    start_from(encoder)
    ours = encoder.view.encoder.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in before.state_dict().items())
    wider = {**SMALL, "widths": (8, 16)}
    with pytest.raises(ValueError, match="expected an encoder with the same layers"):
        start_from(BevTokens(**wider, init=str(tmp_path)))


def test_stored_latents_give_the_same_tokens():
    torch.manual_seed(0)
    encoder, obs = BevTokens(**SMALL).eval(), {"sweep": sweeps(1, 3)}
    stored = {"bev": torch.from_numpy(encoder.view.columns(obs)["bev"])[None]}
    torch.testing.assert_close(encoder(stored), encoder(obs), atol=1e-2, rtol=1e-2)
    before = encoder.view.hash
    with torch.no_grad():
        encoder.head[0].weight += 1.0
        assert encoder.view.hash == before
        next(encoder.view.encoder.parameters()).add_(1e-3)
    assert encoder.view.hash != before


def test_cells_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="cannot be halved 5 times; give fewer head_widths"):
        BevTokens(**{**SMALL, "head_widths": (8,) * 5})


def test_its_configuration_sees_what_pretraining_has_seen():
    tokens, bev, model = (
        OmegaConf.load(f"configs/{name}.yaml") for name in ("encoder/bev_tokens", "encoder/bev", "model/ad_l_jepa")
    )
    assert [tokens.grid, tokens.widths, tokens.depth] == [bev.grid, bev.widths, bev.depth]
    assert tokens.bev_dim == model.encoder.bev_dim
    assert tokens.sensor == model.sensor
    assert tokens.area == OmegaConf.load("configs/model/bev_world.yaml").area
