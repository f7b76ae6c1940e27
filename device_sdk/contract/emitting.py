"""How to write an emitter in another language: the part of docs/contract.md that no table can say."""

from __future__ import annotations

from typing import Final

EMITTING: Final = """\
## Writing an emitter

What follows, with the tables below, is enough to emit from C++, Kotlin, Swift or anything else that can build OTLP.
`fleetpulse contract check FILE...` verifies captured requests (protobuf or JSON, gzip or not), `fleetpulse contract
check --listen` is an endpoint on loopback that verifies a live emitter; both name each thing that must change and
exit with 1.

**Transport.** `POST <endpoint>/v1/metrics` with an `ExportMetricsServiceRequest`, `POST <endpoint>/v1/logs` with an
`ExportLogsServiceRequest`; `Content-Type: application/x-protobuf` (or `application/json`), `Content-Encoding: gzip`
welcome, `Authorization: Bearer <token>` when the collector wants one. A body stays below 64 MiB after decompression;
1 MiB is a good limit. Requests may be joined by concatenating their bytes before compression.

| answer | what it means | do |
|---|---|---|
| 2xx | on the collector's disk | forget the data; `partial_success` counts what was refused for good |
| 408, 429, 500, 502-504, none | later | wait (`Retry-After`, else 1 s doubling to 2 min, jitter), resend unchanged |
| 401, 403, 404, 405, 407, 511, 3xx | token, address or network is wrong | keep, say so, try slowly |
| any other 4xx, 5xx | never | split the request to find the one at fault; count it as lost (`rejected`) |

**Stream.** A process start (or a forked child) is one stream: a fresh random UUID as `service.instance.id`, never
stored for reuse, because a device without a clock boots at the same instant each time. `app.installation.id` is a
random UUID made at first start and kept; `edge.boot.id` is 16 hex digits of HMAC-SHA256(installation secret, kernel
boot id).

**Clock.** Stream time = A + a clock that counts from boot through suspension (`CLOCK_BOOTTIME`). A = wall clock minus
that clock, fixed once a boot and shared by the processes of the boot. Wall clock jumps never move it: send what the
device believes now in the envelope instead.

**Window.** Delta temporality. All points of a window carry the same `start_time_unix_nano` and `time_unix_nano`; the
start is exactly the time of the window before. Empty windows are sent too (they are the heartbeat). Three points seal
a window:

- `edge.window.sequence`: number of the window, from 0 in each stream, without gaps;
- `edge.window.count`: 1, or how many base windows were merged into this one;
- `edge.window.points`: how many points the window has, these three included.

The collector keeps the first copy of a window and drops the others, so resending is safe, as long as the bytes are
the same. Two windows may be merged only while neither was ever offered to the network: counts and buckets add (the
coarser scale wins), levels and gauges take the later value, `.peak` gauges the larger, `sequence` the later, `count`
adds, `points` is counted anew. `edge.session.time` is the observed time of the window in seconds and is what
crash-free rates divide by.

**Envelope.** The last ResourceMetrics of each attempt to send has the same resource and one point,
`edge.clock.offset`: wall clock minus stream clock now, start and time both now on the stream clock, with who sets the
clock (`edge.clock.source`). It is no window: it has no seal and does not count.

The collector corrects the times of a whole boot by it: source `ntp` is believed, of any other the least difference
between arrival and sending counts.

**Settings** are optional. A 2xx answer may carry `FleetPulse-Settings: <id>`, the id of the settings for this device:
the first 16 hex digits of the SHA-256 of the document. When it is another one than you run, `GET
<endpoint>/v1/settings?id=<id>` with the same token returns the document, a JSON object of at most 4096 bytes, all keys
optional: `window_s` (1 to 86400), `sample_every` (look at the tensors of one run in this many), `signal_level` (`full`,
`outputs`, `off`). Check that its bytes hash to the id; ignore keys you do not know; never do more than the device's own
configuration allows. It takes effect at the end of a window: from there on the resource has another
`edge.settings.id`, and an event `edge.settings.applied` at that instant says what is in force. The id of `{}`
(`44136fa355b3678a`) means the device's own settings. Fetch only when the id changes, 5 minutes apart or more.

**Losses.** What will never arrive is counted by reason in `edge.loss.*` and sent like everything else. Silence is
never an option: a gap in the sequence that no loss explains is reported as lost by the server.

**Events** are log records with `event_name`, `time_unix_nano` (when it happened, stream clock),
`observed_time_unix_nano` (when it was noticed), `severity_number`, no body, and the common attributes;
`log.record.uid` is `<service.instance.id>:<edge.event.sequence>`, the sequence counts from 0 in each stream. The end
of a process that could not tell it itself is told by the next one, under the dead stream's resource and id, at its
last sign of life.

**Privacy.** Nothing outside the tables leaves the device. Histograms of inputs and regression outputs carry no sum,
minimum or maximum. No message, stack, path, host name or address.

A complete first window, as OTLP/JSON:

```json
{"resourceMetrics": [{
  "resource": {"attributes": [
    {"key": "service.name", "value": {"stringValue": "edge-inference"}},
    {"key": "service.instance.id", "value": {"stringValue": "1f0c9c43-5f0e-4f0c-9a52-6f1f4b1c7a11"}},
    {"key": "app.installation.id", "value": {"stringValue": "7d2f7a52-91f5-4a6d-8c3e-2f3a3c1f9b22"}},
    {"key": "edge.boot.id", "value": {"stringValue": "9c1f2a7b3d4e5f60"}},
    {"key": "edge.device.tier", "value": {"stringValue": "cam-v2"}}]},
  "scopeMetrics": [{"scope": {"name": "device_sdk", "version": "0.1.0"}, "metrics": [
    {"name": "edge.inference.duration", "unit": "s", "exponentialHistogram": {"aggregationTemporality": 1,
      "dataPoints": [{
      "attributes": [
        {"key": "edge.model.name", "value": {"stringValue": "digits"}},
        {"key": "edge.model.version", "value": {"stringValue": "3"}},
        {"key": "edge.runtime.name", "value": {"stringValue": "litert"}},
        {"key": "edge.provider.name", "value": {"stringValue": "xnnpack"}},
        {"key": "edge.inference.phase", "value": {"stringValue": "steady"}}],
      "startTimeUnixNano": "1764000000000000000", "timeUnixNano": "1764000060000000000",
      "count": "3", "sum": 0.0132, "min": 0.0041, "max": 0.0047, "scale": 4, "zeroCount": "0",
      "positive": {"offset": -127, "bucketCounts": ["1", "1", "0", "1"]}}]}},
    {"name": "edge.session.time", "unit": "s", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
      "dataPoints": [{
      "startTimeUnixNano": "1764000000000000000", "timeUnixNano": "1764000060000000000", "asDouble": 60}]}},
    {"name": "edge.window.sequence", "unit": "{window}", "gauge": {"dataPoints": [{
      "startTimeUnixNano": "1764000000000000000", "timeUnixNano": "1764000060000000000", "asInt": "0"}]}},
    {"name": "edge.window.count", "unit": "{window}", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
      "dataPoints": [{
      "startTimeUnixNano": "1764000000000000000", "timeUnixNano": "1764000060000000000", "asInt": "1"}]}},
    {"name": "edge.window.points", "unit": "{data_point}", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
      "dataPoints": [{
      "startTimeUnixNano": "1764000000000000000", "timeUnixNano": "1764000060000000000", "asInt": "5"}]}}]}]}]}
```
"""
