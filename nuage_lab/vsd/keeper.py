"""Owns the file in which the objects outlive the process, as a VSD's do in its database.

What a client was told is in the file: it is written before the answer goes out. Keys are not kept, so that clients have to
log in again. Never reads a request, and never keeps settings or ordered faults.
"""

import pickle

from .model import Resource


class Keeper:
    """Saves one engine after each change, whole: made for labs, not for thousands of containers."""

    def __init__(self, engine, path):
        self._engine = engine
        self._path = path
        self._saved_seq = None

    def restore(self):
        """Take over what an earlier process saved; nothing happens when there is no file."""
        try:
            with open(self._path, "rb") as file:
                seq, contents = _Unpickler(file, self._engine.model).load()
        except FileNotFoundError:
            return
        self._engine.take_over(contents, seq)
        self._saved_seq = seq

    def save(self):
        """Write the objects to the file if something has changed. Does not switch greenlets."""
        seq = self._engine.journal.seq
        if seq == self._saved_seq:
            return
        new = self._path.with_suffix(".new")
        with open(new, "wb") as file:
            _Pickler(file, pickle.HIGHEST_PROTOCOL).dump((seq, self._engine.store.contents()))
        new.replace(self._path)
        self._saved_seq = seq

    def around(self, app):
        """Return a WSGI application that saves before the answer of `app` goes out, or before it cuts the connection."""
        def serve(environ, start_response):
            try:
                return app(environ, start_response)
            finally:
                self.save()

        return serve


class _Pickler(pickle.Pickler):
    """Writes the kinds of the model, which are always the same, by their names."""

    def persistent_id(self, thing):
        return thing.rest_name if isinstance(thing, Resource) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, model):
        super().__init__(file)
        self._model = model

    def persistent_load(self, name):
        return self._model.by_rest_name[name]
