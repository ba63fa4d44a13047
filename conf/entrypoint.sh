#!/bin/sh

# The edge and its sidecar in one container.  The platform sets the variables
# of env.example; nothing is started in place of one that is not set.

set -eu

home=${RUNCOACH_HOME:-/var/lib/runcoach}
here=/usr/share/runcoach

export RUNCOACH_HOME="$home"
export SIDECAR_LISTEN="${SIDECAR_LISTEN:-unix:$home/sidecar.sock}"
export R2_BUCKET_NAME="${R2_BUCKET_NAME:-fit-files}"

# A proxied connection takes two descriptors; platforms let us have more than
# they give.

limit=$(ulimit -H -n)
if [ "$limit" = unlimited ] || [ "$limit" -gt 65536 ]; then
    limit=65536
fi
ulimit -S -n "$limit"



edge=
others=
reader=

# The edge first, and gracefully: what it has accepted still needs the others.

stop() {
    trap '' INT TERM QUIT

    for pid in $edge $others; do
        kill -s TERM "$pid" 2> /dev/null || :
        wait "$pid" || :
    done

    # what is still in the pipe

    if [ -n "$reader" ]; then
        sleep 0.1
        kill "$reader" 2> /dev/null || :
    fi

    exit 0
}

trap stop INT TERM QUIT


cd "$home"

mkdir -p modules logs tmp
cp "$here"/conf/*.conf .
ln -sf "$here/ngx_http_runcoach_module.so" modules/

# a killed container leaves sockets behind, and nginx does not replace one

rm -f backend.sock

# The access log goes where our output goes.  /dev/stdout would be opened
# anew, which a user who did not create what is behind it may not do.

rm -f logs/access.log
mkfifo -m 600 logs/access.log
cat 0<> logs/access.log &
reader=$!

if ! sh "$here/conf/env.sh" \
    || ! nginx -p "$home" -c "$home/nginx.conf" -t -q
then
    kill "$reader"
    exit 1
fi


# supervise NAME SIGNAL SECONDS COMMAND...

supervise() {
    name=$1
    signal=$2
    patience=$3
    shift 3

    sh "$here/conf/supervise.sh" "$name" "$signal" "$patience" - "$@" &
}


# A database that cannot be reached yet must not keep the edge from answering
# what needs none, nor the platform from seeing that it is alive.

migrate() {
    pause=1
    until runcoach-sidecar migrate up; do
        sleep "$pause"
        if [ "$pause" -lt 16 ]; then
            pause=$((pause * 2))
        fi
    done
}

if [ -n "${DATABASE_URL:-}" ]; then
    migrate &
    others="$! $others"

    supervise work TERM 15 runcoach-sidecar work
    others="$! $others"
fi

supervise sidecar TERM 15 runcoach-sidecar serve
others="$! $others"

supervise edge QUIT 15 nginx -p "$home" -c "$home/nginx.conf" -g 'daemon off;'
edge=$!

wait
