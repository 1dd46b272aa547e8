"""Boxes that overlap, and paths that are rounded, shifted and measured."""

import numpy as np
import pytest

from envs.street_geometry import SPACING, fillet, overlaps, path_length, shift
from envs.street_traffic import project


def test_boxes_overlap_as_drawn():
    def box(x, y, length=4.0, width=2.0, yaw=0.0):
        return np.array([x, y, 0.5, length, width, 1.0, yaw])

    others = np.array([box(3.9, 0), box(4.1, 0), box(0, 1.9), box(0, 2.1), box(3.1, 1.6, yaw=np.pi / 4)])
    assert overlaps(box(0, 0), others).tolist() == [True, False, True, False, True]
    # Corner to corner: bounding boxes along the axes overlap, the boxes do not.
    assert not overlaps(box(0, 0, 2, 2), np.array([box(1.9, 1.9, 2, 2, np.pi / 4)])).any()
    assert overlaps(box(0, 0, 2, 2), np.array([box(1.6, 1.6, 2, 2, np.pi / 4)])).all()
    assert overlaps(box(0, 0), others, 0.2).tolist() == [True, True, True, True, True]


def test_paths_are_rounded_shifted_and_measured():
    corner = np.array([[0.0, 0.0], [20.0, 0.0], [20.0, 20.0]])
    path = fillet(corner, [6.0])
    assert path_length(path) == pytest.approx(28 + 3 * np.pi, abs=SPACING)
    bend = path[np.hypot(path[:, 0] - 14, path[:, 1] - 6) < 6.5]
    np.testing.assert_allclose(np.hypot(*(bend[5:-5, :2] - [14, 6]).T), 6.0, atol=0.02)
    assert np.hypot(*(shift(path, 2.0)[40, :2] - path[:, :2]).T).min() == pytest.approx(2.0, abs=0.02)
    assert project(path, np.array([9.2, 1.5]), 8.0) == (pytest.approx(9.2), pytest.approx(1.5, abs=0.03))
