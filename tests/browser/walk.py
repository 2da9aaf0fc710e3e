"""Owns the browser: its start, signing on, counted clicks, and calls of the API as a signed-on person's page makes them.
Does not own what is looked at."""

import json
import time
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Longest wait for one thing on a page, in milliseconds.
LIMIT_MS = 15_000


class Failure(Exception):
    """Something is not as it must be."""


def demand(is_so, text):
    if not is_so:
        raise Failure(text)


def until(what, look, limit_secs=90):
    """What `look` finds, as soon as it finds anything."""
    end = time.monotonic() + limit_secs
    while True:
        found = look()
        if found:
            return found
        demand(time.monotonic() < end, f"not within {limit_secs} s: {what}")
        time.sleep(0.2)


class Browser:
    """Chromium, and whoever is signed on in it."""

    def __init__(self, playwright, chromium, up):
        self.url = up["ui"].rstrip("/")
        self.chromium = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        self.state = None
        with self.page() as page:
            # A one-time address signs on where the manager knows its people.
            page.goto(up.get("sign_in") or self.url)
            if "/login" in page.url:
                self._become_somebody(page)
            self.state = page.context.storage_state()
        self._desk = self.chromium.new_context(storage_state=self.state)
        self._caller = self._desk.new_page()
        self._caller.goto(f"{self.url}/keys")

    def _become_somebody(self, page):
        """Fills the form of the first sign-on, where there is one."""
        form = page.locator("main form").last
        for field in form.locator("input:not([type=hidden])").all():
            kind = field.get_attribute("type") or "text"
            if kind == "password":
                field.fill("correct horse battery staple")
            elif kind in ("text", "email") and not field.input_value():
                field.fill("ada@operators.example" if kind == "email" else "ada")
        form.locator("button").last.click()
        page.wait_for_load_state()

    def close(self):
        self.chromium.close()

    @contextmanager
    def page(self, javascript=True, **settings):
        """A page of a fresh context, in which nothing may go wrong unsaid: of whoever signed on first, unless said."""
        settings.setdefault("storage_state", self.state)
        context = self.chromium.new_context(
            java_script_enabled=javascript, viewport={"width": 1280, "height": 900}, **settings
        )
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        complaints = []
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if self._is_bad(page, said) else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        try:
            yield page
            demand(not complaints, "the console says:\n  " + "\n  ".join(complaints))
        finally:
            context.close()

    def _is_bad(self, page, said):
        place = said.location.get("url") or page.url
        # A vendor's own pages are the vendor's.
        if said.type not in ("error", "warning") or not place.startswith(self.url):
            return False
        # That a page is answered with a refusal's status is that page's matter.
        return not (said.text.startswith("Failed to load resource") and place == page.url)

    def call(self, method, path, body=None, good=(200, 201)):
        """Calls the API from a page, with whatever that page is known by."""
        status, answer = self._caller.evaluate(
            """async ([method, path, body]) => {
                const headers = body === null ? {} : { "content-type": "application/json" };
                const answer = await fetch(path, { method, headers, body: body === null ? undefined : JSON.stringify(body) });
                return [answer.status, await answer.text()];
            }""",
            [method, f"/api/v1{path}", body],
        )
        demand(status in good, f"{method} {path} answers {status}: {answer[:500]}")
        return json.loads(answer) if answer else None


class Walk:
    """A walk through the pages that begins at the overview and counts its clicks."""

    def __init__(self, page, url):
        self.page = page
        self.clicks = 0
        page.goto(f"{url}/")

    def click(self, what):
        self.clicks += 1
        what.click()
        self.page.wait_for_load_state()

    def fill(self, form, **values):
        """What a form asks, where it asks it: one that knows its person asks less."""
        for name, value in {"by": "ada", "reason": "a walk through the pages", **values}.items():
            field = form.locator(f"[name={name}]:not([type=hidden])")
            if field.count() == 0:
                continue
            if field.first.evaluate("field => field.tagName") == "SELECT":
                field.first.select_option(value)
            else:
                field.first.fill(value)

    def main(self):
        return self.page.locator("main")


def browse(chromium, up):
    """The browser, within `with`."""

    @contextmanager
    def opened():
        with sync_playwright() as playwright:
            browser = Browser(playwright, chromium, up)
            try:
                yield browser
            finally:
                browser.close()

    return opened()
