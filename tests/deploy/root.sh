#!/usr/bin/env bash
# root.sh DIRECTORY SUITE: DIRECTORY/root, a Debian of that suite with systemd and all that install.sh wants of Debian's
# packages, from this host's own sources; and DIRECTORY/wheels, what install.sh wants from elsewhere, for that Debian's
# Python. So what is installed in it needs no network, and has none. Packages are kept in DIRECTORY/../archives-SUITE.
set -euo pipefail
export LC_ALL=C
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
# shellcheck source=dist/debian.sh
source "$checkout/dist/debian.sh"
directory=$(cd "$1" && pwd) suite=$2
archives=$directory/../archives-$suite
root=$directory/root
packages=(
  systemd systemd-sysv                                                            # what boots
  iproute2 iputils-ping procps wireguard-tools wireguard-go                       # what tests look with, and need here
  python3 python3-venv ca-certificates gcc libc6-dev libcap-dev python3-dev       # what install.sh asks for
  libseccomp2 libcap2 passwd
)
[[ $suite == bookworm ]] || packages+=(podman crun catatonit dbus) # that of Debian 12 knows no quadlets

# Nothing in it starts by itself but what a machine is.
configure() {
  local unit
  echo node1 >"$root/etc/hostname"
  printf '127.0.0.1 localhost node1\n::1 localhost\n' >"$root/etc/hosts"
  : >"$root/etc/fstab"
  : >"$root/etc/resolv.conf"
  printf '%032d\n' 1 >"$root/etc/machine-id" # else systemd takes it for a first boot
  for unit in getty.target console-getty.service systemd-{update-utmp,random-seed,pstore,firstboot,resolved}.service \
    {apt-daily,apt-daily-upgrade,dpkg-db-backup,fstrim,e2scrub_all,systemd-tmpfiles-clean}.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
}

# By hash, so that it is what requirements.txt names whatever this host's pip takes them from.
fetch_wheels() {
  local python version platforms=() tools=$directory/tools
  python=$(basename "$(readlink -f "$root/usr/bin/python3")")
  /usr/bin/python3 -I -m venv "$tools"
  "$tools/bin/python" -I -m pip -qq install setuptools wheel # reads python-prctl's metadata
  for version in $(seq 36 -1 17); do platforms+=(--platform "manylinux_2_${version}_$(uname -m)"); done
  for version in requirements requirements-build; do
    "$tools/bin/python" -I -m pip -qq --disable-pip-version-check download --no-deps --require-hashes \
      --only-binary :all: --no-binary python-prctl --no-build-isolation --python-version "${python#python}" \
      --implementation cp "${platforms[@]}" --platform "manylinux2014_$(uname -m)" --dest "$directory/wheels" \
      -r "$checkout/dist/$version.txt"
  done
  rm -rf "$tools"
}

make_debian "$suite" "$root" "$archives" "$(IFS=, && echo "${packages[*]}")"
configure
fetch_wheels
