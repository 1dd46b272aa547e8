"""Figures of drives are made from every street, and from no other seed's."""

import pytest

from worldjepa.studies.ad_l_jepa import _drive_figures


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
