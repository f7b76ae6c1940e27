"""From a run's tensors to fixed-size aggregates: what to watch, the bounded copy on the caller's thread, the fold."""

from device_sdk.signals.declare import COLUMN, FEATURES_MAX, NAME_LENGTH_MAX, Feature, Output, Signals
from device_sdk.signals.parse import load_signals, signals_beside, signals_from_mapping

__all__ = [
    "COLUMN",
    "FEATURES_MAX",
    "NAME_LENGTH_MAX",
    "Feature",
    "Output",
    "Signals",
    "load_signals",
    "signals_beside",
    "signals_from_mapping",
]
