import dataclasses

import numpy as np

from simulator.models import digits_images
from simulator.scenarios import DAY, HOUR, default_scenario
from simulator.world import World

END = 1_790_000_000_000_000_000 // HOUR * HOUR
SD_MEAN = 0.034378
LEVEL = 0.305689


def scenario():
    return default_scenario(100, 16, 3, end_ns=END)


def test_the_light_is_the_same_in_every_process_and_differs_by_seed():
    hours = np.arange(scenario().start_ns, END, HOUR, dtype=np.int64)
    plan = scenario().plans[0]
    first, again = World(scenario()).gains(plan, hours), World(scenario()).gains(plan, hours)
    other = World(dataclasses.replace(scenario(), seed=4)).gains(plan, hours)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_the_fleet_shares_beyond_the_time_of_day_is_below_a_tenth_of_a_deviation():
    run = scenario()
    hours = np.arange(run.start_ns, run.recent_ns, HOUR, dtype=np.int64)
    world = World(run)
    gains = np.stack([world.gains(plan, hours) for plan in run.plans if plan.region == "eu-west"])
    fleet = gains.mean(axis=0).reshape(-1, 24)
    shared = fleet - fleet.mean(axis=0)
    assert shared.std() * LEVEL / SD_MEAN < 0.1


def test_day_and_night_repeat_by_local_time():
    run = scenario()
    world = World(run)
    plan = run.plans[0]
    hours = np.arange(run.start_ns, run.recent_ns, HOUR, dtype=np.int64)
    by_hour = world.gains(plan, hours).reshape(-1, 24).mean(axis=0)
    local = ((hours[:24] // HOUR) + plan.utc_offset_h) % 24
    assert abs(int(local[by_hour.argmax()]) - 13) <= 2
    assert 0.02 < np.ptp(by_hour) / by_hour.mean() < 0.1


def test_the_drift_fault_darkens_its_tier_by_about_eight_tenths_of_a_deviation_and_no_other():
    run = scenario()
    world = World(run)
    for tier, low, high in (("cam-v2", -1.0, -0.6), ("gateway", -0.1, 0.1)):
        before, after = [], []
        for plan in (plan for plan in run.plans if plan.tier.name == tier):
            rng = np.random.default_rng(plan.index)
            instants = np.arange(run.end_ns - DAY, run.end_ns, 300_000_000_000, dtype=np.int64)
            before.append(world.images(plan, instants - 7 * DAY, rng).mean())
            after.append(world.images(plan, instants, rng).mean())
        assert low < (np.mean(after) - np.mean(before)) / SD_MEAN < high


def test_images_are_real_digits_in_range():
    run = scenario()
    instants = np.full(200, run.start_ns, dtype=np.int64)
    images = World(run).images(run.plans[1], instants, np.random.default_rng(0))
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    zero_patterns = {tuple(row) for row in (digits_images() == 0)}
    assert all(tuple(row == 0) in zero_patterns for row in images)
