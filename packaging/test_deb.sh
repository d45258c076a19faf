#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# packaging/test_deb.sh FOLDER [SUITE [MIRROR]]: installs the packages in FOLDER (roundhouse_*.deb, roundhouse-sdk_*.deb, roundhouse-mpi_*.deb) in
# a new system of that suite (bookworm), runs them, builds a plugin, and removes and purges them. Needs root and debootstrap.
set -euo pipefail
packages=$(realpath "$1")
root=$(mktemp -d)
trap 'umount "$root/proc" 2> /dev/null || true; rm -rf "$root"' EXIT
debootstrap --variant=minbase "${2:-bookworm}" "$root" ${3:+"$3"} > /dev/null
cp /etc/resolv.conf "$root/etc/" 2> /dev/null || true
mount -t proc proc "$root/proc"
mkdir "$root/packages"
cp "$packages"/roundhouse*.deb "$root/packages"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive bash -euc "$1"; }

inside 'apt-get -qq update; apt-get -qqy install --no-install-recommends /packages/*.deb cmake make g++ > /dev/null'
inside 'roundhouse doctor'
inside 'cd /root; roundhouse run /usr/share/roundhouse/recipes/quickstart.yaml --set output=out --set tuning.iters=5; roundhouse verify out/auto_round'
if compgen -G "$packages/roundhouse-mpi*.deb" > /dev/null; then
  inside 'apt-get -qqy install --no-install-recommends openmpi-bin > /dev/null; cd /root
    mpirun --allow-run-as-root --oversubscribe -n 2 roundhouse run /usr/share/roundhouse/recipes/quickstart.yaml --set output=two --set tuning.iters=0
    roundhouse verify two/auto_round'
fi
inside 'cd /root; roundhouse new-plugin dtype thirds > /dev/null; cmake -S thirds -B thirds/build > /dev/null; cmake --build thirds/build > /dev/null
  ctest --test-dir thirds/build'
inside 'test -s /usr/share/man/man1/roundhouse.1* -a -s /usr/share/bash-completion/completions/roundhouse'
inside 'apt-get -qqy remove roundhouse > /dev/null; ! command -v roundhouse; test -e /usr/include/roundhouse/abi.h'
inside 'apt-get -qqy purge roundhouse roundhouse-mpi roundhouse-sdk > /dev/null'
left=$(find "$root" -xdev -path '*roundhouse*' -not -path "$root/packages/*" -not -path "$root/root/*" -not -path "$root/proc/*")
if [[ -n $left ]]; then
  echo "left after purge:"
  echo "$left"
  exit 1
fi
echo "the packages work"
