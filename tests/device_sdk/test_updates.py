"""Updates and feature flags: what is told, when, and what the next start makes of an update that it finds under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sdk_kit import SECOND, attributes_of, classifier, events, session_of

from device_sdk import ConfigError, Monitor
from device_sdk.contract import attributes as a
from device_sdk.lifecycle.updates import PENDING_MAX, STARTS_MAX
from device_sdk.testing import kill

FIRMWARE = "edge.firmware.version"


def updates(world: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name.removeprefix("edge.update."), at) for name, at, _ in world.events() if "update" in name]


def test_an_update_that_succeeds_is_told_with_all_that_was_said(bench: Any) -> None:
    world = bench()
    update = world.monitor.update(
        "model", "1", "2", name="digits", phase="download", artifact_hash="sha256:ab", deployment_id="d7"
    )
    world.clock.advance(90 * SECOND)
    update.phase("selftest")
    update.succeeded()
    update.failed("too late")  # it has ended
    (started, begun), (succeeded, ended) = updates(world)
    shared = {
        a.UPDATE_ID: update.id, a.UPDATE_TARGET: "model", a.UPDATE_FROM: "1", a.UPDATE_TO: "2", a.MODEL_NAME: "digits",
        a.ARTIFACT_HASH: "sha256:ab", a.DEPLOYMENT_ID: "d7",
    }  # fmt: skip
    assert (started, succeeded) == ("started", "succeeded")
    assert begun.items() >= {**shared, a.UPDATE_PHASE: "download"}.items()
    assert ended.items() >= {**shared, a.UPDATE_PHASE: "selftest"}.items()
    assert (ended[a.UPDATE_DURATION], ended[a.DEPLOYMENT_STATUS]) == (90.0, "succeeded")
    assert a.ERROR_TYPE not in ended


@pytest.mark.parametrize("target", ["firmware", "app", "model", "runtime", "settings"])
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "rolled_back"])
def test_every_target_has_every_outcome(bench: Any, target: str, outcome: str) -> None:
    world = bench()
    update = world.monitor.update(target, "1", "2")
    {
        "succeeded": update.succeeded,
        "failed": lambda: update.failed("checksum", "verify"),
        "rolled_back": lambda: update.rolled_back("selftest", "selftest"),
    }[outcome]()
    (_, (told, ended)) = updates(world)
    assert (told, ended[a.UPDATE_TARGET]) == (outcome, target)
    assert ended[a.DEPLOYMENT_STATUS] == ("succeeded" if outcome == "succeeded" else "failed")
    assert ended.get(a.ERROR_TYPE) == {"failed": "checksum", "rolled_back": "selftest"}.get(outcome)
    assert ended.get(a.UPDATE_PHASE) == {"failed": "verify", "rolled_back": "selftest"}.get(outcome)


def test_a_block_succeeds_at_its_end_and_fails_by_its_exception(bench: Any) -> None:
    world = bench()
    with world.monitor.update("app", "1", "2"):
        pass
    with pytest.raises(OSError, match="private"), world.monitor.update("app", "2", "3", phase="install"):
        raise OSError("private")
    assert [name for name, _ in updates(world)] == ["started", "succeeded", "started", "failed"]
    ended = updates(world)[-1][1]
    assert (ended[a.ERROR_TYPE], ended[a.UPDATE_PHASE]) == ("OSError", "install")
    assert all(b"private" not in body for _, body in world.sink.requests)


@pytest.mark.parametrize(
    ("phase", "found", "outcome", "error"),
    [
        ("boot", "2", "succeeded", None),
        ("install", "2", "succeeded", None),
        ("boot", "1", "rolled_back", None),
        ("selftest", "1", "rolled_back", None),
        ("download", "1", "failed", "interrupted"),
        (None, "1", "failed", "interrupted"),
        ("boot", "7", "failed", "other_version"),
    ],
)
def test_the_next_start_judges_an_update_by_the_version_it_finds(
    bench: Any, phase: str | None, found: str, outcome: str, error: str | None
) -> None:
    world = bench(resource={FIRMWARE: "1"})
    update = world.monitor.update("firmware", "1", "2", phase=phase)
    assert [name for name, _ in updates(world)] == ["started"]
    kill(world.monitor)
    world.clock.advance(30 * SECOND)
    world.clock.reboot()
    later = bench(resource={FIRMWARE: found})
    ((told, ended),) = updates(later)
    assert (told, ended.get(a.ERROR_TYPE)) == (outcome, error)
    assert (ended[a.UPDATE_ID], ended[a.UPDATE_DURATION]) == (update.id, 30.0)
    reason = next(at[a.SESSION_END_REASON] for name, at, _ in later.events() if name == "session.end")
    assert reason == ("update" if phase == "boot" or found == "2" else "power_loss")
    later.monitor.close(0)
    assert updates(bench(resource={FIRMWARE: "2"})) == []  # judged once


def test_a_block_left_for_a_restart_is_judged_by_the_next_start(bench: Any) -> None:
    world = bench(resource={"service.version": "1"})
    with pytest.raises(SystemExit), world.monitor.update("app", "1", "2"):
        raise SystemExit
    with world.monitor.update("firmware", "1", "2") as update:
        update.phase("boot")
    assert [name for name, _ in updates(world)] == ["started", "started"]
    kill(world.monitor)
    told = updates(bench(resource={"service.version": "2", FIRMWARE: "2"}))
    assert sorted((name, at[a.UPDATE_TARGET]) for name, at in told) == [
        ("succeeded", "app"),
        ("succeeded", "firmware"),
    ]


def test_a_model_is_judged_when_it_is_wrapped(bench: Any, tmp_path: Path) -> None:
    world = bench()
    world.monitor.update("model", "1", "2", name="digits", phase="install")
    assert [name for name, _ in updates(world)] == ["started"]
    kill(world.monitor)
    later = bench()
    assert updates(later) == []
    later.monitor.wrap(session_of(classifier(tmp_path / "other.onnx", version=1)))
    assert updates(later) == []  # another model
    later.monitor.wrap(session_of(classifier(tmp_path / "digits.onnx", version=2)))
    assert [name for name, _ in updates(later)] == ["succeeded"]


def test_an_update_that_ends_behind_the_close_is_left_to_the_next_start(bench: Any) -> None:
    world = bench(resource={FIRMWARE: "1"})
    begun = world.monitor.update("firmware", "1", "2")
    world.monitor.close(0)
    begun.succeeded()  # nobody is left to tell it
    told = updates(bench(resource={FIRMWARE: "2"}))
    assert [(name, at[a.UPDATE_ID]) for name, at in told if name == "succeeded"] == [("succeeded", begun.id)]


def test_an_update_of_this_process_is_not_judged_behind_its_back(bench: Any, tmp_path: Path) -> None:
    world = bench()
    with world.monitor.update("model", "1", "2", name="digits"):
        world.monitor.wrap(session_of(classifier(tmp_path / "digits.onnx", version=2)))
        assert [name for name, _ in updates(world)] == ["started"]
    assert [name for name, _ in updates(world)] == ["started", "succeeded"]


def test_a_program_that_confirms_goes_on_with_the_same_update_after_the_restart(bench: Any) -> None:
    world = bench(resource={FIRMWARE: "1"})
    update = world.monitor.update("firmware", "1", "2", phase="boot", confirm=True)
    assert [name for name, _ in updates(world)] == ["started"]
    kill(world.monitor)
    later = bench(resource={FIRMWARE: "2"})
    again = later.monitor.update("firmware", "1", "2", phase="selftest", confirm=True)
    assert (again.id, updates(later)) == (update.id, [])  # one start, told before the restart
    again.rolled_back("selftest")
    ((told, ended),) = updates(later)
    assert (told, ended[a.UPDATE_PHASE]) == ("rolled_back", "selftest")


def test_updates_under_way_are_bounded_and_the_same_thing_is_updated_once(bench: Any) -> None:
    world = bench()
    world.monitor.update("app", "1", "2")
    world.monitor.update("app", "1", "3")
    for number in range(PENDING_MAX + 1):
        world.monitor.update("model", "1", "2", name=f"model-{number}")
    told = updates(world)
    superseded = [at for name, at in told if name == "failed"]
    assert [at[a.ERROR_TYPE] for at in superseded] == ["superseded"] * 3
    assert [at[a.UPDATE_TO] for at in superseded] == ["2", "3", "2"]


def test_an_update_that_nobody_can_judge_is_given_up_after_many_starts(bench: Any) -> None:
    world = bench()
    world.monitor.update("firmware", "1", "2")
    assert [name for name, _ in updates(world)] == ["started"]
    kill(world.monitor)
    for start in range(STARTS_MAX + 1):
        world = bench()  # does not say its firmware
        told = updates(world)
        assert [at[a.ERROR_TYPE] for _, at in told] == (["no_outcome"] if start == STARTS_MAX else [])
        world.monitor.close()


@pytest.mark.parametrize("content", ["", "[]", '{"pending": [{}]}', '{"pending": 7}', '{"pending": [{"target": "x"}]}'])
def test_a_damaged_record_of_updates_is_no_update(bench: Any, tmp_path: Path, content: str) -> None:
    bench().monitor.close(0)
    (tmp_path / "state" / "updates.json").write_text(content)
    assert updates(bench()) == []


def test_an_unknown_target_or_phase_names_the_nearest(bench: Any) -> None:
    monitor = bench().monitor
    with pytest.raises(ConfigError, match="did you mean 'firmware'"):
        monitor.update("firmwre", "1", "2")
    with pytest.raises(ConfigError, match="did you mean 'install'"):
        monitor.update("app", "1", "2", phase="instal")


def test_a_disabled_monitor_takes_updates_and_flags_and_does_nothing() -> None:
    monitor = Monitor(enabled=False)
    with monitor.update("app", "1", "2") as update:
        update.phase("install")
    monitor.flag("dark-mode", "on")


# --- feature flags -------------------------------------------------------------------------------------------------


def flags_of_windows(world: Any) -> list[list[str]]:
    world.sent()
    found = []
    for request in world.sink.metrics():
        for window in request.resource_metrics[:-1]:  # the last is the envelope
            listed = attributes_of(window.resource.attributes).get(a.FLAGS)
            found.append([value.string_value for value in listed.values] if listed is not None else [])
    return found


def test_a_flag_is_told_when_it_changes_and_marks_the_windows_after(bench: Any) -> None:
    world = bench(resource={a.FLAGS: {"quantised": "int8", "crop": "wide"}})
    world.monitor.flag("crop", "wide")  # no change
    world.monitor.flag("crop", "tight", provider="flagd")
    world.monitor.flag("crop", "tight")
    world.monitor.flag("beta", True)
    world.window()
    world.window()
    told = [at for name, at, _ in world.events() if name == "feature_flag.evaluation"]
    assert [(at[a.FLAG_KEY], at[a.FLAG_VARIANT], at.get(a.FLAG_PROVIDER)) for at in told] == [
        ("crop", "tight", "flagd"),
        ("beta", "true", None),
    ]
    assert flags_of_windows(world) == [["crop=wide", "quantised=int8"], ["beta=true", "crop=tight", "quantised=int8"]]


def test_a_death_is_told_under_the_flags_that_were_in_force(bench: Any) -> None:
    world = bench(resource={a.FLAGS: ["crop=wide"]})
    for variant in ("tight", "none"):
        world.monitor.flag("crop", variant)
        world.window()
    kill(world.monitor)
    later = bench(resource={a.FLAGS: ["crop=wide"]})
    ((_, _, (_, resource)),) = [one for one in later.events() if one[0] == "session.end"]
    assert [value.string_value for value in resource[a.FLAGS].values] == ["crop=none"]


@pytest.mark.parametrize("stated", [{"b": "2", "a": "1"}, ["b=2", "a=1"], "b=2; a=1"])
def test_flags_may_be_stated_as_mapping_list_or_text(bench: Any, stated: object) -> None:
    world = bench(resource={a.FLAGS: stated})
    world.window()
    assert flags_of_windows(world) == [["a=1", "b=2"]]


def test_flags_outside_the_bounds_are_refused_and_nothing_is_raised(bench: Any) -> None:
    from device_sdk.errors import raise_swallowed

    world = bench()
    raise_swallowed(False)
    for number in range(20):
        world.monitor.flag(f"flag-{number:02}", "on")
    for key, variant in (("", "on"), ("a=b", "on"), ("k" * 65, "on"), ("flag-00", "v" * 65)):
        world.monitor.flag(key, variant)
    world.window()
    world.window()
    raise_swallowed(True)
    assert flags_of_windows(world)[1] == [f"flag-{number:02}=on" for number in range(16)]
    assert len([name for name, _, _ in events(world.sink.logs()) if name == "feature_flag.evaluation"]) == 16
