import numpy as np
import pytest

from worldjepa.datasets.screen_widgets import AREA, WIDGETS, Boxes, Items, Look, Page, Slider, Switch

LOOK = Look(paper=230, ink=20, accent=120)
ASKED = [(widget, kind) for widget in WIDGETS for kind in widget.kinds]


def drawn(widget, done: float) -> np.ndarray:
    area = np.full((AREA, AREA), LOOK.paper, np.uint8)
    widget.draw(area, LOOK, done)
    return area


def asked(widget, kind: str, seed: int):
    rng = np.random.default_rng(seed)
    made = widget(rng)
    return made, made.ask(kind, rng)


@pytest.mark.parametrize("widget, kind", ASKED)
def test_what_was_asked_for_shows(widget, kind):
    for seed in range(20):
        made, request = asked(widget, kind, seed)
        before, halfway, after = (drawn(made, done) for done in (0.0, 0.5, 1.0))
        assert not np.array_equal(before, halfway)
        assert np.array_equal(before, after) == (kind == "press"), "a button comes up again, all else stays"
        assert all(0 <= at < AREA for place in (request.press, request.release) for at in place)
        assert (request.press != request.release) == (kind in ("drag", "scroll"))


@pytest.mark.parametrize("widget, kind", ASKED)
def test_what_is_pressed_is_the_widget(widget, kind):
    for seed in range(20):
        made, request = asked(widget, kind, seed)
        for axis, at in enumerate(request.press):
            extent = np.flatnonzero((drawn(made, 0.0) != LOOK.paper).any(1 - axis))
            assert extent[0] < at < extent[-1]


@pytest.mark.parametrize("seed", range(12))
def test_the_item_that_is_named_is_the_one_that_changes(seed):
    for kind in ("delete", "select"):
        made, request = asked(Items, kind, seed)
        made.selected = None
        number = ("first", "second", "third").index(request.before.split()[2])
        assert request.press[0] // 9 == number
        rows = [drawn(made, done)[:27].reshape(3, 9, AREA) for done in (0.0, 1.0)]
        if kind == "delete":
            kept = [rows[0][i] for i in range(3) if i != number]
            assert np.array_equal(rows[1][:2], kept) and (rows[1][2] == LOOK.paper).all()
        else:
            changed = [i for i in range(3) if not np.array_equal(rows[0][i], rows[1][i])]
            assert changed == [number]


@pytest.mark.parametrize("seed", range(12))
def test_things_go_the_way_that_is_named(seed):
    made, request = asked(Slider, "drag", seed)
    knob = [np.flatnonzero((drawn(made, done) == LOOK.accent).any(0)).mean() for done in (0.0, 1.0)]
    assert (knob[1] > knob[0]) == (request.after == "to the right")
    assert knob == [request.press[1], request.release[1]]

    made, request = asked(Page, "scroll", seed)
    thumb = [np.flatnonzero(drawn(made, done)[1:-1, 24] == LOOK.ink).mean() for done in (0.0, 1.0)]
    assert (thumb[1] > thumb[0]) == (request.before == "scroll down")

    made, request = asked(Switch, "turn", seed)
    knob = [np.flatnonzero(drawn(made, done)[13, 5:23] == LOOK.ink).mean() for done in (0.0, 1.0)]
    assert (knob[1] > knob[0]) == (request.before == "turn on the switch")

    made, request = asked(Boxes, "tick", seed)
    changed = np.flatnonzero((drawn(made, 0.0) != drawn(made, 1.0)).any(1))
    assert (changed.max() < AREA / 2) == (request.before == "tick the upper box")
