"""Tokens of a LiDAR's sweeps: where they come from, what is trained, and from which run."""

import pytest
import torch
from omegaconf import OmegaConf

from worldjepa.checkpoint import MODEL_FILE, save_tensors, start_from
from worldjepa.encoders.bev import BevEncoder
from worldjepa.encoders.route_tokens import RouteTokens
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
    "stations": (1, 3, 5),
    "offsets": (-0.8, 0.0, 0.8),
    "spacing": 2.0,
    "latent_dim": 12,
}
AHEAD = torch.tensor([[2.0, 0.0], [4.0, 0.0], [6.0, 0.0]])


def sweeps(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ranges = 1 + 5 * torch.rand(*shape, 8, 64, 1, generator=generator)
    return torch.cat([ranges, torch.rand(*shape, 8, 64, 1, generator=generator)], -1).half()


def observed(*shape: int) -> dict[str, torch.Tensor]:
    return {"sweep": sweeps(*shape), "route": AHEAD.expand(*shape, 3, 2)}


def test_places_lie_along_the_route_and_beside_it():
    encoder = RouteTokens(**SMALL)
    left = torch.tensor([[2.0, 0.0], [2.0, 2.0], [2.0, 2.0]])  # 2 m ahead, 2 m to the left, and there it ends
    places = encoder.places(torch.stack([AHEAD, left])) * 6.4
    torch.testing.assert_close(places[0, :, 1], torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]]))
    torch.testing.assert_close(places[0, 0], torch.tensor([[1.0, -0.8], [1.0, 0.0], [1.0, 0.8]]))
    torch.testing.assert_close(places[1, 1], torch.tensor([[2.8, 1.0], [2.0, 1.0], [1.2, 1.0]]))
    torch.testing.assert_close(places[1, 2, 1], torch.tensor([2.0, 2.0]))


def test_a_thing_shows_in_the_tokens_of_its_place_alone():
    torch.manual_seed(0)
    encoder = RouteTokens(**SMALL).eval()
    shape = encoder.view.area.shape
    stored = {"bev": torch.randn(1, 1, 8, *shape), "obstacles": torch.zeros(1, 1, *shape), "route": AHEAD[None, None]}
    there = torch.zeros(1, 1, *shape)
    cell = encoder.view.area.cell
    there[0, 0, int(6.4 / cell), int((6.4 + 3.0) / cell)] = 1  # 3 m ahead on the route
    changed = (encoder(stored) - encoder({**stored, "obstacles": there})).abs().sum(-1)[0, 0] > 1e-6
    assert changed.tolist() == [False, True, False]
    aside = {**stored, "route": (AHEAD + torch.tensor([0.0, 4.0]))[None, None]}
    assert not torch.allclose(encoder(stored), encoder(aside)), "another route reads other places"


def test_a_frozen_view_neither_learns_nor_counts():
    torch.manual_seed(0)
    encoder = RouteTokens(**SMALL).train()
    kept = {name: x.clone() for name, x in encoder.view.encoder.state_dict().items()}
    encoder(observed(3, 1)).square().sum().backward()
    assert all(p.grad is None for p in encoder.view.encoder.parameters())
    assert all(p.grad is not None for p in encoder.read.parameters())
    assert all(torch.equal(x, kept[name]) for name, x in encoder.view.encoder.state_dict().items())
    thawed = RouteTokens(**SMALL, frozen=False).train()
    thawed(observed(3, 1)).square().sum().backward()
    assert all(p.grad is not None for p in thawed.view.encoder.parameters())


def test_it_starts_from_a_pretrained_view_and_its_statistics(tmp_path):
    torch.manual_seed(1)
    before = BevEncoder(GRID, (8, 8), 8)
    for module in before.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean += 0.3
            module.running_var *= 2.0
    save_tensors(tmp_path / MODEL_FILE, {f"encoder.{k}": v for k, v in before.state_dict().items()}, {})
    encoder = RouteTokens(**SMALL, init=str(tmp_path))
    start_from(encoder)
    ours = encoder.view.encoder.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in before.state_dict().items())
    wider = {**SMALL, "widths": (8, 16)}
    with pytest.raises(ValueError, match="expected an encoder with the same layers"):
        start_from(RouteTokens(**wider, init=str(tmp_path)))


def test_stored_latents_give_the_same_tokens():
    torch.manual_seed(0)
    encoder, obs = RouteTokens(**SMALL).eval(), observed(1, 3)
    made = encoder.view.columns({"sweep": obs["sweep"]})
    stored = {"route": obs["route"], **{name: torch.from_numpy(x)[None] for name, x in made.items()}}
    torch.testing.assert_close(encoder(stored), encoder(obs), atol=1e-2, rtol=1e-2)
    before = encoder.view.hash
    with torch.no_grad():
        encoder.read[0].weight += 1.0
        assert encoder.view.hash == before
        next(encoder.view.encoder.parameters()).add_(1e-3)
    assert encoder.view.hash != before


def test_its_configuration_sees_what_pretraining_has_seen():
    tokens, bev, model = (
        OmegaConf.load(f"configs/{name}.yaml") for name in ("encoder/route_tokens", "encoder/bev", "model/ad_l_jepa")
    )
    assert [tokens.grid, tokens.widths, tokens.depth] == [bev.grid, bev.widths, bev.depth]
    assert tokens.bev_dim == model.encoder.bev_dim
    assert tokens.sensor == model.sensor
    assert tokens.area == OmegaConf.load("configs/model/bev_world.yaml").area
