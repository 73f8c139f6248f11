#!/bin/sh
# daemon.sh PIDFILE COMMAND...
# Becomes COMMAND after writing its pid, as seen in the host, to PIDFILE.
set -eu
umask 022
echo $$ >"$1"
shift
exec "$@"
