import numpy as np
import pytest
import torch
from torch.nn import functional as F

from worldjepa.evaluation.propagation import (
    contour_accuracy,
    measure_propagation,
    propagate_masks,
    region_similarity,
    still_masks,
)

FRAMES, HEIGHT, WIDTH = 6, 20, 28


def moving_squares(scale: int = 1) -> np.ndarray:
    """int (T,H,W): object 2 moves to the right, object 5 down; cells of ``scale`` px."""
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), np.int64)
    for t in range(FRAMES):
        masks[t, 3:8, 2 + 2 * t : 7 + 2 * t] = 2
        masks[t, 10 + t : 14 + t, 20:25] = 5
    return masks.repeat(scale, axis=1).repeat(scale, axis=2)


def one_hot(masks: np.ndarray) -> torch.Tensor:
    """Features that are the objects' colours."""
    colours = torch.tensor([[0.0, 0, 3], [0, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    return colours[torch.from_numpy(masks)]


def square(top: int, left: int, side: int = 10, size: tuple[int, int] = (50, 60)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_perfect_features_carry_masks_perfectly():
    truth = moving_squares()
    masks = propagate_masks(one_hot(truth), truth[0], num_last=4, radius=3)
    assert masks.dtype == np.int64
    np.testing.assert_array_equal(masks, truth)
    assert measure_propagation(masks, truth) == {"j": 1, "f": 1, "j_and_f": 1}


def test_perfect_features_of_a_coarse_grid():
    """Grown back from cells of 4 px, only the corners are cut: about 2 of 16 px in each of the four corner cells."""
    truth, coarse = moving_squares(scale=4), moving_squares()
    masks = propagate_masks(one_hot(coarse), truth[0])
    assert masks.shape == truth.shape
    np.testing.assert_array_equal(masks[0], truth[0])
    measured = measure_propagation(masks, truth)
    assert measured["j"] > 0.96 and measured["f"] == 1


def test_random_features_and_still_masks_do_worse():
    truth = moving_squares()
    random = torch.randn(FRAMES, HEIGHT, WIDTH, 11, generator=torch.Generator().manual_seed(0))
    still = measure_propagation(still_masks(truth[0], FRAMES), truth)
    lost = measure_propagation(propagate_masks(random, truth[0]), truth)
    assert still["j"] < 0.5 and lost["j"] < 0.2
    # by hand: two squares 5 wide, moved by 2t, and 4 high, moved by t
    right = [max(0, 5 - 2 * t) / (5 + min(5, 2 * t)) for t in range(1, FRAMES)]
    down = [max(0, 4 - t) / (4 + min(4, t)) for t in range(1, FRAMES)]
    assert still["j"] == pytest.approx(np.mean([right, down]))


def test_carried_labels_are_the_protocol():
    """Against the whole affinity at once, as the paper says it: two frames that are looked at, then top k, softmax."""
    h, w, num_last, top_k, radius, temperature = 5, 7, 2, 3, 2, 0.07
    features = torch.randn(FRAMES, h, w, 11, generator=torch.Generator().manual_seed(1))
    mask = np.random.default_rng(0).integers(0, 3, (h, w))
    unit = F.normalize(features, dim=-1).reshape(FRAMES, h * w, 11)
    row, column = np.divmod(np.arange(h * w), w)
    near = (abs(row[:, None] - row) <= radius) & (abs(column[:, None] - column) <= radius)
    labels = [np.eye(3)[mask.ravel()]]
    for t in range(1, FRAMES):
        seen = [0, *[i for i in range(t - num_last, t) if i >= 1]]
        now = np.zeros((h * w, 3))
        for q in range(h * w):
            candidates = [(float(unit[t, q] @ unit[i, p]), i, p) for i in seen for p in np.flatnonzero(near[q])]
            best = sorted(candidates, reverse=True)[:top_k]
            weight = np.exp(np.array([cosine for cosine, _, _ in best]) / temperature)
            now[q] = sum(x * labels[i][p] for x, (_, i, p) in zip(weight / weight.sum(), best, strict=True))
        labels.append(now)
    expected = np.stack([label.argmax(axis=1).reshape(h, w) for label in labels])
    settings = {"num_last": num_last, "top_k": top_k, "radius": radius, "temperature": temperature}
    masks = propagate_masks(features, mask, **settings)
    np.testing.assert_array_equal(masks, expected)
    # lengths do not matter, later frames do not change earlier ones
    np.testing.assert_array_equal(propagate_masks(features * 9, mask, **settings), masks)
    np.testing.assert_array_equal(propagate_masks(features[:4], mask, **settings), masks[:4])


def test_labels_come_from_nearby():
    truth = moving_squares()
    # what moves 2 columns a frame is lost within 1, though its colour says all
    j = {r: measure_propagation(propagate_masks(one_hot(truth), truth[0], radius=r), truth)["j"] for r in (1, 2)}
    assert j[1] < 0.8 and j[2] == 1


def test_more_asked_for_than_there_is():
    """A top k of more than all positions near by is all of them."""
    features = torch.ones(2, 2, 3, 5)
    mask = np.array([[1, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(propagate_masks(features, mask, top_k=99)[1], np.ones((2, 3)))
    np.testing.assert_array_equal(propagate_masks(features, mask, top_k=99, radius=0)[1], mask)


def test_region_similarity_by_hand():
    assert region_similarity(square(5, 5), square(5, 5)) == 1
    assert region_similarity(square(5, 5), square(5, 9)) == 60 / 140
    assert region_similarity(square(5, 5), square(8, 9)) == 42 / 158
    assert region_similarity(square(5, 5), square(5, 15)) == 0
    empty = np.zeros((50, 60), bool)
    assert (region_similarity(empty, empty), region_similarity(empty, square(5, 5))) == (1, 0)


def test_contours_within_the_tolerance_agree():
    # diagonal 78.1 px: 0.62 px, rounded up to 1
    assert contour_accuracy(square(5, 5), square(5, 5)) == 1
    for top, left in ((5, 6), (4, 5)):
        assert contour_accuracy(square(5, 5), square(top, left)) == 1
    assert contour_accuracy(square(5, 5), square(5, 7)) < 1
    assert contour_accuracy(square(5, 5), square(30, 30)) == 0
    # diagonal 500 px: 4 px
    size = (300, 400)
    wide = {shift: contour_accuracy(square(5, 5, 60, size), square(5, 5 + shift, 60, size)) for shift in (4, 5)}
    assert wide[4] == 1 and wide[5] < 1


def test_contour_accuracy_by_hand():
    """Shifted to the right by 2 with a tolerance of 1.

    DAVIS's contour of a square of 10 is the square ring of 11 that begins up and left of it: 40 pixels. Of the rows
    above and below 10 of 11 are near the other's; of the sides, which are 2 away from the other's, the far one has
    a pixel at either end that touches the other's rows.
    """
    assert contour_accuracy(square(5, 5), square(5, 7)) == pytest.approx((10 + 10 + 2) / 40)
    # a half of the wanted contour found, and nothing else: precision 1, recall as of the half that is there
    both, one = square(5, 5) | square(5, 30), square(5, 5)
    assert contour_accuracy(one, both) == pytest.approx(2 * 1 * 0.5 / 1.5) == contour_accuracy(both, one)


def test_contours_of_empty_masks():
    empty, full = np.zeros((50, 60), bool), np.ones((50, 60), bool)
    assert contour_accuracy(empty, empty) == 1 and contour_accuracy(full, empty) == 1  # neither has a contour
    assert contour_accuracy(empty, square(5, 5)) == 0 == contour_accuracy(square(5, 5), empty)


def test_the_picture_edge_is_no_contour():
    half = np.zeros((20, 30), bool)
    half[:, :15] = True
    moved = np.zeros((20, 30), bool)
    moved[:, :16] = True
    assert contour_accuracy(half, moved) == 1
    assert contour_accuracy(half, ~half) == 1  # one contour seen from both sides


def test_objects_that_leave_count_when_missed():
    truth = np.stack([square(5, 5), square(5, 5), np.zeros((50, 60), bool)]).astype(int)
    assert measure_propagation(truth, truth) == {"j": 1, "f": 1, "j_and_f": 1}
    measured = measure_propagation(still_masks(truth[0], 3), truth)
    assert measured == {"j": 0.5, "f": 0.5, "j_and_f": 0.5}


def test_the_first_frame_is_given_and_every_object_counts_the_same():
    truth = np.stack([square(5, 5) + 7 * square(20, 20, 20)] * 2).astype(int)
    found = truth.copy()
    found[0] = 0  # not looked at
    found[1][found[1] == 7] = 0
    measured = measure_propagation(found, truth)
    assert measured == {"j": 0.5, "f": 0.5, "j_and_f": 0.5}
    found[1] = 3 * (truth[1] == 1) + truth[1] * (truth[1] == 7)  # a number that is nobody's
    assert measure_propagation(found, truth)["j"] == 0.5


def test_mistakes_are_told():
    features, mask = torch.ones(2, 3, 5, 7), np.zeros((3, 5), int)
    with pytest.raises(ValueError, match=r"finite features \(T, h, w, D\)"):
        propagate_masks(features[0], mask)
    with pytest.raises(ValueError, match="finite features"):
        propagate_masks(features * torch.nan, mask)
    with pytest.raises(ValueError, match=r"int \(height, width\), got float64"):
        propagate_masks(features, mask.astype(float))
    for wrong in ({"num_last": -1}, {"top_k": 0}, {"radius": -1}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="top_k >= 1"):
            propagate_masks(features, mask, **wrong)
    with pytest.raises(ValueError, match="T >= 2"):
        measure_propagation(mask[None], mask[None])
    with pytest.raises(ValueError, match="expected an object"):
        measure_propagation(np.stack([mask, mask]), np.stack([mask, mask]))
    with pytest.raises(ValueError, match="object's number first"):
        region_similarity(mask, mask)
