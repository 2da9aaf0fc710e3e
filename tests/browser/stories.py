"""The operator's stories: what somebody does who is called at night, from the overview in three clicks at the most, with
JavaScript and without. Does not own how the pages look."""

from walk import Walk, demand, until

CLICKS_MAX = 3


def why_is_it_old(world, page):
    """Find out why a customer's data is old."""
    world.revoke()
    walk = Walk(page, world.browser.url)
    attention = walk.main().locator("section", has_text="Needs attention")
    walk.click(attention.get_by_role("link", name=f"connection {world.connection}", exact=True))
    text = walk.main().inner_text()
    demand("needs_reauth" in text, "the customer's page does not say that the connection waits for its customer")
    demand("invalid_grant" in text or "authoris" in text, "the customer's page does not say why")
    header = walk.main().locator("section", has=page.get_by_role("heading", name="Streams")).locator("thead")
    demand("Behind" in header.text_content(), "the customer's page does not say how far its streams are behind")
    return walk


def reauthorise(world, page):
    """Have a customer authorise again."""
    if world.connection_state() == "active":
        world.revoke()
    walk = Walk(page, world.browser.url)
    attention = walk.main().locator("section", has_text="Needs attention")
    walk.click(attention.get_by_role("link", name=f"connection {world.connection}", exact=True))
    walk.click(walk.main().get_by_role("button", name="Authorise again"))
    allow = page.get_by_role("button", name="Allow")
    allow.wait_for()
    walk.click(allow)
    page.get_by_text(f"connection {world.connection}").first.wait_for()
    demand(page.url.startswith(world.browser.url), f"the way back leads to {page.url}")
    until("the connection to be active", lambda: world.connection_state() == "active")
    return walk


def retry_an_outage(world, page):
    """Retry everything that failed in an outage."""
    jobs = world.outage()
    walk = Walk(page, world.browser.url)
    walk.click(walk.main().locator(".tiles").get_by_role("link", name="failed, not retried"))
    walk.click(walk.main().get_by_role("link", name="Retry all of these"))
    form = walk.main().locator("form").first
    walk.fill(form)
    walk.click(form.get_by_role("button", name="Yes, retry them"))
    operation = int(page.url.rstrip("/").rsplit("/", 1)[1])

    def ended():
        row = world.call("GET", f"/operations/{operation}")
        return row if row["state"] == "done" else None

    row = until("the operation to end", ended)
    demand(row["applied"] >= len(jobs), f"{len(jobs)} jobs had failed, and the operation says {row}")
    items = world.call("GET", f"/operations/{operation}/items?limit=200")["items"]
    done = {item["job_id"] for item in items if item["applied"]}
    demand(done.issuperset(jobs), f"not accounted for: {set(jobs) - done}")
    return walk


def pause_a_kind(world, page):
    """Pause a kind of work."""
    walk = Walk(page, world.browser.url)
    section = walk.main().locator("section", has=page.get_by_role("heading", name="Servants"))
    walk.click(section.get_by_role("link", name="noop", exact=True))
    act = walk.main().locator("details.act", has_text="Pause noop")
    walk.click(act.locator("summary"))
    walk.fill(act)
    walk.click(act.get_by_role("button", name="Pause"))
    pauses = world.call("GET", "/pauses")["pauses"]
    demand(any(row["scope"] == "kind" and row["key"] == "noop" for row in pauses), f"not paused: {pauses}")

    def is_said():
        page.goto(f"{world.browser.url}/")
        return "kind noop is paused" in walk.main().inner_text().lower()

    # All who look at the overview share what was read within a second.
    until("the overview to say so", is_said, 5)
    # And back, from where it is said.
    clicks = walk.clicks
    walk.click(walk.main().locator("section", has=page.get_by_role("heading", name="Servants")).get_by_role("link", name="noop", exact=True))
    walk.click(walk.main().get_by_role("button", name="Resume noop"))
    demand(not any(row["key"] == "noop" for row in world.call("GET", "/pauses")["pauses"]), "it is still paused")
    walk.clicks = clicks
    return walk


def drain_a_servant(world, page):
    """Drain a servant."""

    def alive():
        servants = world.call("GET", "/servants")["servants"]
        return [row for row in servants if row["kind"] == "salesforce_bulk" and row["liveness"] == "alive" and row["state"] == "running"]

    servant = until("a servant to drain", alive)[-1]["id"]
    walk = Walk(page, world.browser.url)
    section = walk.main().locator("section", has=page.get_by_role("heading", name="Servants"))
    walk.click(section.get_by_role("link", name="salesforce_bulk", exact=True))
    walk.click(walk.main().locator(f"a[href=\"/servants/{servant}\"]"))
    walk.click(walk.main().get_by_role("button", name="Drain"))
    demand("drain" in walk.main().inner_text(), "the servant's page does not say that it drains")
    until("it to be gone", lambda: all(row["id"] != servant for row in alive()))
    return walk


STORIES = [retry_an_outage, pause_a_kind, drain_a_servant, why_is_it_old, reauthorise]


def walk_all(world, screenshots):
    for javascript in (True, False):
        for story in STORIES:
            with world.browser.page(javascript=javascript) as page:
                try:
                    walk = story(world, page)
                except Exception:
                    page.screenshot(path=screenshots / f"failed-{story.__name__}.png", full_page=True)
                    raise
                demand(walk.clicks <= CLICKS_MAX, f"{story.__doc__} takes {walk.clicks} clicks")
                print(f"  {'with' if javascript else 'without'} JavaScript, {walk.clicks} clicks: {story.__doc__}")


def keys(world):
    """The keyboard alone."""
    with world.browser.page() as page:
        page.goto(f"{world.browser.url}/jobs")
        focus = "document.activeElement.closest('tr')?.rowIndex ?? document.activeElement.type"
        page.keyboard.press("/")
        demand(page.evaluate(focus) == "search", "/ does not lead to the search")
        page.keyboard.press("j")
        demand(page.evaluate("document.activeElement.value") == "j", "a letter in a field is not taken as one")
        page.keyboard.press("Escape")
        places = []
        for key in ("j", "j", "k"):
            page.keyboard.press(key)
            places.append(page.evaluate(focus))
        demand(places == [1, 2, 1], f"j and k go through rows {places}")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/*")
        page.keyboard.press("?")
        page.wait_for_url("**/keys")
        for key in ("g", "s"):
            page.keyboard.press(key)
        page.wait_for_url("**/servants")
        page.keyboard.press("Tab")
        demand("skip" in page.evaluate("document.activeElement.className"), "the first stop is not the way past the navigation")
