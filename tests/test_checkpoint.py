import pytest
import torch
from torch import nn

from worldjepa.checkpoint import load_optimizer, load_tensors, load_weights, optimizer_tensors, save_tensors


def test_round_trip_is_bit_exact_with_metadata(tmp_path):
    tensors = {"a": torch.randn(3, 5), "b": torch.tensor(7, dtype=torch.int64), "c": torch.randn(4, 2).t()}
    save_tensors(tmp_path / "x.safetensors", tensors, {"step": 5, "spec": {"name": "é"}})
    found, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"step": 5, "spec": {"name": "é"}}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_refuses_what_is_no_whole_safetensors_file(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="found none"):
        load_tensors(path)
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load_tensors(path)
    save_tensors(path, {"a": torch.zeros(1000)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        load_tensors(path)


def test_refuses_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "model.safetensors"
    module = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"weight: expected \(2, 3\), got \(2, 4\)"):
        load_weights(module, nn.Linear(4, 2).state_dict(), path)
    with pytest.raises(ValueError, match=r"missing \['bias'\]"):
        load_weights(module, {"weight": torch.zeros(2, 3)}, path)


def test_optimizer_state_survives():
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        module(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    other = torch.optim.AdamW(module.parameters(), lr=0.7)
    load_optimizer(other, {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()})
    assert other.param_groups[0]["lr"] == 0.7
    before, after = optimizer_tensors(optimizer), optimizer_tensors(other)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
