"""Owns what the pages have to show: a customer being synced, an outage's failures, something paused, limited, held open,
waiting for a person, out of the ordinary, and names that are too long. Made through the API, as anybody could."""

import urllib.request
from urllib.parse import quote
from uuid import uuid4

from walk import until

# Jobs that fail in the outage, for each walk.
OUTAGE_JOBS = 12
LONG = "Nightly synchronisation of every opportunity, contact and account of the customer with the longest name in the book"
# No pauses between letters, as ids and addresses have none.
UNBROKEN = "connected-organisation-00D5g00000BSexAEAT-of-the-subsidiary-in-the-north-western-territories"
WHY = {"reason": "so that there is something to look at"}


class World:
    """The running system as the walks need it."""

    def __init__(self, browser, salesforce):
        self.browser = browser
        self.call = browser.call
        self.salesforce = salesforce
        account = until("the demo customer", lambda: self._first("/accounts", "accounts", "Demo customer"))
        self.account = account["id"]
        connection = until("its connection", lambda: self.call("GET", "/connections")["connections"])
        self.connection = connection[0]["id"]

    def _first(self, path, key, name):
        return next((row for row in self.call("GET", path)[key] if row["name"] == name), None)

    def job(self, kind, **rest):
        return self.call("POST", "/jobs", {"kind": kind, **rest})["id"]

    def state_of(self, job):
        return self.call("GET", f"/jobs/{job}")["state"]

    def connection_state(self):
        return self.call("GET", f"/connections/{self.connection}")["connection"]["state"]

    def fill(self):
        """Everything that no walk makes for itself; ends before all of it has happened."""
        self.group = self.call(
            "POST",
            "/groups",
            {"name": f"{LONG} {UNBROKEN}", "seal": True, "jobs": [{"kind": "noop"}] * 3},
        )["group"]["id"]
        rule = {"cron": {"expression": "30 2 * * *", "zone": "Europe/Berlin"}}
        schedule = {"name": f"{LONG} {uuid4()}", "kind": "noop", "rule": rule, "payload": {"note": UNBROKEN}}
        self.schedule = self.call("POST", "/schedules", schedule)["id"]
        paused = self.call("POST", "/schedules", {**schedule, "name": f"{UNBROKEN} {uuid4()}"})["id"]
        self.call("POST", f"/schedules/{paused}/pause", {**WHY, "reason": f"{LONG}; {UNBROKEN}"})
        self.call("PUT", "/limits/kind/noop", {"bounds": {"concurrency": 500, "per_minute": 60_000}, **WHY})
        self.call("PUT", "/pauses/account/999999", {**WHY, "reason": f"{LONG}; {UNBROKEN}"})
        self.failed = self.outage()[0]
        self.long = [self.job("noop", payload={"sleep_ms": 45_000, "note": UNBROKEN}) for _ in range(3)]
        # Nobody is there for it.
        self.waiting = self.job("a_kind_that_nobody_works_on_and_whose_name_is_rather_long", account_id=self.account)
        self.later = self.job("noop", run_at="2100-01-02T03:04:05Z", unique_key=UNBROKEN)

    def invite(self):
        """Somebody new, who may look at accounts: the address of the first sign-on, which asks for a password."""
        return self.call("POST", "/users", {"name": f"Grace {uuid4()}", "role": "support"})["path"]

    def accept(self, invitation):
        """What a browser keeps in which somebody has signed on there, and has a password from then on."""
        with self.browser.page(storage_state=None) as page:
            page.goto(self.browser.url + invitation)
            page.locator("main input[type=password]").fill("correct horse battery staple")
            page.locator("main form button").click()
            page.wait_for_url(f"{self.browser.url}/")
            return page.context.storage_state()

    def assume(self, state):
        """What the browser of somebody keeps who has begun to look at the customer's account as the customer does."""
        with self.browser.page(storage_state=state) as page:
            page.goto(f"{self.browser.url}/accounts/{self.account}")
            act = page.locator("main details.act", has_text="See as the customer")
            act.locator("summary").click()
            act.locator("[name=reason]").fill(f"{LONG}; {UNBROKEN}")
            act.locator("[name=ticket]").fill("T-7")
            act.locator("button").click()
            page.locator("aside.look").wait_for()
            return page.context.storage_state()

    def outage(self):
        """Jobs that fail for good, all for one reason."""
        payload = {"sleep_ms": "as long as the outage takes"}
        jobs = [self.job("noop", payload=payload, attempts_max=1) for _ in range(OUTAGE_JOBS)]
        until("the outage's jobs to fail", lambda: all(self.state_of(job) == "failed" for job in jobs))
        return jobs

    def revoke(self):
        """The customer takes back what they granted, and a sync finds out."""
        # Without a grant no sync finds anything else.
        self.anomaly()
        for what in ("_grants", "_sessions"):
            urllib.request.urlopen(urllib.request.Request(f"{self.salesforce}/{what}", method="DELETE"), timeout=30)
        self.job("salesforce_sync", account_id=self.account, connection_id=self.connection, priority=0)
        until("the connection to need its customer", lambda: self.connection_state() == "needs_reauth")

    def hold_open(self):
        """The circuit of the customer's service, as somebody would whom the vendor asked to wait."""
        self.anomaly()
        service = self.call("GET", f"/connections/{self.connection}")["connection"]["service"]
        self.call("POST", f"/breakers/{quote(service, safe='')}/open", {**WHY, "reason": f"{LONG}; {UNBROKEN}"})

    def anomaly(self):
        """The damaged record of the demo, once it is found."""
        found = until("the damaged record to be found", lambda: self.call("GET", "/anomalies")["anomalies"])
        return found[0]["id"]
