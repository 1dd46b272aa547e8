"""Charts of a run: matplotlib figures drawn twice, for light and for dark pages, as self-contained HTML pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from worldjepa.evaluation.probes import is_angle, median_degrees, r2, rms_distance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# after Okabe & Ito, the blue lighter: apart with every common colour blindness, legible on white and on black
PALETTE = ("#2B8CD6", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C", "#B8A200")
LIGHT, DARK = "light", "dark"
INK = {LIGHT: "#30343c", DARK: "#c9ced8"}
GRID = {LIGHT: "#e3e6eb", DARK: "#343a45"}

Series = dict[str, tuple[np.ndarray, np.ndarray]]
"""Name -> (steps, values), both (n,)."""


def blank(width: float, height: float) -> Figure:
    """A figure to draw on; in inches."""
    from matplotlib.figure import Figure  # here, for commands that draw nothing: it takes seconds

    return Figure(figsize=(width, height), layout="constrained")


def picture(draw: Callable[[str], Figure], alt: str) -> str:
    """An HTML ``<picture>`` that follows the reader's light or dark setting.

    Args:
        draw: makes the figure for the ink colour it is given.
        alt: what the chart shows, for those who cannot see it.
    """
    sources = {theme: _figure_png(draw, theme) for theme in (LIGHT, DARK)}
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{sources[DARK]}">'
        f'<img src="{sources[LIGHT]}" alt="{alt}" loading="lazy"></picture>'
    )


def strip(frames: np.ndarray, alt: str) -> str:
    """Frames uint8 (n,height,width,3) side by side as one HTML image."""
    gap = np.full((frames.shape[1], 1, 3), 150, np.uint8)
    pieces = [piece for frame in frames for piece in (frame, gap)][:-1]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(pieces, axis=1)).save(buffer, "PNG", optimize=True)
    return f'<img class="strip" src="{data_address(buffer.getvalue(), "image/png")}" alt="{alt}" loading="lazy">'


def strips(pictures: dict[str, np.ndarray], labels: dict[str, str], enlarged: int = 1) -> str:
    """A labelled :func:`strip` for each of ``labels`` (name -> label) that there are pictures of.

    Args:
        enlarged: how many px wide and high a px is drawn.
    """
    return "".join(
        f"<span>{escape(label)}</span>{strip(pictures[name].repeat(enlarged, 1).repeat(enlarged, 2), label)}"
        for name, label in labels.items()
        if name in pictures
    )


def data_address(content: bytes, media_type: str) -> str:
    """The content itself as an address, so that a page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def curves(
    series: Series,
    *,
    ylabel: str,
    log: bool = False,
    smooth: bool = False,
    level: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Callable[[str], Figure]:
    """Values over training steps.

    Args:
        series: one line per name; names are the legend.
        ylabel: label of the value axis.
        log: logarithmic values; dropped when some value is <= 0.
        smooth: draw a moving average over the faint raw line.
        level: a dashed line to compare with.
        limits: lowest and highest value to show.
    """

    def draw(ink: str) -> Figure:
        figure = blank(4.8, 3.0)
        axes = figure.subplots()
        for i, (name, (steps, values)) in enumerate(series.items()):
            colour = PALETTE[i % len(PALETTE)]
            if smooth and len(values) > 40:
                axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
                axes.plot(steps, _moving_average(values), color=colour, linewidth=1.6, label=name)
            else:
                marker = "o" if len(values) < 12 else None
                axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name)
        if level is not None:
            axes.axhline(level, color=ink, linewidth=0.9, linestyle="--", alpha=0.6)
        if log and all((values > 0).all() for _, values in series.values()):
            axes.set_yscale("log")
        if limits is not None:
            axes.set_ylim(*limits)
        axes.set_xlabel("training step")
        axes.set_ylabel(ylabel)
        axes.grid(True, linewidth=0.6)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=7.5, labelcolor=ink, ncols=1 + (len(series) > 4), loc="best")
        return figure

    return draw


def probe_scatter(name: str, truth: np.ndarray, read: np.ndarray) -> Callable[[str], Figure]:
    """True against read values of one target (M,k); angles (cos, sin) are drawn in degrees."""
    explained = f"R² {r2(read, truth).mean():.2f}"

    def draw(ink: str) -> Figure:
        figure = blank(3.7, 3.5)
        axes = figure.subplots()
        if is_angle(name):
            true_degrees, read_degrees = degrees(truth), degrees(read)
            # shown within half a turn of the truth, so that 179 against -179 degrees looks as near as it is
            read_degrees = true_degrees + (read_degrees - true_degrees + 180) % 360 - 180
            axes.scatter(true_degrees, read_degrees, s=5, alpha=0.45, color=PALETTE[0], linewidths=0)
            axes.plot([-180, 180], [-180, 180], color=ink, linewidth=0.9, alpha=0.7)
            axes.set_xticks([-180, -90, 0, 90, 180])
            axes.set_yticks([-180, -90, 0, 90, 180])
            unit, error = "degrees", f"median {median_degrees(read, truth):.1f}°"
        else:
            low, high = float(truth.min()), float(truth.max())
            for i in range(truth.shape[1]):
                label = "xyz"[i] if truth.shape[1] <= 3 else str(i)
                axes.scatter(
                    truth[:, i], read[:, i], s=5, alpha=0.45, color=PALETTE[i % len(PALETTE)], linewidths=0, label=label
                )
            axes.plot([low, high], [low, high], color=ink, linewidth=0.9, alpha=0.7)
            if truth.shape[1] > 1:
                axes.legend(frameon=False, fontsize=8, labelcolor=ink, markerscale=2.5, loc="upper left")
            unit, error = "simulator units", f"rms {rms_distance(read, truth):.3g}"
        axes.set_title(f"{plain(name)}: {explained}, {error}", fontsize=9.5)
        axes.set_xlabel(f"true ({unit})")
        axes.set_ylabel(f"read off the latent ({unit})")
        axes.grid(True, linewidth=0.6)
        return figure

    return draw


def latent_map(name: str, places: np.ndarray, share: np.ndarray, target: np.ndarray) -> Callable[[str], Figure]:
    """Latents in their two main directions, coloured by a target.

    Args:
        name: of the target.
        places: (M,2) from :func:`principal_places`.
        share: (2,) part of the variance along each direction.
        target: (M,k); angles by hue, positions by a two-dimensional colour map that is drawn beside.
    """

    def draw(ink: str) -> Figure:
        figure = blank(4.1, 3.3)
        axes, key = figure.subplots(1, 2, width_ratios=(1, 0.22))
        if is_angle(name):
            import matplotlib

            turn = (degrees(target) + 180) / 360
            colours = matplotlib.colormaps["hsv"](turn)[:, :3] * 0.9
            ring = np.linspace(0, 2 * np.pi, 240, endpoint=False)
            shades = matplotlib.colormaps["hsv"]((ring / (2 * np.pi) + 0.5) % 1)[:, :3] * 0.9
            key.scatter(np.cos(ring), np.sin(ring), s=18, c=shades, linewidths=0)
            key.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
            key.set_title("angle", fontsize=8)
        else:
            plane = target if target.shape[1] > 1 else np.repeat(target, 2, axis=1)
            low, high = plane[:, :2].min(axis=0), plane[:, :2].max(axis=0)
            colours = _plane_colours((plane[:, :2] - low) / np.maximum(high - low, 1e-9))
            grid = np.stack(np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 32)), axis=-1)
            key.imshow(_plane_colours(grid.reshape(-1, 2)).reshape(32, 32, 3))
            key.set_title("place", fontsize=8)
        key.set_xticks([])
        key.set_yticks([])
        for side in key.spines.values():
            side.set_visible(False)
        axes.scatter(places[:, 0], places[:, 1], s=6, c=colours, linewidths=0, alpha=0.8)
        axes.set_title(f"coloured by {plain(name)}", fontsize=9.5)
        axes.set_xlabel(f"first direction ({share[0]:.0%} of variance)")
        axes.set_ylabel(f"second direction ({share[1]:.0%})")
        axes.grid(True, linewidth=0.6)
        return figure

    return draw


def principal_places(latent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents (M,D), D >= 2, in their two directions of most variance: places (M,2), share of the variance (2,)."""
    centred = latent.astype(np.float64) - latent.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * singular[:2], singular[:2] ** 2 / max(float((singular**2).sum()), 1e-12)


def degrees(cos_sin: np.ndarray) -> np.ndarray:
    """(...,2) cos and sin, of any length -> (...,) degrees in (-180, 180]."""
    return np.degrees(np.arctan2(cos_sin[..., 1], cos_sin[..., 0]))


def plain(name: str) -> str:
    """``block_center`` -> ``block center``."""
    return name.replace("_", " ")


def _plane_colours(place: np.ndarray) -> np.ndarray:
    """(n,2) in [0, 1] -> (n,3) colours: x from blue to red, y darker to greener; no colour is white or black."""
    x, y = place[:, 0], place[:, 1]
    return np.clip(np.stack([0.15 + 0.8 * x, 0.2 + 0.6 * y, 0.9 - 0.75 * x], axis=1), 0, 1)


def _moving_average(values: np.ndarray) -> np.ndarray:
    window = np.ones(2 * (len(values) // 50) + 1)
    # near the ends the average is over what there is
    return np.convolve(values, window, mode="same") / np.convolve(np.ones_like(values), window, mode="same")


def _figure_png(draw: Callable[[str], Figure], theme: str) -> str:
    import matplotlib

    style = {
        "text.color": INK[theme],
        "axes.labelcolor": INK[theme],
        "axes.edgecolor": INK[theme],
        "xtick.color": INK[theme],
        "ytick.color": INK[theme],
        "grid.color": GRID[theme],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "font.size": 8.5,
    }
    with matplotlib.rc_context(style):
        buffer = io.BytesIO()
        draw(INK[theme]).savefig(buffer, format="png", dpi=150, transparent=True, metadata={"Software": None})
    return data_address(buffer.getvalue(), "image/png")
