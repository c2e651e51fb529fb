#!/usr/bin/env bash
# take-over.sh [--launcher]: the mesh of an installed Go wesher goes on with this one, as the pair of services or as the
# one; take-over.sh --back: and back; take-over.sh --list: what is in the way.
#
# The two have the same flags, variables (/etc/default/wesher), state file, hosts lines, interface and wire, so there is
# nothing to convert. What is in the way is the Go wesher's unit, which has the same name and in /etc/systemd/system counts
# for more, and its binary, which in the PATH of root stands before ours. Both get a suffix where they are, and lose it on
# the way back. What ran or would at boot does so afterwards too.
set -euo pipefail
export LC_ALL=C.UTF-8
suffix=.before-take-over
unit=/etc/systemd/system/wesher.service
go_files=("$unit" /usr/local/sbin/wesher /usr/local/bin/wesher /usr/sbin/wesher /usr/bin/wesher)

say() { echo "$(basename "$0"): $*" >&2; }
fail() {
  say "$*"
  exit 1
}

# A file of the Go wesher's or of somebody else's: there, not ours, and no other package's. A masked unit is the
# administrator's word, and so is one that names our helper: `systemctl edit --full` made it of ours.
is_foreign() {
  [[ -e $1 || -L $1 ]] || return 1
  [[ $1 != "$unit" ]] || ! grep -qs -e --helper-socket "$unit" || return 1
  [[ ! -L $1 || $(readlink "$1") != */lib/wesher/current/* && $(readlink "$1") != /dev/null ]] || return 1
  ! dpkg-query --search "$1" >/dev/null 2>&1
}
# Drop-ins beside a unit that is ours are for ours.
foreign() {
  local file
  if is_foreign "$unit" && [[ -e $unit.d ]]; then echo "$unit.d"; fi
  for file in "${go_files[@]}"; do
    ! is_foreign "$file" || echo "$file"
  done
}

# Options that a unit's own lines give would be lost with it.
check_unit() {
  local lines
  [[ -e $unit ]] || return 0
  lines=$(grep -hE '^(ExecStart=[^ ]+ +(agent +)?-|Environment=)' "$unit" "$unit.d"/*.conf 2>/dev/null | paste -sd ';' || true)
  [[ -z $lines ]] || fail "$unit gives options itself ($lines): write them into /etc/default/wesher, as variables" \
    "(--join HOST is WESHER_JOIN=HOST), take them out of the unit, and run this again; nothing has been changed"
}

# One that somebody has started by hand would go on, with port and interface.
check_not_running() {
  local main exe
  main=$(systemctl show --property MainPID --value wesher.service)
  for exe in /proc/[0-9]*/exe; do
    [[ $exe != "/proc/$main/exe" && " ${go_files[*]} " == *" $(readlink "$exe" 2>/dev/null || echo none) "* ]] || continue
    exe=${exe#/proc/}
    fail "a Go wesher runs that its unit has not started: kill ${exe%/exe}, and run this again; nothing has been changed"
  done
}

# The interface of one that crashed is there still, with a key and peers, and no helper takes such a link for its own. Who
# has stopped takes it away; and what has our alias, or is no WireGuard, is none.
remove_stale_link() {
  local interface link
  interface=$(sed -n 's/^WESHER_INTERFACE=//p' /etc/default/wesher 2>/dev/null | tail -n 1)
  interface=${interface:-wgoverlay}
  [[ -e /var/lib/wesher/$interface.json || -e /var/lib/wesher/state.json ]] || return 0
  link=$(ip -details link show dev "$interface" type wireguard 2>/dev/null || true)
  [[ $link && $link != *' alias '* ]] || return 0
  ip link del dev "$interface"
  say "removed interface $interface, which the Go wesher had left"
}

# Whether a unit is on: enabled, active. Two words to be given to `turn`.
turned() {
  local enabled=no active=no
  ! systemctl --quiet is-enabled "$1" 2>/dev/null || enabled=yes
  ! systemctl --quiet is-active "$1" || active=yes
  echo "$enabled $active"
}
turn() {
  [[ $2 == no ]] || systemctl --quiet enable "$1"
  [[ $3 == no ]] || systemctl start "$1" || fail "$1 does not start; see: journalctl -u $1"
}

# $1 is the unit of ours that goes on where the Go wesher's stops.
take_over() {
  local file found was
  mapfile -t found < <(foreign)
  ((${#found[@]})) || return 0
  check_unit
  check_not_running
  was=$(turned wesher.service)
  if is_foreign "$unit"; then
    systemctl --quiet disable --now wesher.service
    remove_stale_link
  fi
  for file in "${found[@]}"; do
    mv "$file" "$file$suffix"
    say "moved $file to $file$suffix"
  done
  systemctl daemon-reload
  warn_of_key
  # shellcheck disable=SC2086 # two words
  turn "$1" $was
}

warn_of_key() {
  local defaults=/etc/default/wesher
  if grep -qs '^WESHER_CLUSTER_KEY=' "$defaults" && [[ $(stat -c %a "$defaults") != *00 ]]; then
    say "$defaults holds the cluster key and everybody on this host can read it: chmod 600 $defaults"
  fi
}

give_back() {
  local file found=() was=
  for file in "$unit.d" "${go_files[@]}"; do
    [[ ! -e $file$suffix ]] || found+=("$file")
  done
  ((${#found[@]})) || return 0
  for file in "${found[@]}"; do
    [[ ! -e $file ]] || fail "cannot give $file back, because it is there again: move it away and run this again"
  done
  for ours in wesher.service wesher-launcher.service; do
    [[ $was == *yes* ]] || was=$(turned "$ours")
    systemctl --quiet disable "$ours" 2>/dev/null || true
  done
  systemctl stop wesher.service wesher-launcher.service wesher-privhelper.service wesher-privhelper.socket
  for file in "${found[@]}"; do
    mv "$file$suffix" "$file"
    say "moved $file$suffix back to $file"
  done
  systemctl daemon-reload
  # shellcheck disable=SC2086 # two words
  [[ ! -e $unit ]] || turn wesher.service $was
}

main() {
  ((EUID == 0)) || fail "it changes units, so run it as root: sudo $0"
  case $* in
    '') take_over wesher.service ;;
    --launcher) take_over wesher-launcher.service ;;
    --back) give_back ;;
    --list) foreign ;;
    *) fail "usage: sudo $0 [--launcher | --back | --list]" ;;
  esac
}
main "$@"
