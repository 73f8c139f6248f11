# Sourced by the scripts that take long: . "$root/build/progress.sh"
# Runs a long command with its output in a file, and never lets the terminal be silent for more than five seconds.
# NUAGE_PROGRESS_S is the pause between two lines of progress, for tests of it.

progress_pid=

say() { printf '%s\n' "$*" >&2; }

# How far the running command is, for the progress line. A script may define its own after sourcing this.
how_far() { tail -n 1 "$1" 2>/dev/null | tr -d '\r' | tr -c '[:print:]\n' ' ' | cut -c 1-90; }

show_progress() { # LOG: a line every four seconds, until it is killed or its script is gone
    begin=$(date +%s)
    while sleep "${NUAGE_PROGRESS_S:-4}" >/dev/null 2>&1 9>&-; do
        kill -0 $$ 2>/dev/null || exit 0
        passed=$(($(date +%s) - begin))
        say "  $passed s  $(how_far "$1")"
    done
}

stop_progress() {
    if [ -n "$progress_pid" ]; then
        # KILL: a TERM that arrives before the new process has dropped our traps would be lost, and wait would not end.
        kill -KILL "$progress_pid" 2>/dev/null || true
        wait "$progress_pid" 2>/dev/null || true
        progress_pid=
    fi
}

# with_progress LOG TITLE COMMAND…: say TITLE, run COMMAND with its output added to LOG, return its status.
# The command runs in the foreground and the progress line in the background, because a shell without job control
# starts background commands with SIGINT ignored: Ctrl-C would not end them.
with_progress() {
    progress_log=$1
    say "$2"
    shift 2
    echo >>"$progress_log" # so that the last line is not that of the command before
    show_progress "$progress_log" &
    progress_pid=$!
    progress_status=0
    "$@" >>"$progress_log" 2>&1 </dev/null 9>&- || progress_status=$? # 9: the lock of some callers
    stop_progress
    return "$progress_status"
}

# show_failure LOG NAME STATUS: the end of a command's output, and where the whole of it is
show_failure() {
    tail -n 25 "$1" | cut -c 1-300 | sed 's/^/    /' >&2
    say "$2 failed with status $3; the whole output is in $1"
}
