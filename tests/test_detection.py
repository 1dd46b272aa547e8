import math

import pytest
import torch

from worldjepa.detection import CenterHead, Detections, average_precision, bev_iou
from worldjepa.voxels import VoxelGrid

GRID = VoxelGrid((-6.4, -12.8, -2.0), (6.4, 12.8, 2.0), (0.1, 0.1, 0.25))  # 32 x 16 cells of 0.8 m at stride 8


def box(x, y, yaw=0.0, length=4.0, width=2.0) -> torch.Tensor:
    return torch.tensor([x, y, -0.8, length, width, 1.5, yaw])


def test_iou_of_turned_boxes():
    here = box(0.0, 0.0)
    others = torch.stack([here, box(2.0, 0.0), box(0.0, 0.0, math.pi / 2), box(0.0, 0.0, math.pi), box(9.0, 0.0)])
    assert bev_iou(here, others).tolist() == pytest.approx([1.0, 4 / 12, 4 / 12, 1.0, 0.0], abs=1e-5)
    diamond = box(0.0, 0.0, math.pi / 4, 2.0, 2.0)
    octagon = 8 * (math.sqrt(2) - 1)  # of two squares of side 2
    assert bev_iou(diamond, box(0.0, 0.0, 0.0, 2.0, 2.0)[None])[0] == pytest.approx(octagon / (8 - octagon), abs=1e-4)


def test_what_the_head_should_say_decodes_to_the_boxes():
    head = CenterHead(4, GRID, 8)
    boxes = torch.stack([box(3.3, -7.1, 0.4), box(-2.0, 5.0, -2.9, 4.4, 1.8)])
    heat, wanted, where = head._targets([boxes, boxes[:0], torch.stack([box(99.0, 0.0)])], torch.device("cpu"))
    assert where[:, 0].tolist() == [0, 0] and (heat == 1).sum() == 2 and heat[1:].max() == 0
    cell = where[:, 1] * heat.shape[2] + where[:, 2]
    torch.testing.assert_close(head._boxes(wanted, cell), boxes)


def test_average_precision_by_hand():
    truth = [torch.stack([box(0.0, 0.0), box(0.0, 8.0)]), box(3.0, 3.0)[None], torch.zeros(0, 7)]
    right = Detections(truth[0], torch.tensor([0.9, 0.3]))
    twice = Detections(truth[1].repeat(2, 1), torch.tensor([0.8, 0.7]))
    wrong = Detections(box(0.0, 0.0)[None], torch.tensor([0.6]))
    # In order: hit, hit, the same one again, nothing there, hit: precision 1 to a recall of 2/3, then 3/5.
    expected = (26 * 1.0 + 14 * 0.6) / 40
    assert average_precision([right, twice, wrong], truth) == pytest.approx(expected)
    assert average_precision([Detections(one, torch.ones(len(one))) for one in truth], truth) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least one box"):
        average_precision([wrong], truth[2:])


def test_the_head_learns_where_boxes_are():
    """From latents that say what is there; with latents of other samples it cannot."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def sample() -> tuple[torch.Tensor, torch.Tensor]:
        place = torch.rand(2, generator=generator) * torch.tensor([10.0, 22.0]) - torch.tensor([5.0, 11.0])
        one = box(*place.tolist(), float(torch.rand((), generator=generator) - 0.5))
        bev = 0.1 * torch.randn(4, 32, 16, generator=generator)
        row, column = int((one[1] + 12.8) / 0.8), int((one[0] + 6.4) / 0.8)
        inside = torch.tensor([(one[0] + 6.4) / 0.8 % 1, (one[1] + 12.8) / 0.8 % 1])
        bev[:, row, column] = torch.tensor([4.0, *(2 * inside), 2 * one[6]])
        return bev, one[None]

    bevs, boxes = zip(*(sample() for _ in range(48)), strict=True)
    bevs, head = torch.stack(bevs), CenterHead(4, GRID, 8, width=16)
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(150):
        loss = head.loss(bevs[:40], boxes[:40])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()
    told, untold = (average_precision(head.detect(x), boxes[40:]) for x in (bevs[40:], bevs[:8]))
    assert told > 0.8 and untold < 0.3, (told, untold)
