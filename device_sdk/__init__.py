"""One line around an inference session: latency, drift and crash summaries over OTLP, never raw data."""

from device_sdk._version import __version__
from device_sdk.errors import ConfigError, DeviceSdkError, ModelNameError, SignalsError, StateDirError
from device_sdk.monitor import Monitor
from device_sdk.signals import Feature, Output, Signals

__all__ = [
    "ConfigError",
    "DeviceSdkError",
    "Feature",
    "ModelNameError",
    "Monitor",
    "Output",
    "Signals",
    "SignalsError",
    "StateDirError",
    "__version__",
]
