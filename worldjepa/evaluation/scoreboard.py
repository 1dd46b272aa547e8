"""The scoreboard of a run: ``planning.json`` in plain words and as tables with intervals.

``planning.json`` is what :func:`worldjepa.evaluation.protocol.judge` returns: split -> facts about its pairs, and per
player ``ms_per_plan`` and measures ``{"rate", "ci95": [low, high], "successes", "n"}``.
"""

from __future__ import annotations

import json
from html import escape

from worldjepa.evaluation.page import definitions, folded, section

PLAYERS = {
    "planner": ("World model + planner", "plans in the latent space of the model that this run trained"),
    "random": ("Random actions", "a floor: what luck achieves"),
    "still": ("No action", "a floor: what doing nothing achieves"),
    "replay": ("Replay of the recording", "a ceiling: the recorded actions that led from start to goal, played again"),
    "scripted_pusher": ("Scripted pusher", "a hand-written expert that sees the true state, not pictures"),
}
SPLITS = {
    "human": "goal pictures from held-out human demonstrations",
    "scripted": "goal pictures from held-out scripted episodes",
}


def percent(share: float) -> str:
    """0.857 -> ``85.7 %``."""
    return f"{100 * share:.1f} %"


def headline_sentence(results: dict) -> str:
    """One split of ``planning.json`` in plain words; it must have the player ``planner``."""
    planner = results["planner"]["any"]
    low, high = planner["ci95"]
    words = (
        f"Reaches {planner['successes']} of {planner['n']} unsolved goal pictures ({percent(planner['rate'])}, "
        f"95 % interval {100 * low:.1f}–{percent(high)})"
    )
    others = [
        f"{name} {percent(_measures(results[player])['any']['rate'])}"
        for player, name in (("random", "random actions"), ("replay", "replay of the recording"))
        if "any" in _measures(results.get(player))
    ]
    return "; ".join([words, *([", ".join(others)] if others else [])]) + "."


def headline(title: str, planning: dict, learned: str = "") -> str:
    """The top of the page: the run's name (as HTML) and one card per judged split.

    Args:
        learned: a sentence about what a run has learned that is not for planning.
    """
    cards = [
        f'<div class="card hero"><p class="eyebrow">{escape(SPLITS.get(split, split))}</p>'
        f'<p class="big">{percent(results["planner"]["any"]["rate"])}</p>'
        f"<p>{escape(headline_sentence(results))}</p></div>"
        for split, results in planning.items()
        if isinstance(results, dict) and "any" in _measures(results.get("planner"))
    ]
    lead = "A world model learned, without labels or rewards, to predict in its own latent space what actions do. " + (
        "A planner then tried out actions in that imagination to make the world look like a goal picture."
        if cards
        else "Its planning has not been judged yet."
    )
    if learned:
        lead = "A model learned, without labels or rewards, to predict in its own latent space. " + learned
    return (
        f'<header><p class="eyebrow">worldjepa run</p><h1>{title}</h1><p class="lead">{lead}</p></header>\n'
        f'<div class="cards">{"".join(cards)}</div>'
    )


def scoreboard(planning: dict) -> str:
    """The section with one table per split; empty when nothing was judged."""
    tables, meanings = [], {}
    for split, results in planning.items():
        players = {name: _measures(entry) for name, entry in results.items()} if isinstance(results, dict) else {}
        players = {name: measures for name, measures in players.items() if measures}
        if players:
            found = list(dict.fromkeys(name for measures in players.values() for name in measures))
            columns = [name for name in found if _is_shown(name)]
            tables.append(_split_table(split, results, players, columns))
            meanings |= dict(_measure_words(name) for name in columns)
            meanings |= dict(PLAYERS[name] for name in PLAYERS if name in players)
    if not tables:
        return ""
    recorded = escape(json.dumps(planning, indent=1))
    return section(
        "Does it reach its goals?",
        "Every player starts from the same held-out situations and is given the same goal pictures. The bar is the "
        "95 % interval: where the true rate is likely to lie, given how few pairs were tried.",
        "".join(tables) + definitions(meanings) + folded("planning.json as recorded", f"<pre>{recorded}</pre>"),
    )


def _split_table(split: str, results: dict, players: dict[str, dict], columns: list[str]) -> str:
    heads = "".join(_head(*_measure_words(name), scope="col") for name in columns)
    lines = []
    for player in [name for name in PLAYERS if name in players] + [name for name in players if name not in PLAYERS]:
        marked = ' class="ours"' if player == "planner" else ""
        name = _head(*PLAYERS.get(player, (player.replace("_", " "), "")), scope="row")
        cells = "".join(_rate_cell(players[player].get(column)) for column in columns)
        lines.append(f"<tr{marked}>{name}{cells}</tr>")
    planner = results.get("planner")
    remarks = {
        "{} pairs of start and goal": results.get("n"),
        "{} more were left out because the start already solves them": results.get("excluded_solved"),
        "{} steps to reach a goal": results.get("budget"),
        "{} ms per plan and environment": planner.get("ms_per_plan") if isinstance(planner, dict) else None,
        "list of pairs {}": results.get("manifest_hash"),
    }
    said = "; ".join(words.format(value) for words, value in remarks.items() if value is not None)
    heading = SPLITS.get(split, split)
    return (
        f"<h3>{escape(heading[:1].upper() + heading[1:])}</h3>"
        f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div><p class="note">{escape(said)}</p>'
    )


def _head(name: str, meaning: str, scope: str) -> str:
    words = f'<abbr title="{escape(meaning)}">{escape(name)}</abbr>' if meaning else escape(name)
    return f'<th scope="{scope}">{words}</th>'


def _is_shown(measure: str) -> bool:
    # of the moved pairs one column is enough; the rest stands in planning.json
    return measure == "any_moved" or not measure.endswith("_moved")


def _measure_words(measure: str) -> tuple[str, str]:
    """Heading and meaning of a measure."""
    if measure == "any":
        return "at any step", "the goal was reached at some step within the budget"
    if measure == "end":
        return "at the end", "the goal holds when the budget is spent"
    if measure == "any_moved":
        return "moved pairs", "at any step, counting only goals that ask to move more than the robot itself"
    if measure.startswith("at_"):
        return f"at step {measure[3:]}", "the goal holds after exactly as many steps as the recording took"
    return measure.replace("_", " "), ""


def _measures(player: object) -> dict[str, dict]:
    """The measures of one player that have a rate; {} for entries of a split that are no player."""
    if not isinstance(player, dict):
        return {}
    return {name: m for name, m in player.items() if isinstance(m, dict) and m.get("rate") is not None}


def _rate_cell(measure: dict | None) -> str:
    if measure is None:
        return "<td>–</td>"
    rate, low, high = (100 * share for share in (measure["rate"], *measure["ci95"]))
    return (
        f'<td><b>{rate:.1f} %</b><span class="bar" title="95 % interval {low:.1f} to {high:.1f} %">'
        f'<i style="left:{low:.1f}%;width:{max(high - low, 0.8):.1f}%"></i><u style="left:{rate:.1f}%"></u></span>'
        f"<small>{low:.1f}–{high:.1f}<br>{measure['successes']} of {measure['n']}</small></td>"
    )
