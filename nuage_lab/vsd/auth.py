"""Owns who calls: organisations, passwords, API keys, roles, acting for another user (vsd §2).

Never shows a password or a key, except the caller's own key in the reply to GET /me.
"""

import base64
import binascii
import hmac
import time
import uuid as uuids
from dataclasses import dataclass, replace

from .errors import ApiError, Unauthorized, conflict

CSP_ID = "76046673-d0ea-4a67-b6af-2829952f0812"
_WRITING_ROLES = frozenset(("CSPROOT", "CMS", "ORGADMIN", "ORGNETWORKDESIGNER"))


@dataclass(frozen=True)
class Caller:
    """The user behind one request; `owner_*` differs from `user_*` if it acts for another one."""

    user_id: str | None
    user_name: str
    enterprise_id: str | None
    enterprise_name: str
    roles: frozenset
    owner_id: str | None
    owner_name: str
    request_id: str = ""

    @property
    def is_root(self):
        """True for the users of the service provider, who see every enterprise."""
        return self.enterprise_id == CSP_ID

    @property
    def may_write(self):
        """True if some role of the user allows changes."""
        return not self.roles.isdisjoint(_WRITING_ROLES)

    @property
    def may_grant(self):
        """True for administrators: they decide who has which role."""
        return not self.roles.isdisjoint(("CSPROOT", "ORGADMIN"))

    @property
    def may_create_containers(self):
        """True for root and for users with the CMS role (vsd §2.4)."""
        return not self.roles.isdisjoint(("CSPROOT", "CMS"))

    def sees(self, enterprise_id):
        """Return whether objects of an enterprise are visible to the user."""
        return self.is_root or enterprise_id == self.enterprise_id


SYSTEM = Caller(None, "system", CSP_ID, "CSP", frozenset(("CSPROOT",)), None, "system")


class Authority:
    """Checks credentials and issues API keys."""

    def __init__(self, store, settings):
        self._store = store
        self._settings = settings
        self._enterprise_ids = {}

    def authenticate(self, authorization, organization, proxy_user=None):
        """Return the Caller for the headers of a request.

        Raises Unauthorized, or ApiError 403 for a bad proxy user.
        """
        user_name, secret = _decode(authorization)
        enterprise = self._enterprise(organization or "")
        user = self._user(enterprise, user_name) if enterprise else None
        if user is None or not self._accepts(user, secret):
            raise Unauthorized()
        caller = self._caller(user, enterprise)
        return self._acting_for(caller, proxy_user) if proxy_user else caller

    def authenticate_certificate(self, user_name, organization, proxy_user=None):
        """Return the Caller for the subject of a client certificate (vsd §2.5).

        The organisation is optional. Raises as `authenticate` does.
        """
        wanted = self._enterprise(organization) if organization else None
        for user in self._store.find_by("user", "userName", user_name):
            is_allowed = not (user.values["disabled"] or user.values["disableCertificateAuth"])
            if is_allowed and (not organization or user.parent is wanted):
                caller = self._caller(user, user.parent)
                return self._acting_for(caller, proxy_user) if proxy_user else caller
        raise Unauthorized()

    def me(self, caller):
        """Return the body of GET /me, with a key that is valid now (vsd §2.1, §2.3)."""
        user = self._store.get("user", caller.user_id)
        key, expires_s = self._current_key(user.secret)
        values = user.values
        return {
            "firstName": values["firstName"],
            "lastName": values["lastName"],
            "userName": values["userName"],
            "email": values["email"],
            "mobileNumber": values["mobileNumber"],
            "password": None,
            "role": _main_role(caller.roles),
            "enterpriseName": caller.enterprise_name,
            "enterpriseID": caller.enterprise_id,
            "avatarType": None,
            "avatarData": None,
            "licenseCapabilities": ["ENCRYPTION_ENABLED"],
            "statisticsEnabled": False,
            "statsTSDBServerAddress": "localhost:4242",
            "flowCollectionEnabled": False,
            "VSSStatsInterval": 30,
            "AARFlowStatsInterval": 30,
            "AARProbeStatsInterval": 30,
            "entityScope": None,
            "externalId": None,
            "externalID": values["externalID"],
            "ID": user.id,
            "APIKey": key,
            "APIKeyExpiry": int(expires_s * 1000),
        }

    def expire_keys(self):
        """Make every key invalid at once."""
        for user in self._store.all("user"):
            user.secret["keys"] = []

    def _current_key(self, secret):
        now = time.time()
        secret["keys"] = [(key, expires) for key, expires in secret["keys"] if expires > now]
        validity_s = self._settings.key_validity_s
        window_s = min(self._settings.key_renewal_s, validity_s / 2)
        if secret["keys"] and secret["keys"][-1][1] - now > window_s:
            return secret["keys"][-1]
        secret["keys"].append((str(uuids.uuid4()), now + validity_s))
        return secret["keys"][-1]

    def _accepts(self, user, presented):
        values, secret = user.values, user.secret
        limit = self._settings.max_failed_logins
        if values["disabled"] or (limit and secret["failures"] >= limit):
            return False
        now = time.time()
        is_key = any(
            hmac.compare_digest(key.encode(), presented)
            for key, expires in secret["keys"]
            if expires > now
        )
        is_password = not values["disablePasswordAuth"] and hmac.compare_digest(
            secret["password"].encode(), presented
        )
        if is_key or is_password:
            secret["failures"] = 0
            return True
        secret["failures"] += 1
        return False

    def _enterprise(self, name):
        wanted = name.strip().lower()
        known = self._store.find("enterprise", self._enterprise_ids.get(wanted))
        if known is not None and known.values["name"].lower() == wanted:
            return known
        for enterprise in self._store.all("enterprise"):
            if enterprise.values["name"].lower() == wanted:
                self._enterprise_ids[wanted] = enterprise.id
                return enterprise
        return None

    def _user(self, enterprise, user_name):
        for user in self._store.find_by("user", "userName", user_name):
            if user.parent is enterprise:
                return user
        return None

    def _caller(self, user, enterprise):
        roles = frozenset(group.values["role"] for group in self._store.within("group", user.id))
        name = user.values["userName"]
        return Caller(
            user_id=user.id,
            user_name=name,
            enterprise_id=enterprise.id,
            enterprise_name=enterprise.values["name"],
            roles=roles,
            owner_id=user.id,
            owner_name=name,
            request_id=str(uuids.uuid4()),
        )

    def _acting_for(self, caller, proxy_user):
        if not caller.may_create_containers:
            raise ApiError(403, "Permission denied", "Acting for another user needs the CMS role.")
        left, _, right = proxy_user.partition("@")
        for name, organization in ((left, right), (right, left)):
            enterprise = self._enterprise(organization) if organization else None
            if enterprise is None or not caller.sees(enterprise.id):
                continue
            user = self._user(enterprise, name)
            if user is not None:
                return replace(caller, owner_id=user.id, owner_name=user.values["userName"])
        raise ApiError(403, "Permission denied", f"The proxy user {proxy_user} is not known.")


def new_secret(password):
    """Return what a user object keeps out of sight; raises the 409 for a password of `*`."""
    if password == "*":
        raise conflict("Invalid input", "This password is not allowed.", "password")
    return {"password": password, "keys": [], "failures": 0}


def _main_role(roles):
    for role in ("CSPROOT", "CMS", "ORGADMIN", "ORGNETWORKDESIGNER"):
        if role in roles:
            return role
    return next(iter(sorted(roles)), "USER")


def _decode(authorization):
    scheme, _, coded = (authorization or "").strip().partition(" ")
    if scheme.upper() not in ("XREST", "BASIC"):
        raise Unauthorized()
    try:
        plain = base64.b64decode(coded.strip(), validate=True)
        user_name, separator, secret = plain.partition(b":")
        name = user_name.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as problem:
        raise Unauthorized() from problem
    if not separator:
        raise Unauthorized()
    return name, secret
