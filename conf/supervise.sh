#!/bin/sh

# supervise.sh NAME SIGNAL SECONDS LOG COMMAND...
#
# Keeps one command running: starts it again, with back-off, when it has died.
# On TERM it sends SIGNAL, gives the command SECONDS to stop, and then kills
# it with all its kin.  The command has a session of its own, so that a
# terminal's interrupt does not reach it before its turn has come, and gets
# SIGNAL also when nobody is left to send it.
#
# AS: options of setpriv, for the user that the command is to run as.

set -u

name=$1
signal=$2
patience=$3
log=$4
shift 4

as=${AS:-}
unset AS

stopping=
child=

trap 'stopping=1; [ -z "$child" ] || kill -s "$signal" "$child" 2> /dev/null' \
    TERM
trap '' INT HUP QUIT

alive() {
    kill -0 "$child" 2> /dev/null
}


# A worker whose master was killed would go on holding the port.

sweep() {
    kill -s KILL -- "-$child" 2> /dev/null
}


pause=0

while [ -z "$stopping" ]; do
    began=$(date +%s)

    # descriptor 9 is the lock of run.sh, ours to hold and not the command's

    if [ "$log" = - ]; then
        # shellcheck disable=SC2086
        setsid setpriv $as --pdeathsig "$signal" -- "$@" 9>&- &
    else

        # the log is opened by its owner, who could have put a link there

        # shellcheck disable=SC2016,SC2086
        setsid setpriv $as --pdeathsig "$signal" -- sh -c \
            'log=$1; shift; exec "$@" >> "$log" 2>&1' sh "$log" "$@" 9>&- &
    fi

    child=$!

    # a TERM that came before there was a child to hear of it

    [ -z "$stopping" ] || kill -s "$signal" "$child" 2> /dev/null

    wait "$child"
    status=$?

    # a signal ends the wait, not the command

    if [ -n "$stopping" ]; then
        turns=$((patience * 20))
        while alive && [ "$turns" -gt 0 ]; do
            sleep 0.05
            turns=$((turns - 1))
        done
        sweep
        break
    fi

    sweep
    child=

    if [ $(($(date +%s) - began)) -ge 30 ]; then
        pause=0
    fi

    echo "$name: exited with $status, starting again in $pause s" >&2

    # in the background, so that a TERM ends the pause

    if [ "$pause" -gt 0 ]; then
        sleep "$pause" 9>&- &
        nap=$!
        wait "$nap"
        kill "$nap" 2> /dev/null
    fi

    case $pause in
    0) pause=1 ;;
    1) pause=2 ;;
    2) pause=4 ;;
    *) pause=8 ;;
    esac
done
