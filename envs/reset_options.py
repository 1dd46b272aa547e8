"""What ``reset(options=...)`` of every environment here takes."""

from __future__ import annotations

from typing import Any


def state_and_goal(options: dict[str, Any] | None) -> tuple[Any, Any]:
    """``options["state"]`` and ``options["goal_state"]``, None where they are not given.

    Raises:
        ValueError: an option that there is not.
    """
    options = options or {}
    unknown = sorted(set(options) - {"state", "goal_state"})
    if unknown:
        raise ValueError(f"reset options must be 'state' and 'goal_state', got {', '.join(map(str, unknown))}")
    return options.get("state"), options.get("goal_state")
