"""Tokens side by side: each has a meaning of its own, and nothing is left out."""

import pytest
import torch

from worldjepa.systems.mlp_context import MlpContext


def test_everything_that_is_seen_and_felt_counts_and_so_does_its_order():
    torch.manual_seed(0)
    context = MlpContext(state_dim=3, token_dim=8, num_tokens=5, num_cameras=2, width=16).eval()
    state, token = torch.randn(4, 1, 3), torch.randn(4, 2, 5, 8)
    before = context(state, token)
    assert before.shape == (4, 1, 16)
    assert not torch.allclose(before, context(state, token.flip(2)))
    for camera in range(2):
        for place in range(5):
            after = token.clone()
            after[:, camera, place] += 1.0
            assert not torch.allclose(before, context(state, after), atol=1e-4)
    assert not torch.allclose(before, context(state + 1.0, token), atol=1e-4)


def test_it_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"context@policy\.context=transformer"):
        MlpContext(state_dim=3, token_dim=8, num_tokens=5, num_tasks=4)
    with pytest.raises(ValueError, match=r"policy\.predictor=null"):
        MlpContext(state_dim=3, token_dim=8, num_tokens=5)(torch.zeros(2, 1, 3), None)
