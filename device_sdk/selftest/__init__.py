"""Golden self-tests: whether the model on this device still answers what it did at release."""

from device_sdk.selftest.golden import Golden, Task, Tolerance, Waiver, load_golden
from device_sdk.selftest.run import PreProcess, SelftestResult

__all__ = ["Golden", "PreProcess", "SelftestResult", "Task", "Tolerance", "Waiver", "load_golden"]
