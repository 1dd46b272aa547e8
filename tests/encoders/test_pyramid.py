from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from worldjepa.checkpoint import MODEL_FILE, save_tensors, start_from
from worldjepa.encoders.pyramid import Pyramid, PyramidEncoder, PyramidLatent, PyramidTokens

WIDTHS, DEPTHS = (4, 6, 8), (1, 0, 1)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_every_level_has_half_the_size_of_the_one_before():
    levels = Pyramid(WIDTHS, DEPTHS)(torch.randn(2, 3, 32, 48))
    assert [tuple(level.shape) for level in levels] == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 8, 4, 6)]


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"divisible by 8, got \(32, 44\)"):
        Pyramid(WIDTHS, DEPTHS)(torch.randn(1, 3, 32, 44))
    with pytest.raises(ValueError, match="one width and one depth per level"):
        Pyramid((4, 6), (1,))
    with pytest.raises(ValueError, match="divisible by 8, got 36"):
        PyramidLatent(36, 5, WIDTHS, DEPTHS)


@pytest.mark.parametrize(
    ("encoder", "tokens", "dim"),
    [
        (PyramidEncoder(WIDTHS, DEPTHS), 1, 8),
        (PyramidLatent(32, 5, WIDTHS, DEPTHS, hidden=16), 1, 5),
        (PyramidTokens(32, 5, WIDTHS, DEPTHS), 16, 5),
    ],
)
def test_latents_have_the_shape_they_say_and_depend_on_their_own_frame_alone(encoder, tokens, dim):
    encoder.eval()
    pixels = pictures(2, 3, 3, 32, 32)
    latent = encoder({"pixels": pixels})
    assert latent.shape == (2, 3, tokens, dim) and (encoder.num_tokens, encoder.latent_dim) == (tokens, dim)
    torch.testing.assert_close(encoder({"pixels": pixels[1:, 2:]})[0, 0], latent[1, 2], atol=1e-5, rtol=1e-4)


def test_tokens_know_their_cells():
    encoder = PyramidTokens(32, 5, WIDTHS, DEPTHS).eval()
    pixels = pictures(1, 1, 3, 32, 32)
    changed = pixels.clone()
    changed[..., :4, 28:] = 255 - changed[..., :4, 28:]
    moved = (encoder({"pixels": changed}) - encoder({"pixels": pixels}))[0, 0].norm(dim=-1)
    assert encoder.coords[moved.argmax()].tolist() == [0, 3]


def test_the_mean_colour_is_taken_off_everywhere():
    encoder = PyramidEncoder(WIDTHS, DEPTHS)
    mean = torch.rand(3, 20, 20) * 255
    encoder.normalizer.fit(mean)
    flat = mean.mean((1, 2)).view(1, 1, 3, 1, 1).expand(1, 1, 3, 16, 24)
    assert encoder.normalizer(flat).abs().max() < 1e-4


def test_training_starts_from_another_runs_pyramid(tmp_path):
    torch.manual_seed(0)
    before = PyramidEncoder(WIDTHS, DEPTHS)  # of data whose mean is another
    save_tensors(tmp_path / MODEL_FILE, {f"encoder.{k}": v for k, v in before.state_dict().items()}, {})
    encoder = PyramidLatent(32, 5, WIDTHS, DEPTHS, hidden=16, init=str(tmp_path))
    head = encoder.head[1].weight.clone()
    encoder.normalizer.fit(torch.full((3, 32, 32), 200.0))
    before.normalizer.fit(torch.full((3, 32, 32), 200.0))
    start_from(encoder)
    pixels = pictures(1, 1, 3, 32, 32)
    for ours, theirs in zip(encoder.features({"pixels": pixels}), before.features({"pixels": pixels}), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(encoder.head[1].weight, head)


def test_a_run_that_does_not_fit_is_refused(tmp_path):
    save_tensors(tmp_path / MODEL_FILE, {"encoder.other": torch.zeros(3)}, {})
    with pytest.raises(ValueError, match="expected an encoder with the same layers"):
        start_from(PyramidEncoder(WIDTHS, DEPTHS, init=str(tmp_path)))
    wider = PyramidEncoder((4, 6, 9), DEPTHS).state_dict()
    save_tensors(tmp_path / MODEL_FILE, {f"encoder.{k}": v for k, v in wider.items()}, {})
    with pytest.raises(ValueError, match=r"\(\(8, 6, 2, 2\), \(9, 6, 2, 2\)\)"):
        start_from(PyramidEncoder(WIDTHS, DEPTHS, init=str(tmp_path)))
    deeper = PyramidEncoder(WIDTHS, (2, 0, 1)).state_dict()
    save_tensors(tmp_path / MODEL_FILE, {f"encoder.{k}": v for k, v in deeper.items()}, {})
    with pytest.raises(ValueError, match="same layers"):
        start_from(PyramidEncoder(WIDTHS, DEPTHS, init=str(tmp_path)))
    with pytest.raises(ValueError, match="found none"):
        start_from(PyramidEncoder(WIDTHS, DEPTHS, init=str(tmp_path / "nowhere")))


def test_all_three_configurations_have_one_pyramid():
    """So that what is pre-trained by one starts the others."""
    folder = Path(__file__).parents[2] / "configs" / "encoder"
    parts = [OmegaConf.load(folder / f"{name}.yaml") for name in ("pyramid", "pyramid_tokens", "pyramid_pooled")]
    assert all([p.widths, p.depths, p.kernel] == [parts[0].widths, parts[0].depths, parts[0].kernel] for p in parts)
