"""The closed vocabularies by attribute key: any other word under such a key is free text and stays on the device."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract.events import InflightPhase

_VOCABULARIES: Final[Mapping[str, type[StrEnum]]] = {
    a.ERROR_TYPE: a.ErrorType,
    a.INFERENCE_PHASE: a.Phase,
    a.INFLIGHT_PHASE: InflightPhase,
    a.INFERENCE_ROUTE: a.Route,
    a.FEATURE_STATE: a.FeatureState,
    a.SESSION_END_REASON: a.EndReason,
    a.LOSS_REASON: a.LossReason,
    a.CLOCK_SOURCE: a.ClockSource,
    a.LOAD_STAGE: a.LoadStage,
    a.STARTUP_FROM: a.StartupFrom,
    a.PIPELINE_STAGE: a.PipelineStage,
    a.OUTPUT_OUTCOME: a.Outcome,
    a.ENERGY_SOURCE: a.EnergySource,
    a.SELFTEST_TRIGGER: a.SelftestTrigger,
    a.TEST_STATUS: a.CaseStatus,
    a.THROTTLE_CAUSE: a.ThrottleCause,
    a.BUDGET_NAME: a.BudgetName,
    a.BUDGET_STATE: a.BudgetState,
    a.PRIVACY_REASON: a.PrivacyReason,
    a.UPDATE_TARGET: a.UpdateTarget,
    a.UPDATE_PHASE: a.UpdatePhase,
}
OWN_ERRORS: Final = frozenset({"edge.export.size", "edge.selftest.checks"})
"""Metrics whose ``error.type`` is not the inference vocabulary (an HTTP status, a comparison); in no event it is."""
WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {key: tuple(str(word) for word in words) for key, words in _VOCABULARIES.items()}
)
