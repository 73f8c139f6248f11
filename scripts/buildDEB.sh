#!/bin/sh
# Makes the Debian package dist/nuage-libnetwork_VERSION-1_amd64.deb and prints its path:   export version=VERSION; scripts/buildDEB.sh
# Without a version in the environment the program's own is taken. The same commit makes the same file, byte for byte.
set -eu
umask 022
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
name=nuage-libnetwork

fail() { printf '%s\n' "scripts/buildDEB.sh: $1" >&2; exit "${2:-1}"; }
[ $# -eq 0 ] || fail "'$1' is not known; it takes no arguments, the version comes from the environment: export version=6.0.0" 2
if [ -n "${version+set}" ]; then
    case $version in
        '' | [!0-9]* | *[!0-9A-Za-z.+~]*)
            fail "'$(printf %s "$version" | tr '\n' ' ')' is no version of a Debian package; it begins with a digit, and may have letters, digits and .+~" 2 ;;
    esac
    [ ${#version} -le 64 ] || fail "the version has ${#version} characters; at most 64 would be right" 2
fi
for program in dpkg-deb:dpkg gzip:gzip flock:util-linux; do
    command -v "${program%:*}" >/dev/null 2>&1 || fail "${program%:*} is missing; install ${program#*:}"
done

binary=$("$root/scripts/build-binary")
version=$("$binary" -version)
version=${version#"$name "}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -c safe.directory='*' -C "$root" log -1 --format=%ct 2>/dev/null || echo 1)}
export SOURCE_DATE_EPOCH

mkdir -p "$root/build/work"
work=$(mktemp -d "$root/build/work/deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- what the RPM has, too; licences are where Debian has them

tree=$work/tree
documents=$tree/usr/share/doc/$name
"$root/build/stage-files" "$tree"
if [ -f "$tree/usr/share/licenses/$name/third-party-licences.txt" ]; then
    gzip -9n "$tree/usr/share/licenses/$name/third-party-licences.txt"
    mv "$tree/usr/share/licenses/$name/third-party-licences.txt.gz" "$documents/"
fi
rm -r "$tree/usr/share/licenses"
install -m 644 "$root/build/deb/copyright" "$documents/copyright"
install -D -m 644 "$root/build/deb/lintian-overrides" "$tree/usr/share/lintian/overrides/$name"
maintainer=$(sed -n 's/^Maintainer: //p' "$root/build/deb/control")
printf '%s (%s-1) unstable; urgency=medium\n\n  * Version %s.\n\n -- %s  %s\n' "$name" "$version" "$version" "$maintainer" \
    "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$documents/changelog.Debian.gz"

# --- the control files for dpkg

mkdir "$tree/DEBIAN"
(cd "$tree" && find etc usr -type f ! -path 'etc/*' | sort | xargs -d '\n' md5sum >DEBIAN/md5sums)
(cd "$tree" && find etc -type f | sed 's,^,/,' | sort >DEBIAN/conffiles)
size=$(cd "$tree" && find etc usr var -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
sed "s/@VERSION@/$version-1/; s/@SIZE@/$size/" "$root/build/deb/control" >"$tree/DEBIAN/control"
for script in postinst prerm postrm; do
    install -m 755 "$root/build/deb/$script" "$tree/DEBIAN/$script"
done
chmod 644 "$tree/DEBIAN/md5sums" "$tree/DEBIAN/conffiles" "$tree/DEBIAN/control"
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# --- the package; gzip, since what is big in it is compressed already

package=$root/dist/${name}_$version-1_amd64.deb
TMPDIR=$work dpkg-deb --root-owner-group -Zgzip -z9 --build "$tree" "$work/package.deb" >"$work/log" 2>&1 || fail "dpkg-deb: $(tail -1 "$work/log")"
mv -f "$work/package.deb" "$package"
printf '%s\n' "$package"
