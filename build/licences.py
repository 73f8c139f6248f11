"""Prints the licences of all that the frozen program and the image carry beside our own code; runs in the toolchain."""

import email
import pathlib

SITE = pathlib.Path("/build/site")
COMPILED = pathlib.Path("/opt/python/licences")
DEBIAN = ("libc6", "libffi7", "libgcc-s1", "libstdc++6", "zlib1g")
NOT_CARRIED = (
    "pyinstaller-hooks-contrib",
    "altgraph",
    "packaging",
    "setuptools",
)  # what freezes only; PyInstaller's loader is carried


def _notices():
    for directory in sorted(SITE.glob("*.dist-info"), key=lambda path: path.name.lower()):
        about = email.message_from_string((directory / "METADATA").read_text())
        if about["Name"].lower().replace("_", "-") in NOT_CARRIED:
            continue
        texts = [
            path.read_text()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
            and path.name.upper().startswith(("LICEN", "COPYING", "NOTICE", "AUTHORS"))
        ]
        said = about["License-Expression"] or about["License"] or ""
        yield (
            f"{about['Name']} {about['Version']}",
            "\n\n".join(([said] if said else []) + texts) or "see the package",
        )
    for path in sorted(COMPILED.iterdir()):
        yield path.name, path.read_text()
    for package in DEBIAN:
        yield (
            f"{package} (of Debian)",
            pathlib.Path(f"/usr/share/doc/{package}/copyright").read_text(errors="replace"),
        )


for title, text in _notices():
    print(f"{'=' * 100}\n{title}\n{'=' * 100}\n\n{text.strip()}\n")
