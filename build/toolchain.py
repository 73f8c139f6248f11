"""Makes the small Debian in which the program is frozen, and prints where it is.

A frozen program needs the C library it was made on, or a newer one. So this tree is Debian bullseye
(glibc 2.31) with a Python and an OpenSSL compiled there, which ask for no symbol newer than glibc
2.28 has. Their sources are bookworm's packages, because they get its security patches. It takes
four minutes, once: the tree stays in the lab's cache, under a name that contains the recipe's hash.
"""

import hashlib
import shutil
import sys

from nuage_lab import packages
from nuage_lab.hosts.progress import Ticker
from nuage_lab.hosts.run import LabError

SUITE = "bullseye"
SOURCE_SUITE = "bookworm"
SOURCES = ("python3.11", "openssl")
PACKAGES = ("build-essential", "libffi-dev", "pkg-config", "zlib1g-dev")
PREFIX = "/opt/python"
# No configuration file of the host's OpenSSL is read, because another release may not understand
# it; the CAs are named by the program.
OPENSSL_OPTIONS = (
    f"--prefix={PREFIX}",
    "--libdir=lib",
    "--openssldir=/usr/lib/nuage-libnetwork/ssl",
    "shared",
    "no-tests",
    "no-engine",
    "no-legacy",
    "no-comp",
    "no-ssl3",
    "-DOPENSSL_TLS_SECURITY_LEVEL=2",
)
PYTHON_OPTIONS = (
    f"--prefix={PREFIX}",
    f"--with-openssl={PREFIX}",
    "--enable-shared",
    "--without-ensurepip",
    "--disable-test-modules",
    "--without-doc-strings",
    "--with-system-ffi",
    "CFLAGS=-O2 -include /build/older_glibc.h",
    "LDFLAGS=-Wl,-s",
)
# glibc 2.29 gave these functions a new version that differs in errno only; the old one is there in
# every release.
OLDER_GLIBC = (
    "#if defined(__x86_64__) && !defined(__ASSEMBLER__)\n"
    + "".join(
        f'__asm__(".symver {name},{name}@GLIBC_2.2.5");\n'
        for name in ("exp", "exp2", "log", "log2", "pow")
    )
    + "#endif\n"
)
# bookworm's pyexpat only compiles in Debian's own build without this.
PYEXPAT = "#ifndef Py_BUILD_CORE\n#define Py_BUILD_CORE_MODULE 1\n#endif\n"
STEP_TIMEOUT_S = 1200.0
RECIPE = 1  # raise it when the steps below change


def name():
    """Return the tree's name in the cache."""
    recipe = repr(
        (
            RECIPE,
            SUITE,
            SOURCE_SUITE,
            SOURCES,
            PACKAGES,
            OPENSSL_OPTIONS,
            PYTHON_OPTIONS,
            OLDER_GLIBC,
            PYEXPAT,
        )
    )
    return f"toolchain-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _make(tree):
    packages.bootstrap(SUITE, tree, PACKAGES)
    work = tree / "build"
    work.mkdir()
    packages.download(SOURCE_SUITE, work, sources=SOURCES)
    for source in ("openssl", "python3.11"):
        (archive,) = work.glob(f"{source}_*.dsc")
        _step(tree, "/build", "dpkg-source", "--no-check", "-x", archive.name, source)
    (work / "older_glibc.h").write_text(OLDER_GLIBC)

    openssl = "/build/openssl"
    _step(tree, openssl, "./Configure", "linux-x86_64", *OPENSSL_OPTIONS)
    _step(tree, openssl, "make", "-j2", "build_libs")
    _step(tree, openssl, "make", "install_dev")

    (tree / "etc/ld.so.conf.d/python.conf").write_text(f"{PREFIX}/lib\n")
    _step(tree, "/", "ldconfig")
    python = "/build/python3.11"
    pyexpat = work / "python3.11/Modules/pyexpat.c"
    pyexpat.write_text(PYEXPAT + pyexpat.read_text())
    # glibc 2.30 has sem_clockwait; Python does without it.
    _step(tree, python, "env", "ac_cv_func_sem_clockwait=no", "./configure", *PYTHON_OPTIONS)
    _step(tree, python, "make", "-j2")
    _step(tree, python, "make", "install")
    _step(tree, "/", "ldconfig")

    licences = tree / "opt/python/licences"
    licences.mkdir()
    shutil.copyfile(work / "openssl/LICENSE.txt", licences / "OpenSSL")
    shutil.copyfile(work / "python3.11/LICENSE", licences / "Python")
    shutil.rmtree(work)
    work.mkdir()  # where scripts/build-binary mounts its work
    (tree / "var/lib/nuage-libnetwork").mkdir()


def _step(tree, directory, *command):
    words = [
        "unshare",
        "-m",
        "chroot",
        tree,
        "env",
        "-i",
        f"--chdir={directory}",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C",
        "HOME=/root",
        *command,
    ]
    packages.step(f"{' '.join(command[:2])} in the toolchain", words, STEP_TIMEOUT_S)


def main():
    """Print the tree's path, and make it first when it is not there."""
    try:
        with Ticker(lambda text: print(text, file=sys.stderr, flush=True)):
            print(packages.made(name(), _make))
    except LabError as error:
        print(f"build/toolchain.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
