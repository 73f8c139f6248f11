"""The control socket of the controller, for tests and `scripts/lab faults`.

A request is one JSON object on a line, and so is its answer.
"""

import json
import os
import queue
import socketserver
import threading

ANSWER_TIMEOUT_S = 5.0


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """Hands each request to the controller's thread and sends back its answer.

    Puts ("control", request, reply queue) on the queue `requests`; the answer is what the
    controller puts on the reply queue.
    """

    daemon_threads = True

    def __init__(self, path, requests):
        if os.path.lexists(path):
            os.unlink(path)
        super().__init__(path, ControlHandler)
        self.requests = requests

    def start(self):
        """Serve in a thread of its own; returns at once."""
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()


class ControlHandler(socketserver.StreamRequestHandler):
    """Serves one connection, which carries one request."""

    def handle(self):
        """Answer the request, with `error` if it is malformed or gets no answer within 5 s."""
        reply = queue.Queue()
        try:
            self.server.requests.put(("control", json.loads(self.rfile.readline()), reply))
            answer = reply.get(timeout=ANSWER_TIMEOUT_S)
        except (ValueError, queue.Empty) as error:
            answer = {"error": repr(error)}
        self.wfile.write(json.dumps(answer).encode() + b"\n")
