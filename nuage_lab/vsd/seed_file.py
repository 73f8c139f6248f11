"""Owns the reading of a seed file as YAML, and the error that names the place of a mistake in it.

Never knows what the tree may hold; seed.py does.
"""

from importlib import resources

import yaml


class SeedError(ValueError):
    """The file cannot be planted.

    The text names the place in the file, what it has there, and what would be right.
    """

    def __init__(self, where, what):
        super().__init__(f"{where}: {what}" if where else what)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Refuses a key that appears twice in one mapping.

    The loader of the library would silently drop the first one.
    """

    def __init__(self, stream):
        super().__init__(stream)
        self._checked = set()

    def flatten_mapping(self, node):
        """Check a mapping before the keys of others are merged into it."""
        if id(node) not in self._checked:
            self._checked.add(id(node))
            seen = set()
            for key, _ in node.value:
                if isinstance(key.value, str) and (key.tag, key.value) in seen:
                    text = f"{key.value!r} appears twice in one mapping; leave one of them out"
                    raise SeedError(_place(key.start_mark), text)
                seen.add((key.tag, str(key.value)))
        super().flatten_mapping(node)


def load(path=None):
    """Return the tree of a seed file, or of the packaged one.

    Raises SeedError, or OSError for a file that cannot be read.
    """
    if path is None:
        text = resources.files(__package__).joinpath("seed.yaml").read_bytes()
    else:
        with open(path, "rb") as file:
            text = file.read()
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        what = getattr(problem, "problem", None) or " ".join(str(problem).split())
        raise SeedError(_place(mark) if mark else "", f"not YAML: {what}") from problem
    except RecursionError as problem:
        raise SeedError("", "not YAML: it is nested too deeply") from problem


def shown(value, depth=5):
    """Return a value of the file as a message may show it.

    Hides passwords, and cuts what is nested deeper than `depth` or contains itself.
    """
    return repr(_masked(value, depth))


def _masked(value, depth):
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return "..."
    if isinstance(value, list):
        return [_masked(one, depth - 1) for one in value]
    return {
        key: "***" if key == "password" else _masked(one, depth - 1) for key, one in value.items()
    }


def _place(mark):
    return f"line {mark.line + 1}, column {mark.column + 1}"
