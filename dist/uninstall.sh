#!/usr/bin/env bash
# sudo dist/uninstall.sh [--prefix P] [--purge]: leaves the mesh and takes away what install.sh made; also to be found, and
# of the version that is installed, as PREFIX/lib/wesher/current/uninstall.sh. What remains: /var/lib/wesher, which has the
# cluster key and the members, its users, /etc/default/wesher and the key's file. --purge takes these too, now or later.
# What an instance has (@NAME: state in /var/lib/wesher-NAME, its users) stays: whoever set it up removes it.
#
# A Go wesher that install.sh moved aside is put back, and goes on if this one ran. Users and files that were there before
# are not ours and stay: ours have our words in the passwd file, and on the first line of /etc/default/wesher.
set -euo pipefail
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=dist/services.sh
source "$here/services.sh"

prefix='' purge=''
our_first_line=$(cat "$here"/{outside,systemd}/default 2>/dev/null | head -n 1 || true)

say() { echo "$(basename "$0"): $*" >&2; }
fail() {
  say "$*"
  exit 1
}

read_arguments() {
  while (($#)); do
    case $1 in
      --prefix=*) prefix=${1#*=} ;;
      --prefix) prefix=${2-} && shift ;;
      --purge) purge=yes ;;
      *) fail "usage: sudo $0 [--prefix P] [--purge]" ;;
    esac
    shift || break
  done
  ((EUID == 0)) || fail "it takes away what is root's, so run it as root: sudo $0"
  [[ $(dpkg-query -W -f='${db:Status-Status}' wesher 2>/dev/null || true) != installed ]] ||
    fail "what is installed is the Debian package: apt-get remove wesher, or apt-get purge wesher"
  find_prefix
  lib=$prefix/lib/wesher
}

# From a version's own directory it is that, else what the units say, else install.sh's default.
find_prefix() {
  local found
  found=$(sed -n 's/^ExecStart=\(\/.*\)\/bin\/wesher-privhelper$/\1/p' \
    {/usr/local,/usr}/lib/systemd/system/wesher-privhelper.service 2>/dev/null | head -n 1 || true)
  if [[ ! $prefix && $here == */lib/wesher/* ]]; then prefix=${here%/lib/wesher/*}; fi
  prefix=$(realpath -m "${prefix:-${found:-/usr/local}}")
  [[ ! $found || $found == "$prefix" ]] ||
    fail "wesher is installed under $found, not $prefix: run this with --prefix $found"
}

remove_installed() {
  local name file directories
  lock "$lib"
  "$here/take-over.sh" --back
  end_services
  for name in wesher wesher-privhelper; do
    if [[ $(readlink "$prefix/bin/$name" || true) == ../lib/wesher/* ]]; then rm "$prefix/bin/$name"; fi
  done
  if [[ -e $lib/files ]]; then
    # take-over.sh may have given a Go wesher's unit back to where one of ours stood
    while read -r file; do
      if [[ $file != */wesher.service ]] || grep -qs -e --helper-socket "$file"; then rm -f "$file"; fi
    done <"$lib/files"
  fi
  ! has_systemd || systemctl daemon-reload
  mapfile -t directories < <(sort -ru "$lib/directories" 2>/dev/null)
  rm -rf "$lib"
  # what was not there before, the deepest first, unless somebody else has put something into it
  for file in "${directories[@]}"; do rmdir --ignore-fail-on-non-empty "$file" 2>/dev/null || true; done
  rm -rf /run/wesher-priv /run/wesher
  [[ ! -d /run/wireguard ]] || rmdir /run/wireguard 2>/dev/null || chmod 755 /run/wireguard
  say "wesher is removed from $prefix"
}

remove_kept() {
  local name
  rm -rf /var/lib/wesher /etc/credstore/wesher.cluster-key /etc/wesher/cluster-key
  rmdir --ignore-fail-on-non-empty /etc/wesher 2>/dev/null || true
  if [[ $our_first_line && $(head -n 1 /etc/default/wesher 2>/dev/null) == "$our_first_line" ]]; then
    rm /etc/default/wesher
  fi
  remove_users
  say "its state, key, users and options are gone too"
}

main() {
  read_arguments "$@"
  if [[ -d $lib ]]; then
    remove_installed
  elif [[ ! $purge ]]; then
    say "nothing is installed under $prefix"
  fi
  [[ ! $purge ]] || remove_kept
}
main "$@"
exit # bash reads as it goes, and this file may be gone
