"""The SDK that Nuage published (vspk 20.10, bambou below it), unmodified, against the simulator's
HTTPS.
"""

import itertools
import time
import warnings
from types import SimpleNamespace

import pytest

from nuage_lab.vsd.model import load_model
from tests.support.vsd_objects import eventually

pytest.importorskip("vspk", reason="vspk is not installed (tests/requirements.txt)")
with warnings.catch_warnings():  # of what it imports
    warnings.simplefilter("ignore")
    from bambou.exceptions import BambouHTTPError
    from vspk import v6 as sdk

# The SDK never verifies a certificate, and says so on every call.
pytestmark = pytest.mark.filterwarnings("ignore")
_MODEL = load_model()
_KINDS = {
    kind.rest_name: kind
    for kind in vars(sdk).values()
    if isinstance(getattr(kind, "rest_name", None), str)
}
_MACS = (f"02:5d:00:00:{number >> 8:02x}:{number & 255:02x}" for number in itertools.count(1))


def session(vsd, user="csproot", password="csproot", enterprise="csp"):
    return sdk.NUVSDSession(
        username=user, password=password, enterprise=enterprise, api_url=vsd.url
    )


@pytest.fixture
def me(vsd, monkeypatch):
    """The root object of a session of csproot."""
    monkeypatch.setenv("NO_PROXY", "*")
    return session(vsd).start().user


@pytest.fixture
def tree(me):
    """An enterprise of the SDK's own making, down to a subnet, an L2 domain, policy groups and a
    user.
    """
    made = SimpleNamespace(me=me)
    made.enterprise = sdk.NUEnterprise(name="SDK Corp")
    me.create_child(made.enterprise)
    made.template = sdk.NUDomainTemplate(name="T")
    made.enterprise.create_child(made.template)
    made.domain = sdk.NUDomain(name="D", template_id=made.template.id)
    made.enterprise.create_child(made.domain)
    made.zone = sdk.NUZone(name="Z")
    made.domain.create_child(made.zone)
    made.subnet = sdk.NUSubnet(
        name="S", address="10.1.0.0", netmask="255.255.255.0", gateway="10.1.0.1"
    )
    made.zone.create_child(made.subnet)
    made.l2template = sdk.NUL2DomainTemplate(
        name="L2T", dhcp_managed=True, address="10.2.0.0", netmask="255.255.255.0"
    )
    made.enterprise.create_child(made.l2template)
    made.l2domain = sdk.NUL2Domain(name="L2D")
    made.enterprise.instantiate_child(made.l2domain, made.l2template)
    made.web, made.db = (sdk.NUPolicyGroup(name=name, type="SOFTWARE") for name in ("Web", "DB"))
    made.domain.create_child(made.web)
    made.domain.create_child(made.db)
    made.user = sdk.NUUser(
        user_name="ada", password="secret", first_name="Ada", last_name="L", email="ada@sdk.example"
    )
    made.enterprise.create_child(made.user)
    return made


def entry(network):
    return {"name": "eth0", "MAC": next(_MACS), "attachedNetworkID": network.id}


def container(tree, uuid, *networks):
    made = sdk.NUContainer(
        name="web", uuid=uuid, interfaces=[entry(network) for network in networks or (tree.subnet,)]
    )
    tree.me.create_child(made)
    return made


def refused(status, work, *arguments, **options):
    """Check that the SDK raises its own exception with a status; returns the parsed
    body, or None.
    """
    with pytest.raises(BambouHTTPError) as caught:
        work(*arguments, **options)
    response = caught.value.connection.response
    assert response.status_code == status, response.data
    return response.data


# -- log-in ---------------------------------------------------------------------------------------


def test_a_session_logs_in_and_gets_one_key_however_often(vsd, me):
    assert (me.user_name, me.enterprise_name, me.role) == ("csproot", "CSP", "CSPROOT")
    assert me.enterprise_id == "76046673-d0ea-4a67-b6af-2829952f0812" and me.password is None
    again = session(vsd).start().user
    assert len(me.api_key) == 36 and again.api_key == me.api_key and again.id == me.id


@pytest.mark.parametrize(
    "wrong", [{"password": "no"}, {"user": "nobody"}, {"enterprise": "nowhere"}]
)
def test_wrong_credentials_are_the_sdks_exception_with_401(vsd, me, wrong):
    assert refused(401, session(vsd, **wrong).start) is None
    session(vsd).start()  # the SDK keeps one current session for the process


def test_a_user_that_the_sdk_makes_can_log_in_and_sees_its_enterprise_alone(vsd, tree):
    assert tree.user.password is None and tree.user.user_name == "ada"
    own = session(vsd, "ada", "secret", "SDK Corp").start().user
    assert [one.name for one in own.enterprises.get()] == ["SDK Corp"]
    assert own.containers.get() == []
    refused(404, sdk.NUSubnet(id=own.id).fetch)
    refused(403, sdk.NUZone(id=tree.zone.id).delete)
    session(vsd).start()
    assert sdk.NUZone(id=tree.zone.id).fetch()[0].name == "Z"


def test_a_session_may_act_for_a_user(vsd, tree):
    acting = session(vsd)
    acting.impersonate("ada", "SDK Corp")
    root = acting.start().user
    made = sdk.NUContainer(name="hers", uuid="u-ada", interfaces=[entry(tree.subnet)])
    root.create_child(made)
    assert (made.user_name, made.user_id) == ("ada", tree.user.id)
    assert [one.id for one in tree.user.containers.get()] == [made.id]
    acting.stop_impersonate()
    assert not acting.is_impersonating


# -- the tree -------------------------------------------------------------------------------------


def test_what_the_sdk_makes_comes_back_complete(tree):
    assert tree.enterprise.customer_id >= 10000 and tree.enterprise.enterprise_type == "NORMAL"
    assert (tree.domain.parent_id, tree.domain.parent_type) == (tree.enterprise.id, "enterprise")
    assert tree.domain.template_id == tree.template.id and tree.domain.tunnel_type == "DC_DEFAULT"
    assert (tree.subnet.parent_type, tree.subnet.parent_id, tree.subnet.entity_scope) == (
        "zone",
        tree.zone.id,
        "ENTERPRISE",
    )
    assert 0 < tree.subnet.vn_id < 2**24 and tree.subnet.gateway_mac_address.startswith(
        "68:54:ED:00:"
    )
    assert tree.subnet.route_target.startswith("65534:") and tree.subnet.creation_date > 10**12
    assert (tree.l2domain.dhcp_managed, tree.l2domain.address, tree.l2domain.gateway) == (
        True,
        "10.2.0.0",
        "10.2.0.1",
    )
    assert tree.web.policy_group_id >= 65536 and tree.web.owner == tree.me.id


def test_fetched_objects_are_those_that_were_made(tree):
    for made in (
        tree.enterprise,
        tree.template,
        tree.domain,
        tree.zone,
        tree.subnet,
        tree.l2template,
        tree.l2domain,
        tree.web,
        tree.user,
    ):
        found = type(made)(id=made.id)
        found.fetch()
        assert found.rest_equals(made), made.rest_name


@pytest.mark.parametrize(
    "name", ["enterprise", "template", "domain", "zone", "subnet", "l2template", "l2domain", "web"]
)
def test_a_changed_object_is_saved_whole_and_saving_it_again_is_2039(tree, name):
    made = getattr(tree, name)
    made.description = "described by the SDK"
    made.save()
    found = type(made)(id=made.id)
    found.fetch()
    assert (
        found.description == "described by the SDK"
        and found.last_updated_date >= found.creation_date
    )
    assert refused(409, made.save)["internalErrorCode"] == 2039


def test_a_user_is_saved_without_its_password_and_with_a_new_one(vsd, tree):
    tree.user.last_name = "Lovelace"
    tree.user.save()
    assert session(vsd, "ada", "secret", "SDK Corp").start().user.last_name == "Lovelace"
    session(vsd).start()
    tree.user.password = "other"
    tree.user.save()
    assert refused(401, session(vsd, "ada", "secret", "SDK Corp").start) is None
    assert session(vsd, "ada", "other", "SDK Corp").start().user.user_name == "ada"
    session(vsd).start()


def test_deletion_goes_from_below_and_what_is_gone_is_404(tree):
    for made in (
        tree.user,
        tree.web,
        tree.db,
        tree.subnet,
        tree.zone,
        tree.domain,
        tree.template,
        tree.l2domain,
        tree.l2template,
        tree.enterprise,
    ):
        made.delete()
        assert refused(404, made.fetch)["title"] == f"{made.rest_name} not found"
    assert tree.me.enterprises.get_first(filter='name == "SDK Corp"') is None


# -- fetchers -------------------------------------------------------------------------------------


@pytest.fixture
def zones(tree):
    """Twelve more zones; returns the domain."""
    for number in range(12):
        tree.domain.create_child(
            sdk.NUZone(
                name=f"Zone {number:02}", encryption="ENABLED" if number % 3 else "INHERITED"
            )
        )
    return tree.domain


def test_a_fetcher_filters(zones):
    assert [one.name for one in zones.zones.get(filter='name == "Zone 03"')] == ["Zone 03"]
    assert {one.name for one in zones.zones.get(filter="name BEGINSWITH 'Zone 1'")} == {
        "Zone 10",
        "Zone 11",
    }
    assert (
        zones.zones.get(filter='name == "none"') == []
        and zones.zones.get_first(filter='name == "none"') is None
    )
    assert zones.zones.get_first(filter='encryption == "ENABLED"').encryption == "ENABLED"
    body = refused(400, zones.zones.get, filter='colour == "red"')
    assert body["errors"][0]["property"] == "colour"


def test_a_fetcher_orders_and_remembers_the_order(zones):
    names = [
        one.name for one in zones.zones.get(filter="name BEGINSWITH 'Zone'", order_by="name DESC")
    ]
    assert names == [f"Zone {number:02}" for number in range(11, -1, -1)]
    assert zones.zones.current_ordered_by == "name DESC"
    assert (
        zones.zones.get()[0].name == "BackHaulZone" and zones.zones.current_ordered_by == "name ASC"
    )


def test_a_fetcher_pages(zones):
    pages = [zones.zones.get(page=number, page_size=5) for number in range(4)]
    assert [len(page) for page in pages] == [5, 5, 4, 0]
    assert len({one.id for page in pages for one in page}) == 14 == zones.zones.current_total_count
    assert zones.zones.current_page == 3
    zones.zones.get(filter='name == "Z"')
    assert zones.zones.current_page == -1


def test_a_fetcher_groups(zones):
    rows = zones.zones.get(group_by=["encryption"], commit=False)
    assert sorted(one.encryption for one in rows) == ["ENABLED", "INHERITED"]
    rows = zones.zones.get(group_by=["encryption", "publicZone"], order_by="name ASC", commit=False)
    assert [(one.encryption, one.public_zone) for one in rows] == [
        ("INHERITED", False),
        ("ENABLED", False),
    ]
    assert refused(400, zones.zones.get, group_by=["colour"])["errors"][0]["property"] == "colour"


def test_a_fetcher_counts_without_reading(zones):
    fetcher, parent, number = zones.zones.count()
    assert (number, parent.id) == (14, zones.id) and "BackHaulZone" not in [
        one.name for one in fetcher
    ]
    assert zones.zones.get_count(filter='encryption == "ENABLED"') == 8
    assert zones.zones.get_count(filter='name == "none"') == 0
    assert zones.zones.get_count(group_by=["encryption"]) == 2
    gone = sdk.NUDomain(id=zones.parent_id)
    refused(404, gone.zones.count)


def test_a_fetcher_keeps_what_it_fetched_in_step_with_the_vsd(zones):
    zones.zones.fetch()
    before = len(zones.zones)
    zones.zones[3].delete()
    zones.zones.fetch()
    assert len(zones.zones) == before - 1


@pytest.mark.parametrize(
    "name",
    [
        "me",
        "enterprise",
        "template",
        "domain",
        "zone",
        "subnet",
        "l2template",
        "l2domain",
        "web",
        "user",
    ],
)
def test_every_list_of_the_sdk_whose_kind_the_simulator_has_can_be_read(tree, name):
    parent = getattr(tree, name)
    rest_names = set(parent.children_rest_names) & set(_MODEL.by_rest_name)
    assert len(rest_names) >= 3
    for rest_name in rest_names:
        fetcher = parent.fetcher_for_rest_name(rest_name)
        assert len(fetcher.get()) == fetcher.get_count(), (name, rest_name)


# -- ports and containers -------------------------------------------------------------------------


def test_a_container_gets_its_interfaces_addresses_and_vports(tree):
    made = container(tree, "c1", tree.subnet, tree.l2domain)
    first, second = made.interfaces
    assert (made.status, made.hypervisor_ip, made.user_name, made.enterprise_name) == (
        "INIT",
        "FFFFFF",
        "csproot",
        "SDK Corp",
    )
    assert (first["IPAddress"], first["gateway"], first["attachedNetworkType"]) == (
        "10.1.0.2",
        "10.1.0.1",
        "SUBNET",
    )
    assert (
        second["IPAddress"].startswith("10.2.0.")
        and second["attachedNetworkType"] == "L2DOMAIN"
        and second["zoneID"] is None
    )
    assert (made.subnet_ids, made.l2_domain_ids, made.zone_ids) == (
        [tree.subnet.id],
        [tree.l2domain.id],
        [tree.zone.id],
    )
    ports = made.container_interfaces.get(order_by="IPAddress ASC")
    assert [one.ip_address for one in ports] == ["10.1.0.2", second["IPAddress"]] and ports[
        0
    ].container_uuid == "c1"
    vport = sdk.NUVPort(id=ports[0].vport_id)
    vport.fetch()
    assert (vport.type, vport.name, vport.zone_id, vport.active) == (
        "CONTAINER",
        vport.id,
        tree.zone.id,
        False,
    )
    assert [one.uuid for one in tree.domain.containers.get(filter='UUID == "c1"')] == ["c1"]
    assert tree.subnet.vports.get_count() == 1 == tree.subnet.container_interfaces.get_count()


def test_a_container_is_renamed_by_saving_the_whole_object(tree):
    made = container(tree, "c1")
    made.name, made.uuid, made.orchestration_id = "shop", "d1", "task-1"
    made.save()
    found = sdk.NUContainer(id=made.id)
    found.fetch()
    assert (found.name, found.uuid, found.orchestration_id) == ("shop", "d1", "task-1")
    assert found.interfaces[0]["containerUUID"] == "d1" and found.resync_info["status"] == "SUCCESS"


def test_an_interface_is_added_changed_and_removed(tree):
    made = container(tree, "c1")
    added = sdk.NUContainerInterface(
        name="eth1", mac=next(_MACS), attached_network_id=tree.l2domain.id
    )
    made.create_child(added)
    assert added.ip_address.startswith("10.2.0.") and added.container_uuid == "c1"
    added.endpoint_id, added.ip_address = "e1", "10.2.0.99"
    added.save()
    added.fetch()
    assert (added.endpoint_id, added.ip_address) == ("e1", "10.2.0.99")
    added.attached_network_id = tree.subnet.id
    assert refused(409, added.save)["internalErrorCode"] == 2747
    added.delete()
    assert made.container_interfaces.get_count() == 1 and tree.l2domain.vports.get() == []


def test_a_vport_of_ones_own_outlives_its_container(tree):
    vport = sdk.NUVPort(name="my port", type="CONTAINER", address_spoofing="INHERITED")
    tree.subnet.create_child(vport)
    assert (vport.domain_id, vport.operational_state, vport.has_attached_interfaces) == (
        tree.domain.id,
        "INIT",
        False,
    )
    made = sdk.NUContainer(
        name="web", uuid="c1", interfaces=[{"MAC": next(_MACS), "VPortID": vport.id}]
    )
    tree.me.create_child(made)
    assert made.interfaces[0]["VPortName"] == "my port"
    assert refused(409, vport.delete)["internalErrorCode"] == 7010
    made.delete()
    vport.delete()
    assert tree.subnet.vports.get_count() == 0


def test_policy_groups_are_assigned_as_a_whole(tree):
    vport = sdk.NUVPort(id=container(tree, "c1").interfaces[0]["VPortID"])
    vport.assign([tree.web, tree.db], sdk.NUPolicyGroup)
    assert {one.name for one in vport.policy_groups.get()} == {"Web", "DB"}
    vport.assign([tree.db], sdk.NUPolicyGroup)
    assert [one.name for one in vport.policy_groups.get()] == [
        "DB"
    ] and tree.web.vports.get_count() == 0
    assert refused(409, tree.db.delete)["internalErrorCode"] == 7097
    foreign = sdk.NUPolicyGroup(name="foreign", type="SOFTWARE")
    tree.l2domain.create_child(foreign)
    assert refused(409, vport.assign, [foreign], sdk.NUPolicyGroup)["internalErrorCode"] == 7309
    vport.assign([], sdk.NUPolicyGroup)
    assert vport.policy_groups.get() == []


def test_users_are_assigned_to_a_group(vsd, tree):
    group = tree.enterprise.groups.get_first(filter='role == "CMS"')
    group.assign([tree.user], sdk.NUUser)
    assert [one.user_name for one in group.users.get()] == ["ada"]
    assert session(vsd, "ada", "secret", "SDK Corp").start().user.role == "CMS"
    session(vsd).start()


def test_a_confirmation_is_answered_by_the_sdk_itself(vsd, tree):
    vsd.admin("POST", "/config", {"demand_confirmation": True})
    tree.web.description = "confirmed"
    tree.web.save()  # without a choice: the SDK is asked, and repeats
    found = sdk.NUPolicyGroup(id=tree.web.id)
    found.fetch()
    assert found.description == "confirmed"


def test_objects_are_made_changed_and_deleted_in_bulk(tree):
    wanted = [sdk.NUZone(name=name) for name in ("A", "B", "Z")]
    _, _, counts, errors = tree.domain.create_children(wanted)
    assert counts == {"success": 2, "failure": 1, "total": 3}
    assert [(one["index"], one["status"], one["error"]["internalErrorCode"]) for one in errors] == [
        (2, 409, 2510)
    ]
    made = [one for one in wanted if one.id]
    assert tree.domain.zones.get_count(filter="name == 'A' or name == 'B'") == 2 == len(made)
    for zone in made:
        zone.description = "bulk"
    assert tree.me.bulk_save(made)[2]["failure"] == 0
    assert tree.domain.zones.get_count(filter='description == "bulk"') == 2
    assert tree.me.bulk_delete(made)[3] is None
    assert tree.domain.zones.get_count(filter='description == "bulk"') == 0


# -- what else the SDK has ------------------------------------------------------------------------


def test_notes_options_reservations_and_permissions_have_the_sdks_shape(tree):
    note = sdk.NUMetadata(name="note", blob="opaque")
    tree.subnet.create_child(note)
    assert (note.assoc_entity_type, note.assoc_entity_id) == ("subnet", tree.subnet.id)
    option = sdk.NUDHCPOption(actual_type=6, actual_values=["10.1.0.53"])
    tree.subnet.create_child(option)
    assert (option.type, option.length, option.value) == ("06", "04", "0a010035")
    kept = sdk.NUIPReservation(mac=next(_MACS), ip_address="10.1.0.50")
    tree.subnet.create_child(kept)
    assert kept.dynamic_allocation_enabled is True
    later = sdk.NUVMIPReservation(ip_type="IPV4", ipv4_address="10.1.0.60")
    tree.subnet.create_child(later)
    assert later.state == "UNASSIGNED"
    span = sdk.NUAddressRange(min_address="10.1.0.100", max_address="10.1.0.110")
    tree.subnet.create_child(span)
    assert container(tree, "c1").interfaces[0]["IPAddress"] == "10.1.0.100"
    group = tree.enterprise.groups.get_first(filter='role == "CMS"')
    allowed = sdk.NUPermission(permitted_entity_id=group.id, permitted_action="READ")
    tree.zone.create_child(allowed)
    assert (allowed.permitted_entity_name, allowed.permitted_entity_type) == (group.name, "group")
    for made in (note, option, kept, later, span, allowed):
        made.delete()
        refused(404, made.fetch)


def test_a_resync_is_asked_for_and_the_second_is_2715(tree):
    made, asked = container(tree, "c1"), sdk.NUContainerResync()
    made.create_child(asked)
    assert asked.status == "IN_PROGRESS" and asked.last_request_timestamp > 10**12
    assert refused(409, made.create_child, sdk.NUContainerResync())["internalErrorCode"] == 2715


def test_statistics_and_event_logs_can_be_read(tree):
    now = int(time.time())
    query = {
        "startTime": now - 600,
        "endTime": now,
        "numberOfDataPoints": 10,
        "metricTypes": "BYTES_IN,BYTES_OUT",
    }
    found = tree.subnet.statistics.get_first(query_parameters=query)
    assert (found.number_of_data_points, found.stats_data) == (
        10,
        {"BYTES_IN": [0] * 10, "BYTES_OUT": [0] * 10},
    )
    logs = tree.zone.event_logs.get(filter='type == "CREATE" and entityType == "subnet"')
    assert [one.entity_id for one in logs] == [tree.subnet.id] and logs[0].user == "csproot"


def test_the_push_centre_tells_of_what_happens(vsd, tree):
    vsd.admin("POST", "/config", {"event_timeout_s": 0.3})
    current = session(vsd)
    current.start()
    centre, told, numbers = current.push_center, [], itertools.count()
    centre.start()
    try:

        def heard():
            container(tree, f"pushed-{next(numbers)}")
            told.extend(centre.get_last_events())
            return {("CREATE", "container"), ("CREATE", "vport")} <= {
                (one["type"], one["entityType"]) for one in told
            }

        assert eventually(heard)
    finally:
        centre.stop()
    event = next(one for one in told if one["entityType"] == "container")
    assert event["entities"][0]["UUID"].startswith("pushed-") and event["userName"] == "csproot"
    assert event["enterpriseName"] == "csp" and event["assoicatedEvent"] is False
    assert centre.nb_events_received == len(told) or centre.get_last_events() != []


# -- refusals -------------------------------------------------------------------------------------


def test_refusals_are_the_sdks_exceptions_with_the_vsds_codes(tree):
    made = container(tree, "c1")
    again = sdk.NUContainer(name="x", uuid="c1", interfaces=[entry(tree.subnet)])
    assert refused(409, tree.me.create_child, again)["internalErrorCode"] == 2748
    taken = sdk.NUContainer(
        name="x",
        uuid="c2",
        interfaces=[{**entry(tree.subnet), "IPAddress": made.interfaces[0]["IPAddress"]}],
    )
    assert refused(409, tree.me.create_child, taken)["internalErrorCode"] == 2704
    assert (
        refused(
            409,
            tree.zone.create_child,
            sdk.NUSubnet(name="S", address="10.9.0.0", netmask="255.255.255.0"),
        )["internalErrorCode"]
        == 2505
    )
    assert (
        refused(409, tree.domain.create_child, sdk.NUPolicyGroup(name="Web", type="SOFTWARE"))[
            "internalErrorCode"
        ]
        == 9501
    )
    assert (
        refused(409, tree.enterprise.create_child, sdk.NUDomain(name="D2"))["errors"][0]["property"]
        == "templateID"
    )
    for busy in (tree.subnet, tree.zone, tree.domain, tree.enterprise):
        assert refused(409, busy.delete)["internalErrorCode"] == 2506
    body = refused(
        409,
        tree.subnet.create_child,
        sdk.NUVPort(name="bad_name", type="CONTAINER", address_spoofing="INHERITED"),
    )
    assert (
        body["errors"][0]["property"] == "name"
        and body["errors"][0]["descriptions"][0]["title"] == "Invalid input"
    )
    with pytest.raises(BambouHTTPError, match=r"\[HTTP 409"):
        tree.me.create_child(again)


def test_an_object_that_the_sdk_holds_invalid_is_refused_by_the_simulator_too(tree):
    for parent, bad in (
        (tree.zone, sdk.NUSubnet(name="")),
        (tree.subnet, sdk.NUIPReservation(ip_address="10.1.0.9")),
        (tree.domain, sdk.NUPolicyGroup(name="g", type="SOFT")),
        (tree.enterprise, sdk.NUUser(user_name="x")),
    ):
        assert not bad.validate()
        body = refused(409, parent.create_child, bad)
        assert body["errors"][0]["property"] in {
            error["remote_name"] for error in bad.errors.values()
        }


@pytest.mark.parametrize(
    "rest_name", sorted(set(_MODEL.by_rest_name) - {"me", "statistics", "eventlog"})
)
def test_the_model_knows_every_attribute_and_every_choice_of_the_sdk(rest_name):
    resource, kind = _MODEL.by_rest_name[rest_name], _KINDS[rest_name]
    assert kind.resource_name == resource.name
    for attribute in kind().get_attributes():
        field = resource.fields[attribute.remote_name]
        assert set(attribute.choices or ()) <= set(field.choices), attribute.remote_name
        assert (
            field.is_required
            or not attribute.is_required
            or (rest_name, field.name) == ("permission", "permittedEntityID")
        )
