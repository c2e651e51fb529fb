#!/usr/bin/env bash
# sudo dist/install.sh [--prefix P] [--launcher] [--take-over]: installs this checkout, or this release, or makes it the
# version that runs. Debian 12 and 13. Running it again changes nothing, and repairs what an interrupted run left.
#
#   PREFIX/lib/wesher/VERSION    all of a version, which nothing changes afterwards: dist/tree.sh
#   PREFIX/lib/wesher/current    a link to the one that counts, switched in one step when all else is done
#   PREFIX/bin/wesher, -privhelper    links through `current`
#   units, manual pages, completions  copies of what the version has in `outside`
#
# --launcher    both halves in one service, wesher-launcher.service, rather than the pair
# --take-over   the mesh of an installed Go wesher goes on with this one (dist/take-over.sh)
set -euo pipefail
# shellcheck source=dist/tree.sh
source "$(dirname "${BASH_SOURCE[0]}")/tree.sh"
# shellcheck source=dist/services.sh
source "$checkout/dist/services.sh"
export LC_ALL=C.UTF-8

prefix=/usr/local launcher='' take_over='' changed=''

read_arguments() {
  while (($#)); do
    case $1 in
      --prefix=*) prefix=${1#*=} ;;
      --prefix) prefix=${2-} && shift ;;
      --launcher) launcher=yes ;;
      --take-over) take_over=yes ;;
      *) fail "usage: sudo $0 [--prefix P] [--launcher] [--take-over]" ;;
    esac
    shift || break
  done
  [[ $prefix == /* ]] || fail "--prefix '$prefix' is not absolute; give the whole path"
  prefix=$(realpath -m "$prefix")
  [[ $prefix =~ ^/[A-Za-z0-9/._+-]*[A-Za-z0-9]$ ]] ||
    fail "--prefix $prefix has characters that unit files or scripts do not take; give one of letters, digits and ._+-"
  [[ ! $prefix =~ ^/(home|root|run|tmp|var/tmp)(/|$) ]] ||
    fail "--prefix $prefix is where the services are not let (ProtectHome=, PrivateTmp=); give another, as /opt/wesher"
}

# --- what keeps from installing, before anything is changed

check_host() {
  local other package
  ((EUID == 0)) || fail "it installs for the whole machine, so run it as root: sudo $0"
  command -v dpkg-query systemctl >/dev/null ||
    fail "it needs Debian with systemd, which this is not; start it by hand (README.md) or in containers (dist/container)"
  if [[ -x $python ]] && ! "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    fail "$("$python" -V) is too old; wesher needs 3.11, which Debian 12 has"
  fi
  package=$(dpkg-query -W -f='${db:Status-Status}' wesher 2>/dev/null || true)
  [[ $package != installed ]] || fail "the Debian package wesher is installed, and would be in the way: apt-get remove wesher"
  # a unit of an installation with another prefix
  other=$(sed -n 's/^ExecStart=\(\/.*\)\/bin\/wesher-privhelper$/\1/p' \
    {/usr/local,/usr}/lib/systemd/system/wesher-privhelper.service 2>/dev/null | grep -vxF "$prefix" | head -n 1 || true)
  [[ -z $other ]] || fail "wesher is installed under $other already: give --prefix $other, or remove that first:" \
    "sudo $other/lib/wesher/current/uninstall.sh"
  if [[ $take_over ]]; then "$checkout/dist/take-over.sh" --check; else check_for_go; fi
}

check_for_go() {
  local found
  found=$("$checkout/dist/take-over.sh" --list | paste -sd ' ')
  [[ -z $found ]] || fail "another wesher is installed ($found), and would be started instead of this one: run this again" \
    "with --take-over, which moves it aside and has its mesh go on (uninstall.sh puts it back)"
}

install_packages() {
  local missing reason
  mapfile -t missing < <(missing_packages "${build_packages[@]}" "${run_packages[@]}" | sort -u)
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >"$work/apt.log" 2>&1 </dev/null; then
    reason=$(grep -m 1 '^E:' "$work/apt.log" || tail -n 1 "$work/apt.log")
    fail "cannot install Debian packages (${missing[*]}): ${reason#E: }; install them and run this again"
  fi
}

# --- what is installed

# Everything is under one directory until it is whole: who is interrupted leaves that, and the next run removes it.
begin() {
  lib=$prefix/lib/wesher work=$prefix/lib/wesher/.new
  make_directory "$lib"
  setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$lib" ||
    fail "$lib is closed to wesher's users: chmod a+x what is above it, or give another --prefix"
  lock "$lib"
  rm -rf "$work"
  mkdir "$work"
  trap 'rm -rf "$work"' EXIT
}

# With those above it; what was not there is noted for uninstall.sh.
make_directory() {
  local directory=$1 new=()
  while [[ ! -d $directory ]]; do
    new=("$directory" "${new[@]}")
    directory=$(dirname "$directory")
  done
  ((${#new[@]})) || return 0
  mkdir -p "$1" || fail "cannot make $1; give another --prefix"
  printf '%s\n' "${new[@]}" >>"$lib/directories"
}

# The directory of these sources, made if there is none: a second one of the same version, from other sources, is called
# after them too, since from the first one processes may run.
have_tree() {
  local wanted version
  wanted=$(fingerprint "$prefix") version=$(version_of_sources)
  for tree in "$lib/$version" "$lib/$version+${wanted:0:8}"; do
    [[ ! -d $tree || $(cat "$tree/complete" 2>/dev/null || true) == "$wanted" ]] && break
  done
  if [[ -d $tree ]]; then
    return 0
  fi
  say "making $tree"
  make_tree "$work/tree" "$tree" "$prefix"
  "$work/tree/bin/python" -I -c 'from wesher.cli import main; main()' --version >/dev/null ||
    fail "what has been built does not run; nothing has been changed"
  chown -R 0:0 "$work/tree"
  mv "$work/tree" "$tree"
}

# Copies to where they have to stand; what an older version had there and this has not goes.
put_outside() {
  local base=$prefix/lib file
  # the places that systemd looks at are two
  [[ $prefix == /usr || $prefix == /usr/local ]] || base=/usr/local/lib
  while read -r file; do
    case $file in
      lib/*) put "$tree/outside/$file" "$base/${file#lib/}" ;;
      share/*) put "$tree/outside/$file" "$prefix/$file" ;;
    esac
  done < <(cd "$tree/outside" && find . -type f -printf '%P\n' | sort) >"$work/files"
  if [[ -e $lib/files ]]; then
    sort "$work/files" | comm -13 - <(sort "$lib/files") | while read -r file; do rm -f "$file"; done
  fi
  mv "$work/files" "$lib/files"
  # an administrator's file, or the one that a Go wesher reads, stays as it is
  [[ -e /etc/default/wesher ]] || put "$tree/outside/default" /etc/default/wesher >/dev/null
}
put() {
  make_directory "$(dirname "$2")"
  echo "$2"
  if ! cmp -s "$1" "$2" || [[ -L $2 ]]; then
    cp -p "$1" "$2.new" && mv -f "$2.new" "$2"
    changed=yes
  fi
}

# A link is replaced in one step by renaming another over it.
link() {
  [[ $(readlink "$2" 2>/dev/null || true) != "$1" ]] || return 0
  ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2"
  changed=yes
}

switch() {
  local name
  systemd-sysusers "$(places_of sysusers.d/wesher.conf)" || fail "cannot make the users wesher and wesher-priv; see above"
  ! has_systemd || systemd-tmpfiles --create "$(places_of tmpfiles.d/wesher.conf)"
  make_directory "$prefix/bin"
  for name in wesher wesher-privhelper; do link "../lib/wesher/current/bin/$name" "$prefix/bin/$name"; done
  link "$(basename "$tree")" "$lib/current"
}
places_of() { grep -m 1 "/$1\$" "$lib/files"; }

# Directories of other versions, unless a process runs from one: a helper may be older than what is installed.
remove_old_versions() {
  local old
  for old in "$lib"/*/; do
    old=${old%/}
    [[ ! -L $old && $old != "$tree" ]] || continue
    if grep -qsF "$old/" /proc/[0-9]*/{maps,cmdline}; then
      say "$old stays as long as something runs from it; the next install.sh removes it"
    else
      rm -rf "$old"
    fi
  done
}

# --- what runs

# The launcher is on as the pair was, whose place it takes; instances have their own.
choose_layout() {
  local running enabled pair=(wesher-privhelper.{service,socket} wesher.service wesher-wireguard-go.service)
  [[ $launcher ]] && has_systemd || return 0
  running=$(active wesher.service)
  enabled=$(systemctl is-enabled wesher.service 2>/dev/null || true)
  [[ $running || $enabled == enabled* ]] || return 0
  say "wesher.service and its helper give way to wesher-launcher.service: tunnels are down for a moment"
  systemctl stop "${pair[@]}"
  systemctl --quiet disable "${pair[@]}"
  [[ $enabled != enabled* ]] || systemctl --quiet enable wesher-launcher.service
  [[ ! $running ]] || restart wesher-launcher.service || status=1
}

say_what_next() {
  local unit=wesher program=wesher
  [[ $(command -v wesher) -ef $prefix/bin/wesher ]] || program=$prefix/bin/wesher
  local userspace="systemctl enable --now wesher-wireguard-go"
  if [[ $launcher ]]; then
    unit=wesher-launcher
    userspace="install -D -m 644 -t /etc/systemd/system/wesher-launcher.service.d \\
  $prefix/share/doc/wesher/examples/launcher-userspace.conf && sudo systemctl daemon-reload"
  fi
  if ! has_systemd || [[ $(active 'wesher*.service') ]]; then
    return
  fi
  cat <<TEXT
Next, on the first node of a mesh:   sudo systemctl enable --now $unit && sudo $program key show
On every other one, name a member in /etc/default/wesher (WESHER_JOIN=...), and:
  sudo install -D -m 600 /dev/stdin $(key_file)     # paste that key, Enter, Ctrl-D
  sudo systemctl enable --now $unit
TEXT
  if ! [[ -d /sys/module/wireguard ]] && ! modprobe --quiet --dry-run wireguard 2>/dev/null; then
    echo "This kernel has no WireGuard. Before that:   sudo apt-get install wireguard-go && sudo $userspace"
  fi
}
key_file() {
  local path
  path=$(sed -n 's/^LoadCredential=cluster-key:\(.*\)$/\1/p' "$tree/outside/lib/systemd/system/wesher.service")
  [[ $path == /* ]] && echo "$path" || echo "/etc/credstore/$path"
}

main() {
  local status=0
  read_arguments "$@"
  check_host
  begin
  install_packages
  have_tree
  [[ ! $take_over ]] || "$tree/take-over.sh" --aside
  put_outside
  # who is interrupted between the switch and the restarts leaves this, and the next run has them still to do
  [[ ! -e $lib/pending ]] || changed=yes
  : >"$lib/pending"
  switch
  if [[ $changed ]]; then
    say "$("$prefix/bin/wesher" --version) is installed under $prefix"
    follow_installed "$(cat "$tree/generation")" || status=1
  else
    say "$("$prefix/bin/wesher" --version) is installed under $prefix already"
  fi
  rm "$lib/pending"
  remove_old_versions
  [[ ! $take_over ]] || "$tree/take-over.sh" ${launcher:+--launcher} || status=1
  choose_layout
  say_what_next
  exit "$status"
}
main "$@"
