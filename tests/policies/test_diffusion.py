"""LeRobot's diffusion on our data: the right actions are asked for, and a seed decides what is drawn."""

import numpy as np
import pytest
import torch

from policies.chunk_policy import ChunkPolicy
from worldjepa.types import Chunk, EnvSpec, FieldSpec

pytest.importorskip("lerobot_policy_worldjepa", reason="needs the extra lerobot")

from policies.diffusion import DiffusionModel, DiffusionSystem

SIZE, H = 32, 8
FIELDS = {
    "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
    "proprioception": FieldSpec("float32", (2,)),
    "action": FieldSpec("float32", (2,)),
    "state": FieldSpec("float32", (2,)),
}
SPEC = EnvSpec("test/Env-v0", FIELDS, (0.0, 0.0), (512.0, 256.0), ("x", "y"), 10.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DiffusionModel(SPEC, H, execute=4, width=16, num_inference_steps=3).eval()


def seen(rows, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    return {"pixels": pixels[rows], "proprioception": rng.normal(size=(4, 2)).astype(np.float32)[rows]}


def test_chunks_follow_from_the_environments_seed_and_not_from_the_batch(model):
    policy = ChunkPolicy(model, execute=4)

    def acted(rows, seeds):
        policy.reset({}, seeds)
        return np.stack([policy.act(seen(rows, step)) for step in range(6)])

    together = acted([0, 1, 2, 3], [5, 6, 7, 8])
    assert together.shape == (6, 4, 2) and together.min() >= 0 and (together <= [512, 256]).all()
    np.testing.assert_allclose(acted([2], [7])[:, 0], together[:, 2], rtol=1e-4)
    assert not np.allclose(acted([2], [9])[:, 0], together[:, 2])


def test_actions_are_scaled_to_the_bounds_and_states_to_their_range(model):
    raw = torch.tensor([[0.0, 256.0], [256.0, 128.0]])
    torch.testing.assert_close(model.normalize_action(raw), torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
    model.state_low.copy_(torch.tensor([-2.0, 0.0]))
    model.state_high.copy_(torch.tensor([2.0, 10.0]))
    obs = {"pixels": torch.full((1, 2, 3, SIZE, SIZE), 255), "proprioception": torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])}
    batch = model.batch(obs)
    torch.testing.assert_close(batch["observation.state"], torch.tensor([[[1.0, -1.0], [0.0, 0.0]]]))
    assert float(batch["observation.image"].max()) == 1.0


def test_the_loss_is_lerobots_and_follows_from_the_global_stream(model):
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 2, 3, SIZE, SIZE), generator=g, dtype=torch.uint8)
    state = torch.randn(3, 2, 2, generator=g)
    valid = torch.ones(3, H, dtype=torch.bool)
    valid[1:, 4:] = False
    chunk = Chunk(
        {"pixels": pixels[:, :1], "proprioception": state[:, :1]},
        256 * torch.rand(3, H, 2, generator=g),
        valid,
        {"pixels": pixels[:, 1:], "proprioception": state[:, 1:]},
        torch.ones(3, 1, dtype=torch.bool),
    )
    system = DiffusionSystem(model).eval()

    def loss(seed):
        torch.manual_seed(seed)
        return float(system(chunk)["denoising"].detach())

    losses = [loss(seed) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert 0.1 < losses[0] < 3  # an untrained network against noise of variance 1, over the valid part of it


def test_padding_is_left_out_of_the_loss(model):
    assert model.policy.policy.config.do_mask_loss_for_padding
