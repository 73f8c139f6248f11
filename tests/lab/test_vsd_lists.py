"""Lists of the VSD simulator (vsd §5, §6): filters, order, pages, groups, counts, bulk."""

import uuid

import pytest

# -- filters, order, pages ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, names",
    [
        ('name == "Tiny"', ["Tiny"]),
        ("name == 'Tiny'", ["Tiny"]),
        ("name=Tiny", ["Tiny"]),
        ("name IS Tiny", ["Tiny"]),
        ("name is \"Tiny\" or name == 'Big'", ["Big", "Tiny"]),
        ('name == "Tiny" || name == "Big"', ["Big", "Tiny"]),
        ('name BEGINSWITH "Subnet" AND address == "10.21.61.0"', ["Subnet 3"]),
        ('name BEGINSWITH "Subnet" && address == "10.21.61.0"', ["Subnet 3"]),
        ('name ENDSWITH "_MARKED_FOR_DELETION"', ["Old_MARKED_FOR_DELETION"]),
        ('name CONTAINS "MARKED"', ["Old_MARKED_FOR_DELETION"]),
        ('name LIKE "T?n*"', ["Tiny"]),
        ('name MATCHES "T.*y"', ["Tiny"]),
        ('name == "tiny"', []),
        (
            (
                'NOT (name CONTAINS "ub") AND not name == '
                '"Old_MARKED_FOR_DELETION" and ! name == "Dual"'
            ),
            ["Big", "Tiny"],
        ),
        ('name == "Tiny" or name == "Big" and address == "10.0.0.0"', ["Tiny"]),
        ('(name == "Tiny" or name == "Big") and address == "10.0.0.0"', []),
        ("IPv6Address != null and name ISNOT BackHaulSubnet", ["Dual"]),
        ("address IS null", ["BackHaulSubnet"]),
        ("enableDHCPv6 == true", []),
        ('IPType == "DUALSTACK"', ["Dual"]),
        ('name >= "Subnet 3" and name < "U"', ["Subnet 3", "Tiny"]),
    ],
)
def test_the_filter_grammar_selects_subnets(root, seed, text, names):
    status, headers, body = root.get(f"/domains/{seed.domain()['ID']}/subnets", filter=text)
    assert status == 200 and [one["name"] for one in body or []] == names
    assert (
        headers["X-Nuage-Count"] == str(len(names)) and headers["X-Nuage-FilterType"] == "predicate"
    )


@pytest.mark.parametrize(
    "text",
    ["name ==", '== "x"', 'name "x"', '(name == "x"', 'name == "x" garbage', 'name == "x', "((("],
)
def test_a_filter_that_cannot_be_parsed_is_a_400(root, text):
    status, _, body = root.get("/subnets", filter=text)
    assert status == 400 and "filter" in body["errors"][0]["descriptions"][0]["description"]


def test_a_filter_on_an_unknown_or_unfilterable_attribute_is_a_400_that_names_it(vsd, root):
    for path, name in (("/users", "name"), ("/subnets", "vnId"), ("/subnets", "Name")):
        status, _, body = root.get(path, filter=f'{name} == "x"')
        assert status == 400 and body["errors"][0]["property"] == name
    vsd.admin("POST", "/config", {"lenient_filter": True})
    assert root.get("/users", filter='name == "x"')[::2] == (200, None)


def test_a_plain_filter_looks_into_every_text(root):
    status, headers, body = root.get("/subnets", filter="10.40", X_Nuage_FilterType="plain")
    assert (status, headers["X-Nuage-FilterType"], [one["name"] for one in body]) == (
        200,
        "plain",
        ["Big"],
    )


def test_a_filter_on_one_object_is_echoed(root, seed):
    path = f"/subnets/{seed.subnet('Tiny')['ID']}"
    assert root.get(path, filter='name == "x"')[1]["X-Nuage-Filter"] == 'name == "x"'


def test_lists_are_ordered_as_asked(root, seed):
    path = f"/domains/{seed.domain()['ID']}/subnets"
    names = [one["name"] for one in root.get(path)[2]]
    assert names == sorted(names)
    _, headers, body = root.get(path, order="name DESC, creationDate ASC")
    assert [one["name"] for one in body] == names[::-1] and headers[
        "X-Nuage-OrderBy"
    ] == "name DESC, creationDate ASC"
    ids = [one["ID"] for one in root.get(path, order="ID ASC")[2]]
    assert ids == sorted(ids)
    assert root.get(path, order="nonsense ASC")[0] == 400


def test_pages_are_capped_and_an_unpaged_list_is_cut_while_the_count_is_whole(vsd, root, seed):
    path = f"/domains/{seed.domain()['ID']}/subnets"
    total = int(root.get(path)[1]["X-Nuage-Count"])
    vsd.admin("POST", "/config", {"page_max": 3})
    _, headers, body = root.get(path, page=0, page_size=1000)
    assert (
        len(body) == 3
        and headers["X-Nuage-PageSize"] == "3"
        and headers["X-Nuage-Count"] == str(total)
    )
    _, headers, body = root.get(path)
    assert len(body) == 3 < total == int(headers["X-Nuage-Count"])
    assert root.get(path, page=99, page_size=3)[::2] == (200, None)
    assert root.get(path, page="x")[0] == 400 and root.get(path, page=-1)[0] == 400


# -- collections: groups, counts, bulk (vsd §5, §6) -----------------------------------------------


def test_a_list_may_be_grouped_counted_and_paged(root, places):
    path = f"/domains/{places['domains']}/subnets"
    group = {"X-Nuage-GroupBy": "true", "X-Nuage-Attributes": "IPType, netmask"}
    status, headers, body = root.call("GET", path, None, group)
    assert status == 200 and headers["X-Nuage-Count"] == str(len(body))
    assert all(set(row) == {"IPType", "netmask"} for row in body) and len(
        {str(row) for row in body}
    ) == len(body)
    assert {"IPType": "DUALSTACK", "netmask": "255.255.255.0"} in body
    page = root.call("GET", path, None, {**group, "X-Nuage-Page": "1", "X-Nuage-PageSize": "2"})[2]
    assert page == body[2:4]
    for wrong in ({"X-Nuage-GroupBy": "true"}, {**group, "X-Nuage-Attributes": "colour"}):
        assert root.call("GET", path, None, wrong)[0] == 400


def test_a_head_has_the_headers_of_a_get_and_no_body(root, places):
    path = f"/domains/{places['domains']}/subnets"
    got, asked = root.get(path), root.call("HEAD", path, "null", {})
    assert asked[0] == 200 and asked[2] is None
    for name in ("X-Nuage-Count", "X-Nuage-OrderBy", "Content-Type"):
        assert asked[1][name] == got[1][name]
    assert root.call("HEAD", f"/subnets/{uuid.uuid4()}", None, {})[0] == 404
    assert root.call("HEAD", "/me", None, {})[0] == 200


def test_bulk_calls_have_limits_and_answer_item_by_item(root, places):
    path = f"/domains/{places['domains']}/zones"
    status, _, body = root.post(path, [{"name": "A"}, {"name": "A"}, {"name": 5}])
    assert status == 200 and [one["status"] for one in body["response"]] == [201, 409, 409]
    assert (
        body["response"][0]["data"]["name"] == "A"
        and body["response"][1]["data"]["internalErrorCode"] == 2510
    )
    assert body["responseMetadata"] == {"failure": 2, "success": 1, "total": 3}
    made = body["response"][0]["data"]["ID"]
    assert root.put("/zones", [{"ID": made, "description": "x"}])[2]["response"] == [
        {"status": 204, "data": None}
    ]
    assert (
        root.put("/zones", [{"ID": made, "description": "x"}, {"name": "none"}])[2][
            "responseMetadata"
        ]["failure"]
        == 2
    )
    assert root.delete(f"/zones?responseChoice=1&id={made}")[2]["responseMetadata"]["failure"] == 0
    for answer in (
        root.post(path, [5]),
        root.put("/zones", {"ID": made}),
        root.put("/zones", [{"ID": made}] * 501),
        root.delete("/zones"),
        root.delete("/zones?" + "&".join("id=x" for _ in range(151))),
    ):
        assert answer[0] == 400
    status, _, body = root.post(
        "/containers", [{"name": "a", "UUID": "a"}, {"name": "b", "UUID": "a"}]
    )
    assert [one["status"] for one in body["response"]] == [201, 409] and root.get(
        f"/containers/{body['response'][0]['data']['ID']}"
    )[0] == 200


def test_bulk_calls_do_not_reach_into_another_enterprise(vsd, root, places):
    other = vsd.client("admin", "admin", "Other Corp")
    body = other.put("/zones?responseChoice=1", [{"ID": places["zones"], "description": "x"}])[2]
    assert body["response"][0]["status"] == 404
    assert root.get(f"/zones/{places['zones']}")[2][0]["description"] is None
