"""What the store remembers of alerts, read back at the first call after a start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alerts.evaluate import Echo, Live
from alerts.memory import progress_of, recall, recall_echo
from alerts.notify.base import Notice
from alerts.schema import Rule
from alerts.state import Action
from alerts.writing import notice_from_ledger
from collector.storage.base import Store

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Past:
    """Live alerts, what resolved ones still explain, progress by kind, and the ledger in the order it was written.

    ``stored_ns`` is each alert's newest stored instant, ``written_ns`` the newest time of writing.
    """

    progress_ns: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    live: list[Live] = field(default_factory=list)
    echoes: list[Echo] = field(default_factory=list)
    written_ns: int = 0
    stored_ns: dict[str, int] = field(default_factory=dict)
    entry_ids: set[str] = field(default_factory=set)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def read_past(store: Store, rules: Mapping[str, Rule]) -> Past:
    """Read states, ledger and progress. Alerts of a rule that is gone are left as they are, and said so."""
    past = Past()
    progress = store.query("job_progress", {"job": "alerts"}).to_pylist()
    past.progress_ns = int(progress[0]["until_ns"] or 0) if progress else 0
    for row in store.query("alerts_latest", {}).to_pylist():
        kind, as_of_ns = progress_of(row)
        past.kinds[kind] = max(past.kinds.get(kind, 0), as_of_ns)
        past.stored_ns[row["alert_id"]] = int(row["at_ns"])
        past.written_ns = max(past.written_ns, int(row["written_ns"]))
        rule = rules.get(row["rule"])
        if rule is None:
            if row["state"] in {"pending", "firing"}:
                logger.warning(
                    "alert %s is %s under rule %s, which is gone", row["alert_id"], row["state"], row["rule"]
                )
        elif row["state"] in {"pending", "firing"}:
            past.live.append(recall(rule, row))
        elif row["state"] == "resolved":
            past.echoes.append(recall_echo(rule, row))
    ledger = sorted(store.query("ledger", {"alert_id": ""}).to_pylist(), key=lambda row: int(row["written_ns"]))
    for row in ledger:
        past.written_ns = max(past.written_ns, int(row["written_ns"]))
        past.entry_ids.add(row["entry_id"])
        past.ledger.append({**row, "detail": json.loads(row["detail"])})
    told = [row for row in past.ledger if row["action"] in {Action.FIRING, Action.RESOLVED}]
    past.notices = [notice_from_ledger(row) for row in told]
    return past
