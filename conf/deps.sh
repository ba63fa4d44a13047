#!/bin/sh

# deps.sh [build] [run] [test] [check] [fuzz] [bench]
#
# Installs through apt what is missing, starts no service, and calls apt only
# when something is missing.  Without an argument: the first three.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
build=${RUNCOACH_BUILD:-$root/build}

build_packages='gcc libc6-dev make nginx libpcre2-dev libssl-dev zlib1g-dev
    libjansson-dev libhiredis-dev libmicrohttpd-dev libpq-dev
    libcurl4-openssl-dev'
run_packages='nginx redis-server postgresql curl openssl ca-certificates
    util-linux'
test_packages='perl curl openssl procps pgbouncer'
check_packages='perl clang cppcheck'
fuzz_packages='clang libclang-rt-dev'
bench_packages='wrk valgrind util-linux'


fail() {
    echo "deps: $1" >&2
    exit 1
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" \
        = installed ]
}

# a package that the machine has in another form is not missing

present() {
    case $1 in
    gcc | make | perl | curl | openssl)
        command -v "$1" > /dev/null || installed "$1"
        ;;
    postgresql)
        ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1
        ;;
    redis-server)
        command -v redis-server > /dev/null
        ;;
    nginx | pgbouncer)
        PATH=$PATH:/usr/sbin command -v "$1" > /dev/null
        ;;
    *)
        installed "$1"
        ;;
    esac
}


if [ $# -eq 0 ]; then
    set -- build run test
fi

wanted=
for group in "$@"; do
    case $group in
    build) wanted="$wanted $build_packages" ;;
    run) wanted="$wanted $run_packages" ;;
    test) wanted="$wanted $run_packages $test_packages" ;;
    check) wanted="$wanted $check_packages" ;;
    fuzz) wanted="$wanted $fuzz_packages" ;;
    bench) wanted="$wanted $run_packages $test_packages $bench_packages" ;;
    *) fail "\"$group\": a group is build, run, test, check, fuzz or bench" ;;
    esac
done

missing=
for package in $wanted; do
    case " $missing " in
    *" $package "*) continue ;;
    esac
    present "$package" || missing="$missing $package"
done
missing=${missing# }


# The headers of nginx, for exactly the nginx that is here, without the two
# hundred packages which nginx-dev depends on.

headers=
case " $* " in
*' build '*)
    if [ -z "${NGINX_SRC:-}" ]; then
        headers=yes
    fi
    ;;
esac

nginx_version() {
    dpkg-query -W -f '${Version}' nginx 2> /dev/null || :
}

headers_present() {
    if [ "$(dpkg-query -W -f '${db:Status-Status} ${Version}' nginx-dev \
        2> /dev/null)" = "installed $(nginx_version)" ]
    then
        return 0
    fi
    [ -r "$build/nginx-dev/usr/share/nginx/src/configure" ] \
        && [ "$(cat "$build/nginx-dev/version" 2> /dev/null)" \
            = "$(nginx_version)" ]
}

if [ -z "$missing" ]; then
    if [ -z "$headers" ] || headers_present; then
        exit 0
    fi
fi

if ! command -v apt-get > /dev/null; then
    fail "there is no apt-get here; install by hand: $missing nginx-dev"
fi


sudo=
if [ "$(id -u)" != 0 ] && [ -n "$missing" ]; then
    if ! command -v sudo > /dev/null; then
        fail "only root can install: apt-get install $missing"
    fi
    sudo=sudo
fi

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
ours=

restore() {
    if [ -n "$ours" ]; then
        ours=
        $sudo rm -f "$policy"
    fi
}

trap restore EXIT
trap 'exit 1' INT TERM HUP

apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq \
        -o Dpkg::Use-Pty=0 "$@"
}

# lists may be absent, or older than what the archive still has

apt_install() {
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing > "$log" 2>&1
}

if [ -n "$missing" ]; then
    echo "deps: installing $missing" >&2

    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" > /dev/null
        $sudo chmod 755 "$policy"
    fi

    # Debian makes a cluster of its own otherwise, which nobody asked for

    case " $missing " in
    *' postgresql '*)
        if [ ! -e "$cluster" ]; then
            $sudo mkdir -p "${cluster%/*}"
            echo 'create_main_cluster = false' \
                | $sudo tee "$cluster" > /dev/null
        fi
        ;;
    esac

    log=$(mktemp)

    if ! apt_install; then
        apt update >&2
        if ! apt_install; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            fail "apt could not install: $missing"
        fi
    fi

    rm -f "$log"
    restore
fi


if [ -n "$headers" ] && ! headers_present; then
    version=$(nginx_version)
    if [ -z "$version" ]; then
        fail "this nginx is not Debian's: set NGINX_SRC to the tree of its source"
    fi

    mkdir -p "$build"
    rm -rf "$build/nginx-dev" "$build/nginx-dev.new"
    mkdir "$build/nginx-dev.new"

    echo "deps: fetching the headers of nginx $version" >&2

    fetch() {
        (cd "$build/nginx-dev.new" \
            && apt-get -qq download "nginx-dev=$version" 2> /dev/null)
    }

    # as root apt fetches as a user who may not be able to write there

    if ! fetch; then
        if [ "$(id -u)" = 0 ]; then
            apt-get -qq update >&2
        elif command -v sudo > /dev/null; then
            sudo apt-get -qq update >&2
        fi
        if ! fetch; then
            rm -rf "$build/nginx-dev.new"
            fail "nginx-dev $version is not in the archive any more: apt-get install --only-upgrade nginx"
        fi
    fi

    dpkg -x "$build"/nginx-dev.new/nginx-dev_*.deb "$build/nginx-dev.new"
    rm -f "$build"/nginx-dev.new/nginx-dev_*.deb
    echo "$version" > "$build/nginx-dev.new/version"
    mv "$build/nginx-dev.new" "$build/nginx-dev"
fi
