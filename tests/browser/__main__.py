"""Walks the operator's stories in Chromium and looks at every page. `python tests/browser UP_JSON SALESFORCE FOLDER`: the line
that `cargo up -- --json` printed, the address of the simulated Salesforce, and where screenshots go."""

import json
import pathlib
import shutil
import sys
import time

import looks
import stories
from walk import Failure, browse
from world import World


def main():
    up = json.loads(sys.argv[1])
    screenshots = pathlib.Path(sys.argv[3])
    screenshots.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with browse(chromium, up) as browser:
        world = World(browser, sys.argv[2].rstrip("/"))
        world.fill()
        stories.keys(world)
        stories.walk_all(world, screenshots)
        world.hold_open()
        looks.without_javascript(world)
        looks.look_at_all(world, screenshots)
    print(f"  {time.monotonic() - began:.0f} s; screenshots: {screenshots}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"browser: {failure}")
