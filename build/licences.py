"""Prints the licences of all that the frozen program and the image contain beside our own code.

Runs in the toolchain.
"""

import email
import pathlib

SITE = pathlib.Path("/build/site")
COMPILED = pathlib.Path("/opt/python/licences")
DEBIAN = ("libc6", "libffi7", "libgcc-s1", "libstdc++6", "zlib1g")
# Tools that only freeze the program; it contains PyInstaller's loader, but not these.
NOT_CARRIED = ("pyinstaller-hooks-contrib", "altgraph", "packaging", "setuptools")
NOTICES = ("LICEN", "COPYING", "NOTICE", "AUTHORS")


def _notices():
    for directory in sorted(SITE.glob("*.dist-info"), key=lambda path: path.name.lower()):
        about = email.message_from_string((directory / "METADATA").read_text())
        if about["Name"].lower().replace("_", "-") in NOT_CARRIED:
            continue
        texts = [
            path.read_text()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name.upper().startswith(NOTICES)
        ]
        licence = about["License-Expression"] or about["License"]
        if licence:
            texts.insert(0, licence)
        yield f"{about['Name']} {about['Version']}", "\n\n".join(texts) or "see the package"
    for path in sorted(COMPILED.iterdir()):
        yield path.name, path.read_text()
    for package in DEBIAN:
        path = pathlib.Path(f"/usr/share/doc/{package}/copyright")
        yield f"{package} (of Debian)", path.read_text(errors="replace")


for title, text in _notices():
    print(f"{'=' * 100}\n{title}\n{'=' * 100}\n\n{text.strip()}\n")
