"""Lends a TCP port of a host to the machine's loopback for as long as it runs.

Owns nothing that outlives the process.
"""

import asyncio
import contextlib
import ctypes
import os
import socket

from nuage_lab.hosts.run import LabError

_CLONE_NEWNET = 0x40000000
_PIECE_BYTES = 65536


def listen(port):
    """Return a socket that listens on the machine's loopback; 0 lets the system choose the port."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise LabError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}; take another --port"
        ) from error


def lend(listener, namespace, target):
    """Forward what comes to a listener to an address inside a network namespace, until interrupted.

    The caller's thread stays in there.
    """
    try:
        with open(f"/run/netns/{namespace}", "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise LabError(
                    f"cannot enter the network of {namespace}: {os.strerror(ctypes.get_errno())}"
                )
    except FileNotFoundError as error:
        raise LabError("the lab is down; `scripts/lab up` starts it") from error
    asyncio.run(_serve(listener, target))


async def _serve(listener, target):
    async def join(reader, writer):
        try:
            other_reader, other_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))

    server = await asyncio.start_server(join, sock=listener)
    await server.serve_forever()


async def _copy(reader, writer):
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()
