#!/bin/sh
# Runs one step of a longer job and prints one line: what it does, and the seconds it took. What the step itself prints
# goes to the log; where it fails, its last lines are shown too, and its exit status is given back.
# usage: step.sh LOG LINES WHAT COMMAND [ARGUMENT...]
log=$1 lines=$2 what=$3
shift 3
printf '%s ... ' "$what"
printf '\n=== %s: %s\n' "$(date '+%F %T')" "$*" >>"$log"
started=$(date +%s)
before=$(wc -l <"$log")
"$@" >>"$log" 2>&1
status=$?
seconds=$(($(date +%s) - started))
if [ "$status" = 0 ]; then
    echo "$seconds s"
else
    echo "failed after $seconds s; its output is in $log:"
    tail -n "+$((before + 1))" "$log" | tail -n "$lines" >&2
fi
exit "$status"
