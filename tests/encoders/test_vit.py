import pytest
import torch

from worldjepa.encoders.vit import Vit, VitEncoder
from worldjepa.types import TokenSet

B, T, P, D, WIDTH = 2, 3, 11, 13, 12


def tokens(num_pinned: int = 0) -> TokenSet:
    torch.manual_seed(0)
    place = torch.rand(P, 2) * 5
    return TokenSet(torch.randn(B, P, D), place, torch.ones(B, P, dtype=torch.bool), torch.arange(P) < num_pinned)


def test_only_kept_tokens_are_looked_at():
    encoder, full = Vit(D, WIDTH, depth=2, heads=3), tokens()
    keep = torch.zeros(B, P, dtype=torch.bool)
    keep[0, [1, 4, 7]] = True
    keep[1, [0, 2]] = True
    before = encoder(full, keep)
    full.values[~keep] = 100.0
    after = encoder(full, keep)
    assert torch.equal(before.values, after.values)
    assert before.values.shape == (B, 3, WIDTH) and before.valid.tolist() == [[True] * 3, [True, True, False]]


def test_padding_does_not_change_a_sample():
    encoder, full = Vit(D, WIDTH, depth=2, heads=3), tokens()
    keep = torch.zeros(B, P, dtype=torch.bool)
    keep[0, :7] = True
    keep[1, [0, 2]] = True
    alone = TokenSet(full.values[1:], full.coords, full.valid[1:], full.pinned)
    assert torch.allclose(encoder(full, keep).values[1:, :2], encoder(alone, keep[1:]).values, atol=1e-5)


def test_order_of_tokens_is_told_by_coordinates_only():
    encoder, full = Vit(D, WIDTH, depth=2, heads=3), tokens()
    order = torch.randperm(P)
    shuffled = TokenSet(full.values[:, order], full.coords[order], full.valid, full.pinned)
    assert torch.allclose(encoder(shuffled).values, encoder(full).values[:, order], atol=1e-5)
    moved = TokenSet(full.values, full.coords[order], full.valid, full.pinned)
    assert not torch.allclose(encoder(moved).values, encoder(full).values, atol=1e-2)


def test_pinned_tokens_are_learned_vectors():
    encoder, full = Vit(D, WIDTH, depth=1, heads=3, num_pinned=1), tokens(num_pinned=1)
    before = encoder(full).values
    full.values[:, 0] = 100.0
    assert torch.equal(encoder(full).values, before)
    encoder(full).values[:, 0].sum().backward()
    assert encoder.pinned.grad.abs().sum() > 0


def test_pinned_tokens_and_token_dim_must_match():
    with pytest.raises(ValueError, match="expected 1 pinned tokens, got 0"):
        Vit(D, WIDTH, depth=1, heads=3, num_pinned=1)(tokens())
    with pytest.raises(ValueError, match="set token_dim"):
        Vit(D + 1, WIDTH, depth=1, heads=3)(tokens())


@pytest.mark.parametrize(("pool", "expected"), [("cls", 1), ("mean", 1), ("tokens", 4)])
def test_world_model_encoder_gives_each_frame_its_own_latents(pool, expected):
    torch.manual_seed(0)
    encoder = VitEncoder(8, 4, WIDTH, 1, 3, D, pool=pool).eval()
    pixels = torch.randint(0, 256, (B, T, 3, 8, 8), dtype=torch.uint8)
    latent = encoder({"pixels": pixels})
    assert latent.shape == (B, T, expected, D) and encoder.num_tokens == expected and encoder.latent_dim == D
    assert torch.allclose(encoder({"pixels": pixels[1:, 2:]}), latent[1:, 2:], atol=1e-5)


def test_unknown_pool_is_refused():
    with pytest.raises(ValueError, match="'cls', 'mean' or 'tokens', got 'max'"):
        VitEncoder(8, 4, WIDTH, 1, 3, D, pool="max")


def test_pinned_attention_is_that_of_the_first_pinned_token_in_the_last_block():
    encoder, full = Vit(D, WIDTH, depth=2, heads=3, num_pinned=2).eval(), tokens(num_pinned=2)
    full.valid[0, 7:9] = False
    seen = []
    last = encoder.transformer.blocks[-1].attention
    hook = last.register_forward_hook(lambda module, inputs, _: seen.append(module.weights(*inputs)))
    encoder(full)
    hook.remove()
    found = encoder.pinned_attention(full)
    assert found.shape == (B, P) and torch.allclose(found.sum(1), torch.ones(B))
    assert torch.allclose(found, seen[0].mean(1)[:, 0], atol=1e-6)
    assert (found[0, 7:9] == 0).all() and (found[1] > 0).all()


def test_nothing_pinned_pays_no_attention():
    with pytest.raises(ValueError, match=r"set tokenizer.num_pinned=1"):
        Vit(D, WIDTH, depth=1, heads=3).pinned_attention(tokens())
