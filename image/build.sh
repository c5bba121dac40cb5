#!/usr/bin/env bash
# Builds the image offline: static binaries, stripped of what only debuggers read, a list of what is in them, and labels.
# Says how large everything is.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
triple=$(uname -m)-unknown-linux-gnu
out=$target/image
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
image=${IMAGE:-culvert:$version}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# The time of what is built and not of the building: the same commit makes the same image.
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)

command -v buildah >/dev/null || {
  echo "buildah is not installed (Debian: apt-get install buildah)" >&2
  exit 1
}

# glibc is linked in: since 2.34 it has files and DNS within, so that names resolve without any library beside it.
flags="-C target-feature=+crt-static"
# The crate `cc` would compile with -static, and OpenSSL's Configure takes that for a system without threads: its error
# queues would be one for all threads, and the heap torn within seconds. Linking is what has to be static, and is.
CRATE_CC_NO_DEFAULTS=1 RUSTFLAGS=$flags cargo build --locked --release --target "$triple" -p culvert --bins
for header in "$target/$triple"/release/build/openssl-sys-*/out/openssl-build/install/include/openssl/configuration.h; do
  # Folders of earlier builds lie there too: that of the newest one counts.
  [[ -z ${newest:-} || $header -nt $newest ]] && newest=$header
done
if ! grep -q 'define OPENSSL_THREADS' "${newest:?no OpenSSL was built}"; then
  echo "OpenSSL was built without threads: $newest" >&2
  exit 1
fi

rm -rf "$out/context"
mkdir -p "$out/context/rootfs/usr/bin" "$out/context/rootfs/usr/share/sbom" "$out/context/rootfs/etc" \
  "$out/context/rootfs/tmp" "$out/context/home/var/lib/culvert" "$out/context/home/run/culvert"
for binary in culvertd culvert; do
  built=$target/$triple/release/$binary
  if readelf -lW "$built" | grep -q INTERP; then
    echo "$built is not static" >&2
    exit 1
  fi
  # Names of functions stay, for the backtrace of a panic.
  strip --strip-debug -o "$out/context/rootfs/usr/bin/$binary" "$built"
done
echo 'hosts: files dns' >"$out/context/rootfs/etc/nsswitch.conf"
chmod 1777 "$out/context/rootfs/tmp"
chmod 0700 "$out/context/home/var/lib/culvert"
RUSTFLAGS=$flags image/sbom.py "$triple" >"$out/culvert.cdx.json"
cp "$out/culvert.cdx.json" "$out/context/rootfs/usr/share/sbom/"

# Storage of its own: no other image of this host is touched.
storage=(--root "$(realpath "$out")/storage" --runroot "$(realpath "$out")/run" --storage-driver vfs)
metadata=()
while read -r key value; do
  metadata+=(--label "org.opencontainers.image.$key=$value" --annotation "org.opencontainers.image.$key=$value")
done <<EOF
title Culvert
description Multi-tenant IPsec VPN concentrator: culvertd and culvert
version $version
revision $revision
licenses Apache-2.0
created $(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
EOF
buildah "${storage[@]}" build --isolation chroot --format oci --timestamp "$epoch" --layers=false --quiet \
  "${metadata[@]}" --file image/Containerfile --tag "$image" "$out/context" >/dev/null
rm -f "$out/culvert.tar"
buildah "${storage[@]}" push --quiet "$image" "oci-archive:$out/culvert.tar:$image"

size() { numfmt --to=iec-i --suffix=B --format=%.1f "$(stat -c %s "$1")"; }
echo "$image"
for binary in culvertd culvert; do echo "  $binary $(size "$out/context/rootfs/usr/bin/$binary")"; done
components=$(python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["components"]))' "$out/culvert.cdx.json")
echo "  $out/culvert.cdx.json: $components components"
echo "  $out/culvert.tar $(size "$out/culvert.tar"), as a registry stores it"
echo "  to a registry: buildah --root $out/storage --runroot $out/run --storage-driver vfs push $image docker://REGISTRY/$image"
