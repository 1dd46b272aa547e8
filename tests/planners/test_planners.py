import pytest
import torch

from worldjepa.planners import CEM, ICEM, MPPI, Gradient

H, BLOCK, A = 3, (5, 2), 10
LOW, HIGH = torch.full((A,), -2.0), torch.linspace(0.5, 3, A)
PLANNERS = [CEM(), ICEM(), MPPI(), Gradient()]
each_planner = pytest.mark.parametrize("planner", PLANNERS, ids=lambda p: type(p).__name__)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Quadratic:
    """Squared distance to a trajectory (B,H,2) that blocks follow by summing their raw actions; remembers what it was
    asked."""

    def __init__(self, num_environments: int):
        generator = torch.Generator().manual_seed(3)
        steps = 5 * torch.rand(num_environments, H, 2, generator=generator) - 2.5
        self.goal = steps.cumsum(1)
        self.asked = []

    def __call__(self, action, where):
        self.asked.append((action.detach().clone(), where))
        position = action.unflatten(-1, BLOCK).sum(3).cumsum(2)
        return (position - self.goal[where, None]).square().sum((2, 3))

    def solution(self):
        """Plans (B,1,H,A) of cost zero, constant inside blocks."""
        steps = self.goal.diff(dim=1, prepend=torch.zeros_like(self.goal[:, :1]))
        return (steps / BLOCK[0]).repeat(1, 1, BLOCK[0])[:, None]


def solve(planner, evaluate, seeds, **settings):
    settings = {"horizon": H, "block": BLOCK, "action_low": LOW, "action_high": HIGH} | settings
    return planner.plan(evaluate, generators=generators(*seeds), **settings)


@each_planner
def test_finds_the_optimum_and_beats_random_search(planner):
    evaluate = Quadratic(4)
    plan = solve(planner, evaluate, range(4))
    asked = sum(action.shape[1] for action, where in evaluate.asked if where.start == 0)
    random = torch.rand(4, asked, H, A, generator=generators(9)[0]) * (HIGH - LOW) + LOW
    best_random = evaluate(random, slice(0, 4)).amin(1)
    assert plan.action.shape == (4, H, A) and plan.cost.shape == (4,)
    assert (plan.cost < 0.5).all()
    assert (plan.cost < 0.5 * best_random).all()
    torch.testing.assert_close(plan.cost, evaluate(plan.action[:, None], slice(0, 4))[:, 0])


@each_planner
def test_same_plan_alone_or_among_others(planner):
    evaluate = Quadratic(6)
    together = solve(planner, evaluate, range(6))
    goals = evaluate.goal
    evaluate.goal = goals[4:5]
    alone = solve(planner, evaluate, [4])
    evaluate.goal = goals.flip(0)
    backwards = solve(planner, evaluate, range(5, -1, -1))
    for name in ("action", "cost"):
        assert torch.equal(getattr(together, name)[4:5], getattr(alone, name))
        assert torch.equal(getattr(together, name), getattr(backwards, name).flip(0))
    for name in together.info:
        assert torch.equal(together.info[name][4:5], alone.info[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda n: CEM(tolerance=0.3, environments_per_chunk=n),
        lambda n: ICEM(environments_per_chunk=n),
        lambda n: MPPI(environments_per_chunk=n),
        lambda n: Gradient(environments_per_chunk=n),
    ],
)
def test_chunks_change_nothing_but_rounding(make):
    """Random streams, early stops and averages belong to one environment, however many are judged together."""
    plans = [solve(make(n), Quadratic(5), range(5)) for n in (1, 2, 5)]
    for plan in plans[1:]:
        torch.testing.assert_close(plan.action, plans[0].action, rtol=1e-3, atol=1e-3)


def test_chunks_are_what_the_cost_is_asked_for():
    evaluate = Quadratic(5)
    solve(CEM(num_iterations=1, environments_per_chunk=2), evaluate, range(5))
    seen = {(where.start, where.stop, len(action)) for action, where in evaluate.asked}
    assert seen == {(0, 2, 2), (2, 4, 2), (4, 5, 1)}


@each_planner
def test_bounds_hold_for_candidates_and_plan(planner):
    evaluate = Quadratic(2)
    evaluate.goal = 100 * torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]]).repeat(1, H, 1)
    plan = solve(planner, evaluate, (0, 1), warm_start=torch.full((2, 1, H, A), 50.0))
    for action in [plan.action, *(action for action, _ in evaluate.asked)]:
        assert (action >= LOW).all() and (action <= HIGH).all()
    # Far away the best plan lies in a corner of the bounds.
    corner = torch.stack([HIGH, LOW], -1)[torch.arange(A), torch.tensor([0, 1] * 5)]
    assert (plan.action[0] - corner).abs().mean() < 0.5


@each_planner
def test_warm_start_is_judged_first(planner):
    evaluate = Quadratic(4)
    warm = torch.cat([torch.full((4, 1, H, A), 0.25), evaluate.solution()], 1)
    cold, plan = solve(planner, evaluate, range(4)), solve(planner, evaluate, range(4), warm_start=warm)
    first = [action for action, _ in evaluate.asked if torch.equal(action[:, :2], warm[:1])]
    assert len(first) == 1
    assert (plan.info["best_cost"][:, 0] < 1e-5).all() and (cold.info["best_cost"][:, 0] > 0.1).all()


@each_planner
def test_best_cost_never_rises(planner):
    best = solve(planner, Quadratic(3), range(3)).info["best_cost"]
    assert best.shape[0] == 3 and (best.diff(dim=1) <= 0).all() and (best[:, -1] < best[:, 0]).all()


@each_planner
def test_seeds_decide(planner):
    asked = []
    for seed in (0, 0, 1):
        evaluate = Quadratic(1)
        solve(planner, evaluate, [seed])
        asked.append(evaluate.asked[0][0])
    assert torch.equal(asked[0], asked[1]) and not torch.equal(asked[0], asked[2])


def test_cem_momentum_one_refit():
    """With one iteration the mean is momentum * start + (1 - momentum) * mean of the elites."""
    start = torch.full((1, 1, H, A), 0.25)
    plain = solve(CEM(num_iterations=1), Quadratic(1), [0], warm_start=start).action
    slow = solve(CEM(num_iterations=1, momentum=0.75), Quadratic(1), [0], warm_start=start).action
    torch.testing.assert_close(slow, 0.75 * start[:, 0] + 0.25 * plain)


def test_cem_refits_to_the_elites():
    evaluate = Quadratic(1)
    plan = solve(CEM(num_samples=50, num_elites=7, num_iterations=1), evaluate, [0])
    candidates = evaluate.asked[0][0]
    elites = candidates[0, evaluate(candidates, slice(0, 1))[0].argsort()[:7]]
    torch.testing.assert_close(plan.action[0], elites.mean(0))


def test_cem_stops_early():
    evaluate = Quadratic(1)
    solve(CEM(tolerance=0.5, num_iterations=40), evaluate, [0])
    assert len(evaluate.asked) < 20
    evaluate.asked.clear()
    solve(CEM(tolerance=0.0, num_iterations=12), evaluate, [0])
    assert len(evaluate.asked) == 13  # the last call judges the plan itself


def test_icem_asks_for_fewer_candidates_and_keeps_elites():
    evaluate = Quadratic(1)
    plan = solve(ICEM(num_samples=100, num_elites=10, decay=2.0, kept_elites=0.3, num_iterations=5), evaluate, [0])
    assert [action.shape[1] for action, _ in evaluate.asked] == [100, 50, 25, 20, 20]
    for (before, _), (after, _) in zip(evaluate.asked[:-1], evaluate.asked[1:], strict=True):
        best = before[0, evaluate(before, slice(0, 1))[0].argsort()[:3]]
        assert torch.equal(after[0, :3], best)
    assert plan.info["elites"].shape == (1, 3, H, A)
    assert torch.equal(plan.info["elites"][:, 0], plan.action)


def test_mppi_cold_picks_the_best_and_hot_averages():
    evaluate = Quadratic(1)
    cold = solve(MPPI(num_iterations=1, temperature=1e-4), evaluate, [0]).action
    candidates = evaluate.asked[0][0]
    best = candidates[0, evaluate(candidates, slice(0, 1))[0].argmin()]
    torch.testing.assert_close(cold[0], best)
    hot = solve(MPPI(num_iterations=1, temperature=1e4), evaluate, [0]).action
    torch.testing.assert_close(hot[0], candidates[0].mean(0), rtol=1e-3, atol=1e-3)


def test_gradient_solves_a_linear_system():
    """min |M a - y|^2 with a well-conditioned square M has one solution, a = M^-1 y."""
    size = H * A
    generator = torch.Generator().manual_seed(1)
    matrix = torch.eye(size) + 0.3 * torch.randn(size, size, generator=generator) / size**0.5
    solution = 0.4 * torch.rand(size, generator=generator)
    target = matrix @ solution

    def evaluate(action, where):
        return (action.flatten(2) @ matrix.T - target).square().sum(-1)

    plan = solve(Gradient(num_restarts=4, num_iterations=300, learning_rate=0.03), evaluate, [0])
    torch.testing.assert_close(plan.action.flatten(), solution, rtol=0, atol=5e-3)


def test_gradient_leaves_the_model_alone():
    weight = torch.nn.Parameter(torch.ones(A))
    with torch.no_grad():
        plan = solve(Gradient(num_iterations=2), lambda action, where: (action * weight).square().sum((2, 3)), [0])
    assert weight.grad is None and not plan.action.requires_grad


def test_candidates_that_diverge_are_avoided():
    def evaluate(action, where):
        cost = Quadratic(1)(action, where)
        return torch.where(action[:, :, 0, 0] > 0.1, torch.nan, cost)

    for planner in PLANNERS:
        plan = solve(planner, evaluate, [0])
        assert torch.isfinite(plan.cost).all() and (plan.action[:, 0, 0] <= 0.1).all()


@each_planner
def test_a_diverged_model_is_an_error(planner):
    with pytest.raises(ValueError, match="not finite"):
        solve(planner, lambda action, where: action.sum((2, 3)) * torch.nan, [0])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CEM(num_samples=10, num_elites=11), r"num_elites must be between 2 and num_samples \(10\), got 11"),
        (lambda: CEM(num_elites=1), "got 1"),
        (lambda: CEM(num_iterations=0), "num_iterations must be >= 1"),
        (lambda: CEM(initial_std=0.0), "initial_std"),
        (lambda: CEM(min_std=2.0), "min_std"),
        (lambda: CEM(momentum=1.0), "momentum"),
        (lambda: CEM(tolerance=-0.1), "tolerance"),
        (lambda: CEM(noise_correlation=1.5), "correlation"),
        (lambda: CEM(environments_per_chunk=0), "environments_per_chunk"),
        (lambda: ICEM(num_samples=10, num_elites=11), "num_elites"),
        (lambda: ICEM(decay=0.5), "decay"),
        (lambda: ICEM(kept_elites=1.5), "kept_elites"),
        (lambda: ICEM(noise_exponent=-1.0), "exponent"),
        (lambda: MPPI(num_samples=0), "num_samples"),
        (lambda: MPPI(temperature=0.0), "temperature"),
        (lambda: Gradient(num_restarts=0), "num_samples"),
        (lambda: Gradient(learning_rate=0.0), "learning_rate"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"horizon": 0}, "horizon must be >= 1"),
        ({"block": (4, 2)}, r"shape \(8,\)"),
        ({"action_low": HIGH}, "below action_high"),
        ({"warm_start": torch.zeros(1, 1, H + 1, A)}, "warm_start must be"),
        ({"warm_start": torch.zeros(1, 400, H, A)}, "400 warm-start plans"),
    ],
)
def test_bad_calls_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        solve(CEM(), Quadratic(1), [0], **settings)
    with pytest.raises(ValueError, match=r"one torch\.Generator"):
        solve(CEM(), Quadratic(1), [])
