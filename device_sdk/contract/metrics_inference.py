"""Instruments of a model: its runs, inputs, outputs, loading, energy and self-test."""

from __future__ import annotations

from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import FEATURE_MAX_SCALE, LATENCY_MAX_SCALE, N1_BOUNDS, U1_BOUNDS
from device_sdk.contract.instrument import Instrument, Kind

INFERENCE_DURATION: Final = Instrument(
    "edge.inference.duration", Kind.EXPONENTIAL, "s",
    (*a.RUN_KEYS, a.INFERENCE_PHASE, a.ERROR_TYPE, a.UNSUPPORTED_OPERATOR),
    "Wall time of one run call; the count is the number of runs, failures carry error.type.", 48,
    max_scale=LATENCY_MAX_SCALE, summed=True,
)  # fmt: skip
INFERENCE_SAMPLES: Final = Instrument(
    "edge.inference.samples", Kind.COUNTER, "{sample}", (*a.RUN_KEYS, a.ERROR_TYPE, a.INFERENCE_ROUTE),
    "Samples in those runs (length of the batch axis), by the route that answered them (none: this device).", 24,
)  # fmt: skip
INPUT_SIZE: Final = Instrument(
    "edge.inference.input.size", Kind.COUNTER, "By", (*a.MODEL_KEYS, a.INFERENCE_ROUTE),
    "Bytes of input tensors handed to the runtime: what a cloud call would have had to carry.", 8,
)  # fmt: skip
SIGNAL_SAMPLES: Final = Instrument(
    "edge.signal.samples", Kind.COUNTER, "{sample}", a.MODEL_KEYS,
    "Samples whose tensors were folded into signals: the share to re-weight by when signals are sampled.", 16,
)  # fmt: skip
LOAD_DURATION: Final = Instrument(
    "edge.model.load.duration", Kind.EXPONENTIAL, "s",
    (*a.MODEL_KEYS, a.RUNTIME_NAME, a.PROVIDER_REQUESTED, a.LOAD_STAGE, a.LOAD_CACHED, a.ERROR_TYPE,
     a.UNSUPPORTED_OPERATOR),
    "Time to make a session ready, by disjoint stage.", 32, max_scale=LATENCY_MAX_SCALE, summed=True,
)  # fmt: skip
STARTUP_DURATION: Final = Instrument(
    "edge.startup.duration", Kind.EXPONENTIAL, "s", (*a.MODEL_KEYS, a.STARTUP_FROM),
    "Cold start as its user feels it: boot or process start to the first successful inference.", 8,
    max_scale=LATENCY_MAX_SCALE, summed=True,
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
    "Probability of the predicted class; of a detection its score.", 8, bounds=U1_BOUNDS,
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
    "Predicted (top-1) classes, or those of detections; beyond the declared or first 64 they count as _OTHER.", 130,
)  # fmt: skip
OUTPUT_VALUE: Final = Instrument(
    "edge.output.value", Kind.EXPONENTIAL, "1", (*a.RUN_KEYS, a.OUTPUT_NAME, a.FEATURE_GRID),
    "A regression output, or a projection of an embedding, on its pinned grid; no sum, minimum or maximum.", 64,
    max_scale=FEATURE_MAX_SCALE,
)  # fmt: skip
INPUT_CATEGORIES: Final = Instrument(
    "edge.input.categories", Kind.COUNTER, "{observation}", (*a.MODEL_KEYS, a.FEATURE_NAME, a.FEATURE_CATEGORY),
    "Observations of a categorical feature by category of its declared vocabulary; any other counts as _OTHER.", 264,
)  # fmt: skip
DETECTION_COUNT: Final = Instrument(
    "edge.output.detection.count", Kind.EXPLICIT, "{detection}", (*a.RUN_KEYS, a.OUTPUT_NAME),
    "Detections a frame, of at least the declared score.", 8, bounds=N1_BOUNDS,
)  # fmt: skip
DETECTION_AREA: Final = Instrument(
    "edge.output.detection.area", Kind.EXPLICIT, "1", (*a.RUN_KEYS, a.OUTPUT_NAME),
    "Area of a detected box inside the frame over the area of the frame, of at most 64 boxes a frame.", 8,
    bounds=U1_BOUNDS,
)  # fmt: skip
OUTPUT_OUTCOMES: Final = Instrument(
    "edge.output.outcomes", Kind.COUNTER, "{sample}", (*a.RUN_KEYS, a.OUTPUT_NAME, a.OUTPUT_OUTCOME),
    "Answers whose label is known, by whether they were right.", 16,
)  # fmt: skip
PIPELINE_DURATION: Final = Instrument(
    "edge.pipeline.duration", Kind.EXPONENTIAL, "s", (*a.MODEL_KEYS, a.PIPELINE_STAGE, a.ERROR_TYPE),
    "End-to-end time of one answer and of each of its stages; the count of total is the number of answers.", 64,
    max_scale=LATENCY_MAX_SCALE, summed=True,
)  # fmt: skip
NODE_COUNT: Final = Instrument(
    "edge.model.node.count", Kind.UP_DOWN, "{node}", (*a.RUN_KEYS, a.PROVIDER_REQUESTED),
    "Graph nodes that each provider was given, told in every window: a silent fall-back shows.", 16,
)  # fmt: skip
INFERENCE_ENERGY: Final = Instrument(
    "edge.inference.energy", Kind.COUNTER, "J", (*a.RUN_KEYS, a.ENERGY_SOURCE),
    "Energy of the time spent inferring, idle consumption taken off.", 8,
)  # fmt: skip
INFERENCE_ENERGY_ERROR: Final = Instrument(
    "edge.inference.energy_error", Kind.COUNTER, "J", (*a.RUN_KEYS, a.ENERGY_SOURCE),
    "Half-width of the energy's interval, summed linearly: a safe bound.", 8,
)  # fmt: skip
SELFTEST_CHECKS: Final = Instrument(
    "edge.selftest.checks", Kind.COUNTER, "{check}",
    (*a.RUN_KEYS, a.OUTPUT_NAME, a.SELFTEST_TRIGGER, a.TEST_STATUS, a.SELFTEST_WAIVER, a.ERROR_TYPE),
    "Golden comparisons by output and result.", 32,
)  # fmt: skip
