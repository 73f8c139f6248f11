"""Writes a root file system as an image for `docker load`.

docker_archive.py ROOTFS CONFIG.json NAME:TAG OUTPUT

Needs no engine and only the standard library. The output depends on the files and their times
alone, so that equal trees make equal archives.
"""

import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import time

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_layer(tree):
    """Return the tree as a tar with all files owned by root, in the order of their names."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory, directories, files in os.walk(tree):
            directories.sort()
            links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
            inside = os.path.relpath(directory, tree)
            if inside != ".":
                _add(tar, directory, inside)
            for name in sorted(files + links):
                _add(
                    tar, os.path.join(directory, name), os.path.normpath(os.path.join(inside, name))
                )
    return stream.getvalue()


def _add(tar, path, name):
    entry = tar.gettarinfo(path, name)
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = int(entry.mtime)
    if entry.isreg():
        with open(path, "rb") as content:
            tar.addfile(entry, content)
    else:
        tar.addfile(entry)


def image_config(config, layer, tag, seconds):
    """Return the image's configuration: when it was made, how it is run, and its layer."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    labels = {
        **config["Labels"],
        "org.opencontainers.image.version": tag,
        "org.opencontainers.image.created": created,
    }
    return {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "created": created,
        "config": {**config, "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": created, "created_by": "scripts/create-docker-image.sh"}],
    }


def write_archive(tree, config, name, output):
    """Write the archive; the name `output` appears only when the file is complete."""
    seconds = int(os.stat(tree).st_mtime)
    layer = write_layer(tree)
    text = json.dumps(
        image_config(config, layer, name.rpartition(":")[2], seconds), sort_keys=True
    ).encode()
    names = (
        f"{hashlib.sha256(text).hexdigest()}.json",
        f"{hashlib.sha256(layer).hexdigest()}/layer.tar",
    )
    manifest = json.dumps([{"Config": names[0], "RepoTags": [name], "Layers": [names[1]]}]).encode()
    with tarfile.open(f"{output}.new", "w", format=tarfile.GNU_FORMAT) as tar:
        for member, content in ((names[1], layer), (names[0], text), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode, entry.mtime = len(content), 0o644, seconds
            tar.addfile(entry, io.BytesIO(content))
    os.replace(f"{output}.new", output)


if __name__ == "__main__":
    rootfs, config_path, image, archive = sys.argv[1:]
    with open(config_path, encoding="utf-8") as file:
        write_archive(rootfs, json.load(file), image, archive)
