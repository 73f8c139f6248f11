"""`docker network create` and `docker run` on a VSD subnet, as a user of the lab types them."""

from tests.support.invariants import IMAGE

PLACE = {
    "organization": "Enterprise",
    "domain": "Domain",
    "zone": "Zone",
    "subnet": "Subnet 2",
    "user": "admin",
}


def create(host, name, *words, check=True, **changes):
    """`docker network create` on a VSD subnet."""
    place = {**PLACE, **changes}
    options = [
        word
        for key, value in place.items()
        if value is not None
        for word in ("--ipam-opt", f"{key}={value}")
    ]
    return host.docker(
        "network",
        "create",
        "--driver=nuage",
        "--ipam-driver=nuage-ipam",
        *options,
        *words,
        name,
        check=check,
    )


def run(host, name, network, *words, command=("sleep", "86400"), check=True):
    """`docker run -d`."""
    return host.docker(
        "run",
        "-d",
        "--name",
        name,
        "--net",
        network,
        "--stop-signal",
        "KILL",
        *words,
        IMAGE,
        *command,
        check=check,
    )


def refusal(done):
    """What the user reads."""
    assert done.returncode != 0, done.stdout
    return done.stderr
