"""What the API of Docker engine 29 shows, and which versions of it the engine takes.

Pure: the scripted engine keeps its networks and containers in a short form, and this gives them the
fields that engine 29 sends, with the names, the empty values and the absences of API 1.52 and up.

Sources: the engine's `api/docs/CHANGELOG.md` (what 1.52 added and took away), its types in
`api/types/network` and `api/types/container`, its version check in
`daemon/server/middleware/version.go`, and its use of `netlabel.EndpointName` (libnetwork §3.4).
"""

import ipaddress

# Given to an IPAM driver's RequestAddress since 29.0.
ENDPOINT_NAME = "com.docker.network.endpoint.name"

# What API 1.52 left out of a container's NetworkSettings; all but Bridge and HairpinMode spoke of
# the network "bridge".
GONE_FROM_SETTINGS = (
    "Bridge",
    "HairpinMode",
    "LinkLocalIPv6Address",
    "LinkLocalIPv6PrefixLen",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
)


def _numbers(version):
    return tuple(int(part) for part in version.split("."))


def is_29(api_version):
    """True for the newest API version of an engine 29 (1.52) or of a later one."""
    return bool(api_version) and _numbers(api_version) >= (1, 52)


def release(api_version):
    """The release that has this API version as its newest, and the oldest version that it takes."""
    return ("29.0.4", "1.44") if _numbers(api_version) < (1, 54) else ("29.7.2", "1.40")


def refusal(asked, oldest, newest):
    """What an engine says to a request in an API version that it does not take, else ''."""
    if _numbers(asked) < _numbers(oldest):
        return (
            f"client version {asked} is too old. Minimum supported API version is {oldest}, "
            "please upgrade your client to a newer version"
        )
    if _numbers(asked) > _numbers(newest):
        return f"client version {asked} is too new. Maximum supported API version is {newest}"
    return ""


def network(item, asked):
    """A network in `GET /networks/ID` in the version `asked`, or in `GET /networks`: `asked` None.

    A list has neither Containers nor Status. Of a remote IPAM driver no status is asked.
    """
    shown = {
        "Name": item["Name"],
        "Id": item["Id"],
        "Created": "2026-11-26T10:00:00.123456789Z",
        "Scope": item["Scope"],
        "Driver": item["Driver"],
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": item["IPAM"],
        "Internal": item["Internal"],
        "Attachable": item["Attachable"],
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": item["ConfigOnly"],
        "Options": item["Options"],
        "Labels": item["Labels"],
    }
    if asked is None:
        return shown
    shown["Containers"] = item["Containers"]
    if is_29(asked):
        shown["Status"] = {"IPAM": {"Subnets": {}}}
    return shown


def _endpoint(entry, name):
    """A container's settings for one network; an address that is none is an empty text."""
    address = entry.get("IPAddress", "")
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": entry["NetworkID"],
        "EndpointID": entry["EndpointID"],
        "Gateway": str(ipaddress.ip_interface(f"{address}/24").network[1]) if address else "",
        "IPAddress": address,
        "MacAddress": entry.get("MacAddress", ""),
        "IPPrefixLen": 24 if address else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": [name] if address else None,
    }


def _endpoints(item):
    name = item["Name"].removeprefix("/")
    return {
        key: _endpoint(entry, name) for key, entry in item["NetworkSettings"]["Networks"].items()
    }


def summary(item):
    """A container in `GET /containers/json`: its state is a text, its networks are all there is."""
    return {
        "Id": item["Id"],
        "Names": [item["Name"]],
        "Image": "busybox",
        "ImageID": "sha256:" + "0" * 64,
        "Command": "sleep 600",
        "Created": 1795455994,
        "Ports": [],
        "Labels": item["Config"]["Labels"],
        "State": item["State"]["Status"],
        "Status": "Up 3 seconds",
        "HostConfig": {"NetworkMode": next(iter(item["NetworkSettings"]["Networks"]), "none")},
        "NetworkSettings": {"Networks": _endpoints(item)},
        "Mounts": [],
        "ImageManifestDescriptor": None,
        "Health": {"Status": "none", "FailingStreak": 0},
    }


def container(item, asked):
    """A container in `GET /containers/ID/json` in the version `asked`."""
    status = item["State"]["Status"]
    settings = {
        "SandboxID": item["Id"],
        "SandboxKey": f"/var/run/docker/netns/{item['Id'][:12]}",
        "Ports": {},
        "Networks": _endpoints(item),
    }
    if not is_29(asked):
        settings.update(dict.fromkeys(GONE_FROM_SETTINGS, ""))
    return {
        "Id": item["Id"],
        "Created": "2026-11-26T10:00:00.123456789Z",
        "Name": item["Name"],
        "State": {
            "Status": status,
            "Running": status in ("running", "paused", "restarting"),
            "Paused": status == "paused",
            "Pid": 4711 if status == "running" else 0,
        },
        "RestartCount": 0,
        "Driver": "overlayfs",
        "HostConfig": {"NetworkMode": next(iter(settings["Networks"]), "none")},
        "Storage": {"RootFS": {"Snapshot": {"Name": "overlayfs"}}},
        "Mounts": [],
        "Config": {
            "Hostname": item["Id"][:12],
            "Env": item["Config"]["Env"] or None,
            "Image": "busybox",
            "Labels": item["Config"]["Labels"] or {},
        },
        "NetworkSettings": settings,
    }
