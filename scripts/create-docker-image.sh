#!/bin/sh
# Makes nuage-plugin.tar in the current directory: the image nuage-plugin:TAG, for `docker load -i nuage-plugin.tar`.
# The environment variable `version` is the tag and what the program tells as its version; without it, both are the package's own.
# Needs neither an engine nor a registry; two runs on one commit make equal files.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
archive=nuage-plugin.tar

say() { printf '%s\n' "$(printf '%s' "$*" | tr '\n' ' ')" >&2; } # one line, whatever it tells of
[ $# -eq 0 ] || { say "scripts/create-docker-image.sh: takes no arguments, not '$1'; the tag is the environment variable version"; exit 2; }
check_tag() {
    case $1 in
        [!0-9A-Za-z_]* | *[!0-9A-Za-z_.-]*) ;;
        ?*) [ ${#1} -gt 128 ] || return 0 ;;
    esac
    say "scripts/create-docker-image.sh: '$1' is no tag; it has at most 128 letters, digits, '_', '.' and '-', and begins with none of the last two"
    exit 2
}
export LC_ALL=C # for the ranges above
[ -z "${version:-}" ] || check_tag "$version"
[ -w . ] && [ ! -d "$archive" ] || { say "scripts/create-docker-image.sh: $archive cannot be written in $(pwd); go to a directory where it can"; exit 1; }

binary=$("$root/scripts/build-binary")
tag=${version:-$("$binary" -version | cut -d' ' -f2)}
check_tag "$tag"
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
mkdir -p "$root/build/work"
work=$(mktemp -d "$root/build/work/image.XXXXXX")
new=$archive.$$ # of this run, so that two at once do not write to one file
clean() { rm -rf "$work" "$new" "$new.new"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$root/build/make-rootfs" "$work/rootfs"
"$python" "$root/build/docker_archive.py" "$work/rootfs" "$root/build/image.json" "nuage-plugin:$tag" "$new"
mv -fT "$new" "$archive"
say "made $archive, the image nuage-plugin:$tag; on each host: docker load -i $archive"
