"""The reference page in a real browser: it renders, and calls the gateway that serves it, and no other origin."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, Route

from tests.e2e.support import Up
from tests.support.waiting import block_until

SCREENSHOT = Path(__file__).parents[2] / "docs" / "reference.png"
LIST_MAILBOXES = "#operations-mailboxes-ListMailboxes"


@dataclass
class Browser:
    """The reference page, the URLs that it requested, and what the browser reported of it."""

    page: Page
    origin: str
    requested: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Load the page, and wait until its operations are shown."""
        self.page.context.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.reports.append(str(error)))
        self.page.goto(f"{self.origin}/docs")
        self.page.wait_for_selector(LIST_MAILBOXES)

    def authorize(self, secret: str) -> None:
        """Enter a key in the page's dialog."""
        self.page.click("button.authorize")
        self.page.locator(".auth-container", has_text="X-Auth-Token").locator("input").fill(secret)
        self.page.locator(".auth-container", has_text="X-Auth-Token").locator("button.authorize").click()
        self.page.click("button.btn-done")

    def execute(self) -> tuple[str, str]:
        """Execute ListMailboxes, and return the status and the body that the page shows."""
        operation = self.page.locator(LIST_MAILBOXES)
        operation.locator("button.opblock-summary-control").click()
        operation.locator("button.execute").click()
        response = operation.locator(".live-responses-table tbody tr.response")
        return (
            response.locator(".response-col_status").inner_text().split()[0],
            response.locator(".highlight-code").first.inner_text(),
        )

    def stored(self) -> list[object]:
        """Return what the page has left in the browser's stores."""
        script = "() => [document.cookie, {...localStorage}, {...sessionStorage}]"
        return list(self.page.evaluate(script))

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.requested.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.reports.append(message.text)


@pytest.fixture
def browser(page: Page, postroom: Up) -> Browser:
    return Browser(page, postroom.environment["SCW_API_URL"])


def test_an_operation_with_a_key_shows_its_response(browser: Browser, postroom: Up) -> None:
    browser.open()
    secret = postroom.environment["SCW_SECRET_KEY"]
    browser.authorize(secret)
    status, body = browser.execute()
    assert status == "200"
    assert '"total_count": 0' in body
    assert {url.partition("/mailbox/")[0].removesuffix("/docs") for url in browser.requested} >= {browser.origin}
    assert all(url.startswith(browser.origin + "/") for url in browser.requested), browser.requested
    assert any("/mailbox/v1alpha1/mailboxes" in url for url in browser.requested)
    assert browser.reports == []  # no violation of the policy, and no error
    assert browser.stored() == ["", {}, {}]
    assert not any(secret in url for url in browser.requested)
    if os.environ.get("POSTROOM_SCREENSHOT"):
        browser.page.locator(".information-container").evaluate("element => window.scrollTo(0, 0)")
        browser.page.screenshot(path=SCREENSHOT)


def test_a_wrong_key_shows_401(browser: Browser) -> None:
    browser.open()
    browser.authorize("11111111-1111-1111-1111-111111111111")
    status, body = browser.execute()
    assert status == "401"
    assert "denied_authentication" in body


def test_a_reload_forgets_the_key(browser: Browser, postroom: Up) -> None:
    browser.open()
    browser.authorize(postroom.environment["SCW_SECRET_KEY"])
    browser.page.reload()
    browser.page.wait_for_selector(LIST_MAILBOXES)
    assert browser.execute()[0] == "401"


def test_the_policy_blocks_other_origins_and_inline_scripts(browser: Browser) -> None:
    browser.open()
    reached: list[str] = []

    def refuse(route: Route) -> None:
        reached.append(route.request.url)
        route.abort()

    browser.page.context.route("http://other.example/**", refuse)
    script = """async () => {
        const element = document.createElement("script");
        element.textContent = "window.injected = true";
        document.body.append(element);
        const image = document.createElement("img");
        image.src = "http://other.example/image";
        document.body.append(image);
        let blocked = false;
        await fetch("http://other.example/call").catch(() => { blocked = true; });
        return [window.injected === undefined, blocked];
    }"""
    assert browser.page.evaluate(script) == [True, True]
    assert reached == []

    def are_reported() -> bool:
        browser.page.wait_for_timeout(20)  # while which the browser's reports arrive
        return sum("Content Security Policy" in report for report in browser.reports) >= 3

    block_until(are_reported)
