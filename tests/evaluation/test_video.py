import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from worldjepa.evaluation import video

PAIRS, STEPS, SIZE, CELL = 3, 5, 24, 48


class GreyEnv:
    """Shows its state's first number as a grey level."""

    def observe_state(self, state):
        return {"pixels": np.full((SIZE, SIZE, 3), state[0], np.uint8)}


def episodes():
    states = np.zeros((PAIRS, STEPS + 1, 2))
    states[..., 0] = 20 * np.arange(STEPS + 1) + 50 * np.arange(PAIRS)[:, None]
    goals = np.full((PAIRS, 2), 200.0)
    solved = np.zeros((PAIRS, STEPS + 1), bool)
    solved[1, 2] = True  # reached at step 2 and left again
    return states, goals, solved


def cell_corner(index, columns):
    pitch_x = CELL + 2 * video.BORDER + video.GAP
    pitch_y = CELL + 2 * video.BORDER + video.LABEL_HEIGHT + video.GAP
    return video.GAP + (index % columns) * pitch_x, video.GAP + (index // columns) * pitch_y


def test_cells_show_states_goals_and_stay_green_once_solved():
    states, goals, solved = episodes()
    frames = video.grid_frames(GreyEnv(), states, goals, solved, columns=2, cell=CELL)
    assert frames.shape[0] == STEPS + 1 and frames.dtype == np.uint8
    assert frames.shape[1] % 2 == 0 and frames.shape[2] % 2 == 0
    for i in range(PAIRS):
        x, y = cell_corner(i, columns=2)
        for step in range(STEPS + 1):
            frame = frames[step]
            assert tuple(frame[y, x]) == (video.SOLVED if i == 1 and step >= 2 else video.UNSOLVED)
            assert (frame[y + CELL - 2, x + 10] == states[i, step, 0]).all()
            assert (frame[y + video.BORDER + 2, x + video.BORDER + CELL - 3] == 200).all()


def test_mp4_has_every_frame_at_its_size_and_no_leftovers(tmp_path):
    states, goals, solved = episodes()
    frames = video.grid_frames(GreyEnv(), states, goals, solved, columns=2, cell=CELL)
    path = video.write_film(tmp_path / "videos" / "planner.mp4", frames, frame_rate=5)
    back = iio.imread(path)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 6
    assert [p.name for p in path.parent.iterdir()] == ["planner.mp4"]
    assert iio.immeta(path)["pix_fmt"].startswith("yuv420p")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_have_every_frame(tmp_path, suffix):
    states, goals, solved = episodes()
    frames = video.grid_frames(GreyEnv(), states, goals, solved, cell=CELL)
    with Image.open(video.write_film(tmp_path / f"planner{suffix}", frames)) as image:
        assert image.n_frames == STEPS + 1
        assert image.size == (frames.shape[2], frames.shape[1])


def test_poster_is_the_last_frame(tmp_path):
    states, goals, solved = episodes()
    frames = video.grid_frames(GreyEnv(), states, goals, solved, cell=CELL)
    with Image.open(video.write_film(tmp_path / "poster.png", frames)) as image:
        np.testing.assert_array_equal(np.asarray(image), frames[-1])


def test_bad_films_are_refused_and_leave_nothing(tmp_path):
    states, goals, solved = episodes()
    with pytest.raises(ValueError, match="num_pairs"):
        video.grid_frames(GreyEnv(), states, goals, solved[:, :-1])
    with pytest.raises(ValueError, match="even height"):
        video.write_film(tmp_path / "a.mp4", np.zeros((2, 33, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        video.write_film(tmp_path / "a.mp4", np.zeros((2, 32, 40, 3)))
    with pytest.raises(ValueError, match=r"\.mp4"):
        video.write_film(tmp_path / "a.avi", np.zeros((2, 32, 40, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
