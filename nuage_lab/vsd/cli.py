"""Owns the life of the process: builds every part by hand, serves, ends cleanly on a signal.

Never holds state of the simulated VSD.
"""

import contextlib
import gc
import os
import signal
import ssl
import subprocess
import sys

import gevent
import gevent.event
import gevent.socket

from nuage_lab.hosts.http_unix import call

from . import seed
from .admin import Admin
from .arguments import parse_arguments
from .certificates import Certificates, provide, provide_client
from .events import EventDesk
from .keeper import Keeper
from .model import load_model
from .page_server import PageServer
from .request_feed import RequestFeed
from .request_log import RequestLog
from .rest import Rest
from .settings import Settings
from .simulator import Simulator
from .state_file import StateError, StateFile
from .vsc_service import VscService
from .web import Gate, make_server

_LOOK_S = 0.5


def main(argv=None):
    """Run the simulator until a signal; returns the exit status."""
    arguments = parse_arguments(argv)
    try:
        return _export(arguments.admin_socket) if arguments.export else _serve(arguments)
    except (_Unusable, seed.SeedError, StateError) as problem:
        option = {seed.SeedError: f"--seed {arguments.seed}: ", StateError: "--state "}.get(
            type(problem), ""
        )
        sys.stderr.write(f"python -m nuage_lab.vsd: {option}{problem}\n")
        return 1


class _Unusable(Exception):
    """Something that the command line names cannot be used; the text explains why."""


@contextlib.contextmanager
def _naming(option, value):
    """Turn what the system refuses into one line that names the option."""
    try:
        yield
    except (seed.SeedError, StateError):
        raise
    except OSError as problem:
        other = f": {problem.filename}" if problem.filename not in (None, str(value)) else ""
        raise _Unusable(f"{option} {value}: {problem.strerror or problem}{other}") from problem
    except (ValueError, subprocess.CalledProcessError) as problem:
        raise _Unusable(f"{option} {value}: {problem}") from problem


def _export(admin_socket):
    with _naming("--admin-socket", admin_socket):
        status, text = call(admin_socket, "GET", "/export", timeout=60)
    if status != 200:
        raise _Unusable(f"--admin-socket {admin_socket}: answered {status} {text}")
    sys.stdout.write(text)
    return 0


def _serve(arguments):
    settings = Settings(
        latency_ms=arguments.latency_ms,
        allocation=arguments.allocation,
        key_validity_s=arguments.key_validity,
        key_renewal_s=arguments.key_renewal,
        purge_s=arguments.purge,
        unreachable_s=arguments.unreachable,
    )
    with _naming("--seed", arguments.seed):
        simulator = Simulator(load_model(), settings, seed.load(arguments.seed))
    with _naming("--state-dir", arguments.state_dir):
        arguments.state_dir.mkdir(parents=True, exist_ok=True)
        certificates = _certificates(arguments)
    keeper = None
    if arguments.state is not None:
        with _naming("--state", arguments.state):
            keeper = Keeper(simulator, StateFile(arguments.state, arguments.state_sync))
            keeper.start()
    with _naming("--request-log", arguments.request_log):
        log = RequestLog(arguments.request_log)
    keep = keeper.around if keeper is not None else lambda app: app
    gate = Gate(
        Rest(simulator, EventDesk(simulator), arguments.release), settings, arguments.faults, log
    )
    vsc = VscService(simulator)
    admin = Admin(simulator, vsc, arguments.faults, log)

    stop = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    page = PageServer(RequestFeed(simulator, log))
    with _naming("--certificate", certificates.certificate):
        context = _context(certificates)
    with _naming("--listen", arguments.listen):
        servers = [make_server(_listener(arguments.address), page.beside(keep(gate.app)), context)]
    if arguments.mtls_address is not None:
        with _naming("--mtls-listen", arguments.mtls_listen):
            mutual = _context(certificates, is_mutual=True)
            servers.append(make_server(_listener(arguments.mtls_address), keep(gate.app), mutual))
    with _naming("--admin-socket", arguments.admin_socket):
        servers.append(make_server(_unix_listener(arguments.admin_socket), keep(admin.app)))
    # What exists now stays: the garbage collector need not look through it again.
    gc.freeze()
    for server in servers:
        server.start()
    _announce(arguments, servers, certificates, arguments.admin_socket)
    while not stop.wait(_LOOK_S):
        vsc.look_for_lost()
        if keeper is not None:
            keeper.save()
    arguments.admin_socket.unlink(missing_ok=True)
    for server in servers:
        server.stop(timeout=0.2)
    if keeper is not None:
        keeper.close()
    log.close()
    return 0


def _certificates(arguments):
    if arguments.certificate is not None:
        return Certificates(None, arguments.certificate, arguments.key)
    names = ["localhost", "127.0.0.1", *arguments.san]
    if arguments.address[0] not in ("0.0.0.0", "::"):
        names.append(arguments.address[0])
    made = provide(arguments.state_dir, names)
    for user_name in arguments.client_certificate:
        provide_client(arguments.state_dir, user_name)
    return made


def _context(certificates, is_mutual=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    if is_mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca_file)
    return context


def _listener(address):
    family = gevent.socket.AF_INET6 if ":" in address[0] else gevent.socket.AF_INET
    listener = gevent.socket.socket(family, gevent.socket.SOCK_STREAM)
    listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(512)
    return listener


def _unix_listener(path):
    path.unlink(missing_ok=True)
    listener = gevent.socket.socket(gevent.socket.AF_UNIX, gevent.socket.SOCK_STREAM)
    listener.bind(str(path))
    os.chmod(path, 0o600)
    listener.listen(64)
    return listener


def _announce(arguments, servers, certificates, admin_path):
    words = [f"ready url={_url(arguments.address[0], servers[0])}"]
    if arguments.mtls_address is not None:
        words.append(f"mtls_url={_url(arguments.mtls_address[0], servers[1])}")
    words += [f"ca_file={certificates.ca_file or '-'}", f"admin_socket={admin_path}"]
    line = " ".join(words) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    if arguments.ready_fd is not None:
        os.write(arguments.ready_fd, line.encode())
        os.close(arguments.ready_fd)


def _url(host, server):
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}:{server.server_port}"
