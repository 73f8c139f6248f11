#!/bin/sh
# Makes the managed plugin NAME[:TAG] (needed in swarm mode) in the engine that the docker client speaks to:
#   scripts/create-v2-plugin.sh [--push] NAME[:TAG]        --push also sends it to the registry that NAME begins with
#   scripts/create-v2-plugin.sh --directory DIRECTORY      makes only what `docker plugin create NAME DIRECTORY` takes, and needs no engine
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s\n' "$(printf '%s' "$*" | tr '\n' ' ')" >&2; } # one line, whatever it tells of
misused() { say "usage: scripts/create-v2-plugin.sh [--push] NAME[:TAG] | --directory DIRECTORY"; exit 2; }
make_directory() { # $1 becomes rootfs/ and config.json
    mkdir -p "$1"
    "$root/build/make-rootfs" "$1/rootfs"
    install -m 644 "$root/build/managed-plugin.json" "$1/config.json"
}

if [ "${1:-}" = --directory ]; then
    [ $# -eq 2 ] && [ -n "$2" ] || misused
    if [ -e "$2" ] && [ -n "$(ls -A "$2" 2>&1)" ]; then
        say "scripts/create-v2-plugin.sh: $2 is there and not empty; name a new directory"
        exit 1
    fi
    make_directory "$2"
    say "made $2; on each node: docker plugin create nuage $2"
    exit 0
fi

push=
if [ "${1:-}" = --push ]; then
    push=yes
    shift
fi
[ $# -eq 1 ] || misused
name=$1
# The last part of the path must begin with nuage: by that the program knows its networks among others.
part='[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*'
grammar="^([A-Za-z0-9.-]+(:[0-9]+)?/)?($part/)*nuage[a-z0-9]*(([._]|__|-+)[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?\$"
if [ "$(printf '%s\n' "$name" | wc -l)" -ne 1 ] || ! printf '%s\n' "$name" | LC_ALL=C grep -Eqx "$grammar"; then
    say "scripts/create-v2-plugin.sh: '$name' is no name for it; write nuage, nuage:TAG or REGISTRY/PATH/nuage:TAG; its last part begins with nuage, all but TAG is in lower case"
    exit 2
fi
command -v docker >/dev/null 2>&1 || { say "scripts/create-v2-plugin.sh: the docker client is missing; install docker.io, or docker-cli"; exit 1; }
problem=$(docker plugin ls -q 2>&1 >/dev/null) || { say "scripts/create-v2-plugin.sh: no engine answers: $problem"; exit 1; }
if docker plugin inspect "$name" >/dev/null 2>&1; then
    say "scripts/create-v2-plugin.sh: the engine has a plugin $name already; remove it with 'docker plugin rm $name', or write another tag"
    exit 1
fi

mkdir -p "$root/build/work"
work=$(mktemp -d "$root/build/work/plugin.XXXXXX")
clean() { rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
make_directory "$work"
# An engine takes no second plugin whose files are all equal to those of one that it has, as two tags of one build would be.
printf '%s\n' "$name" >"$work/rootfs/etc/managed-plugin"
touch -r "$work/rootfs" "$work/rootfs/etc/managed-plugin" "$work/rootfs/etc"
docker plugin create "$name" "$work" >/dev/null
say "made the managed plugin $name; on each node: mkdir -p /var/lib/nuage-libnetwork /var/log/nuage-libnetwork && docker plugin enable $name"
if [ -n "$push" ]; then
    docker plugin push "$name" >&2
fi
