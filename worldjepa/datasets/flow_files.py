"""Optical-flow data sets as they lie on disk: Sintel, KITTI, FlyingChairs, FlyingChairsOcc, Middlebury.

A flow says where each pixel of the first picture is in the second: float32 (H,W,2), x to the right and y down, in px.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from worldjepa.files import written_whole

FLO_MAGIC = np.float32(202021.25)
"""First number of a .flo file ("PIEH" as bytes); anything else is another format or another byte order."""
UNKNOWN_ABOVE = 1e9
UNKNOWN_VALUE = 1e10
"""px; Middlebury's code calls a flow unknown when it is longer than the one, and writes the other (flowIO.cpp)."""
KITTI_ZERO, KITTI_STEPS = 2**15, 64
"""KITTI's png holds flow * 64 + 2^15, so -512 to 511.98 px in steps of 1/64 (devkit's readme, "data format")."""

LAYOUTS = {
    "Sintel": "[training/](clean|final)/<scene>/frame_0001.png, flow/<scene>/frame_0001.flo, occlusions/<scene>/",
    "KITTI": "[training/](image_2|colored_0|image_0)/000000_10.png and _11.png, flow_occ/, flow_noc/",
    "FlyingChairs": "[data/]00001_img1.ppm, 00001_img2.ppm, 00001_flow.flo",
    "FlyingChairsOcc": "[train/]0000000-img_0.png, 0000000-img_1.png, 0000000-flow_01.flo, 0000000-occ_01.png",
    "Middlebury": "other-data/<scene>/frame10.png and frame11.png, other-gt-flow/<scene>/flow10.flo",
}
"""Layouts that are found; truths and masks may be missing, second pictures may not."""


@dataclass(frozen=True)
class FlowSample:
    """Two pictures and where the pixels of the first went.

    Attributes:
        first, second: uint8 (H,W,3), RGB.
        flow: float32 (H,W,2), px; 0 where unknown; None without a truth.
        valid: bool (H,W), the truth is known; all False without one.
        visible: bool (H,W), the pixel is seen in the second picture too (not occluded); of KITTI only where ``valid``;
            None where nothing tells.
    """

    first: np.ndarray
    second: np.ndarray
    flow: np.ndarray | None
    valid: np.ndarray
    visible: np.ndarray | None


@dataclass(frozen=True)
class FlowPair:
    """Where a sample lies; nothing is read before :meth:`read`.

    Attributes:
        name: unique within the folder that was searched, such as ``clean/alley_1/frame_0001``.
        layout: one of ``LAYOUTS``.
        first, second: pictures.
        flow: .flo or KITTI's .png, or None.
        hidden: a picture that is white where the pixel is occluded, or None.
        unoccluded: KITTI's flow of the pixels seen in both pictures alone (flow_noc), or None.
    """

    name: str
    layout: str
    first: Path
    second: Path
    flow: Path | None = None
    hidden: Path | None = None
    unoccluded: Path | None = None

    def read(self) -> FlowSample:
        """Reads all of it.

        Raises:
            ValueError: a file is damaged, or its size differs from the first picture's.
        """
        first = _picture(self.first, cv2.IMREAD_COLOR_RGB)
        size = first.shape[:2]
        second = self._of_size(size, self.second, _picture(self.second, cv2.IMREAD_COLOR_RGB))
        flow, valid = None, np.zeros(size, bool)
        if self.flow is not None:
            flow, valid = read_flo(self.flow) if self.flow.suffix == ".flo" else read_kitti_flow(self.flow)
            self._of_size(size, self.flow, flow)
        visible = None
        if self.hidden is not None:
            visible = self._of_size(size, self.hidden, _picture(self.hidden, cv2.IMREAD_GRAYSCALE)) < 128
        elif self.unoccluded is not None:
            visible = self._of_size(size, self.unoccluded, read_kitti_flow(self.unoccluded)[1])
        return FlowSample(first, second, flow, valid, visible)

    def _of_size(self, size: tuple[int, int], file: Path, content: np.ndarray) -> np.ndarray:
        if content.shape[:2] != size:
            raise ValueError(
                f"{file}: expected height and width {size} as {self.first.name} has, got {content.shape[:2]}; "
                "the files are not of one pair, fetch them again"
            )
        return content


def read_flo(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A Middlebury .flo file: magic, int32 width and height, float32 (H,W,2), all little-endian.

    Returns:
        flow float32 (H,W,2), px, 0 where unknown; valid bool (H,W): both numbers are at most 1e9 and none is NaN.

    Raises:
        ValueError: not a .flo file, or one that is shorter or longer than its size says.
        FileNotFoundError: no such file.

    Source: Baker et al. 2011, A database and evaluation methodology for optical flow; flowIO.cpp.
    """
    path = Path(path)
    content = path.read_bytes()
    if len(content) < 12:
        raise ValueError(
            f"{path}: expected a .flo file, got {len(content)} bytes, less than its header; fetch it again"
        )
    magic = np.frombuffer(content, "<f4", 1)[0]
    if magic != FLO_MAGIC:
        raise ValueError(f"{path}: expected a little-endian .flo file that begins with {FLO_MAGIC}, got {magic}")
    width, height = (int(number) for number in np.frombuffer(content, "<i4", 2, 4))
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise ValueError(
            f"{path}: expected {12 + 8 * width * height} bytes for {width} x {height} px, got {len(content)}; "
            "the file is truncated or damaged, fetch it again"
        )
    flow = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    # compared so that NaN is unknown too
    valid = (np.abs(flow) <= UNKNOWN_ABOVE).all(axis=-1)
    flow[~valid] = 0
    return flow, valid


def write_flo(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes a Middlebury .flo file; what :func:`read_flo` reads is bit for bit what was known.

    Args:
        path: ends in .flo.
        flow: (H,W,2), px.
        valid: bool (H,W), unknown where False; None says that all is known.
    """
    flow, valid = _checked(flow, valid)
    if not (np.abs(flow[valid]) <= UNKNOWN_ABOVE).all():
        raise ValueError(f"{path}: expected numbers up to {UNKNOWN_ABOVE:g} px, got more or NaN; mark them not valid")
    content = np.where(valid[..., None], flow, UNKNOWN_VALUE).astype("<f4")
    header = FLO_MAGIC.astype("<f4").tobytes() + np.array(flow.shape[1::-1], "<i4").tobytes()
    _write(path, header + content.tobytes())


def read_kitti_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """KITTI's 16-bit png: red and green are x and y, times 64 plus 2^15; blue is 0 where unknown.

    Returns:
        flow float32 (H,W,2), px, 0 where unknown; valid bool (H,W).

    Raises:
        ValueError: not a 16-bit png of three channels, or a truncated one.
        FileNotFoundError: no such file.
    """
    # cv2 gives blue first
    content = _picture(path, cv2.IMREAD_UNCHANGED)
    if content.dtype != np.uint16 or content.ndim != 3 or content.shape[2] != 3:
        raise ValueError(
            f"{path}: expected a 16-bit png of 3 channels as KITTI's flow is, got {content.dtype} {content.shape}; "
            "pictures and disparities are other files"
        )
    valid = content[..., 0] > 0
    flow = (content[..., :0:-1].astype(np.float32) - KITTI_ZERO) / KITTI_STEPS
    flow[~valid] = 0
    return flow, valid


def write_kitti_flow(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes KITTI's 16-bit png, rounded to 1/64 px.

    Args:
        path: ends in .png.
        flow: (H,W,2), px, -512 to 511.98 where valid.
        valid: bool (H,W), unknown where False; None says that all is known.
    """
    flow, valid = _checked(flow, valid)
    steps = np.rint(flow[valid].astype(np.float64) * KITTI_STEPS + KITTI_ZERO)
    if not ((steps >= 0) & (steps < 2**16)).all():
        raise ValueError(f"{path}: KITTI's png holds -512 to 511.98 px, got more or NaN; write a .flo file instead")
    content = np.zeros((*valid.shape, 3), np.uint16)
    content[valid] = np.column_stack([np.ones(len(steps)), steps[:, 1], steps[:, 0]])
    _write(path, cv2.imencode(".png", content)[1].tobytes())


def find_flow_pairs(folder: Path) -> list[FlowPair]:
    """All pairs of a folder in one of ``LAYOUTS``, sorted by name; a folder may hold several layouts.

    A data set's own folder gives its training part; its testing part, which has no truth, is found in its own folder
    (``testing``, ``test``). Sintel's clean and final passes are both listed: ``name`` begins with the pass. Its masks
    of ``invalid`` pixels are not used, as in published errors of its training part.

    Raises:
        ValueError: no layout is recognised, or the second picture of a pair is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder with an optical-flow data set, got none")
    roots = [folder, *(folder / name for name in ("training", "data", "train"))]
    pairs = [pair for root in roots if root.is_dir() for find in FINDERS for pair in find(root)]
    if not pairs:
        known = "\n".join(f"  {name}: {files}" for name, files in LAYOUTS.items())
        inside = sorted(entry.name for entry in folder.iterdir())
        listed = ", ".join(inside[:6]) + (" ..." if len(inside) > 6 else "") or "nothing"
        raise ValueError(f"{folder}: expected one of these layouts, got {listed}\n{known}")
    return pairs


def _sintel(root: Path) -> Iterator[FlowPair]:
    for kind in ("clean", "final"):
        for scene in sorted(path for path in root.glob(f"{kind}/*") if path.is_dir()):
            frames = sorted(scene.glob("frame_*.png"))
            for first in frames:
                number = re.fullmatch(r"frame_(\d+)", first.stem)
                if number is None:
                    continue
                flow = _if_there(root / "flow" / scene.name / f"{first.stem}.flo")
                second = first.with_name(f"frame_{int(number[1]) + 1:0{len(number[1])}}.png")
                # the last frame leads nowhere
                if first == frames[-1] and flow is None:
                    continue
                hidden = _if_there(root / "occlusions" / scene.name / first.name)
                name = f"{kind}/{scene.name}/{first.stem}"
                yield FlowPair(name, "Sintel", first, _second(first, second), flow, hidden)


def _kitti(root: Path) -> Iterator[FlowPair]:
    # colored_0 and image_0 of KITTI 2012 show the same pairs, in colour and in grey
    pictures = next((root / name for name in ("image_2", "colored_0", "image_0") if (root / name).is_dir()), None)
    if pictures is None:
        return
    for first in sorted(pictures.glob("*_10.png")):
        number = first.stem.removesuffix("_10")
        flow, unoccluded = (_if_there(root / kind / first.name) for kind in ("flow_occ", "flow_noc"))
        second = _second(first, first.with_name(f"{number}_11.png"))
        yield FlowPair(number, "KITTI", first, second, flow or unoccluded, unoccluded=unoccluded)


def _flying_chairs(root: Path) -> Iterator[FlowPair]:
    for first in sorted(root.glob("*_img1.ppm")):
        name = first.name.removesuffix("_img1.ppm")
        second = _second(first, root / f"{name}_img2.ppm")
        yield FlowPair(name, "FlyingChairs", first, second, _if_there(root / f"{name}_flow.flo"))


def _flying_chairs_occ(root: Path) -> Iterator[FlowPair]:
    for first in sorted(root.glob("*-img_0.png")):
        name = first.name.removesuffix("-img_0.png")
        second = _second(first, root / f"{name}-img_1.png")
        flow, hidden = _if_there(root / f"{name}-flow_01.flo"), _if_there(root / f"{name}-occ_01.png")
        yield FlowPair(name, "FlyingChairsOcc", first, second, flow, hidden)


def _middlebury(root: Path) -> Iterator[FlowPair]:
    for first in sorted(root.glob("other-data/*/frame10.png")):
        scene = first.parent.name
        flow = _if_there(root / "other-gt-flow" / scene / "flow10.flo")
        yield FlowPair(scene, "Middlebury", first, _second(first, first.with_name("frame11.png")), flow)


FINDERS: tuple[Callable[[Path], Iterator[FlowPair]], ...] = (
    _sintel,
    _kitti,
    _flying_chairs,
    _flying_chairs_occ,
    _middlebury,
)


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _second(first: Path, second: Path) -> Path:
    if not second.is_file():
        raise ValueError(f"{first}: expected its second picture {second.name} beside it, got none; fetch it again")
    return second


def _picture(path: Path, kind: int) -> np.ndarray:
    content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    picture = cv2.imdecode(content, kind) if len(content) else None
    if picture is None:
        raise ValueError(
            f"{path}: expected a picture, got {len(content)} bytes that are truncated or none; fetch it again"
        )
    return picture


def _checked(flow: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"expected a flow (height, width, 2), got {flow.shape}; move the two channels last")
    valid = np.ones(flow.shape[:2], bool) if valid is None else np.asarray(valid, bool)
    if valid.shape != flow.shape[:2]:
        raise ValueError(f"expected valid of shape {flow.shape[:2]} as the flow has, got {valid.shape}")
    return flow, valid


def _write(path: Path, content: bytes) -> None:
    with written_whole(Path(path)) as beside:
        beside.write_bytes(content)
