import numpy as np
import pytest
import torch

from worldjepa.evaluation.flow import warp_picture
from worldjepa.motion import correlation, inside, resize_flow, seen_in_both, warp


def shift(dx: float, dy: float, height: int = 10, width: int = 14) -> torch.Tensor:
    return torch.tensor([dx, dy])[None, :, None, None].expand(1, 2, height, width).clone()


def test_a_shifted_picture_is_warped_back():
    torch.manual_seed(0)
    first = torch.rand(1, 3, 10, 14)
    second = first.roll((2, 3), (-2, -1))  # moved 3 to the right and 2 down
    back = warp(second, shift(3.0, 2.0))
    torch.testing.assert_close(back[..., :8, :11], first[..., :8, :11], atol=1e-5, rtol=0)
    assert not torch.allclose(second[..., :8, :11], first[..., :8, :11], atol=0.1)


def test_warping_is_bilinear_as_opencvs():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)
    flow = rng.uniform(-1, 1, (12, 9, 2))
    flow[[0, -1]], flow[:, [0, -1]] = 0, 0
    ours = warp(torch.from_numpy(picture).movedim(-1, 0)[None], torch.from_numpy(flow).movedim(-1, 0)[None])
    assert np.abs(ours[0].movedim(0, -1).numpy() - warp_picture(picture, flow)).max() < 8  # remap knows 1/32 px


def test_warping_has_gradients_to_flow_and_features():
    x, flow = torch.rand(1, 2, 6, 6, requires_grad=True), shift(0.3, -0.2, 6, 6).requires_grad_()
    warp(x, flow).square().sum().backward()
    assert x.grad.abs().sum() > 0 and flow.grad.abs().sum() > 0


def test_what_leaves_the_picture_is_not_inside():
    assert inside(shift(13.0, 0.0))[0, 0].sum(-1).tolist() == [1] * 10
    assert inside(shift(0.0, -9.5))[0, 0].sum() == 0


def test_a_place_is_seen_where_the_way_back_leads_home():
    there, back = shift(2.0, 0.0), shift(-2.0, 0.0)
    seen = seen_in_both(there, back)
    assert bool(seen[..., :12].all()) and not bool(seen[..., 12:].any())
    back[..., 4:8] = 0  # something else is here
    seen = seen_in_both(there, back)[0, 0, 0]
    assert seen.tolist() == [True, True, False, False, False, False, *[True] * 6, False, False]


def test_correlation_is_largest_at_the_true_displacement():
    torch.manual_seed(0)
    first = torch.nn.functional.normalize(torch.randn(1, 16, 9, 9), dim=1)
    likeness = correlation(first, first.roll((1, -2), (-2, -1)), 2)
    assert likeness.shape == (1, 25, 9, 9)
    rows, columns = likeness.argmax(1)[0, 2:-2, 2:-2] // 5 - 2, likeness.argmax(1)[0, 2:-2, 2:-2] % 5 - 2
    assert (rows == 1).all() and (columns == -2).all()
    by_hand = (first[0, :, 4, 4] * first.roll((1, -2), (-2, -1))[0, :, 4 + 2, 4 - 1]).mean()
    assert likeness[0, (2 + 2) * 5 + (-1 + 2), 4, 4].item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_a_resized_flow_is_the_same_motion():
    flow = resize_flow(shift(3.0, -2.0), (20, 7))
    assert flow.shape == (1, 2, 20, 7)
    torch.testing.assert_close(flow[0, :, 5, 5], torch.tensor([1.5, -4.0]))
