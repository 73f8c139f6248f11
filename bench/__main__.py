"""Runs the parts one after the other, each in a process of its own, and prints every figure beside
its target.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict

from bench.figures import HEADING, Figure, say

PARTS = {
    "startup": 60,
    "attach": 150,
    "scale": 120,
    "docker_run": 120,
    "lifecycles": 240,
    "audit": 300,
    "multihost": 180,
    "simulator": 420,
}


def run(part, limit_s):
    """Run a part; returns its figures, or a sentence that says why there are none."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        process = subprocess.Popen([sys.executable, "-m", f"bench.{part}", "--json", file.name])
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return [], f"{part} did not end within {limit_s} s"
        if status:
            return [], f"{part} ended with status {status}"
        return [Figure(**entry) for entry in json.load(file)], ""


def machine():
    """What it was measured on."""
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processors": os.cpu_count(),
        "model": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def main():
    """Run the chosen parts; exit status 1 when a part failed or a target was missed."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the appliance; each figure stands beside its target.",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all without it")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]}; the parts are {', '.join(PARTS)}")
    here = machine()
    figures, failures = [], []
    for part in options.parts or PARTS:
        say(f"{part} …")
        found, failure = run(part, PARTS[part])
        figures += found
        failures += [failure] if failure else []
    print(
        f"{here['processors']} processors ({here['model']}), Linux {here['kernel']}, Python "
        f"{here['python']}, load {here['load']} at the start"
    )
    print(HEADING)
    part = ""
    for figure in figures:
        if figure.part != part:
            part = figure.part
            print(f"-- {part}")
        print(figure.line())
    for failure in failures:
        print(f"FAILED: {failure}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(
                {
                    "machine": here,
                    "failures": failures,
                    "figures": [
                        {**asdict(figure), "verdict": figure.verdict} for figure in figures
                    ],
                },
                stream,
                indent=1,
                ensure_ascii=False,
            )
    missed = [figure for figure in figures if figure.verdict == "MISSED"]
    print(
        (
            f"{len([figure for figure in figures if figure.target is not None]) - len(missed)} "
            f"targets met, {len(missed)} missed"
        )
        + (f", {len(failures)} parts failed" if failures else "")
    )
    return 1 if missed or failures else 0


if __name__ == "__main__":
    sys.exit(main())
