#!/bin/sh

# The whole system on one machine: "make run".
#
# Whatever is not named in the environment is started here: PostgreSQL, Redis,
# an issuer of tokens, an object store; then the sidecar and the edge.  All of
# it lives in $RUNCOACH_HOME, which a second run takes up again, and ends with
# this script.

set -eu

conf=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$conf/.." && pwd -P)
build=${RUNCOACH_BUILD:-$root/build}
case $build in
/*) ;;
*) build=$PWD/$build ;;
esac
port=${PORT:-8080}


say() {
    echo "run: $1" >&2
}

fail() {
    say "$1"
    exit 1
}


# Supervisors of what was started, the last one first.

started=

stop() {
    trap '' INT TERM HUP
    trap - EXIT

    if [ -n "${pause:-}" ]; then
        kill "$pause" 2> /dev/null || :
    fi

    for pid in $started; do
        kill -s TERM "$pid" 2> /dev/null || :
        wait "$pid" || :
    done

    if [ -n "${short:-}" ]; then
        rm -rf "$short"
    fi
}

trap 'stop' EXIT
trap 'exit 0' INT TERM HUP


# An INT to make alone is not handed on: make only ceases to catch it, and
# waits for us.

catches_int() {
    case $(sed -n 's/^SigCgt:.*\(.\)$/\1/p' "/proc/$1/status" 2> /dev/null) in
    [2367abef]) return 0 ;;
    esac
    return 1
}

make=

case $(cat "/proc/$PPID/comm" 2> /dev/null) in
make | gmake)
    if catches_int "$PPID"; then
        make=$PPID
    fi
    ;;
esac


# Programs of Debian which are not in everybody's path.

PATH=$PATH:/usr/sbin:/sbin
export PATH

for program in nginx curl openssl setpriv setsid flock; do
    if ! command -v "$program" > /dev/null; then
        fail "there is no $program: \"make deps\" installs it"
    fi
done

for product in ngx_http_runcoach_module.so runcoach-sidecar; do
    if [ ! -r "$build/$product" ]; then
        fail "there is no $build/$product: \"make\" builds it"
    fi
done


# As root: who owns the data and runs the servers, none of which is to be root.

home=${RUNCOACH_HOME:-$root/run}
case $home in
/*) ;;
*) home=$PWD/$home ;;
esac

user=
as=

if [ "$(id -u)" = 0 ]; then
    owner=
    if [ -d "$home" ]; then
        owner=$(stat -L -c %U "$home")
    fi

    for user in "${SUDO_USER:-}" "$owner" postgres nobody; do
        case $user in
        '' | root | UNKNOWN) continue ;;
        esac
        if id "$user" > /dev/null 2>&1; then
            break
        fi
    done

    as="--reuid=$user --regid=$(id -g "$user") --init-groups"
    bind=

    if [ "$port" -lt 1024 ] 2> /dev/null; then
        bind="--inh-caps=+net_bind_service --ambient-caps=+net_bind_service"
    fi
fi

as() {
    # shellcheck disable=SC2086
    if [ -n "$user" ]; then
        setpriv $as -- "$@" 9>&-
    else
        "$@" 9>&-
    fi
}

reachable() {
    (cd / && as test -w "$1" -a -x "$1")
}


# The home.  A checkout may be where its servers cannot go, below /root for
# one: then the data is in /var/lib and the home a link to it.

if [ ! -d "$home" ]; then
    mkdir -p "$(dirname "$home")"
    mkdir -m 700 "$home"
fi

if [ -n "$user" ] && [ -z "$(ls -A "$home")" ]; then
    chown "$user" "$home"
    chmod 700 "$home"

    if ! reachable "$home"; then
        elsewhere=/var/lib/runcoach/$(printf %s "$home" | cksum | tr ' ' -)
        say "$user cannot reach $home: the data is in $elsewhere"
        mkdir -p "$elsewhere"
        chmod 755 /var/lib/runcoach
        chmod 700 "$elsewhere"
        chown "$user" "$elsewhere"
        rmdir "$home"
        ln -s "$elsewhere" "$home"
    fi
fi

shown=$home
home=$(cd "$home" && pwd -P)

if ! reachable "$home"; then
    fail "RUNCOACH_HOME is \"$home\": $(as id -un) cannot write there"
fi

exec 9>> "$home/run.lock"
if ! flock -n 9; then
    fail "RUNCOACH_HOME is \"$home\": another run is using it"
fi

cd "$home"
export RUNCOACH_HOME="$home"


# A port that is taken would be known only after everything else was started.

case $port in
'' | *[!0-9]* | ??????*)
    fail "PORT is \"$port\": it must be a number, 1 to 65535"
    ;;
esac

taken=$(awk -v port="$(printf :%04X "$port")" \
    'substr($2, length($2) - 4) == port && $4 == "0A" { print "yes"; exit }' \
    /proc/net/tcp /proc/net/tcp6 2> /dev/null || :)

if [ -n "$taken" ]; then
    fail "PORT is \"$port\": another program listens there; choose another one"
fi

if [ "$(id -u)" != 0 ] && [ "$port" -lt 1024 ] && [ "$port" -lt \
    "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2> /dev/null \
        || echo 1024)" ]
then
    fail "PORT is \"$port\": only root may listen below 1024"
fi

# Here anybody can make a token, so the network is not let in unless asked for.

LISTEN=${LISTEN:-127.0.0.1}
export PORT="$port" LISTEN

case $LISTEN in
'*' | 0.0.0.0* | *127.0.0.1*) address=127.0.0.1 ;;
*:*:*) address="[${LISTEN%%,*}]" ;;
*) address=${LISTEN%%,*} ;;
esac

base=http://$address:$port


# The path of a socket has at most 107 octets, and stands in URLs as it is.

sockets=$home
short=

case $home in
*[!A-Za-z0-9._/-]*) short=yes ;;
esac

if [ ${#home} -gt 80 ] || [ -n "$short" ]; then
    short=$(mktemp -d /tmp/runcoach.XXXXXX)
    if [ -n "$user" ]; then
        chown "$user" "$short"
    fi
    sockets=$short
fi

export SIDECAR_LISTEN="${SIDECAR_LISTEN:-unix:$sockets/sidecar.sock}"
export BACKEND_SOCKET="$sockets/backend.sock"


# What runs is a copy: a build meanwhile does not change it, and its user may
# not be able to read the checkout.

as mkdir -p logs tmp modules redis store

copy() {
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

for file in "$conf"/*.conf; do
    copy 644 "$file" "$home/${file##*/}"
done

copy 644 "$build/ngx_http_runcoach_module.so" \
    "$home/modules/ngx_http_runcoach_module.so"
copy 755 "$build/runcoach-sidecar" "$home/runcoach-sidecar"


# A secret is made once and kept, for the one who runs this alone.

secret() {
    if [ ! -s "$1" ]; then
        (
            umask 077
            echo "$2" > "$1.new"
            if [ -n "${SUDO_USER:-}" ] && [ "$user" = "${SUDO_USER:-}" ]; then
                chown "$user" "$1.new"
            fi
            mv "$1.new" "$1"
        )
    fi
    cat "$1"
}

given() {
    for variable in "$@"; do
        eval "value=\${$variable:-}"
        if [ -n "$value" ]; then
            return 0
        fi
    done
    return 1
}


issuer=
if ! given CLERK_PUBLISHABLE_KEY CLERK_ISSUER CLERK_JWKS_URL CLERK_JWT_KEY; then
    issuer=local
    sh "$conf/issuer.sh" init
    if [ -n "${SUDO_USER:-}" ] && [ "$user" = "${SUDO_USER:-}" ]; then
        chown -R "$user" issuer
    fi
    CLERK_ISSUER=$(cat issuer/issuer)
    CLERK_JWKS_URL=http://unix:$sockets/issuer.sock:/jwks.json
    export CLERK_ISSUER CLERK_JWKS_URL

    cat > issuer.env.conf << END
# written by run.sh

server {
    listen  "unix:$sockets/issuer.sock";

    location = /jwks.json {
        default_type  application/json;
        root          "$home/issuer";
    }
}
END
fi

if ! given CLERK_WEBHOOK_SECRET CLERK_WEBHOOK_SIGNING_SECRET; then
    CLERK_WEBHOOK_SECRET=$(secret webhook.secret \
        "whsec_$(openssl rand -base64 24)")
    export CLERK_WEBHOOK_SECRET
fi

if ! given R2_ACCOUNT_ID R2_ENDPOINT_URL R2_ACCESS_KEY R2_ACCESS_KEY_ID \
    R2_SECRET_KEY R2_SECRET_ACCESS_KEY
then
    R2_ACCESS_KEY=$(secret store.access-key "local$(openssl rand -hex 8)")
    R2_SECRET_KEY=$(secret store.secret-key "$(openssl rand -hex 32)")
    R2_ENDPOINT_URL=$base
    LOCAL_STORE=$home/store
    export R2_ACCESS_KEY R2_SECRET_KEY R2_ENDPOINT_URL LOCAL_STORE
fi

export R2_BUCKET_NAME="${R2_BUCKET_NAME:-fit-files}"

postgres=
if ! given DATABASE_URL; then
    postgres=local
    export DATABASE_URL="postgresql://runcoach@/runcoach?host=$sockets"
fi

redis=
if [ -z "${REDIS_URL+set}" ]; then
    redis=local
    export REDIS_URL="unix:$sockets/redis.sock"
fi


# The configuration is judged before anything is started.

sh "$conf/env.sh"

as touch logs/access.log

judge() {
    if ! problem=$("$@" 2>&1); then
        echo "$problem" >&2
        fail "the configuration is not usable"
    fi
}

listener() {
    as="$as ${bind:-}"
    as "$@"
}

judge listener nginx -p "$home" -c "$home/nginx.conf" -t -q
judge as "$home/runcoach-sidecar" check


# A proxied connection takes two descriptors; one may have more than one is
# given.

limit=$(ulimit -H -n)
if [ "$limit" = unlimited ] || [ "$limit" -gt 65536 ]; then
    limit=65536
fi
ulimit -S -n "$limit"


# start NAME SIGNAL SECONDS COMMAND...; what it says goes into logs/NAME.log

start() {
    name=$1
    signal=$2
    patience=$3
    shift 3

    AS="$as ${privilege:-}" setpriv --pdeathsig TERM -- sh "$conf/supervise.sh" \
        "$name" "$signal" "$patience" "$home/logs/$name.log" "$@" &
    started="$! $started"
}

# until NAME SECONDS COMMAND...: wait for it, and do not wait for ever

until_ready() {
    name=$1
    turns=$(($2 * 20))
    shift 2

    until "$@" > /dev/null 2>&1; do
        turns=$((turns - 1))
        if [ "$turns" -le 0 ]; then
            tail -n 20 "$home/logs/$name.log" >&2 || :
            fail "$name did not start; see $shown/logs/$name.log"
        fi
        sleep 0.05
    done
}


if [ -n "$postgres" ]; then
    version=$(cat postgres/PG_VERSION 2> /dev/null || :)
    if [ -z "$version" ]; then
        version=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 \
            -name '[0-9]*' -printf '%f\n' 2> /dev/null | sort -n | tail -n 1)
    fi

    bin=/usr/lib/postgresql/$version/bin
    if [ ! -x "$bin/postgres" ]; then
        fail "there is no PostgreSQL ${version:-in /usr/lib/postgresql}: \"make deps\" installs it"
    fi

    # made in another place, so that half a database is never taken for one

    if [ ! -d postgres ]; then
        as rm -rf postgres.new
        if ! problem=$(as env -i PATH="$PATH" "$bin/initdb" -D \
            "$home/postgres.new" -U runcoach -A trust -E UTF8 \
            --locale=C.UTF-8 --no-instructions 2>&1)
        then
            echo "$problem" >&2
            fail "initdb failed"
        fi
        as mv postgres.new postgres
    fi

    # trust is for whoever can open the socket, and that is its owner

    start postgres INT 30 env -i PATH="$PATH" LC_ALL=C.UTF-8 \
        "$bin/postgres" -D "$home/postgres" -c listen_addresses= \
        -c unix_socket_directories="$sockets" -c unix_socket_permissions=0700 \
        -c max_connections=60 -c shared_buffers=64MB \
        -c log_min_messages=warning

    sql() {
        as env -i PATH="$PATH" "$bin/psql" -h "$sockets" -U runcoach \
            -d postgres -tAXq -c "$1"
    }

    until_ready postgres 60 sql 'SELECT 1'

    if [ -z "$(sql "SELECT 1 FROM pg_database WHERE datname = 'runcoach'")" ]
    then
        sql 'CREATE DATABASE runcoach'
    fi
fi

if [ -n "$redis" ]; then
    if ! command -v redis-server > /dev/null; then
        fail "there is no redis-server: \"make deps\" installs it"
    fi

    start redis TERM 30 env -i PATH="$PATH" LC_ALL=C.UTF-8 \
        redis-server --port 0 --unixsocket "$sockets/redis.sock" \
        --unixsocketperm 700 --dir "$home/redis" --appendonly yes --save '' \
        --daemonize no --logfile ''

    until_ready redis 30 as redis-cli -s "$sockets/redis.sock" ping
fi

if [ -n "$issuer" ]; then

    # nginx does not replace the socket that a killed one left behind

    # shellcheck disable=SC2016
    start issuer TERM 5 env -i PATH="$PATH" sh -c \
        'rm -f "$1" && exec nginx -p "$2" -c "$2/issuer.conf" -g "daemon off;"' \
        sh "$sockets/issuer.sock" "$home"

    until_ready issuer 10 as curl -fsS -o /dev/null \
        --unix-socket "$sockets/issuer.sock" http://issuer/jwks.json
fi


# shellcheck disable=SC2016
if ! as sh -c 'exec "$1" migrate up > logs/migrate.log 2>&1' sh \
    "$home/runcoach-sidecar"
then
    tail -n 20 logs/migrate.log >&2
    fail "the migrations were not applied; see $shown/logs/migrate.log"
fi

start sidecar TERM 15 "$home/runcoach-sidecar" serve
start work TERM 15 "$home/runcoach-sidecar" work

privilege=${bind:-}

# shellcheck disable=SC2016
start edge QUIT 15 sh -c \
    'rm -f "$1" && exec nginx -p "$2" -c "$2/nginx.conf" -g "daemon off;"' \
    sh "$sockets/backend.sock" "$home"

privilege=

until_ready edge 60 curl -fsS -m 5 -o /dev/null "$base/health"

echo "ready: $base"


# The journey, to be pasted into another shell in the project's directory.

if [ "$shown" = "$root/run" ]; then
    issue="sh conf/issuer.sh"
    answer=run/upload.json
else
    issue="RUNCOACH_HOME='$shown' sh conf/issuer.sh"
    answer="'$shown/upload.json'"
fi

if [ -n "$issuer" ]; then
    token="\$($issue token anna)"
else
    token="\$TOKEN"
fi

login="-H \"Authorization: Bearer $token\""
json="-H 'Content-Type: application/json'"
field="sed -n 's/.*\"%s\": *\"*\\([^\",}]*\\).*/\\\\1/p'"
# shellcheck disable=SC2059
url=$(printf "$field" upload_url)
# shellcheck disable=SC2059
id=$(printf "$field" activity_id)

cat << END
curl -sS -w '\n' $login $base/api/v1/me
curl -sS -w '\n' -K "\$($issue webhook anna)" $base/api/v1/webhooks/clerk
curl -sS -w '\n' $login $json -d '{"filename":"activity.fit"}' $base/api/v1/upload/url | tee $answer
curl -sS -w '%{http_code}\n' -T t/data/activity.fit "\$($url $answer)"
curl -sS -w '\n' $login $json -d "{\"activity_id\":\$($id $answer),\"file_size\":\$(stat -c %s t/data/activity.fit)}" $base/api/v1/upload/complete
END

# Supervisors do not end by themselves; without one its service has gone too.

# shellcheck disable=SC2086
while kill -s 0 $started 2> /dev/null; do
    if [ -n "$make" ] && ! catches_int "$make"; then
        exit 0
    fi

    sleep 1 9>&- &
    pause=$!
    wait "$pause" || :
done

fail "a supervisor was killed"
