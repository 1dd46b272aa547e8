import torch

from worldjepa.costs import GoalDistance

B, N, H, P, D, A = 2, 5, 7, 11, 13, 4


def random_inputs():
    generator = torch.Generator().manual_seed(0)
    latent, goal = torch.randn(B, N, H, P, D, generator=generator), torch.randn(B, P, D, generator=generator)
    return latent, goal, torch.randn(B, N, H, A, generator=generator)


def test_mean_square_of_the_last_step():
    latent, goal, action = random_inputs()
    cost = GoalDistance()(latent, goal, action)
    assert cost.shape == (B, N)
    expected = sum(((latent[1, 3, 6, p] - goal[1, p]) ** 2).sum() for p in range(P)) / (P * D)
    torch.testing.assert_close(cost[1, 3], expected)


def test_only_the_last_step_counts():
    latent, goal, action = random_inputs()
    other = latent.clone()
    other[:, :, :-1] += 1
    assert torch.equal(GoalDistance()(latent, goal, action), GoalDistance()(other, goal, action))


def test_zero_at_the_goal_and_exact_in_bfloat16_surroundings():
    latent, goal, action = random_inputs()
    latent[:, 2, -1] = goal
    cost = GoalDistance()(latent.bfloat16(), goal.bfloat16(), action)
    assert cost.dtype == torch.float32
    assert torch.equal(cost.argmin(1), torch.full((B,), 2)) and torch.equal(cost[:, 2], torch.zeros(B))


def test_directions_alone_count_where_that_is_asked():
    latent, goal, action = random_inputs()
    cost = GoalDistance(directions=True)
    wanted = 2 * (1 - torch.nn.functional.cosine_similarity(latent[:, :, -1], goal[:, None], dim=-1)).mean(-1) / D
    torch.testing.assert_close(cost(latent, goal, action), wanted)
    torch.testing.assert_close(cost(3 * latent, goal / 2, action), wanted)


def test_gradient_reaches_the_latent():
    latent, goal, action = random_inputs()
    latent.requires_grad_()
    GoalDistance()(latent, goal, action).sum().backward()
    expected = 2 * (latent[:, :, -1] - goal[:, None]) / (P * D)
    torch.testing.assert_close(latent.grad[:, :, -1], expected.detach())
    assert not latent.grad[:, :, :-1].any()
