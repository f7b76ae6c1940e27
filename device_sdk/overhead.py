"""What the SDK itself costs, and what it does about it: fewer tensors, in steps, and never a count less.

Two controls share one setting, ``overhead_budget``, a share of inference time. Each session's ``Sampling`` chooses from
estimates how many runs to look at. The ladder here checks afterwards, in CPU time that was measured, whether that was
enough, and if not takes a step down for all sessions.
"""

from __future__ import annotations

import logging
import weakref
from functools import cache
from time import perf_counter_ns
from typing import Final

from device_sdk.contract.attributes import SdkLevel, SignalLevel
from device_sdk.errors import guard, log_rationed
from device_sdk.ledger import Ledger
from device_sdk.signals import Signals
from device_sdk.signals.adapter import Adapter
from device_sdk.signals.models import ModelInputs, ModelRuns
from device_sdk.signals.recorder import Recorder
from device_sdk.signals.sampling import Sampling, allowance, lower_of

PERIOD_NS: Final = 10_000_000_000
"""Time between two judgements."""
CORE_SHARE_MIN: Final = 0.01
"""Below this share of one core nobody is hurt, whatever share of a rare inference it is."""
OVER_MAX: Final = 2
"""Judgements above the budget, one after the other, that make a step down: one alone may be chance."""
CALM_MIN: Final = 6
"""Judgements within the budget that make a step up; each relapse doubles them, up to ``CALM_MAX``."""
CALM_MAX: Final = 360

_STEPS: Final = (
    (None, SignalLevel.FULL, 1),
    (SdkLevel.THINNED, SignalLevel.FULL, 4),
    (SdkLevel.SPARSE, SignalLevel.FULL, 32),
    (SdkLevel.OUTPUTS, SignalLevel.OUTPUTS, 32),
    (SdkLevel.OFF, SignalLevel.OFF, 32),
)
_CALIBRATION_RUNS: Final = 200


class Ladder:
    """How far down the steps the SDK is; fed with one period after the other."""

    def __init__(self, budget: float) -> None:
        self.step = 0
        self._budget = budget
        self._over = 0
        self._calm = 0
        self._calm_wanted = CALM_MIN
        self._since_up = CALM_MAX

    def judge(self, wall_ns: float, run_ns: float, tensors_ns: float, rest_ns: float) -> bool:
        """Take in a period and say whether the step has changed.

        ``run_ns`` is time spent in runs, ``tensors_ns`` the CPU time of copying and folding tensors, ``rest_ns`` that
        of counting and exporting, which looking at fewer tensors does not lower.
        """
        allowed_ns = max(allowance(self._budget * run_ns, rest_ns), CORE_SHARE_MIN * wall_ns)
        self._since_up += 1
        if tensors_ns <= allowed_ns:
            self._over, self._calm = 0, self._calm + 1
            if self.step == 0:
                self._calm_wanted = CALM_MIN if self._since_up > CALM_MAX else self._calm_wanted
            if self.step == 0 or self._calm < self._calm_wanted:
                return False
            self.step, self._calm, self._since_up = self.step - 1, 0, 0
            return True
        self._over, self._calm = self._over + 1, 0
        if self._over < OVER_MAX or self.step == len(_STEPS) - 1:
            return False
        if self._since_up <= self._calm_wanted:  # too early: the way up was tried and failed
            self._calm_wanted = min(CALM_MAX, 2 * self._calm_wanted)
        self.step, self._over = self.step + 1, 0
        return True


class Overhead:
    """The sampling of all sessions of one Monitor, and its account of CPU time. The engine's lock guards it.

    ``budget`` None (a simulated device has no time of its own) observes, and leaves out nothing.
    """

    def __init__(self, budget: float | None, now_ns: int) -> None:
        self._budget = budget
        self._ladder = Ladder(budget or 1.0)
        self._samplings: weakref.WeakSet[Sampling] = weakref.WeakSet()
        self._governed = (SignalLevel.FULL, 1)
        self._accounted_ns = self._judged_ns = now_ns
        self._run_ns = self._tensors_ns = self._rest_ns = 0.0

    @property
    def level(self) -> SdkLevel | None:
        """The step that is taken; None while everything within the budget is looked at."""
        return _STEPS[self._ladder.step][0]

    def sampling(self) -> Sampling:
        """Return the sampling of a new session, under all that holds for the others."""
        sampling = Sampling(self._budget)
        self._samplings.add(sampling)
        self._limit(sampling)
        return sampling

    def govern(self, level: SignalLevel, every: int) -> None:
        """Set the limits that come from outside; see ``Engine.govern``."""
        level = SignalLevel(level)
        if every < 1:
            raise ValueError(f"every={every}: look at one run in 1 or more")
        self._governed = (level, int(every))
        for sampling in self._samplings:
            self._limit(sampling)

    def _limit(self, sampling: Sampling) -> None:
        _, level, times = _STEPS[self._ladder.step]
        sampling.limit(lower_of(level, self._governed[0]), self._governed[1], times)

    def exported(self, cpu_ns: int, ledger: Ledger) -> None:
        """Add CPU time of building and sending windows."""
        ledger.spent("export", cpu_ns)
        self._rest_ns += cpu_ns

    def folded(self, cpu_ns: int, now_ns: int, ledger: Ledger) -> None:
        """Take in a fold: its CPU time, what callers' threads paid since the last one, and time at this step."""
        runs = 0
        copied_ns = 0.0
        for sampling in self._samplings:
            taken = sampling.take_usage()
            runs, self._run_ns, copied_ns = runs + taken.runs, self._run_ns + taken.run_ns, copied_ns + taken.copy_ns
        if runs:
            counting_ns = runs * (counting_cost_ns() if self._budget is not None else 0.0)
            ledger.spent("record", round(counting_ns + copied_ns))
            self._rest_ns += counting_ns
        ledger.spent("fold", cpu_ns)
        self._tensors_ns += copied_ns + cpu_ns
        if self.level is not None:
            ledger.degraded(self.level, now_ns - self._accounted_ns)
        self._accounted_ns = now_ns
        if self._budget is not None and now_ns - self._judged_ns >= PERIOD_NS:
            self._judge(now_ns)

    def _judge(self, now_ns: int) -> None:
        run_ns, cost_ns = self._run_ns, self._tensors_ns + self._rest_ns
        changed = self._ladder.judge(now_ns - self._judged_ns, run_ns, self._tensors_ns, self._rest_ns)
        self._judged_ns = now_ns
        self._run_ns = self._tensors_ns = self._rest_ns = 0.0
        if not changed:
            return
        for sampling in self._samplings:
            self._limit(sampling)
        log_rationed(
            logging.WARNING if self._ladder.step else logging.INFO,
            "device_sdk used %.1f %% of inference time (overhead_budget %.1f %%): tensor signals are now %s; "
            "counts and latency stay exact",
            100 * cost_ns / max(1.0, run_ns),
            100 * (self._budget or 0.0),
            self.level or "full",
        )


@cache
def counting_cost_ns() -> float:
    """Return what timing and counting one run costs on this machine, in ns, without its tensors: measured once."""
    model = (("edge.model.name", "calibration"), ("edge.model.version", "0"))
    runs = ModelRuns(model, ModelInputs("calibration", "0"))
    recorder = Recorder(runs, Signals(output="none"), perf_ns=perf_counter_ns)
    reading = Adapter(("x",), ("y",), str, lambda _feed, _result: 1)

    def inner(_names: object, _feed: object, _options: object = None) -> tuple[object, ...]:
        return ()

    measured, feed = recorder.bind(inner, reading), {"x": (0,)}
    costs = []
    with guard("measuring the cost of counting"):
        for run in (measured, inner) * 3:  # the best of each is the one that nothing disturbed
            started = perf_counter_ns()
            for _ in range(_CALIBRATION_RUNS):
                run(None, feed)
            costs.append((perf_counter_ns() - started) / _CALIBRATION_RUNS)
        return max(1.0, min(costs[::2]) - min(costs[1::2]))
    return 1.0
