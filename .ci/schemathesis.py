"""Prints where the API is, and the headers that sign on to it; refuses a description whose examples are not of its own shapes.
`schemathesis.py SYSTEM`: the line that `cargo up -- --json` printed."""

import json
import sys
import urllib.request

import jsonschema_rs

system = json.loads(sys.argv[1])
url = system["ui"].rstrip("/")


# As `cargo up` lets servantctl in.
with open(system["token_file"], encoding="utf-8") as file:
    headers = {"Authorization": f"Bearer {file.read().strip()}"}


def get(path):
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=30) as answer:
        return json.load(answer)


description = get("/api/openapi.json")
jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": description["components"]["schemas"]})
wrong = []


def check(place, schema, example):
    whole = {"components": description["components"], **schema}
    wrong.extend(f"{place}: {error.message}" for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(example))


for name, schema in description["components"]["schemas"].items():
    for part in [schema, *schema.get("allOf", [])]:
        for field, inner in part.get("properties", {}).items():
            for example in inner.get("examples", []):
                check(f"{name}.{field}", inner, example)
for name, response in description["components"]["responses"].items():
    content = response["content"]["application/json"]
    check(name, content["schema"], content["example"])
if wrong:
    sys.exit("\n".join(wrong))
print(url)
for header in headers.items():
    print(": ".join(header))
