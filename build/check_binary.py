"""Fails if a frozen program needs a newer C library than allowed: check_binary.py PROGRAM 2.28.

Checks every file inside it; the dependencies that RPM or dpkg find are those of the outermost only.
"""

import re
import subprocess
import sys
import tempfile

from PyInstaller.archive.readers import CArchiveReader


def _needed(content):
    """Return the highest version of glibc that an ELF file's symbols need, as numbers.

    None for any other kind of file.
    """
    if not content.startswith(b"\x7fELF"):
        return None
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        table = subprocess.run(
            ["objdump", "-T", file.name], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    versions = [
        tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", table)
    ]
    return max(versions, default=(0,))


def main():
    """Print the highest version needed, and by which file; returns 1 if it is too high."""
    program, highest = sys.argv[1:]
    archive = CArchiveReader(program)
    with open(program, "rb") as stream:
        files = {"the program itself": stream.read()}
    files |= {
        name: archive.extract(name) for name, entry in archive.toc.items() if entry[-1] in "bx"
    }
    needs = {
        name: needed for name, content in files.items() if (needed := _needed(content)) is not None
    }
    name, needed = max(needs.items(), key=lambda item: item[1])
    version = ".".join(map(str, needed))
    print(f"{len(needs)} ELF files; {name} needs glibc {version}; {highest} is allowed")
    return int(needed > tuple(map(int, highest.split("."))))


if __name__ == "__main__":
    sys.exit(main())
