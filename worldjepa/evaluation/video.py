"""Films of episodes: a grid of cells, each with its goal picture, a green border once solved, and a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldjepa.files import written_whole

BACKGROUND = (24, 26, 31)
UNSOLVED = (92, 97, 110)
SOLVED = (46, 160, 67)
TEXT = (226, 229, 236)
GAP, BORDER, LABEL_HEIGHT = 6, 3, 18


def grid_frames(
    env,
    states: np.ndarray,
    goal_states: np.ndarray | None,
    solved: np.ndarray | None,
    *,
    columns: int = 4,
    cell: int = 128,
) -> np.ndarray:
    """Draws episodes side by side.

    Args:
        env: an environment that follows GoalEnv; its ``render_state(state)``, uint8 (height, width, 3), is used where
            it has one, else the pixels that the model sees. Either is resized to the cell.
        states: (num_pairs, num_frames, S) simulator states.
        goal_states: (num_pairs, S); None where there are no goals, and then ``solved`` is None too.
        solved: bool (num_pairs, num_frames), whether the goal is reached at that frame; a cell stays green from its
            first True on.
        columns: cells per row.
        cell: width and height of one picture, pixels.

    Returns:
        uint8 (num_frames, height, width, 3) with even height and width.
    """
    states = np.asarray(states)
    num_pairs, num_frames = states.shape[:2]
    has_goals = goal_states is not None
    goal_states = np.asarray(goal_states) if has_goals else states[:, -1]
    solved = np.asarray(solved, bool) if has_goals else np.zeros(states.shape[:2], bool)
    if num_pairs == 0 or solved.shape != (num_pairs, num_frames) or len(goal_states) != num_pairs:
        raise ValueError(
            "a film needs states (num_pairs >= 1, num_frames, S), goal_states (num_pairs, S) and solved "
            f"(num_pairs, num_frames), got {states.shape}, {goal_states.shape} and {solved.shape}"
        )
    columns = min(columns, num_pairs)
    rows = -(-num_pairs // columns)
    pitch_x, pitch_y = cell + 2 * BORDER + GAP, cell + 2 * BORDER + LABEL_HEIGHT + GAP
    width, height = columns * pitch_x + GAP, rows * pitch_y + GAP
    size = (width + width % 2, height + height % 2)  # yuv420p halves the colour planes: both sides must be even
    inset = cell // 3
    goals = [_picture(env, state, inset) for state in goal_states]
    font = ImageFont.load_default(size=11)
    solved_before = np.maximum.accumulate(solved, axis=1)
    first_solved = np.where(solved.any(axis=1), solved.argmax(axis=1), -1)

    frames = np.empty((num_frames, size[1], size[0], 3), np.uint8)
    for step in range(num_frames):
        canvas = Image.new("RGB", size, BACKGROUND)
        draw = ImageDraw.Draw(canvas)
        for i in range(num_pairs):
            left, top = GAP + (i % columns) * pitch_x, GAP + (i // columns) * pitch_y
            done = bool(solved_before[i, step])
            colour = SOLVED if done else UNSOLVED
            draw.rectangle((left, top, left + cell + 2 * BORDER - 1, top + cell + 2 * BORDER - 1), fill=colour)
            canvas.paste(_picture(env, states[i, step], cell), (left + BORDER, top + BORDER))
            label_y = top + cell + 2 * BORDER + 2
            if has_goals:
                corner = (left + BORDER + cell - inset, top + BORDER)
                draw.rectangle((corner[0] - 2, corner[1], corner[0] + inset - 1, corner[1] + inset + 1), fill=colour)
                canvas.paste(goals[i], corner)
                label = f"solved at {first_solved[i]}" if done else "not yet" if step < num_frames - 1 else "not solved"
                draw.text((left + 1, label_y), label, fill=SOLVED if done else TEXT, font=font)
            draw.text((left + cell + 2 * BORDER - 1, label_y), f"step {step}", fill=TEXT, font=font, anchor="ra")
        frames[step] = np.asarray(canvas)
    return frames


def write_film(path: str | Path, frames: np.ndarray, *, frame_rate: float = 10.0) -> Path:
    """Writes frames whole or not at all; the suffix chooses the kind.

    Args:
        path: ``.mp4`` (H.264, plays in every browser), ``.gif`` or ``.webp`` (moves in a README), ``.png`` (the last
            frame, a poster).
        frames: uint8 (num_frames, height, width, 3); mp4 wants even height and width.
        frame_rate: frames per second.
    """
    path = Path(path)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"frames must be uint8 (num_frames >= 1, height, width, 3), got {frames.dtype} {frames.shape}")
    writers = {".mp4": _write_mp4, ".gif": _write_animation, ".webp": _write_animation, ".png": _write_poster}
    if path.suffix not in writers:
        raise ValueError(f"a film ends in one of {', '.join(writers)}, got {path.name!r}; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as beside:  # writers look at the suffix
        writers[path.suffix](beside, frames, frame_rate)
    return path


def _write_mp4(path: Path, frames: np.ndarray, frame_rate: float) -> None:
    import imageio

    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"mp4 frames must have even height and width, got {frames.shape[1:3]}; pad by one pixel")
    with imageio.get_writer(
        path,
        format="FFMPEG",
        fps=frame_rate,
        codec="libx264",
        pixelformat="yuv420p",
        macro_block_size=1,
        # faststart puts the index first, so that a page plays it before it has all of it
        output_params=["-crf", "23", "-movflags", "+faststart"],
    ) as writer:
        for frame in frames:
            writer.append_data(frame)


def _write_animation(path: Path, frames: np.ndarray, frame_rate: float) -> None:
    pictures = [Image.fromarray(frame) for frame in frames]
    if path.suffix == ".gif":
        # one palette for all frames keeps colours from flickering
        palette = pictures[-1].quantize(colors=128)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / frame_rate), loop=0)


def _write_poster(path: Path, frames: np.ndarray, frame_rate: float) -> None:
    Image.fromarray(frames[-1]).save(path)


def _picture(env, state: np.ndarray, size: int) -> Image.Image:
    env = getattr(env, "unwrapped", env)
    pixels = env.render_state(state) if hasattr(env, "render_state") else env.observe_state(state)["pixels"]
    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    return picture if picture.size == (size, size) else picture.resize((size, size), Image.Resampling.LANCZOS)
