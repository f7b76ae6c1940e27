from simulator.truth import Tally, mismatches


def test_only_closed_windows_count():
    tally = Tally()
    tally.started()
    tally.runs(3, 3, features=2)
    assert not tally.closed
    tally.close_window(900)
    tally.run(1, features=2)
    assert tally.lose_open_window() == 1
    tally.close_window(300)
    assert tally.closed["edge.inference.duration"] == 3
    assert tally.closed["edge.input.observations"] == 6
    assert tally.closed["edge.session.time"] == 1200
    assert tally.closed["edge.session.starts"] == 1
    assert tally.closed["edge.window.count"] == 2


def test_a_failed_run_counts_as_a_run_and_its_samples_but_gives_no_signals():
    tally = Tally()
    tally.failed(2)
    tally.close_window(60)
    assert tally.closed["edge.inference.duration"] == 1
    assert tally.closed["edge.inference.samples"] == 2
    assert tally.closed["edge.output.confidence"] == 0


def test_every_difference_is_named_in_both_directions():
    counted = {"a": {"m": 3, "n": 1}, "b": {"m": 1}}
    stored = {"a": {"m": 3.0, "n": 2.0}, "c": {"m": 4.0}}
    found = {(row.device_id, row.metric): (row.counted, row.stored) for row in mismatches(counted, stored, ("m", "n"))}
    assert found == {("a", "n"): (1.0, 2.0), ("b", "m"): (1.0, 0.0), ("c", "m"): (0.0, 4.0)}
    assert mismatches(counted, counted, ("m", "n")) == []
