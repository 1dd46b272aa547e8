import pytest
import torch

from worldjepa.encoders.region_coordinates import RegionCoordinates
from worldjepa.layers import sincos_embedding

R, K, WIDTH = 7, 3, 20
COORDS = torch.cartesian_prod(torch.arange(float(R)), torch.arange(5.0))


def make(table: torch.Tensor | None = None) -> RegionCoordinates:
    torch.manual_seed(0)
    table = torch.randn(R, K, generator=torch.Generator().manual_seed(1)) if table is None else table
    return RegionCoordinates(WIDTH, table)


def test_half_is_time_and_half_a_linear_map_of_the_regions_row():
    coordinates = make()
    found = coordinates(COORDS.expand(2, -1, -1))
    assert found.shape == (2, 35, WIDTH)
    assert torch.equal(found[0, :, :10], sincos_embedding(COORDS[:, 1:], 10))
    place = found[0, :, 10:].view(R, 5, 10)
    assert (place == place[:, :1]).all(), "a region is where it is at any time"
    mapped = coordinates.map(coordinates.table)
    flat = place[:, 0].flatten()
    assert float(flat.detach().min()) == pytest.approx(-1) and float(flat.detach().max()) == pytest.approx(1)
    # One scale and one shift of all: what is linear stays so.
    assert float(torch.corrcoef(torch.stack([flat, mapped.flatten()]).detach())[0, 1]) == pytest.approx(1, abs=1e-5)


def test_regions_with_like_gradients_are_near_and_the_scale_of_the_table_is_learned_away():
    table = torch.randn(R, K, generator=torch.Generator().manual_seed(2))
    table[4] = table[1] + 1e-3
    place = make(table)(COORDS).view(R, 5, WIDTH)[:, 0, 10:]
    apart = torch.cdist(place, place) + 9 * torch.eye(R)
    assert apart[1].argmin() == 4 and apart[4].argmin() == 1


def test_the_map_learns_and_the_table_does_not_but_is_kept():
    coordinates = make()
    coordinates(COORDS).square().sum().backward()
    assert coordinates.map.weight.grad.abs().sum() > 0 and [name for name, _ in coordinates.named_parameters()] == [
        "map.weight",
        "map.bias",
    ]
    assert "table" in coordinates.state_dict()


def test_a_pinned_token_is_in_no_region():
    found = make()(torch.tensor([[-1.0, -1.0], [6.0, 0.0]]))
    assert not found[0, 10:].any() and found[1, 10:].any()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        RegionCoordinates(18, torch.randn(R, K))
    with pytest.raises(ValueError, match=r"table must be finite, .* got \(7, 1\)"):
        RegionCoordinates(WIDTH, torch.randn(R, 1))
    with pytest.raises(ValueError, match="the table has 7 regions, got region 7"):
        make()(torch.tensor([[7.0, 0.0]]))
