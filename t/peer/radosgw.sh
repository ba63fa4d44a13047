#!/bin/sh

# Extracts radosgw of Debian 13 into build/rgw: an S3 server that verifies
# signatures.  Nothing is installed.  Debian 12's own wants a whole cluster,
# that of Debian 13 has a store in one file; it runs here with its own C
# library.  Does nothing if that has been done; the reason why it could not
# be is left in build/rgw/failed, and the test skips with it.

set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
build=${RUNCOACH_BUILD:-$here/../../build}
rgw=$build/rgw

mkdir -p "$rgw"
rgw=$(cd "$rgw" && pwd -P)

exec 9> "$rgw/lock"
if command -v flock > /dev/null; then
    flock 9
fi

cd "$rgw"

if [ -f extracted ]; then
    exit 0
fi

rm -f failed

failed() {
    echo "$1" > failed
    echo "radosgw is not extracted: $1" >&2
    exit 0
}

for program in apt-get dpkg; do
    if ! command -v "$program" > /dev/null; then
        failed "no $program"
    fi
done

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || failed "no $keyring"


# the mirror this machine uses already

mirror=$(apt-get indextargets --format "\$(ORIGIN)|\$(LABEL)|\$(REPO_URI)" \
    2> /dev/null | sed -n 's/^Debian|Debian|//p' | head -n 1)
[ -n "$mirror" ] || failed "apt knows no Debian mirror"


# an apt of our own: its lists, its cache, and a machine without a package

rm -rf apt tree
mkdir -p apt/etc/apt.conf.d apt/etc/preferences.d apt/state/lists/partial \
    apt/cache/archives/partial tree
: > apt/status

echo "deb [signed-by=$keyring] $mirror trixie main" > apt/etc/sources.list

apt() {
    apt-get -q -o Dir::Etc="$rgw/apt/etc" -o Dir::Etc::parts=/dev/null \
        -o Dir::State="$rgw/apt/state" -o Dir::State::status="$rgw/apt/status" \
        -o Dir::Cache="$rgw/apt/cache" -o APT::Sandbox::User= \
        -o APT::Install-Recommends=false -o Acquire::Languages=none \
        -o Acquire::Retries=1 -o Debug::NoLocking=true "$@" \
        >> apt.log 2>&1 < /dev/null 9>&-
}

: > apt.log

apt update || failed "apt-get update: $(grep -m 1 '^E:' apt.log || echo no)"
apt --download-only --yes install radosgw \
    || failed "apt-get download: $(grep -m 1 '^E:' apt.log || echo no)"

for package in apt/cache/archives/*.deb; do
    dpkg -x "$package" tree || failed "dpkg -x $package"
done

rm -rf apt

: > extracted
