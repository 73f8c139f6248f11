"""Pid 1 of a lab host: builds the host's root, then reaps.

Run as a file, with nothing but the standard library.

It starts in new mount, pid, uts, ipc and cgroup namespaces and in the host's network namespace. It
must never write to the machine's file systems outside the directory it is given.
"""

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_SHARED = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 20,
)
MNT_DETACH = 2
LIBC = ctypes.CDLL(None, use_errno=True)
PRIVATE = ("/var", "/tmp", "/run", "/etc")  # the host's own; mount points may be made in them


def mount(source, target, kind=None, flags=0, data=None):
    """Call mount(2); OSError with both paths when it fails."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    if LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]):
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} on {target}: {os.strerror(code)}")


def bind(source, target, flags=0):
    """Bind-mount source on target."""
    mount(source, target, flags=MS_BIND | flags)


def mount_point_of(path):
    """Return the mount point of the file system path is on, on the machine."""
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def is_same(left, right):
    """Tell whether two paths are one file."""
    try:
        return os.path.samefile(left, right)
    except OSError:
        return False


def show(path, root):
    """Make the machine's path visible at the same place below root, by a bind mount if it is not
    there yet.
    """
    if is_same(path, root + path):
        return
    if path.startswith(tuple(place + "/" for place in PRIVATE)):
        os.makedirs(root + path, exist_ok=True)
        bind(path, root + path)
        return
    top = mount_point_of(path)
    if top == "/":
        raise OSError(f"{path} cannot be made visible in the host")
    show(os.path.dirname(top), root)
    bind(top, root + top)


def own_etc(root, directory):
    """Give the host a writable /etc over the machine's."""
    upper, work = (os.path.join(directory, name) for name in ("etc", "etc-work"))
    for path in (upper, work):
        os.makedirs(path, exist_ok=True)
    try:
        mount(
            "overlay",
            root + "/etc",
            "overlay",
            data=f"lowerdir={root}/etc,upperdir={upper},workdir={work}",
        )
    except OSError:  # the directory is itself on an overlay, as in a container
        shutil.copytree(root + "/etc", upper, symlinks=True, dirs_exist_ok=True)
        bind(upper, root + "/etc")
    for name in (
        "docker",
        "openvswitch",
    ):  # nothing of the machine's daemon.json or conf.db shows through
        own = os.path.join(directory, "etc-" + name)
        os.makedirs(own, exist_ok=True)
        os.makedirs(f"{root}/etc/{name}", exist_ok=True)
        bind(own, f"{root}/etc/{name}")


def own_var(root, directory, log):
    """Give the host an empty /var of its own; its /var/log is the lab's log directory."""
    var = os.path.join(directory, "var")
    for name in ("lib/docker", "lib/nuage-libnetwork", "log", "cache", "spool", "tmp"):
        os.makedirs(os.path.join(var, name), exist_ok=True)
    for name in ("run", "lock"):
        if not os.path.islink(os.path.join(var, name)):
            os.symlink("/run" if name == "run" else "/run/lock", os.path.join(var, name))
    os.makedirs(os.path.join(log, "nuage-libnetwork"), exist_ok=True)
    bind(var, root + "/var")
    bind(log, root + "/var/log")


def own_cgroups(root, version_1):
    """Mount the host's view of its cgroups: version 2 alone, or one version 1 hierarchy each."""
    top = root + "/sys/fs/cgroup"
    if not version_1:
        mount("cgroup2", top, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        return
    mount("tmpfs", top, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for word in version_1:
        controllers, _, name = word.partition("@")
        os.mkdir(f"{top}/{name}")
        mount("cgroup", f"{top}/{name}", "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, controllers)
        for alias in controllers.split(",") if "," in name else ():
            os.symlink(name, f"{top}/{alias}")


def write_names(root, hostname):
    """Give the host names of its own, and no name server: there is no way to one."""
    for name, text in (
        ("hostname", hostname),
        ("hosts", f"127.0.0.1 localhost {hostname}"),
        ("resolv.conf", "# none"),
    ):
        path = f"{root}/etc/{name}"
        if os.path.islink(path):
            os.unlink(path)
        with open(path, "w", encoding="ascii") as file:
            file.write(text + "\n")


def need_programs():
    """End with one line when a program of ours is missing; the start of a host shows it."""
    for program, package in (("pivot_root", "util-linux-extra or util-linux"), ("ip", "iproute2")):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            raise SystemExit(
                f"{program} is missing (package {package}); `scripts/setup demo` installs it"
            )


def build_root(options):
    """Build the host's root from the machine's and make it the root of this mount namespace."""
    directory = options.directory
    root = os.path.join(directory, "root")
    os.makedirs(root, exist_ok=True)
    bind("/", root)  # not recursive: other engines' mounts would stay alive in here
    for path in ("/usr", "/etc", "/opt"):
        if os.path.ismount(path):
            bind(path, root + path)
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind("/dev", root + "/dev", MS_REC)
    mount("tmpfs", root + "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)
    for name in ("run", "tmp"):
        mount(
            "tmpfs",
            f"{root}/{name}",
            "tmpfs",
            MS_NOSUID | MS_NODEV,
            "mode=" + ("755" if name == "run" else "1777"),
        )
    for name in ("lock", "docker/plugins", "openvswitch", "nuage-lab"):
        os.makedirs(f"{root}/run/{name}")
    own_etc(root, directory)
    own_var(root, directory, options.log)
    own_cgroups(root, options.cgroup)
    for path in options.show:
        show(path, root)
    write_names(root, options.hostname)
    enter(root)


def enter(root):
    """Make a directory the root of this mount namespace, and leave the old one behind."""
    os.makedirs(root + "/run/old-root", exist_ok=True)
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "run/old-root"], check=True)
    os.chdir("/")
    if LIBC.umount2(b"/run/old-root", MNT_DETACH):
        raise OSError(ctypes.get_errno(), "umount of the old root")
    os.rmdir("/run/old-root")


def add_engine(tree, top, client, state):
    """Mount another Debian's tree at top, for the engine alone: read-only, with this host's own
    /run, /var, /tmp and devices.

    Mounts that the engine makes in /run and in its data are seen by the host too, as network
    namespaces are. The directory client gets its `docker`.
    """
    above = os.path.dirname(top)
    bind(
        above, above
    )  # a mount of its own, not shared as /run will be: no root can be put in place on a shared one
    os.makedirs(top)
    bind(tree, top)
    mount(
        "tmpfs", top + "/mnt", "tmpfs"
    )  # where the engine puts its old root; must not be shared either
    bind("/var/lib/docker", "/var/lib/docker")
    own = [
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/var",
        "/tmp",
        "/etc/docker",
        "/etc/default",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/hosts",
    ]
    if not state.startswith(("/run/", "/var/", "/tmp/")):
        os.makedirs(top + state, exist_ok=True)
        own.append(state)
    for path in ("/run", "/var/lib/docker"):
        mount(None, path, flags=MS_SHARED)
    for path in own:
        bind(path, top + path, 0 if path == "/run" else MS_REC)
    mount(None, top, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
    os.makedirs(client)
    with open(f"{client}/docker", "w", encoding="ascii") as file:
        file.write(f'#!/bin/sh\nexec chroot {top} /usr/bin/docker "$@"\n')
    os.chmod(f"{client}/docker", 0o755)


def main():
    """Build the root, say so on --ready-fd, and reap children for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--hostname", required=True)
    parser.add_argument("--cgroup", action="append", default=[], metavar="CONTROLLERS@NAME")
    parser.add_argument("--engine", nargs=4, metavar=("TREE", "ROOT", "CLIENT", "STATE"))
    parser.add_argument("--show", action="append", default=[])
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args()
    need_programs()
    socket.sethostname(options.hostname)
    build_root(options)
    if options.engine:
        add_engine(*options.engine)
    os.write(options.ready_fd, b"ready\n")
    os.close(options.ready_fd)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
