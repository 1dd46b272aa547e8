import pytest
import torch
from scipy.optimize import linear_sum_assignment

from worldjepa.objectives.group_lasso import GroupLasso

M, GROUPS, SIZE, FACTORS = 512, 8, 3, 5
D = GROUPS * SIZE
# What the planted factors do: each of them drives two or three of the eight groups, no two the same ones.
PLANTED = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0],
                        [0, 0, 0, 0, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0, 1, 1]]).bool()  # fmt: skip


def planted_latents(seed: int) -> torch.Tensor:
    """Groups of numbers (M,D) that are sums of what their factors do, and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(FACTORS, GROUPS, SIZE, generator=generator)
    loadings = PLANTED[..., None] * loadings / loadings.norm(dim=-1, keepdim=True)
    factors = torch.randn(M, FACTORS, generator=generator)
    return factors @ loadings.flatten(1) + 0.1 * torch.randn(M, D, generator=generator)


def f1(strengths: torch.Tensor) -> float:
    """Of what the codes (K,G) do in the groups against the truth, codes matched one to one to factors.

    A code is said to serve a group in which it does a fifth or more of the most that any code does anywhere. Codes
    without a factor should serve none.
    """
    found = strengths > 0.2 * strengths.max()
    hits = (found[:, None] & PLANTED).sum(-1)
    codes, factors = linear_sum_assignment(hits.numpy(), maximize=True)
    return float(2 * hits[codes, factors].sum() / (found.sum() + PLANTED.sum()))


def learned(sparsity: float, seed: int) -> GroupLasso:
    torch.manual_seed(seed)
    lasso, latents = GroupLasso(D, GROUPS, num_codes=FACTORS + 5, sparsity=sparsity, noise=0.2), planted_latents(seed)
    optimizer = torch.optim.Adam(lasso.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        optimizer.zero_grad()
        lasso(latents).backward()
        optimizer.step()
        schedule.step()
    return lasso


def test_planted_groups_are_found_with_the_penalty_and_not_without():
    with_penalty = [f1(learned(sparsity=3.0, seed=seed).strengths().detach()) for seed in range(3)]
    without = [f1(learned(sparsity=0.0, seed=seed).strengths().detach()) for seed in range(3)]
    assert min(with_penalty) > 0.9, with_penalty
    assert max(without) < 0.7, without


def test_the_loss_is_the_expected_error_over_codes_the_divergence_and_the_norms():
    torch.manual_seed(0)
    lasso = GroupLasso(6, num_groups=2, num_codes=3, sparsity=0.7, noise=0.3)
    torch.nn.init.normal_(lasso.log_variance, std=0.5)
    latent = torch.randn(8, 6)
    x = latent - latent.mean(0)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    with torch.no_grad():
        posterior = torch.distributions.Normal(lasso.code(x), (lasso.log_variance / 2).exp())
        drawn = posterior.sample((200_000,))
        error = (lasso.groups(drawn) - x).square().sum(-1).mean() / (2 * 0.3)
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
        weight = lasso.groups.weight
        norms = sum(weight[3 * g : 3 * g + 3, k].norm() for g in range(2) for k in range(3))
        assert lasso(latent).item() == pytest.approx(float(error + kl + 0.7 * norms) / 6, rel=5e-3)
        assert lasso.strengths()[2, 1].item() == pytest.approx(weight[3:, 2].norm().item(), rel=1e-3)


def test_neither_the_scale_of_latents_nor_what_they_share_matters():
    torch.manual_seed(0)
    lasso, latent = GroupLasso(6, 3, 4), torch.randn(10, 6)
    before = lasso(latent).item()
    assert lasso(9 * latent + torch.randn(6)).item() == pytest.approx(before, rel=1e-4)
    latent[2, 0] += 1
    assert lasso(latent).item() != pytest.approx(before, rel=1e-4)


def test_latents_that_are_all_the_same_have_a_gradient():
    latent = torch.ones(10, 6, requires_grad=True)
    GroupLasso(6, 3, 4)(latent).backward()
    assert torch.isfinite(latent.grad).all()


def test_a_map_of_zeros_has_a_gradient():
    lasso = GroupLasso(6, 3, 4)
    torch.nn.init.zeros_(lasso.groups.weight)
    lasso(torch.randn(10, 6)).backward()
    assert all(torch.isfinite(p.grad).all() for p in lasso.parameters())


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"latent_dim \(7\) must be a multiple of num_groups, got 3"):
        GroupLasso(7, 3, 4)
    with pytest.raises(ValueError, match="sparsity must be >= 0"):
        GroupLasso(6, 3, 4, sparsity=-1.0)
