"""The appliance, made to die: the product's own program, run so that every side effect is noted and
one of them may be its last.

    NUAGE_DIE=FILE NUAGE_EFFECTS=FILE python -m tests.faults.dying -config FILE

`NUAGE_DIE` names a file that holds `before:EFFECT.NUMBER` or `after:EFFECT.NUMBER`, and may hold a
second word that makes it differ from the one before. Once that file changes, effects are counted
anew; at the one it names the process kills itself as `kill -9` would. `NUAGE_EFFECTS` names the
file to which every effect is appended. The product knows neither: it is wrapped from outside, at
the few places through which it changes a backend, the kernel, a file, or answers the engine.
"""

# First, because it patches the standard library before anybody imports it.
import nuage_appliance.__main__ as program  # isort: skip

import itertools
import os
import re
import signal
import socket
import struct
import sys
import tempfile

from nuage_appliance.api import connections
from nuage_appliance.clients import consul, docker_http, link_work, netlink, ovsdb, vsd_http
from nuage_appliance.core import findings
from nuage_appliance.model import DELETED_ALIAS

# An audit takes away what was seen three times over this time; a minute is too long to be waited
# for in every cell.
_GRACE_S = 0.2
_ALIAS = re.compile(rb"nuage\d\|")


class Effects:
    """Counts the effects since the order to die changed; called from greenlets and
    native threads.
    """

    def __init__(self, order_path, record_path):
        self._order_path, self._record_path = order_path, record_path
        self._order, self._counts = None, {}

    def around(self, effect, work, *arguments, **named):
        """Do what has an effect; never returns when this is where the process is to die."""
        order = self._current_order()
        number = next(self._counts.setdefault(effect, itertools.count(1)))
        self._note(effect)
        self._die(order, f"before:{effect}.{number}")
        try:
            return work(*arguments, **named)
        finally:
            self._die(order, f"after:{effect}.{number}")

    def _current_order(self):
        try:
            with open(self._order_path, encoding="ascii") as file:
                order = file.read()
        except FileNotFoundError:
            order = ""
        if order != self._order:
            self._order, self._counts = order, {}
        return order

    def _note(self, effect):
        descriptor = os.open(self._record_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, effect.encode() + b"\n")
        os.close(descriptor)

    @staticmethod
    def _die(order, place):
        if order.split(" ")[0] == place:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(effects, owner, attribute, name_of):
    """Put `effects` around an attribute; calls for which `name_of` returns None have none."""
    work = getattr(owner, attribute)

    def wrapped(*arguments, **named):
        effect = name_of(*arguments, **named)
        return (
            work(*arguments, **named)
            if effect is None
            else effects.around(effect, work, *arguments, **named)
        )

    setattr(owner, attribute, wrapped)


def _of_vsd(session, method, path, *_):
    words = [
        word
        for word in path.split("?")[0].split("/")
        if word and not any(letter.isdigit() for letter in word)
    ]
    return None if method == "GET" else ".".join(["vsd", method, *words])


def _of_ovsdb(connection, method, params, *_):
    if method != "transact":
        return None
    text = str(params)
    comment = re.search("nuage-libnetwork (attach|detach)", text)
    if comment:
        return f"ovsdb.{comment[1]}"
    if "nuage-network-" in text:
        return "ovsdb.tag" if "'insert'" in text else "ovsdb.untag"
    return "ovsdb.rename" if "vm_name" in text else "ovsdb.other"


def _of_consul(_, verb, callback, path, *more):
    """Keys of networks and notes; a host's own state and checks come and go by the clock."""
    words = path.split("/")
    return (
        f"consul.{verb}.{words[5]}"
        if verb != "GET" and words[2:3] == ["kv"] and words[5] in ("networks", "replicas")
        else None
    )


def _of_engine(_, verb, path, *more, **named):
    words = [
        word for word in path.split("/") if word and not any(letter.isdigit() for letter in word)
    ]
    return None if verb == "GET" else ".".join(["engine", verb, *words])


def _of_kernel(_, messages):
    if not messages:
        return None
    kind = struct.unpack_from("=H", messages[0], 4)[0]
    code = struct.unpack_from("=H", messages[-1], 34)[0]
    if kind == netlink.RTM_NEWLINK:
        return "link.new"
    if kind == netlink.RTM_DELLINK:
        return "link.delete" if code == netlink.IFLA_GROUP else "link.undo"
    if DELETED_ALIAS.encode() in messages[0]:
        return "link.doom"
    return "link.mark" if _ALIAS.search(messages[0]) else "link.group"


def _of_answer(handler):
    return "answer." + handler.environ["PATH_INFO"].rpartition(".")[2]


def _socket_name(path):
    name = os.path.basename(path) if isinstance(path, str) else ""
    return name.removesuffix(".sock") if name.endswith(".sock") else None


def _of_bind(_, address):
    return f"socket.bind.{_socket_name(address)}" if _socket_name(address) else None


def _of_unlink(path, **_):
    return f"socket.unlink.{_socket_name(path)}" if _socket_name(path) else None


def wrap(effects):
    """Put `effects` around everything through which the product changes anything outside
    of itself.
    """
    _wrap(effects, vsd_http.VsdHttp, "send", _of_vsd)
    _wrap(effects, ovsdb.Connection, "request", _of_ovsdb)
    _wrap(effects, consul._Client, "_call", _of_consul)
    _wrap(effects, docker_http.DockerHttp, "call", _of_engine)
    _wrap(effects, netlink.Netlink, "carry_out", _of_kernel)
    _wrap(effects, link_work, "checksum_off", lambda device: "link.checksum")
    _wrap(effects, connections._Handler, "process_result", _of_answer)
    _wrap(effects, socket.socket, "bind", _of_bind)
    _wrap(effects, os, "unlink", _of_unlink)
    _wrap(
        effects,
        os,
        "replace",
        lambda source, target: f"file.replace.{os.path.basename(target).partition('.')[0]}",
    )
    _wrap(effects, tempfile, "mkstemp", lambda *_, **named: "file.temporary")


if __name__ == "__main__":
    findings.GRACE_S = _GRACE_S
    if "NUAGE_DIE" in os.environ:
        wrap(Effects(os.environ["NUAGE_DIE"], os.environ["NUAGE_EFFECTS"]))
    sys.exit(program.main())
