"""The VSD simulator: memory with 20,000 containers, a host's list among them, requests a second on
one core, and what keeping them costs.

The simulator is bound to one processor, the clients to the others; each client keeps one TLS
connection. The mix is a host's life: half looks at one object, a quarter lists a host's containers,
the rest creates, changes and deletes containers.
"""

import base64
import http.client
import json
import os
import ssl
import tempfile
import threading
import time
from urllib.parse import urlsplit

from bench.figures import Figure, hand_over, over_rounds, percentile, say
from bench.world import cpu_s, rss_mb
from tests.support.vsd import VsdSimulator

PART = "simulator"
RSS_MB, LIST_MS, RATE = 400, 20, 500
A_HOST = 50
CLIENTS = 4


class Client:
    """One keep-alive connection of one host."""

    def __init__(self, vsd, key):
        url = urlsplit(vsd.url)
        context = ssl.create_default_context(cafile=vsd.ca_file)
        self._connection = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=60, context=context
        )
        coded = base64.b64encode(f"csproot:{key}".encode()).decode()
        self._headers = {
            "Authorization": f"XREST {coded}",
            "X-Nuage-Organization": "csp",
            "Content-Type": "application/json",
        }

    def call(self, method, path, body=None, **headers):
        """Send one request; returns the decoded answer."""
        text = None if body is None else json.dumps(body)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, f"/nuage/api/v6{path}", text, {**self._headers, **more})
        reply = self._connection.getresponse()
        data = reply.read()
        if reply.status >= 300:
            raise RuntimeError(f"{method} {path}: {reply.status} {data[:200]}")
        return json.loads(data) if data else None

    def create(self, subnet_id, number):
        """Create the container with this number; 50 have one host."""
        return self.call(
            "POST",
            "/containers",
            {
                "UUID": f"{number:064x}",
                "name": f"box-{number}",
                "externalID": f"host-{number // A_HOST}",
                "orchestrationID": "docker",
                "interfaces": [
                    {
                        "name": f"nln{number:x}-1",
                        "MAC": f"7a:42:{number.to_bytes(4, 'big').hex(':')}",
                        "attachedNetworkID": subnet_id,
                    }
                ],
            },
        )[0]["ID"]

    def list_of(self, host):
        """What an audit asks for: the containers of one host."""
        return self.call(
            "GET",
            "/containers",
            X_Nuage_Filter=f'externalID == "host-{host}"',
            X_Nuage_Page="0",
            X_Nuage_PageSize="50",
        )


class Bench:
    """A simulator on one processor, filled with containers."""

    def __init__(self, count, *flags):
        self.vsd = VsdSimulator(*flags)
        self.count = count
        try:
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self.vsd.process.pid, allowed[:1])
            client = self.vsd.client()
            self.key = client.me()["APIKey"]
            self.subnet_id = client.get("/subnets", filter='name == "Big"')[2][0]["ID"]
            self.clients = [Client(self.vsd, self.key) for _ in range(CLIENTS)]
        except BaseException:
            self.vsd.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vsd.stop()

    def share(self, work):
        """Let every client do its part of the work at once; returns (seconds, processor seconds of
        the simulator).
        """
        failures = []

        def run(index):
            try:
                work(self.clients[index], index)
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=run, args=(index,)) for index in range(CLIENTS)]
        began, used = time.perf_counter(), cpu_s(self.vsd.process.pid)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return time.perf_counter() - began, cpu_s(self.vsd.process.pid) - used

    def fill(self):
        """Create all containers; returns creations a second."""
        took_s, _ = self.share(
            lambda client, index: [
                client.create(self.subnet_id, number)
                for number in range(index, self.count, CLIENTS)
            ]
        )
        return self.count / took_s

    def mix(self, each):
        """The mix of requests; returns (requests a second, ms of processor time for each, the
        longest answer in ms).
        """
        longest = [0.0] * CLIENTS

        def live(client, index):
            def timed(call, *words, **more):
                began = time.perf_counter()
                answer = call(*words, **more)
                longest[index] = max(longest[index], time.perf_counter() - began)
                return answer

            for turn in range(each // 12):
                made = timed(
                    client.create,
                    self.subnet_id,
                    (1 << 24) * (index + 1) + time.monotonic_ns() % (1 << 24),
                )
                for _ in range(6):
                    timed(client.call, "GET", f"/containers/{made}")
                for step in range(3):
                    timed(client.list_of, (turn * 3 + step) % max(1, self.count // A_HOST))
                timed(
                    client.call,
                    "PUT",
                    f"/containers/{made}?responseChoice=1",
                    {"name": f"again-{turn}"},
                )
                timed(client.call, "DELETE", f"/containers/{made}?responseChoice=1")

        took_s, used_s = self.share(live)
        done = each // 12 * 12 * CLIENTS
        return done / took_s, used_s / done * 1000, max(longest) * 1000


def measure(count=20000, requests=1200, rounds=3):
    """All figures of this part."""
    figures = []
    with Bench(count) as bench:
        say(f"{count} containers …")
        rate = bench.fill()
        figures += [
            Figure(
                PART,
                f"memory of the simulator with {count} containers (RSS)",
                "MB",
                rss_mb(bench.vsd.process.pid),
                RSS_MB,
            ),
            Figure(PART, "containers created a second, one core", "1/s", rate),
        ]
        figures += lists(bench)
        say("mix …")
        figures += mixed(bench, requests, rounds, "", RATE)
    with tempfile.TemporaryDirectory(prefix="bench-state-") as directory:
        path = os.path.join(directory, "objects.jsonl")
        kept = ("--state", path)
        with Bench(count, *kept) as bench:
            say("the same with --state …")
            figures.append(
                Figure(
                    PART, "with --state: containers created a second, one core", "1/s", bench.fill()
                )
            )
            figures += mixed(bench, requests, rounds, "with --state: ", RATE)
            figures.append(
                Figure(
                    PART, "with --state: memory (RSS)", "MB", rss_mb(bench.vsd.process.pid), RSS_MB
                )
            )
        figures.append(
            Figure(PART, "with --state: size of the file", "MB", os.path.getsize(path) / 1e6)
        )
        began = time.perf_counter()
        with VsdSimulator(*kept, start_timeout_s=120):
            figures.append(
                Figure(
                    PART,
                    f"with --state: start with {count} containers",
                    "s",
                    time.perf_counter() - began,
                )
            )
    return figures


def lists(bench, count=200):
    """How long the list of one host's containers takes."""
    took, client = [], bench.clients[0]
    for host in range(count):
        began = time.perf_counter()
        found = client.list_of(host % (bench.count // A_HOST))
        took.append((time.perf_counter() - began) * 1000)
        if len(found) != A_HOST:
            raise RuntimeError(f"host {host} has {len(found)} containers")
    return [
        Figure(
            PART,
            f"GET /containers by externalID, {A_HOST} of {bench.count}, median",
            "ms",
            percentile(took, 50),
            LIST_MS,
        ),
        Figure(
            PART,
            f"GET /containers by externalID, {A_HOST} of {bench.count}, 95th percentile",
            "ms",
            percentile(took, 95),
        ),
    ]


def mixed(bench, requests, rounds, prefix, target):
    """The figures of the mix."""
    seen = [bench.mix(requests) for _ in range(rounds)]
    return [
        over_rounds(
            PART,
            f"{prefix}requests a second of processor time, mixed, keep-alive TLS",
            "1/s",
            [1000 / one[1] for one in seen],
            target,
            "high",
        ),
        over_rounds(
            PART,
            f"{prefix}requests a second, with what else the core does",
            "1/s",
            [one[0] for one in seen],
        ),
        over_rounds(PART, f"{prefix}longest answer", "ms", [one[2] for one in seen]),
    ]


if __name__ == "__main__":
    hand_over(measure, count=20000, requests=1200, rounds=3)
