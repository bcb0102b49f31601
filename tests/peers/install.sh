#!/bin/sh
# Installs the foreign programs that the tests talk to, where they are missing and this user may install them:
# root on a Debian-like system. Elsewhere it says what is missing; the tests that need it skip (and fail under CI=true).
# usage: install.sh BIN   (the virtual environment's bin folder; what is printed goes to install.log beside it)
set -u
PATH="$PATH:/usr/sbin"
log=$(dirname "$1")/install.log
checks=$(dirname "$0")/../checks

# Of torchxrayvision only what is plain Python is used, and of torchvision too: their dependencies would bring graphics
# card libraries of several gigabytes.
for peer in torchvision torchxrayvision; do
    "$1/python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$peer') is None)" ||
        sh "$checks/step.sh" "$log" 20 "Installing $peer" \
            "$1/python" -m pip install --disable-pip-version-check --no-input --progress-bar off --no-deps "$peer" ||
        echo "Could not install $peer; the tests that need it will skip, or fail under CI=true" >&2
done

packages=
missing=
need() {  # need PACKAGE PROGRAM WHAT-FOR
    command -v "$2" >/dev/null 2>&1 && return
    packages="$packages $1"
    missing="$missing $2 ($3);"
}
need orthanc Orthanc "the PACS of the end-to-end tests"
ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so >/dev/null 2>&1 ||
    need orthanc-dicomweb libOrthancDicomWeb.so "the PACS that stores over HTTP"
# dcmdump stands for all of DCMTK: pynetdicom brings a storescu of its own
need dcmtk dcmdump "the modality of the end-to-end tests"
need redis-server redis-server "an external broker with TLS and a password"
need openssl openssl "certificates"
need chromium chromium "the browser of the pages' tests"
need systemd systemd-analyze "the judge of deploy/systemd"
need prometheus promtool "the judge of deploy/prometheus"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need postgresql initdb "the database of a cluster"

[ -z "$packages" ] && exit 0
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null 2>&1; then
    # RUNLEVEL=1: the packages' own services are not started; the tests start what they need on ports of their own.
    sh "$checks/step.sh" "$log" 20 'Reading the lists of packages' apt-get update &&
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive sh "$checks/step.sh" "$log" 20 "Installing missing test peers:$packages" \
            apt-get install -y --no-install-recommends $packages && exit 0
    echo "Could not install$packages; the tests that need them will skip, or fail under CI=true" >&2
    exit 0
fi
echo "Missing test peers:$missing the tests that need them will skip. On Debian: apt-get install$packages"
