"""Owns what the HTTPS port serves beside the REST interface: the page at /, the feed below /lab.

Never reads an object of the simulated VSD: the page is a client of the REST interface like any
other. Never serves a path below /nuage.
"""

from importlib import resources

import bottle

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Trusted types without any policy: the browser refuses markup that a script would insert.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
}


class PageServer:
    """Serves the page as a bottle application; its files are read once."""

    def __init__(self, feed):
        self._files = {
            entry.name: entry.read_bytes()
            for entry in resources.files(__package__).joinpath("page").iterdir()
            if entry.name.rpartition(".")[2] in _TYPES
        }
        self.app = bottle.Bottle()
        self.app.route("/", callback=lambda: self.file("index.html"))
        self.app.route("/page/<name>", callback=self.file)
        self.app.route("/lab/requests", callback=feed.requests)
        self.app.route("/lab/counters", callback=feed.counters)

    def file(self, name):
        """Return one of the page's files; raises the 404."""
        if name not in self._files:
            raise bottle.HTTPError(404, "There is no such file.")
        headers = {**_HEADERS, "Content-Type": f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"}
        return bottle.HTTPResponse(self._files[name], 200, headers)

    def beside(self, app):
        """Return a WSGI application that serves the page, and hands every other path to `app`."""

        def serve(environ, start_response):
            path = environ["PATH_INFO"]
            is_ours = path == "/" or path.startswith(("/page/", "/lab/"))
            return (self.app if is_ours else app)(environ, start_response)

        return serve
