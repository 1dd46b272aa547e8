import torch

from worldjepa.datasets.samples import Samples
from worldjepa.encoders.vit import Vit
from worldjepa.evaluation.tables import measure_readers
from worldjepa.systems.masked import TokenModel
from worldjepa.tokenizers.table import TableTokenizer

NAMES = {"mlp_features", "random_mlp_features", "mlp_raw", "boosted_raw"}


def samples(count: int, seed: int, quantity: bool) -> Samples:
    """The label is whether two numbers differ, but for one category of two: no linear reader knows."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(count, 3, generator=generator)
    table[:, 2] = (table[:, 2] > 0).float()
    product = table[:, 0] * table[:, 1] * (2 * table[:, 2] - 1)
    labels = product if quantity else (product > 0).long()
    table[::9, 0] = float("nan")
    return Samples({"table": table}, labels)


def model(train: Samples) -> TokenModel:
    torch.manual_seed(0)
    tokenizer = TableTokenizer({"a": None, "b": None, "c": ["x", "y"]})
    tokenizer.fit(train.observation)
    return TokenModel(tokenizer, Vit(tokenizer.token_dim, 16, 1, 2, num_pinned=1), pool="flat").eval()


def test_readers_that_are_not_linear_know_a_product():
    train, held_out = samples(300, 0, False), samples(200, 1, False)
    found = measure_readers(model(train), model(train), train, held_out, seed=0)
    assert set(found) == NAMES
    assert found["mlp_raw"] > 0.8 and found["boosted_raw"] > 0.8 and found["mlp_features"] > 0.65


def test_a_quantity_is_scored_by_its_variance():
    train, held_out = samples(300, 0, True), samples(200, 1, True)
    found = measure_readers(model(train), model(train), train, held_out, seed=0, hidden=32)
    assert set(found) == NAMES and found["mlp_raw"] > 0.3 and max(found.values()) < 1


def test_labels_that_are_noise_are_read_by_nobody():
    train, held_out = samples(300, 0, False), samples(300, 1, False)
    train.labels[:], held_out.labels[:] = torch.randint(2, (2, 300), generator=torch.Generator().manual_seed(3))
    assert all(
        0.38 < value < 0.62 for value in measure_readers(model(train), model(train), train, held_out, seed=0).values()
    )
