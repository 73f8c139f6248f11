#!/bin/sh
# in_tree.sh TREE PROGRAM ARGUMENT…: PROGRAM on another Debian, with the network, /run, configuration and state of the host. Runs in a mount namespace of its own.
set -eu
tree=$1
program=$2
shift 2
for path in /proc /sys /dev /run /etc/default /var/log; do
    mount --rbind "$path" "$tree$path"
done
mount --bind "$(dirname "$program")" "$tree/build"
mount -t tmpfs tmpfs "$tree/opt"
mount -t tmpfs tmpfs "$tree/var/lib/nuage-libnetwork"
mkdir -p "$tree/opt/lib"
exec chroot "$tree" /build/"$(basename "$program")" "$@"
