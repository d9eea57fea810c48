#!/usr/bin/env bash
# Installs what a fresh Debian 12 lacks for building, running and testing Roost. Does nothing where all is there.
set -euo pipefail

packages=(crun runc e2fsprogs xfsprogs zstd erofs-utils mmdebstrap skopeo util-linux tar python3-venv python3-pip
    fuse3 libsqlite3-dev libssl-dev openssl curl jq "$@")
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v swift >/dev/null || { echo "setup: no swift on PATH: install the Swift 6.3 toolchain from swift.org" >&2; exit 1; }
