"""ACT-JEPA: its losses by hand, what each setting trains and leaves alone, and that what it predicts can be learned."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from worldjepa.encoders.feature_map import ConvTokens
from worldjepa.predictors.queries import MlpPredictor, QueryPredictor
from worldjepa.systems.act_jepa import ActJepa, ContextEncoder, build_chunk_model, masked, shifted
from worldjepa.targets import Ema
from worldjepa.types import Chunk, EnvSpec, FieldSpec

B, H, F, S, A, SIZE, WIDTH = 3, 4, 2, 5, 2, 16, 8
SPEC = EnvSpec(
    "test/Env-v0",
    {
        "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "proprioception": FieldSpec("float32", (S,)),
        "action": FieldSpec("float32", (A,)),
        "state": FieldSpec("float32", (S,)),
    },
    (-1.0,) * A,
    (1.0,) * A,
    tuple("abcde"),
    10.0,
)
CONTEXT = partial(ContextEncoder, width=WIDTH, depth=1, heads=2, dropout=0.0)


def make_model(decoder=partial(QueryPredictor, width=WIDTH, heads=2), feels=True, cameras=("pixels",), tasks=()):
    torch.manual_seed(0)
    encoder = ConvTokens(SIZE, latent_dim=6, widths=(4, 8))
    return build_chunk_model(encoder, CONTEXT, decoder, replace(SPEC, tasks=tasks), H, feels, cameras)


def make_system(model, **settings):
    torch.manual_seed(1)
    predictor = settings.pop("predictor", QueryPredictor(WIDTH, F, WIDTH, width=4, heads=2))
    return ActJepa(model, predictor=predictor, target=partial(Ema, start=0.5), **settings)


def make_chunk(seed=0, cameras=("pixels",)):
    g = torch.Generator().manual_seed(seed)
    pictures = {name: torch.randint(0, 256, (B, 1, 3, SIZE, SIZE), generator=g, dtype=torch.uint8) for name in cameras}
    observation = {**pictures, "proprioception": torch.randn(B, 1, S, generator=g)}
    future = {
        "proprioception": torch.randn(B, F, S, generator=g),
        "pixels": torch.randint(0, 256, (B, F, 3, SIZE, SIZE), generator=g, dtype=torch.uint8),
    }
    valid = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    action = torch.rand(B, H, A, generator=g) * 2 - 1
    return Chunk(observation, action, valid, future, valid[:, [1, 3]])


def test_padding_counts_in_neither_loss():
    system, chunk = make_system(make_model()).eval(), make_chunk()
    before = system(chunk)
    chunk.action[~chunk.valid] = 99.0
    chunk.future["proprioception"][~chunk.future_valid] = 99.0
    after = system(chunk)
    for name in ("imitation", "prediction"):
        torch.testing.assert_close(after[name], before[name])


def test_policy_and_target_are_told_which_of_several_tasks_it_is():
    model = make_model(tasks=("push", "pull"))
    system, chunk = make_system(model).eval(), make_chunk()
    assert model.observes == ("pixels", "proprioception", "task")
    chunk.observation["task"] = torch.tensor([[0], [1], [1]])

    def outcomes():
        state = model.normalized_state(chunk.future)
        wanted = system.target(state, chunk.future, chunk.future_valid, model.task(chunk.observation))
        assert wanted.shape == (B, F, WIDTH)
        return model(chunk.observation), wanted

    before = outcomes()
    chunk.observation["task"][2] = 0
    for old, new in zip(before, outcomes(), strict=True):
        torch.testing.assert_close(new[:2], old[:2])
        assert not torch.allclose(new[2], old[2])
    losses = system(chunk)
    chunk.future["proprioception"][~chunk.future_valid] = 99.0  # the task's token does not let padding in
    torch.testing.assert_close(system(chunk)["prediction"], losses["prediction"])


def test_a_single_task_costs_nothing():
    model = make_model(tasks=("push",))
    assert model.observes == ("pixels", "proprioception") and model.context.tasks is None


def test_a_batch_in_which_everything_is_over_costs_nothing():
    system, chunk = make_system(make_model()).eval(), make_chunk()
    chunk.valid[:], chunk.future_valid[:] = False, False
    assert float(system(chunk)["total"]) == 0.0


def test_masked_is_the_mean_over_what_is_valid():
    guess, valid = torch.tensor([[[1.0, 3.0], [7.0, 7.0]]]), torch.tensor([[True, False]])
    assert float(masked(torch.nn.functional.l1_loss, guess, torch.zeros_like(guess), valid)) == 2.0


def test_overshoot_moves_the_mean_to_an_expectile():
    """Four go (1) and one brakes (-1): the best guess is -0.6 where too fast weighs sixteen times as much."""
    wanted = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0]).view(5, 1, 1)
    valid = torch.ones(5, 1, dtype=torch.bool)
    guess = torch.linspace(-1, 1, 2001)
    for weight, best in ((1.0, 0.6), (16.0, -0.6)):
        one = [
            masked(torch.nn.functional.mse_loss, x.expand(5, 1, 1), wanted, valid, torch.tensor([weight]))
            for x in guess
        ]
        assert abs(float(guess[torch.stack(one).argmin()]) - best) < 2e-3


def test_overshoot_is_one_number_above_0_per_number_of_an_action():
    for wrong in ([1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="overshoot must be 2 numbers > 0"):
            make_system(make_model(), overshoot=wrong)


def test_the_target_sees_states_that_follow_and_no_pictures():
    system, chunk = make_system(make_model()).eval(), make_chunk()

    def target():
        return system.target(system.model.normalized_state(chunk.future), chunk.future, chunk.future_valid)

    wanted = target()
    assert wanted.shape == (B, F, WIDTH) and not wanted.requires_grad
    chunk.future["pixels"] += 9
    chunk.observation["pixels"] += 9
    torch.testing.assert_close(target(), wanted)
    chunk.future["proprioception"] += 1
    assert not torch.allclose(target(), wanted)


def test_with_pixels_the_target_sees_the_pictures_that_follow():
    system, chunk = make_system(make_model(), predicts="pixels").eval(), make_chunk()
    wanted = system.target(None, chunk.future, chunk.future_valid)
    chunk.future["pixels"][:, 1] += 9
    changed = system.target(None, chunk.future, chunk.future_valid)
    torch.testing.assert_close(changed[:, 0], wanted[:, 0])
    assert not torch.allclose(changed[:, 1], wanted[:, 1])


def test_the_target_follows_slowly():
    system = make_system(make_model())
    slow, fast = system.target.module.context.feel.weight, system.model.context.feel.weight
    start = slow.clone()
    with torch.no_grad():
        fast += 1.0
    system.update_target(0.0)
    torch.testing.assert_close(slow, start + 0.5)


def trained(system):
    """Names of the parameters that a step changes."""
    before = {name: value.detach().clone() for name, value in system.model.named_parameters()}
    parameters = [p for p in system.parameters() if p.requires_grad]
    system.train()(make_chunk(), torch.Generator().manual_seed(0))["total"].backward()
    assert all(p.grad is not None for p in parameters)  # data-parallel training asks for it
    torch.optim.SGD(parameters, 1.0).step()
    changed = {name for name, value in system.model.named_parameters() if not torch.equal(value, before[name])}
    return {name.split(".")[0] for name in changed}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, {"encoder", "context", "decoder"}),
        ({"predictor": None}, {"encoder", "context", "decoder"}),
        ({"imitation": 0.0}, {"encoder", "context"}),
        ({"frozen": "encoder"}, {"context", "decoder"}),
        ({"frozen": "context", "prediction": 0.0}, {"decoder"}),
        ({"predicts": "pixels"}, {"encoder", "context", "decoder"}),
    ],
)
def test_what_is_trained(settings, parts):
    system = make_system(make_model(), **settings)
    assert trained(system) == parts
    assert set(system(make_chunk())) == {"total"} | {
        name
        for name, there in (
            ("imitation", settings.get("imitation", 1)),
            ("prediction", settings.get("prediction", 1) and "predictor" not in settings),
        )
        if there
    }


def test_a_frozen_encoder_stays_in_eval_mode():
    system = make_system(make_model(), frozen="encoder").train()
    assert system.model.context.training and not system.model.encoder.training


def test_actions_are_within_their_bounds_and_undo_the_statistics():
    model = make_model().eval()
    model.fit([(torch.zeros(S), torch.ones(S))], (torch.tensor([0.5, -0.5]), torch.tensor([0.1, 0.2])))
    obs = make_chunk().observation
    with torch.no_grad():
        wanted = model.decoder(model.encode(obs)) * torch.tensor([0.1, 0.2]) + torch.tensor([0.5, -0.5])
        torch.testing.assert_close(model(obs), wanted.clamp(-1, 1))
        model.action_normalizer.scale.fill_(100.0)
        assert float(model(obs).abs().max()) == 1.0


def test_several_cameras_are_told_apart():
    cameras = ("pixels", "pixels_wrist")
    model, obs = make_model(cameras=cameras).eval(), make_chunk(cameras=cameras).observation
    swapped = {**obs, "pixels": obs["pixels_wrist"], "pixels_wrist": obs["pixels"]}
    with torch.no_grad():
        assert model.encode(obs).shape == (B, 1 + 2 * 16, WIDTH)
        assert not torch.allclose(model(obs), model(swapped))


def test_without_feeling_the_state_does_not_matter():
    model, chunk = make_model(feels=False).eval(), make_chunk()
    del chunk.observation["proprioception"]
    with torch.no_grad():
        assert model(chunk.observation).shape == (B, H, A)


def test_shifts_keep_the_picture_and_repeat_its_edges():
    pixels = torch.arange(2 * 3 * 6 * 5, dtype=torch.uint8).reshape(2, 1, 3, 6, 5)
    assert torch.equal(shifted(pixels, 0), pixels)
    torch.manual_seed(1)
    moved = shifted(pixels, 2)
    torch.manual_seed(1)
    dy, dx = torch.randint(-2, 3, (2, 2, 1))
    for b in range(2):
        for y in range(6):
            for x in range(5):
                row, column = min(max(y + int(dy[b]), 0), 5), min(max(x + int(dx[b]), 0), 4)
                assert torch.equal(moved[b, :, :, y, x], pixels[b, :, :, row, column])


def test_it_learns_to_imitate_what_the_picture_and_the_state_say():
    """Actions that depend on both; a model that is shown other pictures must do worse than one that sees its own."""
    torch.manual_seed(0)
    model = make_model(partial(MlpPredictor, width=32, depth=1))
    system = make_system(model, predictor=QueryPredictor(WIDTH, F, WIDTH, width=4, heads=2))
    g = torch.Generator().manual_seed(0)

    def batch(n=32):
        side = torch.randint(0, 2, (n,), generator=g)
        pixels = torch.full((n, 1, 3, SIZE, SIZE), 60, dtype=torch.uint8)
        pixels[side == 1] = 200
        state = torch.randn(n, 1, S, generator=g)
        action = torch.stack([side * 1.0 - 0.5, state[:, 0, 0].clamp(-1, 1) / 2], -1)[:, None].expand(-1, H, -1)
        valid = torch.ones(n, H, dtype=torch.bool)
        observation = {"pixels": pixels, "proprioception": state}
        return Chunk(observation, action, valid, {"proprioception": state.expand(-1, F, -1)}, valid[:, :F])

    optimizer = torch.optim.Adam([p for p in system.parameters() if p.requires_grad], 1e-2)
    for _ in range(150):
        loss = system(batch())["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        system.update_target(0.5)
    system.eval()
    with torch.no_grad():
        own = batch(200)
        other = Chunk({**own.observation, "pixels": own.observation["pixels"].flip(0)}, *list(vars(own).values())[1:])
        assert float(system(own)["imitation"]) < 0.1 < 0.2 < float(system(other)["imitation"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predicts": "states"}, "predicts must be one of"),
        ({"frozen": "all"}, "frozen must be one of"),
        ({"imitation": 0.0, "predictor": None}, "nothing to learn"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_system(make_model(), **settings)


def test_who_does_not_feel_cannot_predict_proprioception():
    with pytest.raises(ValueError, match="predict pixels, or nothing"):
        make_system(make_model(feels=False))


class Listener(torch.nn.Module):
    """Stands for an encoder of something else than pictures."""

    takes, num_tokens, latent_dim = "sweep", 2, 3

    def forward(self, obs):
        (sweep,) = obs.values()
        return sweep.float().mean((2, 3))[:, :, None, None].expand(-1, -1, 2, 3)


def test_a_policy_takes_what_its_encoder_takes_and_feels_the_route():
    fields = {
        "sweep": FieldSpec("float16", (4, 6)),
        "proprioception": FieldSpec("float32", (S,)),
        "route": FieldSpec("float32", (3, 2)),
        "action": FieldSpec("float32", (A,)),
        "state": FieldSpec("float32", (S,)),
    }
    decoder = partial(QueryPredictor, width=WIDTH, heads=2)
    model = build_chunk_model(Listener(), CONTEXT, decoder, replace(SPEC, fields=fields), H, cameras=("sweep",))
    assert model.observes == ("sweep", "proprioception", "route")
    felt = [(torch.zeros(S), torch.ones(S)), (torch.full((3, 2), 2.0), torch.full((3, 2), 4.0))]
    model.fit(felt, (torch.zeros(A), torch.ones(A)))
    g = torch.Generator().manual_seed(0)
    obs = {
        "sweep": torch.rand(B, 1, 4, 6, generator=g).half(),
        "proprioception": torch.randn(B, 1, S, generator=g),
        "route": torch.full((B, 1, 3, 2), 10.0),
    }
    state = model.normalized_state(obs)
    assert torch.equal(state[..., :S], obs["proprioception"]) and (state[..., S:] == 2.0).all()
    # Nothing is shifted: there are no pictures.
    system = ActJepa(model, shift=4).train()
    chunk = make_chunk()
    losses = system(Chunk(obs, chunk.action, chunk.valid, {}, chunk.future_valid))
    assert torch.isfinite(losses["total"]) and losses["total"] > 0
