"""tests/README.md has one line for each file of tests, and none for a file that is gone."""

import ast
import re
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]


def test_every_file_of_tests_has_one_line_in_the_readme():
    files = sorted(str(path.relative_to(_TESTS)) for path in _TESTS.rglob("test_*.py"))
    text = (_TESTS / "README.md").read_text(encoding="utf-8")
    directory, listed = "", []
    for line in text.splitlines():
        if heading := re.fullmatch(r"## .*`tests/(\S+)/`", line):
            directory = heading[1] + "/"
        elif directory and (row := re.match(r"\| `(\S+\.py)` \|", line)):
            assert len(line.split(" | ")) == 4, f"a column is missing: {line}"
            listed.append(directory + row[1])
    assert sorted(listed) == files


def test_every_test_that_only_the_night_runs_is_named_in_the_readme():
    text = (_TESTS / "README.md").read_text(encoding="utf-8")
    for path in sorted(_TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                is_long = "long_tests" in [argument.arg for argument in node.args.args]
                assert not is_long or f"`{node.name}`" in text, f"{path.name}: {node.name}"
