"""Every instrument of the wire contract, as one frozen table.

Only mergeable quantities travel: counts, sums, buckets and last values. A ratio, a mean or a percentile is computed on
the server. A name is never reused with another meaning; adding a row is compatible, changing one is a new name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import FEATURE_MAX_SCALE, LATENCY_MAX_SCALE, U1_BOUNDS

CONTRACT_VERSION: Final = 1
SCOPE_NAME: Final = "device_sdk"


class Kind(StrEnum):
    """How an instrument is aggregated and sent; counters and histograms in delta temporality."""

    EXPONENTIAL = "exponential_histogram"
    EXPLICIT = "histogram"
    COUNTER = "counter"
    UP_DOWN = "up_down_counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the contract.

    ``series_max`` bounds the series of one process; ``summed`` says whether a histogram carries sum, min and max (never
    where a sum over one observation would be somebody's raw value); ``reserved`` rows are named but not sent yet.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    meaning: str
    series_max: int
    max_scale: int | None = None
    bounds: tuple[float, ...] = ()
    summed: bool = False
    reserved: bool = False


INFERENCE_DURATION: Final = Instrument(
    "edge.inference.duration", Kind.EXPONENTIAL, "s", (*a.RUN_KEYS, a.INFERENCE_PHASE, a.ERROR_TYPE),
    "Wall time of one run call; the count is the number of runs, failures carry error.type.", 48,
    max_scale=LATENCY_MAX_SCALE, summed=True,
)  # fmt: skip
INFERENCE_SAMPLES: Final = Instrument(
    "edge.inference.samples", Kind.COUNTER, "{sample}", (*a.RUN_KEYS, a.ERROR_TYPE, a.INFERENCE_ROUTE),
    "Samples in those runs (length of the batch axis), by the route that answered them.", 24,
)  # fmt: skip
INPUT_SIZE: Final = Instrument(
    "edge.inference.input.size", Kind.COUNTER, "By", (*a.MODEL_KEYS, a.INFERENCE_ROUTE),
    "Bytes of input tensors handed to the runtime: what a cloud call would have had to carry.", 8, reserved=True,
)  # fmt: skip
SIGNAL_SAMPLES: Final = Instrument(
    "edge.signal.samples", Kind.COUNTER, "{sample}", a.MODEL_KEYS,
    "Samples whose tensors were folded into signals: the share to re-weight by when signals are sampled.", 4,
)  # fmt: skip
LOAD_DURATION: Final = Instrument(
    "edge.model.load.duration", Kind.EXPONENTIAL, "s",
    (*a.MODEL_KEYS, a.RUNTIME_NAME, a.PROVIDER_REQUESTED, a.LOAD_STAGE, a.LOAD_CACHED, a.ERROR_TYPE),
    "Time to make a session ready, by disjoint stage.", 32, max_scale=LATENCY_MAX_SCALE, summed=True, reserved=True,
)  # fmt: skip
STARTUP_DURATION: Final = Instrument(
    "edge.startup.duration", Kind.EXPONENTIAL, "s", (*a.MODEL_KEYS, a.STARTUP_FROM),
    "Cold start as its user feels it: boot or process start to the first successful inference.", 8,
    max_scale=LATENCY_MAX_SCALE, summed=True, reserved=True,
)  # fmt: skip
INPUT_VALUE: Final = Instrument(
    "edge.input.value", Kind.EXPONENTIAL, "1", (*a.MODEL_KEYS, a.FEATURE_NAME, a.FEATURE_GRID),
    "An input feature on its pinned grid, (x - c) / u; no sum, minimum or maximum leaves the device.", 64,
    max_scale=FEATURE_MAX_SCALE,
)  # fmt: skip
INPUT_OBSERVATIONS: Final = Instrument(
    "edge.input.observations", Kind.COUNTER, "{observation}", (*a.MODEL_KEYS, a.FEATURE_NAME, a.FEATURE_STATE),
    "Observations of a feature by state; their sum is the rows seen.", 448,
)  # fmt: skip
OUTPUT_CONFIDENCE: Final = Instrument(
    "edge.output.confidence", Kind.EXPLICIT, "1", (*a.RUN_KEYS, a.OUTPUT_NAME),
    "Probability of the predicted class.", 8, bounds=U1_BOUNDS,
)  # fmt: skip
OUTPUT_ENTROPY: Final = Instrument(
    "edge.output.entropy", Kind.EXPLICIT, "1", (*a.RUN_KEYS, a.OUTPUT_NAME),
    "Entropy of the class probabilities over the logarithm of the number of classes.", 8, bounds=U1_BOUNDS,
)  # fmt: skip
OUTPUT_MARGIN: Final = Instrument(
    "edge.output.margin", Kind.EXPLICIT, "1", (*a.RUN_KEYS, a.OUTPUT_NAME),
    "Probability of the predicted class less that of the runner-up.", 8, bounds=U1_BOUNDS,
)  # fmt: skip
OUTPUT_PREDICTIONS: Final = Instrument(
    "edge.output.predictions", Kind.COUNTER, "{prediction}", (*a.RUN_KEYS, a.OUTPUT_NAME, a.CLASS_NAME),
    "Predicted (top-1) classes; beyond the declared or first 64 they count as _OTHER.", 130,
)  # fmt: skip
OUTPUT_VALUE: Final = Instrument(
    "edge.output.value", Kind.EXPONENTIAL, "1", (*a.RUN_KEYS, a.OUTPUT_NAME, a.FEATURE_GRID),
    "A regression output on its pinned grid; no sum, minimum or maximum.", 8, max_scale=FEATURE_MAX_SCALE,
)  # fmt: skip
SESSION_TIME: Final = Instrument(
    "edge.session.time", Kind.COUNTER, "s", (),
    "Observed seconds alive, sent in empty windows too: heartbeat and denominator of crash-free time.", 1,
)  # fmt: skip
SESSION_STARTS: Final = Instrument(
    "edge.session.starts", Kind.COUNTER, "{session}", (), "Sessions started.", 1,
)  # fmt: skip
SESSION_ENDS: Final = Instrument(
    "edge.session.ends", Kind.COUNTER, "{session}", (a.SESSION_END_REASON, a.SESSION_END_EXPECTED),
    "Sessions ended, as found out by the sender; the true time of an end is on its event.", 12,
)  # fmt: skip
WINDOW_SEQUENCE: Final = Instrument(
    "edge.window.sequence", Kind.GAUGE, "{window}", (), "Number of the last base window inside, from 0 per stream.", 1,
)  # fmt: skip
WINDOW_COUNT: Final = Instrument(
    "edge.window.count", Kind.COUNTER, "{window}", (),
    "Base windows inside: the interval [sequence - count + 1, sequence] proves gaps.", 1,
)  # fmt: skip
WINDOW_POINTS: Final = Instrument(
    "edge.window.points", Kind.COUNTER, "{data_point}", (),
    "Data points of this window, this one included: a window with all of them is sealed.", 1,
)  # fmt: skip
CLOCK_OFFSET: Final = Instrument(
    "edge.clock.offset", Kind.GAUGE, "s", (a.CLOCK_SOURCE,),
    "Wall clock minus stream clock at sending, in the envelope of each attempt.", 1,
)  # fmt: skip
SPOOL_USAGE: Final = Instrument(
    "edge.spool.usage", Kind.UP_DOWN, "By", (a.SPOOL_MEDIUM,), "Bytes waiting to be sent.", 2,
)  # fmt: skip
LOSS_WINDOWS: Final = Instrument(
    "edge.loss.windows", Kind.COUNTER, "{window}", (a.LOSS_REASON,), "Windows that will never arrive.", 8,
)  # fmt: skip
LOSS_EVENTS: Final = Instrument(
    "edge.loss.events", Kind.COUNTER, "{event}", (a.LOSS_REASON,), "Events that will never arrive.", 8,
)  # fmt: skip
LOSS_MEASUREMENTS: Final = Instrument(
    "edge.loss.measurements", Kind.COUNTER, "{measurement}", (a.LOSS_REASON,),
    "Tensor measurements that were not folded; runs and latency are never among them.", 8,
)  # fmt: skip
EXPORT_SIZE: Final = Instrument(
    "edge.export.size", Kind.COUNTER, "By", (a.EXPORT_KIND, a.ERROR_TYPE), "Bytes the SDK put on the network.", 6,
)  # fmt: skip
SDK_TIME: Final = Instrument(
    "edge.sdk.time", Kind.COUNTER, "s", (a.SDK_ACTIVITY,), "CPU time of the SDK itself, by activity.", 3,
)  # fmt: skip
PRIVACY_REFUSED: Final = Instrument(
    "edge.privacy.refused", Kind.COUNTER, "{measurement}", (a.PRIVACY_REASON,),
    "Attributes the allow-list kept on the device.", 4,
)  # fmt: skip
GPU_UTILIZATION: Final = Instrument(
    "hw.gpu.utilization", Kind.GAUGE, "1", ("hw.id",), "Use of an accelerator, 0..1.", 8, reserved=True,
)  # fmt: skip
PROCESS_CPU_TIME: Final = Instrument(
    "process.cpu.time", Kind.COUNTER, "s", ("cpu.mode",), "CPU time of the host process, by mode.", 2,
)  # fmt: skip
PROCESS_MEMORY: Final = Instrument(
    "process.memory.usage", Kind.UP_DOWN, "By", (), "Resident memory of the host process.", 1,
)  # fmt: skip

INSTRUMENTS: Final[tuple[Instrument, ...]] = (
    INFERENCE_DURATION, INFERENCE_SAMPLES, INPUT_SIZE, SIGNAL_SAMPLES, LOAD_DURATION, STARTUP_DURATION,
    INPUT_VALUE, INPUT_OBSERVATIONS, OUTPUT_CONFIDENCE, OUTPUT_ENTROPY, OUTPUT_MARGIN, OUTPUT_PREDICTIONS, OUTPUT_VALUE,
    SESSION_TIME, SESSION_STARTS, SESSION_ENDS, WINDOW_SEQUENCE, WINDOW_COUNT, WINDOW_POINTS, CLOCK_OFFSET,
    SPOOL_USAGE, LOSS_WINDOWS, LOSS_EVENTS, LOSS_MEASUREMENTS, EXPORT_SIZE, SDK_TIME, PRIVACY_REFUSED,
    GPU_UTILIZATION, PROCESS_CPU_TIME, PROCESS_MEMORY,
)  # fmt: skip

BY_NAME: Final[dict[str, Instrument]] = {instrument.name: instrument for instrument in INSTRUMENTS}
