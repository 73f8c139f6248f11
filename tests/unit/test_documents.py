"""The documents are true where a machine can see it: links, paths, modules, quoted sentences."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "nuage_appliance"
LONGEST_LINE = 120
# The contracts describe other programs, whose repositories have paths like ours.
CONTRACTS = ROOT / "docs" / "contracts"
_DIRECTORIES = "scripts|tests|docs|build|rpmbuild|bench|nuage_lab|nuage_appliance"
# What OPERATIONS.md quotes from PyInstaller's loader, the C library and Docker.
_FOREIGN = {
    "[PYI-…:ERROR] Could not create temporary directory!",
    "[PYI-…:ERROR] Failed to extract …",
    "… failed to map segment from shared object",
    "could not resolve driver nuage in registry",
}
# The predecessor's commands: whoever has them in a script or in the fingers can go on using them.
_CREATE = (
    "docker network create --driver=nuage --ipam-driver=nuage-ipam"
    " --ipam-opt organization=Enterprise --ipam-opt domain=Domain --ipam-opt zone=Zone"
    ' --ipam-opt subnet="Subnet 2" --ipam-opt user=admin'
    " --subnet=10.21.59.0/24  --gateway=10.21.59.1 MyNet"
)
_COMMANDS_OF_OLD = (
    "export version=",
    "./scripts/buildRPM.sh",
    "./scripts/create-docker-image.sh",
    "yum localinstall -y nuage-libnetwork-",
    "systemctl start nuage-libnetwork",
    "systemctl status nuage-libnetwork",
    "docker load -i nuage-plugin.tar",
    "docker images",
    "docker run -v /usr/bin/:/usr/bin/ -v /usr/lib64/:/usr/lib64 -v /var/run:/var/run"
    " -v /var/log:/var/log -v /etc/default:/etc/default --net=host --privileged -dt nuage-plugin:",
    "nuage-libnetwork -config /tmp/nuage-libnetwork.yaml &",
    _CREATE,
    "docker network ls",
    "docker network inspect MyNet",
    "docker run -it --net MyNet nginx /bin/bash",
)


def _listed(*patterns):
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run(
        [*command, "--exclude-standard", *patterns], cwd=ROOT, stdout=subprocess.PIPE
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {ROOT}", allow_module_level=True)
    names = (name for name in listed.stdout.decode().split("\0") if name)
    return sorted({ROOT / name for name in names if (ROOT / name).is_file()})


DOCUMENTS = _listed("*.md")
OURS = [path for path in DOCUMENTS if CONTRACTS not in path.parents]
each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)
each_of_ours = pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))


def _prose(text):
    """The text without what stands in fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def _anchors(path):
    """The anchors of a document's headings, as GitHub makes them."""
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", _prose(path.read_text()), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in anchors:
            number += 1
        anchors.add(anchor)
    return anchors


def _table(path, heading):
    """The rows of the first table below a heading, each a list of its cells."""
    text = f"\n{path.read_text()}".split(f"\n{heading}\n", 1)[1]
    rows = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]])
        elif rows:
            break
    return rows[2:]


# --- links, paths, lines


@each_document
def test_every_relative_link_and_anchor_leads_somewhere(path):
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        aim = (path.parent / name).resolve() if name else path
        if not aim.exists() or (anchor and anchor not in _anchors(aim)):
            lost.append(target)
    assert not lost


@each_of_ours
def test_every_path_that_a_document_names_exists(path):
    named = re.findall(rf"(?<![\w./~-])((?:{_DIRECTORIES})/[\w./-]*\w/?)", path.read_text())
    made = ("build/work", "rpmbuild/RPMS", "rpmbuild/SRPMS")
    missing = [
        name
        for name in named
        if not name.startswith(made)
        and not (ROOT / name).exists()
        and not (ROOT / f"{name}.py").exists()
    ]
    assert not missing


@each_of_ours
def test_every_test_file_that_a_document_names_exists(path):
    there = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"(?<!\w)test_\w+\.py", path.read_text())) <= there


@each_document
def test_lines_are_short_outside_of_tables_and_code(path):
    lines = enumerate(_prose(path.read_text()).splitlines(), 1)
    assert not [
        (number, line)
        for number, line in lines
        if len(re.sub(r"`[^`]*`$", "", line)) > LONGEST_LINE and not line.startswith("|")
    ]


def test_every_promise_names_a_test():
    path = ROOT / "docs" / "RELIABILITY.md"
    rows = _table(path, "# What nuage-libnetwork promises when something fails")
    assert [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert not [row[0] for row in rows if "test_" not in row[2]]


# --- what the documents say of the code


def test_the_layout_in_house_md_names_each_module_of_the_product_once():
    named = [
        name
        for row in _table(ROOT / "docs" / "HOUSE.md", "## 3. Layout")
        for name in re.findall(r"`([\w/]+)`", row[0])
    ]
    modules = [
        path.relative_to(PRODUCT).with_suffix("").as_posix()
        for path in PRODUCT.rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert sorted(named) == sorted(modules)


def test_the_commands_of_the_predecessor_are_still_there():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "INSTALL.md").read_text()
    assert not [command for command in _COMMANDS_OF_OLD if command not in text]


# --- sentences that OPERATIONS.md quotes


def _shape(node):
    """A string expression with `…` where it has a value; None for anything else."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%[-\d.]*[sdfr]", "…", node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_shape(part) or "…" for part in node.values)
    return None


@cache
def _sentences():
    """Every string of the product, with `…` where it has a value."""
    shapes = set()
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            shape = _shape(node)
            if shape:
                shapes.add(shape)
    return shapes


def _quotes():
    cells = [
        row[0] for row in _table(ROOT / "docs" / "OPERATIONS.md", "## When something is wrong")
    ]
    return [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("quote", [quote for quote in _quotes() if quote not in _FOREIGN])
def test_a_sentence_that_operations_md_explains_is_in_the_code(quote):
    # Part by part: `the VSD at … cannot be reached` is put together from a name and what is wrong.
    parts = [part.strip() for part in quote.split("…") if re.search(r"\w", part)]
    assert parts
    assert not [part for part in parts if not any(part in sentence for sentence in _sentences())]


def test_operations_md_explains_what_other_programs_say_too():
    assert set(_quotes()) >= _FOREIGN


def test_the_log_lines_that_operations_md_shows_are_what_the_code_writes():
    section = (ROOT / "docs" / "OPERATIONS.md").read_text().split("\n## The log\n")[1]
    lines = section.split("```")[1].strip().splitlines()
    patterns = [
        re.compile(".+".join(re.escape(part) for part in sentence.split("…")))
        for sentence in _sentences()
        if len(sentence.replace("…", "")) > 10
    ]
    assert len(lines) == 3
    assert not [line for line in lines if not any(pattern.fullmatch(line) for pattern in patterns)]
