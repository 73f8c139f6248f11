"""The container image of the lab: a busybox tree made from the machine's static busybox, so that no network is needed."""

import io
import os
import shutil
import tarfile

from nuage_lab.hosts.run import LabError, run

NAME = "nuage-lab/busybox:latest"
DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "proc",
    "root",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "var",
    "var/run",
    "www",
)
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "www/index.html": "nuage-lab\n",
}


def write_tree(tar_path):
    """Write the image's tree as a tar file; nothing happens when it is there."""
    if os.path.exists(tar_path):
        return
    busybox = shutil.which("busybox")
    if busybox is None:
        raise LabError("busybox is missing; scripts/setup installs it (package busybox-static)")
    applets = run([busybox, "--list"]).stdout.split()
    with tarfile.open(f"{tar_path}.new", "w") as tar:
        for name in DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        with open(busybox, "rb") as program:
            entry = tarfile.TarInfo("bin/busybox")
            entry.mode, entry.size = 0o755, os.fstat(program.fileno()).st_size
            tar.addfile(entry, program)
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o644, len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    os.replace(f"{tar_path}.new", tar_path)


def load(host, tar_path):
    """Import the tree into a host's engine, unless the image is there. The host must see tar_path."""
    if host.docker("image", "inspect", "-f", "{{.Id}}", NAME, check=False).returncode:
        host.docker(
            "import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin:/usr/bin", tar_path, NAME
        )
