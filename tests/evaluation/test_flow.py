import colorsys
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from worldjepa.datasets.flow_files import find_flow_pairs
from worldjepa.evaluation.flow import (
    best_translation,
    end_point_error,
    f1_all,
    flow_picture,
    measure_flow,
    opencv_flow,
    warp_picture,
)

HEIGHT, WIDTH = 48, 64


def moved(shift: tuple[float, float], size: tuple[int, int] = (HEIGHT, WIDTH)) -> tuple[np.ndarray, np.ndarray]:
    """A textured picture, and the same moved by ``shift`` (x, y) px; nothing comes in from a border."""
    height, width = size
    noise = np.random.default_rng(3).normal(size=(height + 20, width + 20, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    noise = 255 * (noise - noise.min()) / (noise.max() - noise.min())
    matrix = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
    second = cv2.warpAffine(noise, matrix, (width + 20, height + 20), flags=cv2.INTER_CUBIC)
    return tuple(np.rint(np.clip(x, 0, 255)).astype(np.uint8)[10:-10, 10:-10] for x in (noise, second))


def constant(vector: tuple[float, float], size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.broadcast_to(np.float32(vector), (*size, 2)).copy()


def mean_distance(place: np.ndarray, points: np.ndarray) -> float:
    return float(np.linalg.norm(points - place, axis=-1).mean())


def test_end_point_error_of_a_shift():
    truth = constant((3, -4))
    assert end_point_error(truth, truth) == 0
    assert end_point_error(np.zeros_like(truth), truth) == 5
    assert end_point_error(constant((3, 1)), truth) == 5
    assert end_point_error(constant((-4, 3)), truth) == pytest.approx(7 * 2**0.5)


def test_errors_are_per_pair_and_ignore_what_is_masked():
    rng = np.random.default_rng(0)
    flow, truth = rng.normal(0, 5, (2, 3, 5, 7, 2))
    mask = rng.random((3, 5, 7)) < 0.6
    mask[2] = False
    spoilt = np.where(mask[..., None], truth, np.nan)
    errors, outliers = end_point_error(flow, spoilt, mask), f1_all(flow, spoilt, mask)
    assert errors.shape == outliers.shape == (3,) and np.isnan(errors[2]) and np.isnan(outliers[2])
    for i in (0, 1):
        by_hand = np.hypot(*(flow - truth)[i][mask[i]].T)
        assert errors[i] == pytest.approx(by_hand.mean())
        assert outliers[i] == pytest.approx(np.mean([e > 3 for e in by_hand]))  # 5 % of these lengths is less


def test_f1_all_by_hand():
    # lengths 10, 100, 100, 0, 100; errors 4, 4, 6, 3, 5.01: outliers are the 1st, 3rd and 5th
    truth = np.array([[[10, 0], [100, 0], [100, 0], [0, 0], [0, 100]]], float)
    flow = truth + np.array([[[0, 4], [0, 4], [0, 6], [3, 0], [5.01, 0]]])
    assert f1_all(flow, truth) == pytest.approx(3 / 5)
    assert f1_all(flow, truth, np.array([[True, True, False, True, True]])) == pytest.approx(2 / 4)


def test_best_translation_is_the_geometric_median():
    rng = np.random.default_rng(1)
    # a background that moves a little, and two things that move far, to different sides
    points = np.concatenate(
        [rng.normal(0, 1, (60, 2)), rng.normal((20, 3), 2, (30, 2)), rng.normal((-5, 30), 2, (20, 2))]
    )
    found = best_translation(points.reshape(10, 11, 2))
    # brute force: finer and finer grids around the best
    center, half = np.array([5.0, 5.0]), 20.0
    while half > 1e-6:
        grid = center + half * np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 2), axis=-1).reshape(-1, 2)
        center = grid[np.linalg.norm(points - grid[:, None], axis=-1).mean(axis=1).argmin()]
        half /= 4
    np.testing.assert_allclose(found, center, atol=1e-3)
    for other in (points.mean(axis=0), np.median(points, axis=0)):
        assert mean_distance(found, points) < mean_distance(other, points) - 1e-3


@pytest.mark.parametrize(
    "points, expected",
    [
        ([[2, 3]] * 12, [2, 3]),
        ([[2, 3]] * 7 + [[50, 0]] * 5, [2, 3]),  # more than half of the weight
        ([[0, 0], [4, 0], [0, 4], [1, 1]] * 3, [1, 1]),  # one inside a triangle of the others: that one
        ([[0, 0], [2, 0], [2, 2], [0, 2]] * 3, [1, 1]),  # a convex quadrilateral: where its diagonals cross
        ([[0, 0], [1, 0], [10, 0]] * 4, [1, 0]),  # on a line: the median
        ([[0, 0], [0, 0], [1, 8], [1, -8]] * 3, [0, 0]),  # the componentwise median, (0.5, 0), is not it
    ],
)
def test_best_translation_where_points_coincide(points, expected):
    points = np.array(points, float)
    np.testing.assert_allclose(best_translation(points.reshape(3, 4, 2)), expected, atol=1e-3)


def test_best_translation_of_a_mask():
    truth = constant((1, 2))
    truth[:, :40] = np.nan
    known = np.isfinite(truth).all(-1)
    np.testing.assert_array_equal(best_translation(truth, known), [1, 2])
    with pytest.raises(ValueError, match="leave such pairs out"):
        best_translation(truth, np.zeros_like(known))


def test_pooled_means_weigh_pixels():
    """One pair of 4 pixels that errs by 2, one of 12 that errs by 6."""
    truths = [constant((3, 4), (2, 2)), constant((0, 0), (3, 4))]
    flows = [constant((3, 2), (2, 2)), constant((6, 0), (3, 4))]
    half = np.arange(12).reshape(3, 4) < 3
    measured = measure_flow(flows, truths, [None, half])
    assert measured == pytest.approx(
        {
            "epe": (4 * 2 + 12 * 6) / 16,
            "epe_visible": 6,
            "epe_hidden": 6,
            "f1_all": 12 / 16,
            "epe_zero": 4 * 5 / 16,
            "epe_translation": 0,
            "epe_over_zero": 5 / (20 / 16),
        }
    )
    # a pair of which 2 pixels are known weighs 2, and one of which none is known nothing
    valids = [np.array([[True, True], [False, False]]), np.zeros((3, 4), bool)]
    assert measure_flow(flows, truths, [None, half], valids)["epe"] == 2


def test_hidden_pixels_are_told_apart():
    truth, flow = constant((4, 0), (5, 7)), constant((4, 0), (5, 7))
    hidden = np.zeros((5, 7), bool)
    hidden[:, :2] = True
    flow[hidden] = (1, 4)
    truth[0] = np.inf  # unknown, in both
    valid = np.isfinite(truth).all(-1)
    measured = measure_flow([flow, flow], [truth, truth], [~hidden, ~hidden], [valid, valid])
    assert (measured["epe_visible"], measured["epe_hidden"]) == (0, 5)
    assert measured["epe"] == pytest.approx(5 * 2 / 7) and measured["epe_zero"] == 4
    assert measured["epe_over_zero"] == pytest.approx(5 * 2 / 7 / 4)
    all_seen = measure_flow([flow], [truth], [np.ones((5, 7), bool)], [valid])
    assert "epe_hidden" not in all_seen and all_seen["epe_visible"] == all_seen["epe"]
    assert {"epe_visible", "epe_hidden"}.isdisjoint(measure_flow([flow], [truth], [None], [valid]))


def test_the_best_translation_is_a_baseline_below_no_motion():
    rng = np.random.default_rng(2)
    truth = rng.normal((3, -1), 1, (HEIGHT, WIDTH, 2))
    measured = measure_flow([truth + np.array([0.3, 0.4])], [truth], [None])
    assert measured["epe_translation"] == pytest.approx(mean_distance(best_translation(truth), truth))
    assert measured["epe_translation"] < measured["epe_zero"]
    assert measured["epe_over_translation"] == pytest.approx(0.5 / measured["epe_translation"])


@pytest.mark.parametrize("method", ["farneback", "dis"])
@pytest.mark.parametrize("shift", [(3, -2), (-1.5, 2.25)])
def test_opencv_recovers_a_shift(method, shift):
    flow = opencv_flow(*moved(shift), method)
    assert flow.shape == (HEIGHT, WIDTH, 2) and flow.dtype == np.float32
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[8:-8, 8:-8] = True
    assert end_point_error(flow, constant(shift), inside) < 0.15
    assert np.linalg.norm(flow - np.float32(shift), axis=-1)[inside].max() < 0.5


@pytest.mark.parametrize("size", [(13, 40), (40, 13), (9, 10), (15, 96)])
def test_dis_of_small_pictures(size):
    """OpenCV alone ends the process at each of these sizes, or may."""
    flow = opencv_flow(*moved((1, -1), size), "dis")
    assert flow.shape == (*size, 2)
    assert end_point_error(flow[2:-2, 2:-2], constant((1, -1), size)[2:-2, 2:-2]) < 0.3


def test_warp_undoes_an_integer_shift():
    first, second = moved((3, -2))
    warped = warp_picture(second, constant((3, -2)))
    np.testing.assert_array_equal(warped[2:, :-3], first[2:, :-3])
    assert not warped[:2].any() and not warped[:, -3:].any()  # nothing is known there
    np.testing.assert_array_equal(warp_picture(second, np.zeros((HEIGHT, WIDTH, 2))), second)


def test_warp_by_half_a_pixel_is_the_mean():
    picture = np.zeros((5, 7, 3), np.uint8)
    picture[:, 3] = 200
    warped = warp_picture(picture, constant((0.5, 0), (5, 7)))
    np.testing.assert_array_equal(warped[2, 1:5, 0], [0, 100, 100, 0])


def test_colours():
    flow = np.zeros((1, 5, 2))
    flow[0, 1:] = [(2, 0), (-2, 0), (0, 2), (0, -2)]
    picture = flow_picture(flow)
    assert picture.shape == (1, 5, 3) and picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [255, 255, 255]
    hues = [colorsys.rgb_to_hsv(*(colour / 255))[0] for colour in picture[0, 1:]]
    for i, j in ((0, 1), (2, 3)):  # opposite directions are at least a quarter of the wheel apart
        assert 0.25 < abs(hues[i] - hues[j]) < 0.75
    assert len({round(hue, 2) for hue in hues}) == 4
    assert (flow_picture(np.zeros((3, 5, 2))) == 255).all()


def test_colours_of_one_scale():
    small, large = constant((1, 1), (3, 5)), constant((4, 4), (3, 5))
    # each by itself looks the same; at one scale the longer is stronger and the shorter lies between it and white
    np.testing.assert_array_equal(flow_picture(small), flow_picture(large))
    scale = 4 * 2**0.5
    weak, strong = flow_picture(small, scale).astype(int), flow_picture(large, scale).astype(int)
    np.testing.assert_allclose(255 - weak, (255 - strong) / 4, atol=2)
    np.testing.assert_array_equal(flow_picture(constant((40, 40), (3, 5)), scale), strong)
    # beside a longer flow, a vector keeps its colour
    both = np.concatenate([small, constant((-50, 3), (3, 5))], axis=1)
    np.testing.assert_array_equal(flow_picture(both, scale)[:, :5], weak)


def test_full_colours_do_not_wrap():
    """Every direction at full length: the colours' distance to white changes smoothly, and none is white."""
    angle = np.linspace(0, 2 * np.pi, 3600, endpoint=False)
    picture = flow_picture(7.3 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None]).astype(int)[0]
    assert np.abs(np.diff(picture, axis=0)).max() < 16 and picture.min(axis=1).max() == 0


def test_mistakes_are_told():
    flow, picture = constant((1, 0)), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with pytest.raises(ValueError, match="channels last"):
        end_point_error(flow.transpose(2, 0, 1), flow.transpose(2, 0, 1))
    with pytest.raises(ValueError, match="one shape"):
        end_point_error(flow[1:], flow)
    with pytest.raises(ValueError, match="mask bool"):
        f1_all(flow, flow, np.ones((HEIGHT, WIDTH)))
    with pytest.raises(ValueError, match="for every pair, got 1, 1, 0 and 1"):
        measure_flow([flow], [flow], [])
    with pytest.raises(ValueError, match="pair 1: expected a finite flow"):
        measure_flow([flow, flow * np.nan], [flow, flow], [None, None])
    with pytest.raises(ValueError, match="pairs with a truth"):
        measure_flow([flow], [flow], [None], [np.zeros((HEIGHT, WIDTH), bool)])
    with pytest.raises(ValueError, match="farneback or dis, got raft"):
        opencv_flow(picture, picture, "raft")
    for other in (picture[1:], picture[..., 0], picture.astype(np.float32)):
        with pytest.raises(ValueError, match="two pictures uint8"):
            opencv_flow(picture, other, "dis")
    with pytest.raises(ValueError, match="largest must be > 0"):
        flow_picture(flow, 0)
    with pytest.raises(ValueError, match="finite flow"):
        flow_picture(flow * np.nan)
    with pytest.raises(ValueError, match="for the picture"):
        warp_picture(picture, flow[1:])


def test_real_flow_explains_its_pictures():
    folder = Path(os.environ.get("WORLDJEPA_DATA") or Path(__file__).parents[3] / "shared" / "data") / "flow"
    if not folder.is_dir():
        pytest.skip(f"no real optical flow: {folder} is missing; set WORLDJEPA_DATA to a folder that holds flow/")
    chairs = next(pair for pair in find_flow_pairs(folder) if pair.layout == "FlyingChairs").read()

    def left_over(flow: np.ndarray) -> float:
        difference = warp_picture(chairs.second, flow).astype(float) - chairs.first
        return float(np.abs(difference)[5:-5, 5:-5].mean())

    truth = chairs.flow
    # the truth explains the second picture; turned round or with x for y it does not
    assert left_over(truth) < 0.6 * min(left_over(other) for other in (0 * truth, -truth, truth[..., ::-1]))
    for method in ("farneback", "dis"):
        measured = measure_flow([opencv_flow(chairs.first, chairs.second, method)], [truth], [None])
        assert measured["epe_over_zero"] < 0.8
