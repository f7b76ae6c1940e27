"""The gate: every point and every event passes it on the way to the encoder, whoever made them.

A decision is cached by metric and attributes, so that a known series costs one dictionary look-up a window.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from device_sdk.contract import EVENTS, Instrument
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import LossReason, PrivacyReason
from device_sdk.contract.events import COMMON_KEYS, Event
from device_sdk.errors import log_rationed
from device_sdk.points import AttributePairs, EventAttributes, Points, Value
from device_sdk.privacy.account import Account
from device_sdk.privacy.aggregate import merged, observations
from device_sdk.privacy.budget import EpsilonLedger
from device_sdk.privacy.contribution import Contribution
from device_sdk.privacy.policy import Policy
from device_sdk.privacy.randomised import Randomiser
from device_sdk.privacy.schema import event_attribute_refusal, instrument_of, series_refusal, value_refusal

_REMEMBERED_MAX: Final = 4096
"""Most refused series that are remembered; the memory starts anew beyond, and the next sight decides again."""
_LINKING: Final = frozenset({m.PROCESS_UPTIME.name, m.SYSTEM_UPTIME.name})
"""Readings that would tell exactly which pseudonym goes on as which: not sent while the identity rotates."""
_EVENT_KEYS: Final = {event.name: frozenset((*COMMON_KEYS, *event.attributes)) for event in EVENTS}


class Gate:
    """Lets the contract through, within its bounds of series and under a policy.

    One thread at a time; lives as long as its process. ``folder`` is where the ledger of privacy loss is kept; None
    keeps none, and then nothing that would have to be randomised is sent. ``now_ns`` is the stream clock.
    """

    def __init__(
        self, policy: Policy | None = None, *, folder: Path | None = None, now_ns: Callable[[], int] = lambda: 0
    ) -> None:
        policy = policy or Policy()
        self._vocabularies: dict[tuple[str, str, str], tuple[str, ...]] = {}
        randomiser = None
        if policy.epsilon is not None:
            ledger = EpsilonLedger(folder, policy.epsilon_day, now_ns)
            randomiser = Randomiser(policy.epsilon, ledger, self._vocabularies, np.random.default_rng())
        self._contribution = Contribution(policy, randomiser=randomiser)
        self._linking = _LINKING if policy.rotation_s else frozenset()
        self._series: dict[str, dict[AttributePairs, AttributePairs]] = {}
        self._series_count = 0
        self._outside: dict[tuple[str, AttributePairs], PrivacyReason | None] = {}

    def declare(self, model: str, version: str, words: Mapping[str, Sequence[str]]) -> None:
        """Note the vocabularies of a model: its classes under an empty name, categories under their feature's."""
        for feature, listed in words.items():
            if listed:
                self._vocabularies.setdefault((model, version, feature), (*listed, a.OTHER))

    def window(self, points: Points, account: Account, *, last: bool = False) -> Points:
        """Return what of a window may leave; the rest is counted by reason. ``last``: no later window will come."""
        admitted = Points()
        for metric, members in points.by_metric.items():
            if metric in self._linking:
                continue
            instrument = instrument_of(metric)
            if instrument is None:
                self._refuse(account, PrivacyReason.UNKNOWN_NAME, f"metric {metric!r}", len(members))
                continue
            self._admit(instrument, members, admitted, account)
        return self._contribution.window(admitted, account, last=last)

    def event(self, event: Event, attributes: EventAttributes, account: Account) -> EventAttributes | None:
        """Return what of an event's attributes may leave, None when the event itself may not."""
        known = _EVENT_KEYS.get(event.name)
        if known is None:
            self._refuse(account, PrivacyReason.UNKNOWN_NAME, f"event {event.name!r}", 1)
            return None
        kept: EventAttributes = []
        for key, value in attributes:
            reason = event_attribute_refusal(known, key, value)
            if reason is None:
                kept.append((key, value))
            else:
                self._refuse(account, reason, f"attribute {key!r} of event {event.name!r}", 1)
        return kept

    def _admit(
        self, instrument: Instrument, members: list[tuple[AttributePairs, Value]], admitted: Points, account: Account
    ) -> None:
        known = self._series.setdefault(instrument.name, {})
        overflow: dict[AttributePairs, Value] = {}
        for attributes, value in members:
            reason = value_refusal(instrument, value)
            same = known.get(attributes)
            if reason is None and same is None:
                reason = self._decide(instrument, attributes)
                if reason is None and not self._has_room(instrument, known, attributes):
                    account.measurements_lost(LossReason.CARDINALITY, observations(value))
                    rest = _overflow_of(attributes)
                    seen = overflow.get(rest)
                    overflow[rest] = value if seen is None else merged(instrument.kind, seen, value)
                    continue
            if reason is None:
                admitted.add(instrument.name, value, same or attributes)  # of a series always the same object
            else:
                self._refuse(account, reason, f"a point of {instrument.name}", 1)
        for attributes, value in overflow.items():
            admitted.add(instrument.name, value, attributes)

    def _decide(self, instrument: Instrument, attributes: AttributePairs) -> PrivacyReason | None:
        key = (instrument.name, attributes)
        if key not in self._outside:
            if len(self._outside) >= _REMEMBERED_MAX:
                self._outside.clear()
            self._outside[key] = series_refusal(instrument, attributes)
        return self._outside[key]

    def _has_room(
        self, instrument: Instrument, known: dict[AttributePairs, AttributePairs], attributes: AttributePairs
    ) -> bool:
        """Take a new series in, unless the metric or the process has as many as it may."""
        if len(known) >= instrument.series_max or self._series_count >= a.SERIES_MAX:
            return False
        known[attributes] = attributes
        self._series_count += 1
        self._outside.pop((instrument.name, attributes), None)
        return True

    @staticmethod
    def _refuse(account: Account, reason: PrivacyReason, what: str, count: int) -> None:
        account.refused(str(reason), count)
        log_rationed(logging.WARNING, "%s stays on the device: %s; docs/contract.md lists what may leave", what, reason)


def _overflow_of(attributes: AttributePairs) -> AttributePairs:
    """Return the attributes of the point that stands for all series beyond the bound: the model's, and the mark."""
    return (*(pair for pair in attributes if pair[0] in a.MODEL_KEYS), (a.OVERFLOW, True))
