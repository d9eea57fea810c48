#!/usr/bin/env bash
# make-image.sh OUT.tar PIP-PACKAGE...
#
# Makes a worker image: Debian 12 with Python 3.11 and the packages named, as a root filesystem tar. It is kept in the
# cache (ROOST_CACHE, else .cache in the checkout) under a name made from what went into it, and made once.
set -euo pipefail

out=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${ROOST_CACHE:-$here/.cache}
mkdir -p "$cache" "$(dirname "$out")"
key=$(printf '%s\n' "$@" "$(cat "$0")" | sha256sum | cut -c1-16)
image="$cache/image-$key.tar"
if [ ! -f "$image" ]; then
    echo "image: making Debian + Python + $* (about a minute, once)"
    work=$(mktemp -d "$cache/making.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/site"
    # Wheels for the image's Python, whatever Python runs this script.
    "$("$here/scripts/python.sh")" -m pip install --quiet --target "$work/site" --python-version 3.11 --only-binary=:all: \
        --no-compile "$@"
    mmdebstrap --quiet --variant=minbase --include=python3,ca-certificates \
        --customize-hook="mkdir -p \$1/usr/local/lib/python3.11/dist-packages" \
        --customize-hook="cp -a $work/site/. \$1/usr/local/lib/python3.11/dist-packages/" \
        --customize-hook="chroot \$1 python3 -m compileall -q /usr/local/lib/python3.11/dist-packages || true" \
        --customize-hook="rm -rf \$1/var/cache/apt/* \$1/var/lib/apt/lists/*" \
        bookworm "$work/root.tar" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    mv "$work/root.tar" "$image"
fi
ln -f "$image" "$out" 2>/dev/null || cp "$image" "$out"
