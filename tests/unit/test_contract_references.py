"""Every reference to a section of docs/contracts names its document, and the section exists."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_CONTRACTS = _ROOT / "docs" / "contracts"
_NAMES = ("libnetwork", "vsd", "vrs", "predecessor")

# `§2.5`, and the list item or table row that may follow: `§6 rule 1`, `§18, item 10`.
_SECTION = re.compile(r"§(\d+(?:\.\d+)*)?(?:,? (?:item|row|rule|step)s? (\d+))?")
# The words just before it; a reference may be broken over lines of a comment.
_DOCUMENT = re.compile(rf"(?<![\w-])({'|'.join(_NAMES)}|RFC \d+)[\s#*]+$")
_CONTINUED = re.compile(r"(?:,| and|, and| to|/)[\s#*]*")
_HEADING = re.compile(r"#{2,} (\d+(?:\.\d+)*)\.? ")
_NUMBERED = re.compile(r"(?:\| )?(\d+)(?:\.| \|) ")
_DEFECT = re.compile(r"D-[A-Z]{3}-\d+")


@cache
def _sections(name):
    """Return {section number: the numbers of its list items and table rows} of a contract."""
    sections, number = {}, ""
    for line in (_CONTRACTS / f"{name}.md").read_text(encoding="utf-8").splitlines():
        if found := _HEADING.match(line):
            number = found[1]
            sections[number] = set()
        elif number and (found := _NUMBERED.match(line)):
            sections[number].add(found[1])
    return sections


@cache
def _defects():
    text = (_CONTRACTS / "predecessor.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^\*\*({_DEFECT.pattern}) \(S", text, re.MULTILINE))


def _problems(text, own=None):
    """Return a sentence for each wrong reference in a text; `own` names the contract that it is."""
    problems, document, end = [], None, 0
    for found in _SECTION.finditer(text):
        before = text[max(0, found.start() - 60) : found.start()]
        if named := _DOCUMENT.search(before):
            document = named[1]
        elif document is None or not _CONTINUED.fullmatch(text[end : found.start()]):
            document = own
        end = found.end()
        section, item = found.groups()
        where = f"line {text.count(chr(10), 0, found.start()) + 1}: {found[0]!r}"
        if document is None:
            problems.append(f"{where} names no document: one of {', '.join(_NAMES)}")
        elif document.startswith("RFC "):
            continue
        elif section not in _sections(document):
            problems.append(f"{where}: docs/contracts/{document}.md has no such section")
        elif item and item not in _sections(document)[section]:
            problems.append(f"{where}: that section of {document}.md has no such item or row")
    unknown = set(_DEFECT.findall(text)) - _defects()
    return problems + [f"{defect} is not in predecessor.md" for defect in sorted(unknown)]


def _texts():
    """Return [(path, text)] of the tree's files with references, but this file."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run([*command, "--exclude-standard"], cwd=_ROOT, stdout=subprocess.PIPE)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {_ROOT}")
    texts = []
    for name in listed.stdout.decode().split("\0"):
        path = _ROOT / name
        if name and path.is_file() and path != Path(__file__).resolve():
            content = path.read_bytes()
            if b"\0" not in content and ("§".encode() in content or b"D-" in content):
                texts.append((path, content.decode("utf-8", "replace")))
    return texts


def test_every_reference_to_a_contract_leads_to_a_section_of_it():
    texts = _texts()
    problems = []
    for path, text in texts:
        own = path.stem if path.parent == _CONTRACTS and path.stem in _NAMES else None
        problems += [f"{path.relative_to(_ROOT)}: {problem}" for problem in _problems(text, own)]
    assert not problems, "\n".join(problems)
    assert sum(text.count("§") for _, text in texts) > 200


@pytest.mark.parametrize(
    "text",
    [
        "libnetwork §2.5",
        "vsd §6, §7 and §7.1",
        "vsd §6.3: 2702 (vrs §5)",
        "# a comment that ends with vrs\n    # §10.1, item 7",
        "vsd §11.2 step 6, libnetwork §8 row 25",
        "RFC 7047 §4.1.6",
        "predecessor D-DOC-1",
    ],
)
def test_a_reference_in_the_house_form_is_accepted(text):
    assert _problems(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "§2.5",
        "§ 2.5",
        "vsd §6 has it, as does §7",
        "libnetwork-contract §2.5",
        "the contract §2.5",
        "vsd §6.9",
        "vsd §6, §99",
        "vsd § 6.3",
        "vsd §11.2 step 7",
        "libnetwork §8 row 26",
        "predecessor D-DOC-99",
    ],
)
def test_a_reference_that_is_bare_or_leads_nowhere_is_refused(text):
    assert len(_problems(text)) == 1


def test_inside_a_contract_a_bare_reference_means_that_contract():
    assert _problems("§2.11", own="libnetwork") == []
    assert len(_problems("§2.11", own="vrs")) == 1
    assert _problems("§12 (vsd §20, §19) §12", own="vrs") == []
