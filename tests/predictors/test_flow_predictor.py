import torch

from worldjepa.predictors.flow import FlowPredictor, standardised

WIDTHS = (4, 6, 8)


def pyramids(batch: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, width, 16 // 2**i, 24 // 2**i) for i, width in enumerate(WIDTHS)]


def test_there_is_a_flow_at_every_level_within_its_bounds():
    predictor = FlowPredictor(WIDTHS, radius=2, hidden=(8, 4), largest=0.25)
    for level in predictor.levels:
        torch.nn.init.normal_(level.say.weight, std=50)
    flows = predictor(pyramids(), pyramids())
    assert [tuple(flow.shape) for flow in flows] == [(2, 2, 16, 24), (2, 2, 8, 12), (2, 2, 4, 6)]
    assert all(flow.abs().max() <= 0.25 * flow.shape[-1] for flow in flows)
    assert flows[0].abs().max() == 0.25 * 24  # it was asked to be longer


def test_a_new_predictor_says_almost_no_motion():
    flows = FlowPredictor(WIDTHS, hidden=(8, 4))(pyramids(), pyramids())
    assert all(flow.abs().max() < 0.1 for flow in flows)


def test_pairs_do_not_touch_each_other():
    predictor, (first, second) = FlowPredictor(WIDTHS, hidden=(8, 4)), (pyramids(3), pyramids(3)[::1])
    together = predictor(first, [level.flip(0) for level in second])
    alone = predictor([level[1:2] for level in first], [level.flip(0)[1:2] for level in second])
    for all_flows, one in zip(together, alone, strict=True):
        torch.testing.assert_close(all_flows[1:2], one, atol=1e-5, rtol=1e-4)


def test_features_are_compared_on_one_scale():
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(standardised(7 * x + 3), standardised(x), atol=1e-3, rtol=1e-3)
