#!/bin/sh
# Makes the packages rpmbuild/RPMS/x86_64/nuage-libnetwork-VERSION-1.x86_64.rpm and rpmbuild/SRPMS/nuage-libnetwork-VERSION-1.src.rpm, and
# prints their paths:   export version=VERSION; scripts/buildRPM.sh
# Without a version in the environment the program's own is taken. The version in rpmbuild/nuage-libnetwork.spec needs no change.
# The same commit makes the same files, byte for byte.
set -eu
umask 022
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
name=nuage-libnetwork

. "$root/build/progress.sh"

fail() { say "scripts/buildRPM.sh: $1"; exit "${2:-1}"; }
[ $# -eq 0 ] || fail "'$1' is not known; it takes no arguments, the version comes from the environment: export version=6.0.0" 2
if [ -n "${version+set}" ]; then
    case $version in
        '' | [!0-9A-Za-z]* | *[!0-9A-Za-z.+~_]*)
            fail "'$(printf %s "$version" | tr -c '[:print:]' '?' | cut -c1-80)' is no version of an RPM; it begins with a letter or digit, and may have .+~_ besides" 2 ;;
    esac
    [ ${#version} -le 64 ] || fail "the version has ${#version} characters; at most 64 would be right" 2
fi
case $root in
    *[!0-9A-Za-z/._+~@-]*) fail "this checkout is in '$root', and rpmbuild takes no path with a blank or such a character; move it" ;;
esac
[ "$(uname -m)" = x86_64 ] || fail "this machine is $(uname -m); the program runs on x86_64 only, so build it there"
for program in rpmbuild:rpm gzip:gzip tar:tar flock:util-linux; do
    command -v "${program%:*}" >/dev/null 2>&1 || fail "${program%:*} is missing; install ${program#*:}"
done

binary=$("$root/scripts/build-binary")
version=$("$binary" -version)
version=${version#"$name "}
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -c safe.directory='*' -C "$root" log -1 --format=%ct 2>/dev/null || echo 1)
fi
export SOURCE_DATE_EPOCH

mkdir -p "$root/build/work"
work=$(mktemp -d "$root/build/work/rpm.XXXXXX")
trap 'stop_progress; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the source: what build/stage-files takes, and what the program was made from; all with one owner, one time, in one order

tree=$work/$name
mkdir -p "$tree/dist" "$work/SOURCES" "$work/SPECS"
(cd "$root" && find build rpmbuild scripts docs nuage_appliance -path build/work -prune -o -path build/lib -prune -o -path 'build/bdist*' -prune -o -path 'rpmbuild/*/*' -prune -o -type f ! -name '*.pyc' -print) >"$work/list"
(cd "$root" && tar -cf - -T "$work/list" LICENSE NOTICE README.md pyproject.toml requirements.txt) | tar -xf - -C "$tree"
cp "$binary" "$tree/dist/$name"
if [ -f "$root/dist/third-party-licences.txt" ]; then cp "$root/dist/third-party-licences.txt" "$tree/dist/"; fi
chmod -R u=rwX,go=rX "$tree"
source=$work/SOURCES/$name-$version.tar.gz
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu -cf - "$name" | gzip -6n >"$source"
sed "s/^Version: .*/Version:        $version/" "$root/rpmbuild/$name.spec" >"$work/SPECS/$name.spec"
touch -d "@$SOURCE_DATE_EPOCH" "$source" "$work/SPECS/$name.spec"

# --- the packages; neither the user's macros nor the machine's package database have a say

log=$root/build/work/rpm.log
: >"$log"
with_progress "$log" "making the packages with rpmbuild" env HOME="$work" rpmbuild -ba --target x86_64 --define "_topdir $work" \
    --define "_dbpath $work/db" --define "_tmppath $work" "$work/SPECS/$name.spec" ||
    { tail -n 40 "$log" >&2; fail "rpmbuild failed; the whole output is in $log"; }
for package in RPMS/x86_64/$name-$version-1.x86_64.rpm SRPMS/$name-$version-1.src.rpm; do
    [ -f "$work/$package" ] || fail "rpmbuild did not make $package; the whole of it is in $root/build/work/rpm.log"
    mkdir -p "$(dirname "$root/rpmbuild/$package")"
    mv -f "$work/$package" "$root/rpmbuild/$package"
    printf '%s\n' "$root/rpmbuild/$package"
done
