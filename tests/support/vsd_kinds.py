"""A valid body for every kind of object that the simulated VSD can make, and the lists that they
are made in.
"""

from nuage_lab.vsd.model import load_model

MODEL = load_model()


def seed_user(root, name):
    """The seeded user of this name."""
    return root.get("/users", filter=f'userName == "{name}"')[2][0]


def made_in(client, path, body):
    """POST a body to a list; returns the object that it made."""
    status, _, reply = client.post(path, body)
    assert status == 201, reply
    return reply[0]


def bodies(places):
    """A body with all that is needed, for each kind that can be made below something that is
    seeded.
    """
    return {
        "enterprise": (None, {"name": "New Corp"}),
        "domaintemplate": ("enterprises", {"name": "new"}),
        "domain": ("enterprises", {"name": "new", "templateID": places["domaintemplates"]}),
        "l2domaintemplate": ("enterprises", {"name": "new", "DHCPManaged": False}),
        "l2domain": ("enterprises", {"name": "new", "templateID": places["l2domaintemplates"]}),
        "zone": ("domains", {"name": "new"}),
        "subnet": ("zones", {"name": "new", "address": "10.77.0.0", "netmask": "255.255.255.0"}),
        "vport": ("subnets", {"name": "new", "type": "CONTAINER", "addressSpoofing": "INHERITED"}),
        "policygroup": ("domains", {"name": "new", "type": "SOFTWARE"}),
        "user": (
            "enterprises",
            {"userName": "new", "password": "p", "email": "a@b", "firstName": "a", "lastName": "b"},
        ),
        "group": ("enterprises", {"name": "new"}),
        "addressrange": ("subnets", {"minAddress": "10.21.59.9", "maxAddress": "10.21.59.19"}),
        "ipreservation": ("subnets", {"MAC": "02:aa:00:00:00:01", "IPAddress": "10.21.59.77"}),
        "vmipreservation": ("subnets", {"IPV4Address": "10.21.59.78"}),
        "dhcpoption": ("subnets", {"actualType": 15, "actualValues": ["lab.example"]}),
        "dhcpv6option": ("subnets", {"actualType": 23, "actualValues": ["2001:db8::53"]}),
        "permission": ("zones", {"permittedEntityID": places["groups"]}),
        "metadata": ("vports", {"blob": "x"}),
        "globalmetadata": ("enterprises", {"blob": "x"}),
        "container": (None, {"name": "new", "UUID": "new"}),
    }


MADE = [
    "addressrange",
    "container",
    "dhcpoption",
    "dhcpv6option",
    "domain",
    "domaintemplate",
    "enterprise",
    "globalmetadata",
    "group",
    "ipreservation",
    "l2domain",
    "l2domaintemplate",
    "metadata",
    "permission",
    "policygroup",
    "subnet",
    "user",
    "vmipreservation",
    "vport",
    "zone",
]


def body_of(rest_name, places):
    """A kind's entry of the model, the list that it is made in, and a body for it."""
    word, body = bodies(places)[rest_name]
    resource = MODEL.by_rest_name[rest_name]
    return (
        resource,
        f"/{word}/{places[word]}/{resource.name}" if word else f"/{resource.name}",
        body,
    )
