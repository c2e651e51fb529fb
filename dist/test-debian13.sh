#!/usr/bin/env bash
# sudo dist/test-debian13.sh [pytest arguments]: the functional tests under Debian 13, for its newer CPython (3.13), glibc
# and wireguard-go, on this machine's kernel. Without arguments: tests/unit, contract, e2e and hostile.
#
# The root is made by mmdebstrap, kept under /var/cache/wesher/debian13, and made anew when its list of packages or how
# it is made changes. Each run sees it through an overlay in memory, with a copy of the checkout in /srv; only the virtual
# environment, made there from PyPI by dist/setup.sh as on any machine, outlives the run. Mounts, processes and, as soon as
# the environment is complete, the network are of namespaces that end with the run, however it ends.
set -euo pipefail
# shellcheck source=dist/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=dist/debian.sh
source "$checkout/dist/debian.sh"

if ((EUID != 0)); then
  say "it makes a root of its own and namespaces, so run it as root: sudo dist/test-debian13.sh"
  exit 1
fi

suite=trixie
directory=$cache/debian13
root=$directory/root
inside=("${packages[@]}" mount hostname passwd nftables libseccomp2 golang-go strace)
tiers=(unit contract e2e hostile)
packages=(mmdebstrap debian-archive-keyring util-linux) # from here on: what the machine outside needs

build_root() {
  say "making a Debian 13 in $root"
  rm -rf --one-file-system "$directory/complete" "$root" "$directory/cache"
  mkdir -p "$directory/cache"
  make_debian "$suite" "$root" "$directory/archives" "$(IFS=, && echo "${inside[*]}")" \
    --dpkgopt='path-exclude=/usr/share/man/*'
  fingerprint_of_root >"$directory/complete"
}
fingerprint_of_root() { (printf '%s\n' "${inside[@]}" | sort -u && declare -f build_root make_debian debian_sources) | sha256sum; }

# Descriptor 8 keeps a shared lock for as long as this runs: nobody rebuilds a root in use.
have_root() {
  mkdir -p "$directory"
  exec 8>>"$directory/lock"
  flock --shared 8
  while [[ $(cat "$directory/complete" 2>/dev/null) != "$(fingerprint_of_root)" ]]; do
    flock --exclusive 8
    [[ $(cat "$directory/complete" 2>/dev/null) == "$(fingerprint_of_root)" ]] || build_root
    flock --shared 8
  done
}

# In namespaces of mounts and processes, with the network still the machine's: $1 is the directory of this file, $2 the
# checkout. In /dev there is what a program may expect, and the TUN device. The shell stays, as the first process of its
# PID namespace: it reaps orphans, and tests compare their namespaces with that process's.
read -r -d '' enter <<'END' || true
mount -t tmpfs -o mode=0755 tmpfs "$1/mount"
cd "$1/mount"
mkdir upper work root
mount -t overlay -o "lowerdir=$1/root,upperdir=upper,workdir=work" overlay root
cd root
mkdir -p srv/checkout var/cache/wesher outside
mount --bind "$1/cache" var/cache/wesher
tar -C "$2" --exclude=./.git --exclude=__pycache__ --exclude='.*_cache' --exclude=.hypothesis -c . |
  tar -x --no-same-owner -C srv/checkout
chmod -R a+rX,go-w srv
for directory in tmp run dev; do mount -t tmpfs -o mode=0755 tmpfs $directory; done
chmod 1777 tmp
mkdir dev/net dev/pts dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
for device in null zero full random urandom tty kmsg mem net/tun; do
  [ ! -e /dev/$device ] || { touch dev/$device; mount --bind /dev/$device dev/$device; }
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for name in stdin:0 stdout:1 stderr:2; do ln -s /proc/self/fd/${name#*:} dev/${name%:*}; done
mount -t proc proc proc
mount -t sysfs sysfs sys
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ ! -e $file ] || cat $file >.$file
done
pivot_root . outside
cd /
umount -l outside
rmdir outside
hostname debian13
bash -euc 'source /srv/checkout/dist/setup.sh; make_venv dev' "$0"
shift 2
status=0
unshare --net -- bash -euc "$RUN" "$0" "$@" || status=$?
exit $status
END

# With a network of its own, which is empty.
read -r -d '' run <<'END' || true
mount -t sysfs sysfs /sys
ip link set dev lo up
printf '127.0.0.1 localhost debian13\n::1 localhost\n' >/etc/hosts
: >/etc/resolv.conf
source /srv/checkout/dist/setup.sh
make_venv dev
cd "$checkout"
export WESHER_BIN=$venv/bin/wesher PYTHONPYCACHEPREFIX=/tmp/pycache HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
"$venv/bin/python" -VV
"$venv/bin/python" -m pytest -o cache_dir=/tmp/pytest_cache "$@"
END

install_packages
have_root
mkdir -p "$directory/mount"
if (($# == 0)); then
  for tier in "${tiers[@]}"; do
    [[ ! -d $checkout/tests/$tier ]] || set -- "$@" "tests/$tier"
  done
fi
# Of the caller's environment: how pip reaches PyPI, and whether this is CI.
kept=()
for name in $(compgen -e | grep -iE '^(PIP_.*|https?_proxy|no_proxy|CI|TERM)$' || true); do kept+=("$name=${!name}"); done
exec env -i "${kept[@]}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
  SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt RUN="$run" \
  unshare --mount --uts --ipc --pid --fork --kill-child=KILL --propagation private -- \
  bash -euc "$enter" "$0" "$directory" "$checkout" "$@"
