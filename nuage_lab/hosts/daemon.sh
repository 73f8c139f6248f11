#!/bin/sh
# daemon.sh PIDFILE COMMAND...
# Becomes COMMAND after writing its pid, as seen in the host, to PIDFILE.
set -eu
umask 022
# Renamed into place: whoever sees the file must find a pid in it.
echo $$ >"$1.new"
mv "$1.new" "$1"
shift
exec "$@"
