"""Owns DHCP options: their hexadecimal form and their decoded form follow from each other (vsd §9).

Same hooks as rules.py. Never decides which option wins; the reader does.
"""

import ipaddress

from .errors import conflict, invalid
from .rules import Rules

_ADDRESSES = {4: {1, 3, 4, 5, 6, 9, 28, 41, 42, 44, 65, 69, 70, 150}, 6: {12, 22, 23, 27, 28, 31}}
_NUMBERS = {4: {2: 4, 13: 2, 22: 2, 23: 1, 26: 2, 51: 4, 58: 4, 59: 4}, 6: {7: 1, 32: 4}}


class DhcpOptionRules(Rules):
    """Options of IPv4; `version` and `digits` differ for those of IPv6."""

    version = 4
    digits = 2

    def complete(self, rest_name, parent, values, caller):
        """Refuse one option too many for its object, and fill in both forms of the new one."""
        super().complete(rest_name, parent, values, caller)
        limit = self.simulator.settings.dhcp_options
        present = [one for one in self.store.within(rest_name, parent.id) if one.parent is parent]
        if len(present) >= limit:
            raise conflict("Too many DHCP options", f"There are {limit} DHCP options already.")
        self._fill(values, values)

    def check_change(self, entity, changes, caller):
        """Fill in the form of the option that the client did not send."""
        super().check_change(entity, changes, caller)
        given = {
            name for name in ("actualType", "actualValues", "type", "value") if name in changes
        }
        if given:
            merged = {**entity.values, **changes}
            if "actualValues" in given or ("actualType" in given and "value" not in given):
                merged.update(type=None, value=None, length=None)
            self._fill(merged, changes)

    def _fill(self, values, target):
        """Put both forms of the option that `values` describes into `target`."""
        if values.get("type"):
            kind = int.from_bytes(self._hex("type", values["type"]), "big")
            data = self._hex("value", values.get("value") or "")
            if values.get("length"):
                length = int.from_bytes(self._hex("length", values["length"]), "big")
                if length != len(data):
                    raise invalid("length", f"The value has {len(data)} bytes.")
            decoded = self._decode(kind, data)
        elif values.get("actualType") is not None:
            kind, decoded = values["actualType"], values.get("actualValues") or []
            data = self._encode(kind, decoded)
        else:
            raise invalid("type", "This value is mandatory.")
        if not 0 < kind < 16**self.digits:
            raise invalid("type", f"{kind} is not the number of a DHCP option.")
        given = "value" if values.get("type") else "actualValues"
        if not data and (kind in _ADDRESSES[self.version] or kind in _NUMBERS[self.version]):
            raise invalid(given, f"Option {kind} needs a value.")
        if len(data) >= 16**self.digits:
            most = 16**self.digits - 1
            raise invalid(given, f"An option has at most {most} bytes, not {len(data)}.")
        target.update(
            type=f"{kind:0{self.digits}x}",
            length=f"{len(data):0{self.digits}x}",
            value=data.hex(),
            actualType=kind,
            actualValues=decoded,
        )

    def _decode(self, kind, data):
        width = 4 if self.version == 4 else 16
        if kind in _ADDRESSES[self.version] and len(data) % width == 0:
            return [
                str(ipaddress.ip_address(data[at : at + width]))
                for at in range(0, len(data), width)
            ]
        if kind in _NUMBERS[self.version]:
            return [str(int.from_bytes(data, "big"))]
        return [data.decode("utf-8", "replace")] if data else []

    def _encode(self, kind, values):
        try:
            if kind in _ADDRESSES[self.version]:
                kinds = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}
                return b"".join(kinds[self.version](value).packed for value in values)
            if kind in _NUMBERS[self.version]:
                return b"".join(
                    int(value).to_bytes(_NUMBERS[self.version][kind], "big") for value in values
                )
        except (ValueError, OverflowError) as problem:
            raise invalid(
                "actualValues", f"{values} does not fit option {kind}: {problem}"
            ) from problem
        return ",".join(values).encode()

    @staticmethod
    def _hex(name, text):
        try:
            return bytes.fromhex(text)
        except ValueError as problem:
            raise invalid(name, f"{text!r} is not hexadecimal.") from problem


class DhcpV6OptionRules(DhcpOptionRules):
    """Options of IPv6."""

    version = 6
    digits = 4
