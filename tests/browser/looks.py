"""Every page in both themes and at three widths: nothing sticks out of it, the console is silent, axe finds nothing, and a
screenshot is left for eyes. And every page without JavaScript. Does not own what is done on them (`stories`)."""

from importlib.resources import files

from walk import Failure, demand

WIDTHS = [320, 768, 1280]
THEMES = ["light", "dark"]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
# What belongs to no default set of its rules, and is wanted all the same: targets that a finger hits.
OPTIONS = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"]}


def addresses(world):
    """Every page of the navigation, and one of each that it leads to; by a name for its pictures."""
    with world.browser.page() as page:
        page.goto(f"{world.browser.url}/")
        links = page.locator("#pages a").evaluate_all("links => links.map(link => [link.textContent, link.getAttribute('href')])")
    named = {name.lower().replace(" ", "-"): path for name, path in links}
    demand(len(named) >= 11, f"the navigation has only {named}")
    latest = lambda path, key: world.call("GET", path)[key][0]
    return named | {
        "overview-day": "/?span=24h",
        "overview-week": "/?span=7d",
        "jobs-none": "/jobs?q=state%3Acancelled%20kind%3Anothing",
        "jobs-failed": "/jobs?q=state%3Afailed%20kind%3Anoop",
        "job-failed": f"/jobs/{world.failed}",
        "job-waiting": f"/jobs/{world.waiting}",
        "job-later": f"/jobs/{world.later}",
        "job-new": "/jobs/new",
        "operations": "/operations",
        "operation-new": "/operations/new?act=retry&q=state%3Afailed",
        "operation": f"/operations/{latest('/operations', 'operations')['id']}",
        "error": f"/errors/{latest('/errors', 'errors')['fingerprint']}",
        "account": f"/accounts/{world.account}",
        "connections": "/connections",
        "connections-none": "/connections?state=disabled",
        "errors-text": "/errors?text=sleep",
        "find": "/find?text=s",
        "holders": "/holders?scope=kind&key=noop",
        "schedules-paused": "/schedules?paused=true",
        "servants-noop": "/servants?kind=noop",
        "servant": f"/servants/{latest('/servants', 'servants')['id']}",
        "schedule": f"/schedules/{world.schedule}",
        "anomaly": f"/anomalies/{world.anomaly()}",
        "anomalies-all": "/anomalies?state=all",
        "quarantine": "/quarantine?state=all",
        "quarantined": f"/quarantine/{latest('/quarantine', 'records')['id']}",
        "group": f"/groups/{world.group}",
        "audit-verify": "/audit/verify",
        "assumptions": "/assumptions",
        "password": "/me/password",
        "keys": "/keys",
        "refusal": "/jobs/999999999999",
    }


def look_at_all(world, screenshots):
    invitation = world.invite()
    pages = addresses(world)
    wrong = look_at(world, pages, screenshots)
    # Whom nobody knows, and somebody with a password: who signed on by the address of the start has none.
    doors = {"login": "/login", "login-code": invitation}
    wrong += look_at(world, doors, screenshots, storage_state=None)
    somebody = world.accept(invitation)
    own = {"password-own": "/me/password"}
    wrong += look_at(world, own, screenshots, "main input[name=new_password]", storage_state=somebody)
    assumed = {"look-account": f"/accounts/{world.account}", "look-jobs": "/jobs", "look-refused": "/servants"}
    wrong += look_at(world, assumed, screenshots, "aside.look", storage_state=world.assume(somebody))
    look_id = world.call("GET", "/assumptions")["assumptions"][0]["id"]
    made = {"assumption": f"/assumptions/{look_id}", "admin-secret": make_token}
    wrong += look_at(world, made, screenshots)
    if wrong:
        raise Failure(f"{len(wrong)} things are wrong:\n  " + "\n  ".join(wrong))
    count = len(pages) + len(doors) + len(own) + len(assumed) + len(made)
    print(f"  {count} pages, {len(THEMES)} themes, {len(WIDTHS)} widths: nothing sticks out, axe finds nothing")


def make_token(page, url):
    """To the page that shows a secret once."""
    page.goto(f"{url}/admin")
    act = page.locator("main details.act", has_text="Make a token")
    act.locator("summary").click()
    act.locator("[name=name]").fill("to be looked at")
    act.locator("button").click()
    page.locator("main pre").wait_for()


def look_at(world, pages, screenshots, holds="main", **settings):
    """What is wrong with pages, each of which holds that: at their address, or where a walk leads."""
    wrong = []
    with world.browser.page(**settings) as page:
        for name, path in pages.items():
            if callable(path):
                path(page, world.browser.url)
            else:
                page.goto(world.browser.url + path)
            demand(page.locator(holds).count() == 1, f"{name} has no {holds}")
            for opened in (False, True):
                if opened and page.locator("main details").count() == 0:
                    continue
                page.evaluate("is => document.querySelectorAll('main details').forEach(box => { box.open = is })", opened)
                for theme in THEMES:
                    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                    for width in WIDTHS:
                        page.set_viewport_size({"width": width, "height": 900})
                        title = f"{name}{'-open' if opened else ''}-{theme}-{width}"
                        wrong += [f"{title}: {text}" for text in look(page, width)]
                        if not opened or width == 320:
                            page.screenshot(path=screenshots / f"{title}.png", full_page=True)
    return wrong


def look(page, width):
    """What is wrong with a page as it is shown."""
    found = []
    wide = page.evaluate(
        """() => [document.documentElement.scrollWidth,
            [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
                && !e.closest(".scroll, .skip")).slice(0, 3).map(e => e.outerHTML.slice(0, 120))]"""
    )
    if wide[0] > width:
        found.append(f"{wide[0]} wide on {width}: {wide[1]}")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE)
    for rule in page.evaluate("options => axe.run(document, options).then(found => found.violations)", OPTIONS):
        for node in rule["nodes"][:3]:
            summary = " ".join(node["failureSummary"].split())
            found.append(f"axe {rule['id']} ({rule['impact']}): {node['html'][:160]} {summary[:300]}")
    return found


def without_javascript(world):
    """Each page says the same without JavaScript."""
    pages = addresses(world)
    with world.browser.page(javascript=False) as page:
        for name, path in pages.items():
            status = page.goto(world.browser.url + path).status
            demand(status == (404 if name == "refusal" else 200), f"{path} answers {status}")
            demand(page.locator("main h1").count() == 1, f"{path} has no heading")
            demand(len(page.locator("main").inner_text().split()) > 2, f"{path} says nothing")
            idle = page.locator("main form:not(:has(button))").count()
            demand(idle == 0, f"{path} has a form that only JavaScript could send")
    print(f"  {len(pages)} pages without JavaScript: each says what it has to say")
