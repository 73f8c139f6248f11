"""Owns when objects are written down, so that they outlive the process, as in a VSD's database.

A change is in the file before its answer goes out. When the file cannot be written, the client gets
a 503, and no change begins until it can be written again. Keys are not kept: clients log in again.
Nor are settings, ordered faults and the lists of recently freed addresses. Never reads a request.
"""

import gc
import operator
import sys
from itertools import islice

import gevent

from .auth import new_secret
from .rest import json_reply
from .state_file import StateError
from .store import Entity

_SLICE = 100
_DERIVED = frozenset(("ID", "parentID", "parentType"))


class Keeper:
    """Keeps one simulator in one state file."""

    def __init__(self, simulator, file):
        self._simulator = simulator
        self._file = file
        self._store = None
        self._numbers_written = 0
        self._problem = None
        self._compaction = None

    def start(self):
        """Load what the file has, or write a new one.

        Raises StateError, or OSError for a file that cannot be written.
        """
        # All objects made here stay; looking for garbage among them doubles the time.
        gc.disable()
        try:
            is_there = self._file.open()
            if is_there:
                self._simulator.take_over(
                    *_rebuilt(self._simulator.model, self._file.records(), self._file.path)
                )
        finally:
            gc.enable()
        self._watch()
        self._numbers_written = len(self._simulator.numbers.given)
        if not is_there:
            for _ in self._snapshot(operator.call):
                pass

    def save(self):
        """Write what has changed since the last call; returns False when that fails.

        Does not switch greenlets.
        """
        simulator = self._simulator
        is_fresh = simulator.store is not self._store
        if is_fresh:
            self._watch()
            self._store.unsaved.update(dict.fromkeys(self._keys()))
            self._numbers_written = 0
        unsaved = self._store.unsaved
        if not unsaved and self._problem is None:
            return True
        record = {"seq": simulator.journal.seq, "put": [], "gone": []}
        if is_fresh:
            record["fresh"] = True
        for rest_name, object_id in unsaved:
            entity = self._store.find(rest_name, object_id)
            if entity is None:
                record["gone"].append([rest_name, object_id])
            else:
                record["put"].append(_described(entity))
        numbers = self._numbers(self._numbers_written)
        if numbers:
            record["numbers"] = numbers
        try:
            self._file.append(record)
        except OSError as problem:
            return self._failed(problem, is_fresh)
        self._problem = None
        self._numbers_written += len(numbers)
        unsaved.clear()
        if self._file.is_long and not self._compaction:
            self._compaction = gevent.spawn(self._compact)
        return True

    def around(self, app):
        """Return a WSGI application that saves before the answer of `app` goes out.

        Saves as well before a fault cuts the connection of a request.
        """

        def serve(environ, start_response):
            is_change = environ["REQUEST_METHOD"] != "GET"
            if is_change and self._problem is not None and not self.save():
                return self._refusal(start_response)
            begun = []
            try:
                answer = app(environ, lambda *words: begun.append(words))
            finally:
                is_saved = self.save()
            if is_change and not is_saved:
                return self._refusal(start_response)
            start_response(*begun[-1])
            return answer

        return serve

    def close(self):
        """Write what is left and close the file."""
        self.save()
        if self._compaction:
            self._compaction.kill()
        self._file.close()

    def _watch(self):
        self._store = self._simulator.store
        self._store.unsaved = {}

    def _keys(self):
        return [
            (rest_name, one.id)
            for rest_name in self._simulator.model.by_rest_name
            for one in self._store.all(rest_name)
        ]

    def _numbers(self, first):
        return [
            [*key, number]
            for key, number in islice(self._simulator.numbers.given.items(), first, None)
        ]

    def _failed(self, problem, is_fresh):
        if is_fresh:
            self._store = None
        if self._problem is None:
            print(
                f"{self._file.path} cannot be written: {problem.strerror};"
                " changes are refused until it can be",
                file=sys.stderr,
                flush=True,
            )
        self._problem = problem
        return False

    def _refusal(self, start_response):
        text = f"The state file cannot be written: {self._problem.strerror}"
        reply = json_reply(503, {"errors": "Service is unavailable", "description": text})
        body = reply.body.encode()
        start_response(
            "503 Service Unavailable", [*reply.headers.items(), ("Content-Length", str(len(body)))]
        )
        return [body]

    def _compact(self):
        try:
            for _ in self._snapshot(gevent.get_hub().threadpool.apply):
                gevent.sleep(0.001)
        except OSError as problem:
            print(
                f"{self._file.path}.new cannot be written: {problem.strerror};"
                " the old file stays in use",
                file=sys.stderr,
                flush=True,
            )
            gevent.sleep(60)
        finally:
            self._compaction = None

    def _snapshot(self, run):
        """Write a new file in slices; `run` performs the final sync.

        Changes between two slices follow in the lines that go to both files.
        """
        store, keys = self._store, self._keys()
        with self._file.successor() as new:
            head = {"seq": self._simulator.journal.seq, "put": [], "gone": []}
            head["numbers"] = self._numbers(0)
            new.write([head])
            for start in range(0, len(keys), _SLICE):
                found = [store.find(*key) for key in keys[start : start + _SLICE]]
                new.write([{"put": [_described(entity)]} for entity in found if entity is not None])
                yield
            run(new.sync)


def _described(entity):
    """Return the record of an object: only the values that differ from the model's defaults.

    Interfaces of a container are named by their IDs.
    """
    resource, parent = entity.resource, entity.parent
    defaults, values = resource.defaults, entity.values
    kept = {
        name: value
        for name, value in values.items()
        if name not in _DERIVED and (name not in defaults or defaults[name] != value)
    }
    if resource.embedded is not None:
        kept["interfaces"] = [one["ID"] for one in values["interfaces"]]
    record = {
        "kind": resource.rest_name,
        "ID": entity.id,
        "parent": parent and [parent.resource.rest_name, parent.id],
        "enterprise": entity.enterprise_id,
        "values": kept,
    }
    above = set()
    while parent is not None:
        above.add(parent.id)
        parent = parent.parent
    if entity.scopes != above:
        record["scopes"] = sorted(entity.scopes - above, key=str)
    if entity.secret is not None:
        record["password"] = entity.secret["password"]
    return record


def _rebuilt(model, records, path):
    """Return (entities, sequence number, numbers) that the records lead to; raises StateError."""
    found, seq, numbers, texts = {}, 0, {}, {}
    try:
        for record in records:
            if record.get("fresh"):
                found.clear()
                numbers.clear()
            seq = record.get("seq", seq)
            for one in record.get("put", ()):
                found[one["kind"], one["ID"]] = _read(model, one, texts)
            for rest_name, object_id in record.get("gone", ()):
                found.pop((rest_name, object_id), None)
            for name, object_id, number in record.get("numbers", ()):
                numbers[name, object_id] = number
        for entity in found.values():
            if entity.parent is not None:
                entity.parent = found[entity.parent]
        for entity in found.values():
            _complete(entity, found)
    except KeyError as problem:
        raise StateError(
            f"{path} names {problem}, which is not there:"
            " a newer simulator wrote it, or it was changed by hand"
        ) from problem
    return found.values(), seq, numbers


def _read(model, record, texts):
    """Return an object whose `parent` is still a key.

    Equal texts become one object in memory, as they were when the objects were made.
    """

    def shared(text):
        return texts.setdefault(text, text)

    resource, object_id = model.by_rest_name[record["kind"]], shared(record["ID"])
    parent = record["parent"] and (shared(record["parent"][0]), shared(record["parent"][1]))
    values = {
        **resource.defaults,
        "ID": object_id,
        "parentID": parent and parent[1],
        "parentType": parent and parent[0],
    }
    for name, value in record["values"].items():
        if name in values:
            values[name] = shared(value) if isinstance(value, str) else value
    entity = Entity(resource, object_id, parent, values)
    entity.enterprise_id = shared(record["enterprise"])
    entity.scopes.update(map(shared, record.get("scopes", ())))
    if "password" in record:
        entity.secret = new_secret(record["password"])
    return entity


def _complete(entity, found):
    """Fill in what a record omits: interfaces behind their IDs, and the scopes above."""
    if entity.resource.embedded is not None:
        kind = entity.resource.embedded.rest_name
        entity.values["interfaces"] = [
            found[kind, one].values for one in entity.values["interfaces"]
        ]
    parent = entity.parent
    while parent is not None:
        entity.scopes.add(parent.id)
        parent = parent.parent
