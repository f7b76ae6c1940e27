"""Every page in a real browser: it opens without an error, opens with its sentence, and shows the API's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

Start = Callable[[str], tuple[Any, str]]
PAGES = ("", "latency", "drift", "stability", "slo", "devices", "alerts")
NARROW, WIDE = {"width": 1280, "height": 800}, {"width": 1920, "height": 1080}
SETTLED = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  if (!app || app.dataset.testScriptState !== 'notRunning') return false;
  if (app.dataset.testConnectionState !== 'CONNECTED') return false;
  if (!document.querySelector('.fp-verdict, .fp-state')) return false;
  return [...document.querySelectorAll('[data-testid=stVegaLiteChart]')].every(c => c.querySelector('svg.marks'));
}"""
OWN_PATHS = ("/_stcore/health", "/_stcore/host-config")


class Page:
    """A page of the dashboard and everything the browser complained about."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        # a deep link makes Streamlit ask for two of its own paths below the page's; nothing else may fail
        if message.type == "error" and not str(message.location.get("url", "")).endswith(OWN_PATHS):
            self.errors.append(f"{message.text} {message.location.get('url')}")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.url}/{path}")
        self.page.wait_for_function(SETTLED, timeout=20_000)
        return self

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_at(url: str, scheme: str = "light", viewport: dict[str, int] = NARROW) -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, timezone_id="Europe/Berlin")
        contexts.append(context)
        return Page(context.new_page(), url)

    yield open_at
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("scheme", "viewport", "pages"),
    [("light", NARROW, PAGES), ("dark", WIDE, ("", "drift"))],
    ids=["narrow-light", "wide-dark"],
)
def test_every_page_opens_with_its_sentence_and_without_an_error(
    dashboard: Start, visit: Callable[..., Page], scheme: str, viewport: dict[str, int], pages: tuple[str, ...]
) -> None:
    _, url = dashboard("busy")
    seen = visit(url, scheme, viewport)
    for path in pages:
        seen.open(path)
        assert len(seen.text(".fp-verdict h1")) > 20, path
        assert seen.page.locator(".fp-state").count() == 0, path
        assert seen.page.locator(".fp-banner.fp-bad").count() == 0, path
        assert seen.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert seen.page.evaluate("[...document.fonts].some(f => f.family.includes('Inter') && f.status == 'loaded')")
    assert seen.errors == []


def test_the_key_numbers_are_those_the_api_answers(dashboard: Start, visit: Callable[..., Page]) -> None:
    fleet, url = dashboard("busy")
    seen = visit(url).open("")
    answered = {
        item["name"]: item["value"] for item in fleet.answer("kpis", {}) if not item["cohort"] and not item["model"]
    }
    for name in ("crash_free_time", "crash_free_sessions", "crash_free_devices", "inference_failure_rate"):
        tile = seen.page.locator(f'[data-kpi="{name}"]')
        assert float(tile.get_attribute("data-value")) == answered[name]
    firing = [item for item in fleet.answer("alerts", {}) if item["state"] == "firing"]
    assert float(seen.page.locator('[data-kpi="alerts_firing"]').get_attribute("data-value")) == len(firing)
    assert f"{len(firing)} alerts fire" in seen.text(".st-key-card-fleet-alerts h2")
    drifting = [item for item in fleet.answer("drift", {}) if item["verdict"] == "drift"]
    assert float(seen.page.locator('[data-kpi="drifted_signals"]').get_attribute("data-value")) == len(drifting)


def test_the_address_is_the_state_of_the_filters(dashboard: Start, visit: Callable[..., Page]) -> None:
    fleet, url = dashboard("busy")
    seen = visit(url).open("stability?tier=cam-v3&range=7d")
    tier = {"tier": "cam-v3", "name": "crash_free_time"}
    wanted = next(item for item in fleet.answer("crash-free", tier) if len(item["cohort"]) == 1)
    assert float(seen.page.locator('[data-kpi="crash_free_time"]').get_attribute("data-value")) == wanted["value"]
    seen.page.locator("[data-testid=stTopNavLink]", has_text="Latency").click()
    seen.page.wait_for_url("**/latency?*tier=cam-v3*")
    assert seen.errors == []


def test_a_link_of_the_drift_table_shows_that_signal(dashboard: Start, visit: Callable[..., Page]) -> None:
    _, url = dashboard("busy")
    seen = visit(url).open("drift")
    link = seen.page.locator(".st-key-card-drift-table a").nth(1)
    wanted = link.inner_text()
    seen.open(link.get_attribute("href"))
    assert seen.text(".st-key-card-drift-picture h2").lower().startswith(wanted)
    assert wanted != seen.page.locator(".st-key-card-drift-table a").first.inner_text()


def test_a_device_name_that_is_markup_is_shown_as_text(dashboard: Start, visit: Callable[..., Page]) -> None:
    _, url = dashboard("busy")
    seen = visit(url).open("devices?device=cam-%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert "cam-<script>alert(1)</script>" in seen.text(".st-key-card-device-detail h2")
    assert seen.errors == []


def test_a_fleet_that_is_well_is_called_well(dashboard: Start, visit: Callable[..., Page]) -> None:
    _, url = dashboard("calm")
    seen = visit(url)
    for path in ("", "drift"):
        seen.open(path)
        assert seen.page.locator(".fp-verdict").first.get_attribute("data-level") == "ok", path
    assert seen.errors == []


def test_the_first_start_says_what_to_do_and_then_shows_the_first_data(
    dashboard: Start, visit: Callable[..., Page]
) -> None:
    fleet, url = dashboard("first")
    seen = visit(url).open("")
    assert seen.text(".fp-state h1") == "No device has reported yet"
    assert "monitor.wrap(" in seen.text(".fp-state")
    fleet.scenario = "busy"
    seen.page.wait_for_selector(".fp-verdict", timeout=20_000)
    fleet.scenario = "first"


def test_a_collector_that_goes_away_leaves_the_last_good_answer_under_a_banner(
    dashboard: Start, visit: Callable[..., Page]
) -> None:
    fleet, url = dashboard("young")
    seen = visit(url).open("drift")
    assert "Drift alerts begin on" in seen.text(".fp-banner.fp-warn")
    sentence = seen.text(".fp-verdict h1")
    fleet.scenario = "broken"
    seen.page.wait_for_selector(".fp-banner.fp-bad", timeout=30_000)
    assert "the store is starting" in seen.text(".fp-banner.fp-bad")
    assert seen.text(".fp-verdict h1") == sentence
    fleet.scenario = "young"
