import pytest
import torch
from omegaconf import OmegaConf

from worldjepa.checkpoint import part_of_run, save_tensors, start_from
from worldjepa.config import build
from worldjepa.encoders.token_encoder import TokenEncoder
from worldjepa.encoders.vit import Vit
from worldjepa.systems.masked import TokenModel
from worldjepa.tokenizers.image import ImageTokenizer
from worldjepa.tokenizers.spectrogram import SpectrogramTokenizer
from worldjepa.tokenizers.table import TableTokenizer

B, T, D, SIZE = 2, 3, 11, 16
RUN = {
    "tokenizer": {
        "_target_": "worldjepa.tokenizers.image.ImageTokenizer",
        "image_size": SIZE,
        "patch_size": 4,
        "num_pinned": 1,
    },
    "encoder": {"_target_": "worldjepa.encoders.vit.Vit", "width": 12, "depth": 1, "heads": 2},
    "pool": "mean",
}


@pytest.fixture
def run(tmp_path):
    """A finished run of the static family."""
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(SIZE, 4, num_pinned=1)
    tokenizer.fit({"pixels": torch.randint(40, 90, (9, 3, SIZE, SIZE), dtype=torch.uint8)})
    model = TokenModel(tokenizer, Vit(tokenizer.token_dim, 12, 1, 2, num_pinned=1))
    save_tensors(tmp_path / "model.safetensors", model.state_dict(), {})
    OmegaConf.save(OmegaConf.create(RUN), tmp_path / "config.yaml")
    return tmp_path, model.eval()


def made(run_dir, **settings) -> TokenEncoder:
    parts = {name: part_of_run(str(run_dir), name) for name in ("tokenizer", "encoder")}
    target = {"_target_": "worldjepa.encoders.token_encoder.TokenEncoder", "init": str(run_dir), "latent_dim": D}
    return build({**target, **parts, **settings})


def test_it_starts_from_the_run_with_its_statistics(run):
    folder, model = run
    encoder = made(folder).eval()
    assert float(encoder.tokenizer.mean) != pytest.approx(float(model.tokenizer.mean))
    start_from(encoder)
    for part in ("tokenizer", "encoder"):
        for name, value in getattr(model, part).state_dict().items():
            assert torch.equal(getattr(encoder, part).state_dict()[name], value), name
    pixels = torch.randint(0, 256, (B, T, 3, SIZE, SIZE), dtype=torch.uint8)
    latent = encoder({"pixels": pixels})
    features = model.features({"pixels": pixels.flatten(0, 1)})
    expected = encoder.norm(encoder.projection(features)).view(B, T, 1, D)
    torch.testing.assert_close(latent, expected)


def test_tokens_are_given_one_by_one_without_pinned_ones(run):
    encoder = made(run[0], pool="tokens").eval()
    assert encoder.num_tokens == 16
    assert encoder({"pixels": torch.zeros(B, T, 3, SIZE, SIZE, dtype=torch.uint8)}).shape == (B, T, 16, D)


def test_a_tables_tokens_read_what_a_robot_feels():
    torch.manual_seed(0)
    tokenizer = TableTokenizer({"a": None, "b": None})
    tokenizer.fit({"table": torch.randn(20, 2)})
    parts = tokenizer, Vit(tokenizer.token_dim, 12, 1, 2, num_pinned=tokenizer.num_pinned)
    encoder = TokenEncoder(*parts, D, reads={"table": "proprioception"}).eval()
    felt = torch.randn(B, T, 2)
    latent = encoder({"proprioception": felt})
    assert latent.shape == (B, T, 1, D)
    felt[1, 2] += 1
    changed = (encoder({"proprioception": felt}) - latent).abs().amax((2, 3)) > 1e-6
    assert changed.tolist() == [[False] * T, [False, False, True]]


def test_tokens_one_by_one_need_a_number_of_them():
    tokenizer = SpectrogramTokenizer(8000, num_mels=16, patch=4)
    with pytest.raises(ValueError, match="only pool=mean"):
        TokenEncoder(tokenizer, Vit(tokenizer.token_dim, 12, 1, 2), D, pool="tokens")


def test_a_run_of_another_kind_is_refused(tmp_path):
    OmegaConf.save(OmegaConf.create({"encoder": {"_target_": "x"}}), tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="expected a run of the static family"):
        part_of_run(str(tmp_path), "encoder")
