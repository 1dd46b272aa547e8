"""SIGReg of a batch split over processes is SIGReg of the batch: value and gradient."""

import torch

from worldjepa.objectives import SigReg
from worldjepa.training import launch

NUM_RANKS, SHARE, DIM = 2, 9, 4


def batch() -> torch.Tensor:
    return torch.randn(NUM_RANKS * SHARE, DIM, generator=torch.Generator().manual_seed(0)) * 2 + 1


def score_share(folder: str) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    weight = torch.eye(DIM, requires_grad=True)
    share = batch()[rank * SHARE : (rank + 1) * SHARE] @ weight
    score = SigReg(8)(share, torch.Generator().manual_seed(1))
    score.backward()
    torch.distributed.all_reduce(weight.grad)  # what data-parallel training does: the ranks' mean gradient
    if rank == 0:
        torch.save({"score": score.detach(), "grad": weight.grad / NUM_RANKS}, f"{folder}/out.pt")
    torch.distributed.destroy_process_group()


def test_split_batch_gives_the_whole_batch_s_statistic_and_gradient(tmp_path):
    launch(score_share, (str(tmp_path),), NUM_RANKS)
    split = torch.load(tmp_path / "out.pt", weights_only=True)
    weight = torch.eye(DIM, requires_grad=True)
    whole = SigReg(8)(batch() @ weight, torch.Generator().manual_seed(1))
    whole.backward()
    torch.testing.assert_close(split["score"], whole.detach())
    torch.testing.assert_close(split["grad"], weight.grad)
