"""Writes what people read of the configuration keys, from nuage_appliance/config/keys.py.

`python build/config_reference.py` rewrites the sample file, the table of the README and the list of
the man page; `--check` changes nothing and ends with status 1 when one of them differs.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nuage_appliance.config import KEYS, Key, Reload, Section  # noqa: E402  (needs the path above)

SAMPLE = ROOT / "rpmbuild/nuage-libnetwork.yaml"
README = ROOT / "README.md"
MAN_PAGE = ROOT / "rpmbuild/nuage-libnetwork.8"
_DOCUMENTS = "/usr/share/doc/nuage-libnetwork"  # where the packages install them
_TABLE = ("<!-- configuration keys: build/config_reference.py -->\n", "<!-- end of the keys -->\n")
_LIST = ('.\\" configuration keys: build/config_reference.py\n', '.\\" end of the keys\n')
_HEAD = """\
# The configuration of nuage-libnetwork. A line that starts with '#' and a key shows the default, or
# an example where there is no default. After a change:
#   nuage-libnetwork -config /etc/default/nuage-libnetwork.yaml -check
#   systemctl reload nuage-libnetwork
# The log names the keys that need a restart.
"""


def _shown(key: Key) -> str:
    """The default as people write it; empty where there is none."""
    if isinstance(key.default, bool):
        return "true" if key.default else "false"
    if key.name == "loglevel":
        return str(key.default).capitalize()
    return str(key.default)


def _sentence(key: Key) -> str:
    """What the key means, with its unit."""
    return key.help.replace("{unit}", key.unit)


def sample() -> str:
    """The text of rpmbuild/nuage-libnetwork.yaml."""
    lines = [_HEAD]
    for section in Section:
        lines.append(f"# --- {section.value}\n".replace("\n---", "\n# ---"))
        for key in KEYS.values():
            if key.section is not section:
                continue
            # A command of several words keeps its backticks, single values lose them.
            text = re.sub(r"`(\S*)`", r"\1", _sentence(key))
            text = text.replace("docs/MULTIHOST.md", f"{_DOCUMENTS}/MULTIHOST.md")
            lines += textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")
            lines.append(_sample_line(key))
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _sample_line(key: Key) -> str:
    if key.is_required:
        return f"{key.name}:"
    mark = "#" if key.is_commented else ""
    value = _shown(key) or key.example
    quoted = value if isinstance(key.default, int) else f'"{value}"'
    return f"{mark}{key.name + ':':<{18 - len(mark)}}{quoted}"


def table() -> str:
    """The rows of the README's table."""
    rows = ["| key | meaning | default |", "|---|---|---|"]
    for key in KEYS.values():
        names = " or ".join(f"`{name}`" for name in (key.name, *key.aliases))
        default = "required" if key.is_required else f"`{_shown(key)}`" if _shown(key) else "none"
        note = " Needs a restart." if key.reload is Reload.RESTART else ""
        meaning = (
            _sentence(key)
            .replace("|", "\\|")
            .replace(
                "docs/MULTIHOST.md has the rule", "[the rule](docs/MULTIHOST.md#hosts-in-consul)"
            )
        )
        rows.append(f"| {names} | {meaning}{note} | {default} |")
    return "\n".join(rows) + "\n"


def man_list() -> str:
    """The list of the man page."""
    lines = []
    for key in KEYS.values():
        sentence = _sentence(key).replace("docs/MULTIHOST.md", f"{_DOCUMENTS}/MULTIHOST.md")
        text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", sentence.replace("-", "\\-"))
        if not key.is_required and _shown(key):
            text += f" Default: {_shown(key)}."
        if key.aliases:
            text += f" Also written {' or '.join(key.aliases)}."
        if key.reload is Reload.RESTART:
            text += " A change needs a restart."
        lines += [".TP", f".B {key.name}", *textwrap.wrap(text, 78)]
    return "\n".join(lines) + "\n"


def _between(path: Path, marks: tuple[str, str], text: str) -> str:
    """The file's text with `text` between its two marks."""
    before, found, rest = path.read_text(encoding="utf-8").partition(marks[0])
    _, found_end, after = rest.partition(marks[1])
    if not found or not found_end:
        raise SystemExit(f"{path.relative_to(ROOT)} lacks the mark {marks[0].strip()!r} or its end")
    return before + marks[0] + text + marks[1] + after


def wanted() -> dict[Path, str]:
    """What each file should hold."""
    return {
        SAMPLE: sample(),
        README: _between(README, _TABLE, table()),
        MAN_PAGE: _between(MAN_PAGE, _LIST, man_list()),
    }


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--check", action="store_true", help="compare only; status 1 on a difference"
    )
    is_check = parser.parse_args().check
    status = 0
    for path, text in wanted().items():
        if path.read_text(encoding="utf-8") == text:
            continue
        if is_check:
            print(f"{path.relative_to(ROOT)} differs; run python build/config_reference.py")
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
