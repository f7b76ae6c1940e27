"""What an alert remembers between calls, as JSON inside its stored evidence, and back. Pure.

Every state row of a live alert carries its memory, so a restart goes on exactly where the last call ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from alerts.evaluate import Echo, Key, Live, echo_of, new_live
from alerts.schema import Rule
from alerts.state import Episode, Member, Phase
from alerts.verdict import dims

MEMORY: Final = "memory"
"""The field of ``evidence`` that holds the memory; pages may ignore it."""


def remember(live: Live) -> dict[str, Any]:
    """Return the memory of a live alert as JSON-able values."""
    episode = live.episode
    return {
        "as_of_ns": live.as_of_ns,
        "key": live.key._asdict(),
        "episode": None
        if episode is None
        else {
            "phase": str(episode.phase),
            "onset_ns": episode.onset_ns,
            "true_since_ns": episode.true_since_ns,
            "firing_ns": episode.firing_ns,
            "clear_since_ns": episode.clear_since_ns,
            "suppressed_by": episode.suppressed_by,
        },
        "members": {
            key: [member.value, member.held, member.definite_ns, member.true_ns, member.onset_ns]
            for key, member in live.members.items()
        },
    }


def recall(rule: Rule, row: Mapping[str, Any]) -> Live:
    """Return the live alert of a stored state row (``evidence`` as text); raises ``ValueError`` without a memory."""
    live, memory = _identity(rule, row)
    episode = memory.get("episode")
    if episode is None:
        raise ValueError(f"alert {row['alert_id']} is {row['state']} but its row holds no episode")
    live.episode = Episode(**{**episode, "phase": Phase(episode["phase"])})
    live.members = {key: Member(*values) for key, values in memory["members"].items()}
    return live


def recall_echo(rule: Rule, row: Mapping[str, Any]) -> Echo:
    """Return what a resolved alert of a stored row goes on explaining."""
    live, _ = _identity(rule, row)
    return echo_of(live, str(row["alert_id"]), int(row["at_ns"]))


def progress_of(row: Mapping[str, Any]) -> tuple[str, int]:
    """Return (kind, instant) up to which the kind was judged when a state row was written."""
    evidence = json.loads(row["evidence"])
    return str(evidence.get("kind", "")), int(evidence.get(MEMORY, {}).get("as_of_ns", 0))


def _identity(rule: Rule, row: Mapping[str, Any]) -> tuple[Live, dict[str, Any]]:
    evidence = json.loads(row["evidence"])
    memory = evidence.pop(MEMORY, None)
    if memory is None:
        raise ValueError(f"alert {row['alert_id']} holds no memory in its evidence; it was not written by this program")
    key = Key(**memory["key"])
    live = new_live(rule, key, dims(json.loads(key.cohort), key.model, key.version))
    live.as_of_ns = int(memory["as_of_ns"])
    live.evidence = evidence
    live.summary, live.devices = str(row["summary"]), int(row["devices"])
    return live, dict(memory)
