"""What stands on a drawn screen: nine kinds of widgets, what can be asked of each, and how it looks meanwhile.

Places are (row, column) in pixels within the widget's own area of ``AREA`` x ``AREA`` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

AREA = 28
Place = tuple[int, int]


@dataclass(frozen=True)
class Look:
    """Grey levels, 0 to 255, of a screen: its background, what is written on it, and what is marked."""

    paper: int
    ink: int
    accent: int


@dataclass(frozen=True)
class Request:
    """What shall be done with a widget.

    Attributes:
        before, after: the sentence around the widget's place on the screen, such as "drag the slider" (in the top
            left) "to the right".
        press, release: where the mouse button goes down and up.
    """

    before: str
    press: Place
    release: Place
    after: str = ""


class Widget(Protocol):
    """Made with random looks and state; ``kinds`` are the intents that it can be asked for."""

    kinds: tuple[str, ...]

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        """Chooses what shall be done, and a state in which that can be done. Once, before it is drawn."""

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        """Into ``area`` uint8 (AREA,AREA), when the share ``done`` in [0, 1] of what was asked for has been done."""


class Nothing:
    kinds: tuple[str, ...] = ()

    def __init__(self, rng: np.random.Generator):
        pass

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        pass


class Switch:
    kinds = ("turn",)

    def __init__(self, rng: np.random.Generator):
        self.on = bool(rng.integers(2))

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        return Request(f"turn {'off' if self.on else 'on'} the switch", (14, 14), (14, 14))

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        on = self.on != (done > 0)
        _frame(area, 9, 4, 10, 20, look.ink, look.accent if on else look.paper)
        area[10:18, 15:23] = look.ink if on else look.paper
        area[10:18, 5:13] = look.accent if on else look.ink


class Field:
    kinds = ("type",)
    num_letters = 4

    def __init__(self, rng: np.random.Generator):
        self.secret = bool(rng.integers(2))
        self.written = self.num_letters * int(rng.integers(2))
        self.letters = rng.random((self.num_letters, 6, 3)) < 0.6
        self.letters[:, 2] = True

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        self.written = 0
        return Request(f"type into the {'password' if self.secret else 'search'} field", (14, 16), (14, 16))

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        _frame(area, 8, 0, 11, AREA, look.ink, look.paper)
        if self.secret:  # a lock
            _frame(area, 10, 3, 4, 4, look.ink, look.paper)
            area[12:17, 2:8] = look.ink
        else:  # a magnifying glass
            _frame(area, 10, 2, 5, 5, look.ink, look.accent)
            area[15, 6] = area[16, 7] = look.ink
        for i in range(max(self.written, round(done * self.num_letters))):
            left = 10 + 4 * i
            if self.secret:
                area[12:15, left : left + 3] = look.ink
            else:
                area[10:16, left : left + 3][self.letters[i]] = look.ink


class Items:
    """A list of three."""

    kinds = ("delete", "select")
    names = ("first", "second", "third")

    def __init__(self, rng: np.random.Generator):
        self.lengths = rng.integers(8, 18, 3).tolist()
        self.selected, self.deleted = (
            int(number) if rng.random() < 0.4 else None for number in rng.integers(3, size=2)
        )
        self.asked, self.number = "", 0

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        number = int(rng.integers(3))
        self.asked, self.number, self.deleted = kind, number, None
        if kind == "select" and self.selected == number:
            self.selected = None
        press = (9 * number + 4, 24 if kind == "delete" else 8)
        return Request(f"{kind} the {self.names[number]} item", press, press)

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        asked = self.asked if done > 0 else ""
        selected = self.number if asked == "select" else self.selected
        deleted = self.number if asked == "delete" else self.deleted
        for row, i in enumerate(i for i in range(3) if i != deleted):
            top = 9 * row
            paper, ink = (look.ink, look.paper) if i == selected else (look.paper, look.ink)
            area[top : top + 8, :] = paper
            area[top + 3 : top + 5, 2 : 2 + self.lengths[i]] = ink
            _cross(area, top + 2, 22, 5, ink)


class Slider:
    kinds = ("drag",)

    def __init__(self, rng: np.random.Generator):
        self.at = self.end = int(rng.integers(3, 25))

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        self.at = int(rng.integers(11, 17))
        right = bool(rng.integers(2))
        self.end = self.at + (8 if right else -8)
        return Request("drag the slider", (14, self.at), (14, self.end), f"to the {'right' if right else 'left'}")

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        at = round(self.at + done * (self.end - self.at))
        area[13:15, 1 : AREA - 1] = look.ink
        _frame(area, 9, at - 2, 10, 5, look.ink, look.accent)


class Button:
    kinds = ("press",)

    def __init__(self, rng: np.random.Generator):
        self.length = int(rng.integers(6, 15))

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        return Request("press the button", (14, 14), (14, 14))

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        down = 0 < done < 1
        _frame(area, 8, 3, 12, 22, look.ink, look.ink if down else look.accent)
        area[13:15, 7 : 7 + self.length] = look.paper if down else look.ink


class Menu:
    kinds = ("open",)

    def __init__(self, rng: np.random.Generator):
        self.opened = rng.random() < 0.3
        self.lengths = rng.integers(8, 19, 3).tolist()

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        self.opened = False
        return Request("open the menu", (4, 5), (4, 5))

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        _frame(area, 0, 0, 9, 11, look.ink, look.paper)
        area[2:7:2, 2:9] = look.ink
        if self.opened or done > 0:
            _frame(area, 9, 0, 19, 24, look.ink, look.accent)
            for i, length in enumerate(self.lengths):
                area[12 + 5 * i : 14 + 5 * i, 3 : 3 + length] = look.ink


class Window:
    kinds = ("close",)

    def __init__(self, rng: np.random.Generator):
        self.lengths = rng.integers(8, 20, 3).tolist()

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        return Request("close the window", (4, 22), (4, 22))

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        if done > 0:
            return
        _frame(area, 1, 1, 26, 26, look.ink, look.paper)
        area[1:8, 1:27] = look.ink
        _cross(area, 2, 20, 5, look.paper)
        for i, length in enumerate(self.lengths):
            area[11 + 5 * i : 13 + 5 * i, 4 : 4 + length] = look.accent


class Boxes:
    """Two boxes to tick."""

    kinds = ("tick",)
    tops = (3, 16)

    def __init__(self, rng: np.random.Generator):
        self.ticked = (rng.random(2) < 0.5).tolist()
        self.lengths = rng.integers(6, 15, 2).tolist()
        self.number = 0

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        self.number = int(rng.integers(2))
        self.ticked[self.number] = False
        press = (self.tops[self.number] + 4, 5)
        return Request(f"tick the {('upper', 'lower')[self.number]} box", press, press)

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        for i, (top, length) in enumerate(zip(self.tops, self.lengths, strict=True)):
            _frame(area, top, 1, 9, 9, look.ink, look.paper)
            if self.ticked[i] or (done > 0 and i == self.number):
                _cross(area, top + 2, 3, 5, look.ink)
            area[top + 4 : top + 6, 13 : 13 + length] = look.ink


class Page:
    """A text with a bar to scroll it."""

    kinds = ("scroll",)

    def __init__(self, rng: np.random.Generator):
        self.lengths = rng.integers(8, 19, 13).tolist()
        self.at = self.end = int(rng.integers(1, 20))

    def ask(self, kind: str, rng: np.random.Generator) -> Request:
        self.at = int(rng.integers(8, 13))
        down = bool(rng.integers(2))
        self.end = self.at + (7 if down else -7)
        return Request(f"scroll {'down' if down else 'up'}", (self.at + 4, 24), (self.end + 4, 24))

    def draw(self, area: np.ndarray, look: Look, done: float) -> None:
        at = round(self.at + done * (self.end - self.at))
        _frame(area, 0, 0, AREA, AREA, look.ink, look.paper)
        for i, length in enumerate(self.lengths):
            top = 3 + 5 * i - 2 * (at - 1)
            if 1 <= top <= AREA - 3:
                area[top : top + 2, 2 : 2 + length] = look.ink
        area[1 : AREA - 1, 22:27] = look.accent
        area[at : at + 8, 23:26] = look.ink


WIDGETS: tuple[type, ...] = (Nothing, Switch, Field, Items, Slider, Button, Menu, Window, Boxes, Page)


def _frame(area: np.ndarray, top: int, left: int, height: int, width: int, edge: int, fill: int) -> None:
    area[top : top + height, left : left + width] = edge
    area[top + 1 : top + height - 1, left + 1 : left + width - 1] = fill


def _cross(area: np.ndarray, top: int, left: int, side: int, level: int) -> None:
    along = np.arange(side)
    area[top + along, left + along] = level
    area[top + along, left + side - 1 - along] = level
