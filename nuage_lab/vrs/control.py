"""The controller's control socket: one JSON object in, one out, for tests and `scripts/lab faults`."""

import json
import os
import queue
import socketserver
import threading

ANSWER_TIMEOUT_S = 5.0


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """Puts ("control", request, reply queue) on the controller's queue and sends back what is put on the reply queue."""

    daemon_threads = True

    def __init__(self, path, requests):
        if os.path.lexists(path):
            os.unlink(path)
        super().__init__(path, ControlHandler)
        self.requests = requests

    def start(self):
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()


class ControlHandler(socketserver.StreamRequestHandler):
    def handle(self):
        reply = queue.Queue()
        try:
            self.server.requests.put(("control", json.loads(self.rfile.readline()), reply))
            answer = reply.get(timeout=ANSWER_TIMEOUT_S)
        except (ValueError, queue.Empty) as error:
            answer = {"error": repr(error)}
        self.wfile.write(json.dumps(answer).encode() + b"\n")
