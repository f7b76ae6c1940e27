"""What the drift tests cost and catch, on simulated fleets: prints the tables quoted in docs/statistics.md.

    python benchmarks/drift_operating_characteristics.py [--fast]

Fixed seeds; about five minutes of one core, ``--fast`` a tenth of the repetitions. The fleets are those of
tests/analytics/drift_fleet.py: device offset sd 0.5 within-device sd, log-normal volumes, healthy wobble.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from analytics.drift import matched_test
from analytics.sequential import hourly_shift, log_threshold, shiryaev_roberts, variance_inflation


def load_fleets() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "tests" / "analytics" / "drift_fleet.py"
    spec = importlib.util.spec_from_file_location("drift_fleet", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing; run from a checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules["drift_fleet"] = module
    spec.loader.exec_module(module)
    return module


def table_test(fleets: Any, repetitions: int) -> None:
    fleet = fleets.Fleet
    cases = [
        ("all report", fleet(), 1),
        ("50 % report", fleet(reporting=0.5), 1),
        ("reporting depends on the value, 40 %", fleet(reporting=0.4, biased_reporting=True), 1),
        ("same, 10 % of 300", fleet(devices=300, reporting=0.1, biased_reporting=True), 1),
        ("5 rows a device", fleet(rows=5), 1),
        ("wobble .3", fleet(wobble_sd=0.3), 1),
        ("5 bins", fleet(bins=5), 1),
        ("8 devices (exact)", fleet(devices=8, volume_sd=0.5), 1),
        ("16 devices in a family of 48 (pair)", fleet(devices=16, volume_sd=0.5), 48),
        ("100 devices in a family of 48", fleet(), 48),
    ]
    print(f"\n## Matched test: % called at p <= .05 ({repetitions} fleets each); with floor = and effect >= .05")
    print("| fleet | healthy | p<=.005 | with floor | shift .1 | with floor | .25 | .5 | ms a test |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, one, family in cases:
        cells, spent = [], 0.0
        for shift in (0.0, 0.1, 0.25, 0.5):
            rng = np.random.default_rng(1000 + int(100 * shift))
            called = floored = strict = tested = 0
            for _ in range(repetitions if shift == 0 else max(repetitions // 4, 20)):
                look, scores, sd = fleets.look(rng, one, shift)
                start = time.perf_counter()
                result = matched_test(look, scores, sd, family=family)
                spent += time.perf_counter() - start
                tested += not result.reason
                called += result.p <= 0.05
                strict += result.p <= 0.005
                floored += result.p <= 0.05 and result.effect >= 0.05
            cells.append((100 * called / tested, 100 * strict / tested, 100 * floored / tested))
        total = repetitions + 3 * max(repetitions // 4, 20)
        print(
            f"| {name} | {cells[0][0]:.1f} | {cells[0][1]:.1f} | {cells[0][2]:.1f} | {cells[1][0]:.0f} | "
            f"{cells[1][2]:.0f} | {cells[2][0]:.0f} | {cells[3][0]:.0f} | {1e3 * spent / total:.2f} |"
        )


def run_detector(fleets: Any, rng: np.random.Generator, fleet: Any, shift: float, onset: int, streams: int):
    n0, mean0, n1, mean1, ref_n, ref_mean = fleets.hourly(rng, fleet, shift, onset)
    hod = np.arange(len(ref_n)) % 24
    others = n0[hod] - ref_n
    left_out = (mean0[hod] * n0[hod] - ref_mean * ref_n) / np.maximum(others, 1)
    k1 = variance_inflation(hourly_shift(left_out[None], ref_mean[None], others, ref_n))
    hod = np.arange(len(n1)) % 24
    hours = hourly_shift(mean0[hod][None], mean1[None], n0[hod], n1)
    threshold = log_threshold(0.05, 720, streams)
    return shiryaev_roberts(hours, delta=0.1, k1=k1, threshold=threshold, judged=len(n1)), float(k1[0])


def detector(fleets: Any, repetitions: int) -> None:
    fleet = fleets.HourlyFleet
    worlds = [
        ("no common shock", {}),
        ("AR(.9) sd .05", {"shock_sd": 0.05}),
        ("AR(.9) sd .1", {"shock_sd": 0.1}),
        ("AR(.97) sd .1", {"shock_sd": 0.1, "shock_ar": 0.97}),
    ]
    print(
        f"\n## Detector, 40 devices, 20 rows an hour, 50 % reporting, day/night ±.5 sd, delta .1 ({repetitions} fleets)"
    )
    print("| common shock | healthy fleets ever alarmed in 30 days, % | median k1 |")
    print("|---|---|---|")
    for name, world in worlds:
        rng = np.random.default_rng(2000)
        alarmed, k1s = 0, []
        for _ in range(repetitions):
            run, k1 = run_detector(fleets, rng, fleet(**world), 0.0, 0, 1)
            alarmed += any(one.alarm for one in run)
            k1s.append(k1)
        print(f"| {name} | {100 * alarmed / repetitions:.1f} | {np.median(k1s):.2f} |")
    print("\n| devices, rows/h, shock | streams | shift | found % | delay h median (p90) | onset error h, median |")
    print("|---|---|---|---|---|---|")
    for devices, rows, shock in ((40, 20, 0.0), (40, 20, 0.05), (30, 10, 0.05), (16, 10, 0.05)):
        for streams, shift in ((1, 0.1), (1, 0.25), (1, 0.5), (48, 0.25), (48, 0.5), (1200, 0.5)):
            rng = np.random.default_rng(3000)
            delays, errors = [], []
            n = max(repetitions // 5, 10)
            for _ in range(n):
                one = fleet(devices=devices, rows=rows, hours=312, shock_sd=shock)
                run, _ = run_detector(fleets, rng, one, shift, 120, streams)
                hit = next((h for h in range(120, 312) if run[h].alarm), None)
                if hit is not None:
                    delays.append(hit - 119)
                    errors.append(abs(run[hit].onset - 120))
            text = "-"
            if delays:
                text = f"{np.median(delays):.0f} ({np.percentile(delays, 90):.0f}) | {np.median(errors):.0f}"
            print(f"| {devices}, {rows}, {shock} | {streams} | {shift} | {100 * len(delays) / n:.0f} | {text} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a tenth of the repetitions")
    few = parser.parse_args().fast
    fleets = load_fleets()
    table_test(fleets, 200 if few else 2000)
    detector(fleets, 20 if few else 200)


if __name__ == "__main__":
    main()
