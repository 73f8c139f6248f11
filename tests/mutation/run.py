"""Makes the mutants of a module in a copy of the tree, runs the tests that concern it, and reports.

mutmut does the work. This adds what it lacks here: mutmut leaves out properties, so the copy has
them as methods; mutmut numbers the mutants of a run, so that a number means another one after every
edit, and equivalent ones are known by the line that they change (equivalent.yaml) instead.
Exits 1 when a mutant survives that is not listed there, 2 when that could not be found out.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_EQUIVALENT = pathlib.Path(__file__).with_name("equivalent.yaml")
_MINUTES = 15.0
# Instead of tests/conftest.py, which needs the lab: few examples of a property, the same each time,
# so that a mutant does not live or die by chance; and no search for the smallest counterexample,
# which nobody reads here and which takes longer than all the rest.
_CONFTEST = """from hypothesis import Phase, settings

settings.register_profile(
    "mutants",
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile("mutants")
"""
_CHILDREN = min(2, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A module and its unit tests.

    `except_functions` are left alone; `deselect` is a test that has nothing to say about a mutant.
    """

    paths: tuple[str, ...]
    tests: tuple[str, ...]
    except_functions: tuple[str, ...] = ()
    deselect: str = ""


SUBJECTS = {
    "model": Subject(("nuage_appliance/model.py",), ("test_model", "test_model_forms")),
    "pools": Subject(("nuage_appliance/core/pools.py",), ("test_pools", "test_pool_requests")),
    "deadline": Subject(("nuage_appliance/base/deadline.py",), ("test_deadline", "test_waiting")),
    "findings": Subject(("nuage_appliance/core/findings.py",), ("test_audit", "test_findings")),
    "replication": Subject(
        tuple(f"nuage_appliance/core/cluster/{name}.py" for name in ("records", "replication")),
        ("test_cluster", "test_replication"),
    ),
    "config": Subject(
        tuple(f"nuage_appliance/config/{name}.py" for name in ("file", "keys", "rules")),
        ("test_config", "test_config_rules"),
        # It runs only while the module is imported, which is before a mutant is switched on.
        except_functions=("_key",),
        # It compares documents, in another process.
        deselect="test_config.py::test_sample_file_readme_and_man_page_say_what_the_declarations_of_the_keys_say",
    ),
}

# What mutmut notes of a mutant: the exit code of its tests, or None when it was not tried.
_KILLED, _NO_TESTS = (1, 3), (5, 33)
_TIMEOUT = (24, 36, 152, 255, -24)


@dataclasses.dataclass
class Result:
    """What became of a module's mutants; `survivors` are the differences that nothing explains."""

    mutants: int = 0
    killed: int = 0
    equivalent: int = 0
    timeout: int = 0
    not_tried: int = 0
    survivors: list[str] = dataclasses.field(default_factory=list)


def unfold_properties(source: str) -> str:
    """The source with each `@property` as a method and an assignment.

    mutmut leaves decorated functions alone, and a third of the model is properties.
    """
    lines, out = source.splitlines(), []
    pending: tuple[str, str] | None = (
        None  # indentation and name of the property whose body is running
    )
    is_property = False
    for line in lines:
        if (
            pending is not None
            and line.strip()
            and len(line) - len(line.lstrip()) <= len(pending[0])
        ):
            out += [f"{pending[0]}{pending[1]} = property(_of_{pending[1]})", ""]
            pending = None
        if line.strip() == "@property":
            is_property = True
            continue
        found = re.match(r"( +)def (\w+)\(", line)
        if is_property and found:
            pending, is_property = (found[1], found[2]), False
            line = line.replace(f"def {found[2]}(", f"def _of_{found[2]}(", 1)
        out.append(line)
    if pending is not None:
        out.append(f"{pending[0]}{pending[1]} = property(_of_{pending[1]})")
    return "\n".join(out) + "\n"


def _copy(subject: Subject, place: pathlib.Path) -> None:
    """A tree with the product and the subject's tests, and a configuration for mutmut."""
    shutil.copytree(
        _ROOT / "nuage_appliance",
        place / "nuage_appliance",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for path in subject.paths:
        changed = place / path
        changed.write_text(unfold_properties(changed.read_text()))
    (place / "tests/unit").mkdir(parents=True)
    shutil.copytree(
        _ROOT / "tests/support",
        place / "tests/support",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("tests/__init__.py", "tests/unit/__init__.py"):
        (place / name).touch()
    (place / "tests/conftest.py").write_text(_CONFTEST)
    tests = [
        f"tests/unit/{name}.py"
        for name in subject.tests
        if (_ROOT / f"tests/unit/{name}.py").exists()
    ]
    for name in tests:
        shutil.copy(_ROOT / name, place / name)
    arguments = ["-p", "no:cacheprovider"]
    if subject.deselect:
        arguments.append(f"--deselect=tests/unit/{subject.deselect}")
    (place / "pyproject.toml").write_text(
        "[tool.mutmut]\n"
        'source_paths = ["nuage_appliance"]\n'
        f"only_mutate = {list(subject.paths)!r}\n"
        f"pytest_add_cli_args_test_selection = {tests!r}\n"
        f"pytest_add_cli_args = {arguments!r}\n"
        "track_dependencies = false\nuse_git_change_detection = false\n"
        "timeout_constant = 5.0\ntimeout_multiplier = 10.0\n"
    )


def _run_mutmut(place: pathlib.Path, limit_s: float) -> tuple[int, str]:
    """Run mutmut as a process group that ends with the time.

    Returns its exit code, or -1 when the time was over, and what it wrote.
    """
    with (place / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mutmut", "run", f"--max-children={_CHILDREN}"],
            cwd=place,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read()


def _differences(place: pathlib.Path, path: str, keys: list[str]) -> dict[str, str]:
    """What each of these mutants changes, as mutmut shows it.

    One process shows all, because every `mutmut show` takes a second to read the tree.
    """
    program = (
        "import json, sys\n"
        "from mutmut.mutation.diff_apply import get_diff_for_mutant\n"
        "path, *keys = json.load(sys.stdin)\n"
        "print(json.dumps({key: get_diff_for_mutant(key, path=path) for key in keys}))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        input=json.dumps([path, *keys]),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(shown.stdout)


def _words(code: int) -> str:
    return "no test reaches it" if code in _NO_TESTS else f"survived (exit code {code})"


def changed_lines(diff: str) -> tuple[list[str], list[str]]:
    """The lines that a difference takes out, and those that it puts in, without indentation."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    taken = [line[1:].strip() for line in lines if line.startswith("-")]
    put = [line[1:].strip() for line in lines if line.startswith("+")]
    return taken, put


def _is_wanted(key: str, subject: Subject) -> bool:
    return not any(f".x_{name}__mutmut" in key for name in subject.except_functions)


def _count(result: Result, codes: dict[str, int | None]) -> list[str]:
    """Count what became of these mutants; returns those that no test noticed."""
    left = []
    for key, value in codes.items():
        result.mutants += 1
        if value is None:
            result.not_tried += 1
        elif value in _KILLED:
            result.killed += 1
        elif value in _TIMEOUT:
            result.timeout += 1
        else:
            left.append(key)
    return left


def examine(name: str, limit_s: float, equivalent: list[dict[str, str]]) -> Result:
    """Try all mutants of a subject.

    Raises RuntimeError when mutmut cannot work: the tests do not pass even without a change.
    """
    subject, result = SUBJECTS[name], Result()
    with tempfile.TemporaryDirectory(prefix="nuage-mutants-") as directory:
        place = pathlib.Path(directory)
        _copy(subject, place)
        code, output = _run_mutmut(place, limit_s)
        found = 0
        for path in subject.paths:
            meta = place / "mutants" / f"{path}.meta"
            noted = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
            codes = {key: value for key, value in noted.items() if _is_wanted(key, subject)}
            found += len(codes)
            left = _count(result, codes)
            for key, diff in _differences(place, path, left).items():
                taken, put = changed_lines(diff)
                if any(
                    one["module"] == name and [one["was"]] == taken and [one["is"]] == put
                    for one in equivalent
                ):
                    result.equivalent += 1
                else:
                    result.survivors.append(f"{key}: {_words(codes[key])}\n{diff}")
        if code > 0 or not found:
            raise RuntimeError(f"{name}: mutmut ended with {code}\n{output[-3000:]}")
    return result


def main() -> int:
    """Examine the modules that were named, or all."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(SUBJECTS))
    parser.add_argument("--list", action="store_true", help="name the modules and their tests")
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help="for one module (default: %(default)g)"
    )
    options = parser.parse_args()
    if unknown := set(options.modules) - set(SUBJECTS):
        parser.error(f"no module {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    if options.list:
        for name, subject in SUBJECTS.items():
            print(f"{name:12} {', '.join(subject.paths)}: {', '.join(subject.tests)}")
        return 0
    # Ended by a signal, it still ends mutmut and takes its copy away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    equivalent = yaml.safe_load(_EQUIVALENT.read_text()) or []
    worst, table = 0, []
    for name in options.modules or SUBJECTS:
        print(f"{name}: making mutants and trying them …", flush=True)
        started_s = time.monotonic()
        try:
            result = examine(name, options.minutes * 60, equivalent)
        except RuntimeError as failure:
            print(failure)
            return 2
        print("\n".join(result.survivors))
        table.append(
            f"{name:12}{result.mutants:8}{result.killed:8}{len(result.survivors):10}"
            f"{result.equivalent:12}{result.timeout:9}{result.not_tried:11}"
            f"{time.monotonic() - started_s:8.0f}"
        )
        worst = max(worst, 1 if result.survivors else 0, 2 if result.not_tried else 0)
    print(
        f"{'module':12}{'mutants':>8}{'killed':>8}{'survived':>10}"
        f"{'equivalent':>12}{'timeout':>9}{'not tried':>11}{'seconds':>8}"
    )
    print("\n".join(table))
    return worst


if __name__ == "__main__":
    sys.exit(main())
