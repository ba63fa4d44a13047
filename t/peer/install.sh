#!/bin/sh

# Installs the peers of package.json into build/peer, never into the tree.
# Does nothing if that has been done.  What cannot be had is not an error of
# ours: the reason is left in build/peer/failed, and the tests skip with it.

set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
build=${RUNCOACH_BUILD:-$here/../../build}
peer=$build/peer

mkdir -p "$peer"
peer=$(cd "$peer" && pwd -P)

exec 9> "$peer/lock"
if command -v flock > /dev/null; then
    flock 9
fi

cd "$peer"

if [ -f installed ] && cmp -s "$here/package.json" package.json; then
    exit 0
fi

rm -f installed failed

failed() {
    echo "$1" > failed
    echo "peers are not installed: $1" >&2
    exit 0
}

for program in node npm; do
    if ! command -v "$program" > /dev/null; then
        failed "no $program"
    fi
done

install() {
    npm install --no-package-lock --no-audit --no-fund --ignore-scripts \
        --omit=optional --loglevel=error --fetch-retries=1 \
        --fetch-timeout=30000 "$@" < /dev/null >> npm.log 2>&1 9>&-
}

: > npm.log
cp "$here/package.json" package.json

if ! install; then

    # one that cannot be had does not take the others with it

    for package in $(node -p 'Object.entries(JSON.parse(require("fs")
        .readFileSync("package.json")).dependencies)
        .map((entry) => entry.join("@")).join("\n")')
    do
        echo '{ "private": true }' > package.json
        install --no-save "$package" || missing="${missing:-}$package "
    done

    cp "$here/package.json" package.json
    failed "npm could not install ${missing:-all at once}: $(
        grep -m 1 -o 'npm .*' npm.log || echo see npm.log)"
fi

: > installed
