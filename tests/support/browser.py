"""Owns a headless Chromium that a test drives by its DevTools protocol, over a pair of pipes: no
driver, no port, no new package.

Never answers for a page: what is read is what a person would see or hear, and what is done is done
by keys and the mouse.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nuage_lab.hosts.run import kill_session, run

PROGRAMS = ("chromium-headless-shell", "chromium")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-lcd-text",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-features=Translate",
    "--remote-debugging-pipe",
)
# Chromium takes its pipes as descriptors 3 and 4.
_WITH_PIPES = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)
_KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def need():
    """Return Chromium's program; skip the test when there is none."""
    for name in PROGRAMS:
        if shutil.which(name):
            return name
    return pytest.skip(f"none of {', '.join(PROGRAMS)} is installed: run scripts/setup")


def key_hash(certificate):
    """Return the hash of a certificate's public key, by which Chromium trusts this certificate
    alone.
    """
    public = run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"]).stdout
    coded = "".join(line for line in public.splitlines() if not line.startswith("-"))
    return base64.b64encode(hashlib.sha256(base64.b64decode(coded)).digest()).decode()


class Browser:
    """A running Chromium; `namespace` is the name of the network namespace that is all the network
    it has.
    """

    def __init__(self, certificates, namespace=None):
        program = need()
        self._home = tempfile.mkdtemp(prefix="chromium-")
        trusted = ",".join(key_hash(one) for one in certificates)
        argv = [
            program,
            *_FLAGS,
            f"--ignore-certificate-errors-spki-list={trusted}",
            f"--user-data-dir={self._home}",
            "about:blank",
        ]
        inward, outward = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (inward[0], outward[1])]
        for one in (inward[0], outward[1]):
            os.close(one)
        self._in, self._out = inward[1], outward[0]
        inside = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        with open(Path(self._home) / "stderr.log", "wb") as errors:
            self._process = subprocess.Popen(
                [*inside, sys.executable, "-c", _WITH_PIPES, *map(str, theirs), *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=theirs,
                start_new_session=True,
                env={**os.environ, "HOME": self._home},
            )
        for one in theirs:
            os.close(one)
        self._buffer = b""
        self._number = 0
        self.events = []
        self.call("Browser.getVersion", timeout_s=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the browser and remove its files."""
        if self._process.poll() is None:
            kill_session(self._process)
        for one in (self._in, self._out):
            os.close(one)
        shutil.rmtree(self._home, ignore_errors=True)

    def call(self, method, session=None, timeout_s=20, **parameters):
        """Run one command and return its result; events that come meanwhile are kept."""
        self._number += 1
        message = {
            "id": self._number,
            "method": method,
            "params": parameters,
            **({"sessionId": session} if session else {}),
        }
        os.write(self._in, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self, deadline, method):
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise RuntimeError(f"{method}: no answer in time; {self.errors()}")
            piece = os.read(self._out, 1 << 20)
            if not piece:
                raise RuntimeError(f"{method}: Chromium has ended; {self.errors()}")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def errors(self):
        """Return the end of what Chromium wrote to its standard error."""
        return (Path(self._home) / "stderr.log").read_text(errors="replace")[-2000:]

    @contextlib.contextmanager
    def tab(self, url, width=1200, height=900, dark=False):
        """Open a page in a profile of its own, and close both afterwards."""
        profile = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            target = self.call(
                "Target.createTarget",
                url="about:blank",
                browserContextId=profile,
                width=width,
                height=height,
            )["targetId"]
            session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            tab = Tab(self, session)
            tab.resize(width, height)
            tab.shade(dark)
            tab.go(url)
            yield tab
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=profile)


class Tab:
    """One page of a browser."""

    def __init__(self, browser, session):
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Run a command for this page."""
        return self._browser.call(method, session=self._session, **parameters)

    def go(self, url):
        """Load a page, and wait until its scripts have run."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def resize(self, width, height=900):
        """Give the page a window of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def shade(self, dark):
        """Let the page know whether its user likes it dark."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def js(self, expression):
        """Return the value of an expression, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression, timeout_s=60, what=None):
        """Wait until an expression is true, and return its value; what it reads need not be there
        yet.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            value = self.js(
                f"(() => {{ try {{ return {expression}; }} catch {{ return null; }} }})()"
            )
            if value:
                return value
            if time.monotonic() > deadline:
                shown = self.js("document.body.innerText")
                raise AssertionError(
                    f"waited {timeout_s} s in vain: {what or expression}\n{shown[:3000]}\n"
                    f"{self.problems()}"
                )
            time.sleep(0.05)

    def press(self, *keys):
        """Press keys one after the other, as `Tab`, `Shift+Tab`, `ArrowDown`."""
        for word in keys:
            *modifiers, key = word.split("+")
            facts = {
                "key": key,
                "code": "Space" if key == " " else key,
                "windowsVirtualKeyCode": _KEYS[key],
                "modifiers": 8 if modifiers else 0,
            }
            text = {"Enter": "\r", " ": " "}.get(key)
            self.call(
                "Input.dispatchKeyEvent",
                type="keyDown",
                **facts,
                **({"text": text} if text else {}),
            )
            self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def write(self, text):
        """Write a text where the focus is."""
        self.call("Input.insertText", text=text)

    def spoken(self):
        """Return what a screen reader is given: (role, name, properties) of every node that is not
        ignored.
        """
        return [
            (
                node["role"]["value"],
                node.get("name", {}).get("value", ""),
                {one["name"]: one["value"].get("value") for one in node.get("properties", ())},
            )
            for node in self.call("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"]
        ]

    def picture(self, path):
        """Write what is seen as a PNG."""
        Path(path).write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        )

    def asked(self):
        """Return the URLs of every request of this page."""
        self.js("1")  # what is on its way comes in
        return [
            one["params"]["request"]["url"]
            for one in self._mine()
            if one["method"] == "Network.requestWillBeSent"
        ]

    def problems(self):
        """Return what the page's console and log have of errors, without the failed requests."""
        texts = [
            json.dumps(one["params"])[:500]
            for one in self._mine()
            if one["method"] == "Runtime.exceptionThrown"
        ]
        entries = [
            one["params"]["entry"] for one in self._mine() if one["method"] == "Log.entryAdded"
        ]
        return texts + [
            entry["text"]
            for entry in entries
            if entry["level"] == "error" and entry["source"] != "network"
        ]

    def _mine(self):
        return [one for one in self._browser.events if one.get("sessionId") == self._session]
