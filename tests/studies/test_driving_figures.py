"""Figures of drives are made from every street, and from no other seed's."""

import pytest

from worldjepa.studies.ad_l_jepa import _drive_figures, _scan_figures


def drives(completion: float, collided: int, num_streets: int = 4) -> dict[str, list[float]]:
    return {
        "completion": [completion] * num_streets,
        "collided": [1.0] * collided + [0.0] * (num_streets - collided),
        "distance": [250.0] * num_streets,
    }


def test_collisions_are_counted_per_kilometre_and_against_the_blind():
    seeds = [
        {
            "driver": drives(0.9, ours),
            "cloned": drives(0.5, 3),
            "planner": drives(0.7, 2),
            "blind": drives(0.4, 4),
            "expert": drives(1.0, 0),
        }
        for ours in (0, 1, 2)
    ]
    figures = _drive_figures(seeds)
    assert figures["imitation_route_completion"]["value"] == pytest.approx(0.9)
    assert figures["imitation_route_completion"]["met"]
    assert figures["imitation_collisions_per_km"]["value"] == pytest.approx(1.0)
    assert figures["blind_collisions_per_km"]["value"] == pytest.approx(4.0)
    assert figures["imitation_collisions_over_blind"]["value"] == pytest.approx(0.25)
    assert figures["cloned_collisions_per_km"]["value"] == pytest.approx(3.0)
    assert figures["expert_collisions_per_km"]["value"] == 0
    low, high = figures["imitation_collisions_per_km"]["ci95"]
    assert low < 1.0 < high


def test_occupancy_stands_beside_all_that_it_is_compared_with():
    names = ("iou_occupied", "iou_empty", "miou_0.01", "miou_0.1", "miou_1", "ap")
    seeds = [
        {f"{prefix}{name}": value + seed / 100 for name in names for prefix, value in (("", 0.7), ("untrained_", 0.3))}
        | {"neighbour_iou_occupied": 0.5, "neighbour_iou_empty": 0.6, "occupied_share": 0.2, "spread": 0.9}
        | {"channels_in_use": 1.0, "folder_voxels": 9000.0}
        for seed in range(3)
    ]
    figures = _scan_figures(seeds)
    assert figures["occupancy_iou"]["value"] == pytest.approx(0.71)
    assert figures["occupancy_iou_over_untrained"]["value"] == pytest.approx(0.4)
    assert figures["occupancy_iou_over_neighbour"]["met"] and figures["probe_gain_1_percent"]["met"]
    assert figures["untrained_occupancy_iou"]["value"] == pytest.approx(0.31)
    assert figures["kitti_voxels"]["value"] == 9000 and "kitti_iou_occupied" not in figures
    for seed in range(3):
        seeds[seed]["untrained_miou_0.01"] = 0.7 + seed / 3 - 1 / 3
    assert not _scan_figures(seeds)["probe_gain_1_percent"]["met"]
