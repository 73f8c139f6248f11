#!/bin/sh
# engine.sh TREE COMMAND...
# Becomes COMMAND in a mount namespace whose root is TREE. A chroot is not enough: what enters a container later, as `docker exec` does,
# starts at the root of the container's mount namespace, which must then be the container's.
set -eu
cd "$1"
shift
pivot_root . mnt
# Else the shared mounts below /run, such as the network namespaces of containers that outlived their engine, would go on the host too.
mount --make-rprivate /mnt
umount -l /mnt
exec "$@"
