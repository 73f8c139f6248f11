"""The first process of a systemd root: builds the root in new namespaces, waits for the order to
boot, and becomes systemd.

It must never write to the machine: the tree is read-only below an overlay in memory, /proc/sys is
read-only but for the network's part (which is this root's own), devices are few and harmless, and
the clock, modules and the kernel's log are out of systemd's reach.
"""

import argparse
import os
import socket
import stat

from nuage_lab.hosts.init import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    bind,
    enter,
    mount,
    own_cgroups,
)

ROOT = "/mnt"
DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "console": (1, 3),
}
NOT_FOR_US = (
    "-sys_time,-sys_module,-sys_boot,-syslog,-mac_admin,-mac_override,-wake_alarm,-block_suspend"
)


def own_devices(root):
    """Give the root the usual devices.

    What is written to the console is lost, the journal has it.
    """
    mount("tmpfs", root + "/dev", "tmpfs", MS_NOSUID, "mode=755")
    for name, numbers in DEVICES.items():
        path = f"{root}/dev/{name}"
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        os.chmod(path, 0o666)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{root}/dev/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{root}/dev/{name}")
    mount(
        "devpts",
        root + "/dev/pts",
        "devpts",
        MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )
    mount("tmpfs", root + "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def build_root(options):
    """Build the root from the tree and make it the root of this mount namespace."""
    mount("tmpfs", ROOT, "tmpfs", 0, "mode=755")
    root = ROOT + "/root"
    for name in ("upper", "work", "docker", "root"):
        os.mkdir(f"{ROOT}/{name}")
    mount(
        "overlay",
        root,
        "overlay",
        data=f"lowerdir={options.tree},upperdir={ROOT}/upper,workdir={ROOT}/work",
    )
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind(root + "/proc/sys", root + "/proc/sys")
    bind(root + "/proc/sys/net", root + "/proc/sys/net")
    mount(
        None,
        root + "/proc/sys",
        flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
    )
    mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    own_cgroups(root, options.cgroup)
    # beside version 1: there systemd learns when a service's last process ended, which version 1
    # reports to the machine alone
    if options.unified:
        os.mkdir(f"{root}/sys/fs/cgroup/{options.unified}")
        mount(
            "cgroup2",
            f"{root}/sys/fs/cgroup/{options.unified}",
            "cgroup2",
            MS_NOSUID | MS_NODEV | MS_NOEXEC,
        )
    if options.cgroup:  # read-only, so that systemd adds no hierarchies that the machine has not
        mount(
            None,
            root + "/sys/fs/cgroup",
            flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
        )
    mount(
        None,
        root + "/sys",
        flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
    )
    own_devices(root)
    for name, mode in (("run", "755"), ("tmp", "1777")):
        mount("tmpfs", f"{root}/{name}", "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    os.makedirs(root + "/var/lib/docker", exist_ok=True)
    bind(
        ROOT + "/docker", root + "/var/lib/docker"
    )  # not on the overlay: the engine has overlays of its own
    for path in options.show:
        os.makedirs(root + path, exist_ok=True)
        bind(path, root + path, MS_REC)
    for name, text in (
        ("hostname", options.hostname),
        ("hosts", f"127.0.0.1 localhost {options.hostname}"),
        ("resolv.conf", "# none"),
    ):
        with open(f"{root}/etc/{name}", "w", encoding="ascii") as file:
            file.write(text + "\n")
    enter(root)
    mount(
        None, "/", flags=MS_SHARED | MS_REC
    )  # as systemd expects it: services' mount namespaces see what is mounted later


def main():
    """Build the root, say so on --ready-fd, wait for boot, and become systemd."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--hostname", required=True)
    parser.add_argument("--cgroup", action="append", default=[], metavar="CONTROLLERS@NAME")
    parser.add_argument("--unified", metavar="NAME")
    parser.add_argument("--show", action="append", default=[])
    parser.add_argument("--boot-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args()
    socket.sethostname(options.hostname)
    build_root(options)
    os.write(options.ready_fd, b"ready\n")
    os.close(options.ready_fd)
    if not os.read(options.boot_fd, 16):
        return  # nobody holds the other end any more
    os.close(options.boot_fd)
    systemd = [
        "/usr/bin/setpriv",
        f"--bounding-set={NOT_FOR_US}",
        "/lib/systemd/systemd",
        "--unit=multi-user.target",
        "--show-status=no",
    ]
    os.execve(
        systemd[0],
        systemd,
        {"container": "other", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
    )


if __name__ == "__main__":
    main()
