"""What simple-salesforce must be able to do with the simulated Salesforce. Run by the step of the same name.

key-pair PRIVATE PUBLIC: makes the key pair of the application.
check URL PRIVATE [NAME...]: runs the checks of these names, or all; the first that fails ends it with its reason.
"""

import csv
import datetime
import io
import json
import os
import sys
import tempfile
import warnings
from decimal import Decimal
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceOperationError,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)

USER = "admin@fake.example"
CLIENT = {"client_id": "fake-client", "client_secret": "fake-secret"}
CONTACTS = "SELECT Id FROM Contact"
VERSION = "66.0"


class HereInstead(HTTPAdapter):
    """Sends what is meant for the vendor's sign-on, whose host cannot be set, to the simulated one."""

    def __init__(self, url):
        super().__init__()
        self.authority = urlsplit(url).netloc

    def send(self, request, *args, **options):
        parts = urlsplit(request.url)
        request.url = urlunsplit(parts._replace(netloc=self.authority))
        return super().send(request, *args, **options)


class Suite:
    def __init__(self, url, private_key):
        self.url = url
        self.private_key = private_key
        self.session = requests.Session()
        self.session.mount("https://login.salesforce.com", HereInstead(url))
        self.session.mount("https://acme.my.salesforce.com", HereInstead(url))
        self.connect()

    def connect(self):
        """By refresh token, as an application that was let in before."""
        self.token = self.ask_token(grant_type="refresh_token", refresh_token="fake-refresh", **CLIENT)
        self.salesforce = self.with_token(self.token["access_token"])

    def with_token(self, token):
        return Salesforce(
            instance_url=self.url, session_id=token, session=self.session, version=VERSION
        )

    def ask_token(self, **form):
        answer = self.session.post(f"{self.url}/services/oauth2/token", data=form)
        answer.raise_for_status()
        return answer.json()

    def admin(self, method, path, **options):
        answer = self.session.request(method, self.url + path, **options)
        answer.raise_for_status()
        return answer

    def truth(self, name, deleted=False):
        lines = self.admin("GET", f"/_truth/{name}").text.split("\n")
        # Not splitlines: text in a record may hold what Python takes for the end of a line.
        records = [json.loads(line) for line in lines if line]
        return {record["Id"]: record for record in records if deleted or not record["IsDeleted"]}

    def fields(self, name, without=("address",)):
        described = getattr(self.salesforce, name).describe()["fields"]
        return {field["name"]: field["type"] for field in described if field["type"] not in without}

    # The checks.

    def check_login(self):
        assert self.token["instance_url"] == self.url
        assert self.salesforce.query(CONTACTS + " LIMIT 1")["records"]
        user = self.salesforce.oauth2("userinfo")
        assert user["preferred_username"] == USER, user
        by_key = Salesforce(
            username=USER,
            consumer_key="fake-client",
            privatekey_file=self.private_key,
            session=self.session,
            version=VERSION,
        )
        by_secret = Salesforce(
            consumer_key="fake-client",
            consumer_secret="fake-secret",
            domain="acme.my",
            session=self.session,
            version=VERSION,
        )
        for client in (by_key, by_secret):
            assert client.limits()["DailyApiRequests"]["Max"] == 100_000
        # It signs on again by itself.
        self.admin("DELETE", "/_sessions")
        assert by_key.query(CONTACTS + " LIMIT 1")["records"]
        expect(SalesforceExpiredSession, lambda: self.salesforce.query(CONTACTS), "INVALID_SESSION_ID")
        with warnings.catch_warnings():
            # It warns of how to approve the application, and then fails.
            warnings.simplefilter("ignore")
            expect(
                SalesforceAuthenticationFailed,
                lambda: Salesforce(
                    username="stranger@fake.example",
                    consumer_key="fake-client",
                    privatekey_file=self.private_key,
                    session=self.session,
                ),
                "user hasn't approved this consumer",
            )
        self.connect()

    def check_query(self):
        truth = self.truth("Contact")
        fields = self.fields("Contact")
        first = self.salesforce.query(CONTACTS)
        assert first["totalSize"] == len(truth) and not first["done"]
        assert len(first["records"]) == 500, len(first["records"])
        by_id = self.salesforce.query_more(first["nextRecordsUrl"].rsplit("/", 1)[1])
        by_url = self.salesforce.query_more(first["nextRecordsUrl"], identifier_is_url=True)
        assert by_id == by_url and by_id["records"][0] not in first["records"]
        whole = self.salesforce.query_all(f"SELECT {', '.join(fields)} FROM Contact ORDER BY Id")
        found = {record["Id"]: record for record in whole["records"]}
        assert len(found) == len(whole["records"]) == len(truth)
        for id, record in found.items():
            assert record.pop("attributes")["url"].endswith(f"/sobjects/Contact/{id}")
            assert record == {name: truth[id][name] for name in fields}, id
        counted = self.salesforce.query("SELECT COUNT() FROM Contact")
        assert (counted["totalSize"], counted["records"]) == (len(truth), [])
        some = next(record for record in truth.values() if record["LastName"])
        named = self.salesforce.query(f"SELECT Id FROM Contact WHERE Id = '{some['Id']}' LIMIT 5")
        assert [record["Id"] for record in named["records"]] == [some["Id"]]
        small = self.salesforce.query(CONTACTS, headers={"Sforce-Query-Options": "batchSize=200"})
        assert len(small["records"]) == 200
        for soql, reason in [
            ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY"),
            ("SELECT Nope FROM Contact", "INVALID_FIELD"),
            ("SELECT Id FROM Nope", "INVALID_TYPE"),
        ]:
            expect(SalesforceMalformedRequest, lambda: self.salesforce.query(soql), reason)
        locator = "01gFAKE00000000AAA-500"
        expect(SalesforceMalformedRequest, lambda: self.salesforce.query_more(locator), "INVALID_QUERY_LOCATOR")

    def check_describe(self):
        listed = {one["name"]: one for one in self.salesforce.describe()["sobjects"]}
        for name in ("Account", "Contact", "Lead", "Opportunity"):
            described = getattr(self.salesforce, name).describe()
            assert listed[name]["queryable"] and described["name"] == name
            fields = {field["name"]: field for field in described["fields"]}
            assert fields["Id"]["type"] == "id" and fields["SystemModstamp"]["type"] == "datetime"
            for field in fields.values():
                assert {"type", "nillable", "length", "custom", "calculated"} <= field.keys(), field
            brief = getattr(self.salesforce, name).metadata()
            assert brief["objectDescribe"]["name"] == name
        truth = self.truth("Contact")
        id = next(iter(truth))
        record = self.salesforce.Contact.get(id)
        assert record["LastName"] == truth[id]["LastName"]
        assert self.salesforce.Contact.get(id[:15])["Id"] == id
        expect(SalesforceResourceNotFound, self.salesforce.Nope.describe, "NOT_FOUND")
        expect(SalesforceResourceNotFound, lambda: self.salesforce.Contact.get("003000000000000AAA"), "NOT_FOUND")

    def check_deleted(self):
        id = next(iter(self.truth("Lead")))
        before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
        self.admin("POST", "/_mutate", json={"object": "Lead", "delete": [id]})
        after = before + datetime.timedelta(minutes=10)
        deleted = self.salesforce.Lead.deleted(before, after)
        assert [one["id"] for one in deleted["deletedRecords"]] == [id], deleted
        soql = f"SELECT Id, IsDeleted FROM Lead WHERE Id = '{id}'"
        assert self.salesforce.query(soql)["totalSize"] == 0
        kept = self.salesforce.query(soql, include_deleted=True)
        assert kept["records"][0]["IsDeleted"] is True
        self.admin("POST", "/_mutate", json={"object": "Lead", "upsert": [{"Id": id, "IsDeleted": False}]})

    def check_limits(self):
        before = self.salesforce.limits()["DailyApiRequests"]
        used = before["Max"] - before["Remaining"]
        self.salesforce.query(CONTACTS + " LIMIT 1")
        usage = self.salesforce.api_usage["api-usage"]
        assert (usage.used, usage.total) == (used + 1, before["Max"]), (usage, before)
        # Others use up the rest; a day later all of it is back.
        self.admin("POST", "/_usage", json={"spend": before["Remaining"]})
        refused = expect(SalesforceRefusedRequest, self.salesforce.limits, "REQUEST_LIMIT_EXCEEDED")
        assert "TotalRequests" in str(refused)
        assert self.session.get(f"{self.url}/services/data/").json()[-1]["version"] == "67.0"
        self.admin("POST", "/_usage", json={"age_secs": 86_460})
        after = self.salesforce.limits()["DailyApiRequests"]
        assert after["Remaining"] == after["Max"] - 1, after

    def check_bulk(self):
        truth = self.truth("Contact")
        fields = self.fields("Contact")
        soql = f"SELECT {', '.join(fields)} FROM Contact"
        bulk = self.salesforce.bulk2.Contact
        pages = list(bulk.query(soql, max_records=1_000, wait=0.2))
        assert len(pages) == -(-len(truth) // 1_000) > 2, (len(pages), len(truth))
        found = {}
        for page in pages:
            rows = list(csv.DictReader(io.StringIO(page, newline="")))
            assert 0 < len(rows) <= 1_000 and list(rows[0]) == list(fields)
            found.update((row["Id"], row) for row in rows)
        assert found.keys() == truth.keys()
        for id, row in found.items():
            for name, kind in fields.items():
                assert same(row[name], truth[id][name], kind), (id, name, row[name], truth[id][name])

        id = next(iter(truth))
        self.admin("POST", "/_mutate", json={"object": "Contact", "delete": [id]})
        with_deleted = {
            row["Id"]: row["IsDeleted"]
            for page in bulk.query_all("SELECT Id, IsDeleted FROM Contact", max_records=1_000, wait=0.2)
            for row in csv.DictReader(io.StringIO(page, newline=""))
        }
        assert with_deleted.keys() == truth.keys() and with_deleted[id] == "true"
        left = [
            row["Id"]
            for page in bulk.query(CONTACTS, max_records=1_000, wait=0.2)
            for row in csv.DictReader(io.StringIO(page, newline=""))
        ]
        assert len(left) == len(set(left)) == len(truth) - 1 and id not in left
        self.admin("POST", "/_mutate", json={"object": "Contact", "upsert": [{"Id": id, "IsDeleted": False}]})

        with tempfile.TemporaryDirectory() as folder:
            files = bulk.download(CONTACTS, path=folder, max_records=1_000, wait=0.2)
            assert sum(one["number_of_records"] for one in files) == len(truth)
            assert all(os.path.getsize(one["file"]) for one in files)
        # Refused at once, or by a job that fails.
        refusals = (SalesforceMalformedRequest, SalesforceOperationError)
        expect(refusals, lambda: list(bulk.query("SELECT COUNT(Id) FROM Contact", wait=0.2)), "")


def same(text, value, kind):
    """Whether the Bulk API writes what the REST API says."""
    if value is None:
        return text == ""
    if isinstance(value, bool):
        return text == str(value).lower()
    if kind == "datetime":
        return text == value.replace("+0000", "Z")
    return text == value if isinstance(value, str) else Decimal(text) == Decimal(str(value))


def expect(kind, act, reason):
    try:
        found = act()
    except kind as error:
        assert reason in str(error), error
        return error
    raise AssertionError(f"{kind} for {reason} expected, not {found}")


def make_key_pair(private_file, public_file):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, content in ((private_file, private), (public_file, public)):
        with open(name, "wb") as file:
            file.write(content)


def main():
    command, *rest = sys.argv[1:]
    if command == "key-pair":
        return make_key_pair(*rest)
    url, private_key, *names = rest
    suite = Suite(url, private_key)
    for name in names or ["login", "query", "describe", "deleted", "limits", "bulk"]:
        getattr(suite, f"check_{name}")()
        print(f"  {name}: as expected", flush=True)


if __name__ == "__main__":
    main()
