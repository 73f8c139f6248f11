"""Owns the command line and the life of the process: build every part by hand, serve, end cleanly on a signal.

Never holds state of the simulated VSD.
"""

import argparse
import os
import signal
import ssl
import sys
from pathlib import Path

import gevent
import gevent.event
import gevent.socket

from . import seed
from .admin import Admin
from .certificates import Certificates, provide, provide_client
from .controller import Controller
from .engine import Engine
from .events import EventDesk
from .faults import Faults
from .keeper import Keeper
from .model import RELEASES, load_model
from .page_server import PageServer
from .request_feed import RequestFeed
from .request_log import RequestLog
from .rest import Rest
from .settings import Settings
from .web import Gate, make_server

_LOOK_S = 0.5


def parse_arguments(argv):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m nuage_lab.vsd", description="A simulated VSD for tests and the lab.")
    parser.add_argument("--listen", default="127.0.0.1:8443", metavar="ADDR:PORT", help="port 0 lets the system choose")
    parser.add_argument("--state-dir", required=True, type=Path, help="keeps the CA and the certificate")
    parser.add_argument("--keep-objects", action="store_true", help="keep all objects in the state directory over the end of the process")
    parser.add_argument("--san", action="append", default=[], metavar="NAME", help="further name or address of the server")
    parser.add_argument("--certificate", type=Path, help="use this certificate (PEM) instead of an own one")
    parser.add_argument("--key", type=Path, help="the key of --certificate")
    parser.add_argument("--mtls-listen", metavar="ADDR:PORT", help="serve here too, to clients with a certificate only")
    parser.add_argument("--client-certificate", action="append", default=[], metavar="USER", help="make USER.pem, USER.key")
    parser.add_argument("--release", choices=RELEASES[3:], default=RELEASES[-1], help="what the API root v6 speaks")
    parser.add_argument("--seed", type=Path, metavar="FILE.yaml", help="the tree to start with; see the packaged seed.yaml")
    parser.add_argument("--admin-socket", type=Path, help="default: admin.sock in the state directory")
    parser.add_argument("--latency-ms", type=float, default=0, help="delay every reply")
    parser.add_argument("--allocation", choices=("lowest", "random"), default="lowest", help="choice of free addresses")
    parser.add_argument("--key-validity", type=float, default=86400, metavar="SECONDS", help="life time of an API key")
    parser.add_argument("--key-renewal", type=float, default=300, metavar="SECONDS", help="renewal window before its end")
    parser.add_argument("--purge", type=float, default=0, metavar="SECONDS", help="VMPurgeTime; 0 never purges")
    parser.add_argument("--unreachable", type=float, default=3600, metavar="SECONDS", help="VMUnreachableTime; 0 loses no VRS")
    parser.add_argument("--request-log", type=Path, metavar="FILE", help="append one JSON line a request")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="write the ready line to this descriptor too")
    arguments = parser.parse_args(argv)
    if (arguments.certificate is None) != (arguments.key is None):
        parser.error("--certificate and --key go together")
    if arguments.certificate is not None and (arguments.mtls_listen or arguments.client_certificate):
        parser.error("--mtls-listen and --client-certificate need the own CA")
    arguments.address = _address(parser, arguments.listen)
    arguments.mtls_address = _address(parser, arguments.mtls_listen) if arguments.mtls_listen else None
    return arguments


def _address(parser, text):
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit():
        parser.error(f"{text} is not ADDR:PORT")
    return host.strip("[]") or "0.0.0.0", int(port)


def main(argv=None):
    """Run the simulator until a signal; returns the exit status."""
    arguments = parse_arguments(argv)
    arguments.state_dir.mkdir(parents=True, exist_ok=True)
    certificates = _certificates(arguments)
    settings = Settings(
        latency_ms=arguments.latency_ms, allocation=arguments.allocation, key_validity_s=arguments.key_validity,
        key_renewal_s=arguments.key_renewal, purge_s=arguments.purge, unreachable_s=arguments.unreachable,
    )  # fmt: skip
    engine = Engine(load_model(), settings, seed.load(arguments.seed))
    keep = _keeper(engine, arguments)
    faults, log = Faults(), RequestLog(arguments.request_log)
    gate = Gate(Rest(engine, EventDesk(engine), arguments.release), settings, faults, log)
    controller = Controller(engine)
    admin = Admin(engine, controller, faults, log)

    stop = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    admin_path = arguments.admin_socket or arguments.state_dir / "admin.sock"
    page = PageServer(RequestFeed(engine, log))
    servers = [make_server(_listener(arguments.address), page.beside(keep(gate.app)), _context(certificates))]
    if arguments.mtls_address is not None:
        servers.append(make_server(_listener(arguments.mtls_address), keep(gate.app), _context(certificates, is_mutual=True)))
    servers.append(make_server(_unix_listener(admin_path), keep(admin.app)))
    for server in servers:
        server.start()
    _announce(arguments, servers, certificates, admin_path)
    while not stop.wait(_LOOK_S):
        controller.look_for_lost()
    admin_path.unlink(missing_ok=True)
    for server in servers:
        server.stop(timeout=0.2)
    log.close()
    return 0


def _keeper(engine, arguments):
    """Return what is put around each application, so that objects are kept."""
    if not arguments.keep_objects:
        return lambda app: app
    keeper = Keeper(engine, arguments.state_dir / "objects.pickle")
    keeper.restore()
    return keeper.around


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
