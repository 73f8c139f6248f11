"""tests/README.md has one line for each file of tests, and none for a file that is gone."""

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
        elif row := re.match(r"\| `(\S+\.py)` \|", line):
            assert len(line.split(" | ")) == 4, f"a column is missing: {line}"
            listed.append(directory + row[1])
    assert sorted(listed) == files
