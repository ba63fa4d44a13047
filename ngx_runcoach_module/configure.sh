#!/bin/bash
# configure.sh NGINX_SRC BUILD: prepares BUILD/Makefile for the module.
#
# NGINX_SRC is Debian's nginx-dev, whose flags are those of Debian's nginx, or
# a source tree of nginx.  Nothing is written there: a source tree would get a
# Makefile of its own, so it is copied.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
src=$1
mkdir -p "$2"
build=$(cd "$2" && pwd)

if [ ! -d "$src" ]; then
    echo "no nginx source at \"$src\":" \
        "run \"make deps\", or set NGINX_SRC" >&2
    exit 1
fi

src=$(cd "$src" && pwd)

if [ -f "$src/conf_flags" ]; then
    cd "$src"
    . ./conf_flags
    flags=("${NGX_CONF_FLAGS[@]}")
    configure=./configure
else
    rm -rf "$build/upstream"
    mkdir "$build/upstream"
    cp -R "$src/." "$build/upstream"
    src=$build/upstream
    cd "$src"
    flags=(--with-compat --with-threads --with-http_ssl_module
        --with-http_v2_module --with-http_realip_module
        --with-http_dav_module --with-http_stub_status_module
        --with-http_auth_request_module)
    configure=./configure
    [ -f "$configure" ] || configure=auto/configure
fi

# the last --with-cc-opt counts, so Debian's own must be said again

for flag in "${flags[@]}"; do
    case $flag in
        --with-cc-opt=*) CC_OPT="${flag#*=} $CC_OPT" ;;
        --with-ld-opt=*) LD_OPT="${flag#*=} $LD_OPT" ;;
    esac
done

"$configure" "${flags[@]}" --with-cc="$CC" --with-cc-opt="$CC_OPT -fPIC" \
    --with-ld-opt="$LD_OPT" --builddir="$build" \
    --add-dynamic-module="$root" > "$build/configure.log" || {
    tail -n 20 "$build/configure.log" >&2
    exit 1
}

echo "$src" > "$build/tree"
