#!/usr/bin/env bash
# take-over.sh [--launcher]: the mesh of an installed Go wesher goes on with this one, as the pair of services or as the
# one; take-over.sh --back: and back; take-over.sh --list: what is in the way. install.sh also asks whether it can be
# (--check), and has moved aside (--aside) what it would write over.
#
# The two have the same flags, variables (/etc/default/wesher), state file, hosts lines, interface and wire, so there is
# nothing to convert. What is in the way is the Go wesher's unit, which has the same name and in /etc/systemd/system counts
# for more, and its binary, which in the PATH of root stands before ours. Both get a suffix where they are, and lose it on
# the way back. What ran or would at boot does so afterwards too: that is noted before anything is changed, and as long as
# the note is there, who was interrupted goes on with the same command, or back.
set -euo pipefail
export LC_ALL=C.UTF-8
umask 022
suffix=.before-take-over
units=({/etc,/usr/local/lib,/usr/lib}/systemd/system/wesher.service)
drop_ins=${units[0]}.d
go_files=("${units[@]}" /usr/local/{s,}bin/wesher /usr/{s,}bin/wesher)
note=${units[0]}.take-over # two words of `turned`
defaults=/etc/default/wesher

say() { echo "$(basename "$0"): $*" >&2; }
fail() {
  say "$*"
  exit 1
}

# A file of the Go wesher's or of somebody else's: there, not ours, and no other package's. A masked unit is the
# administrator's word, and so is one that names our helper: `systemctl edit --full` made it of ours.
is_foreign() {
  [[ -e $1 || -L $1 ]] || return 1
  [[ $1 != *.service ]] || ! grep -qs -e --helper-socket "$1" || return 1
  [[ ! -L $1 || $(readlink "$1") != */lib/wesher/current/* && $(readlink "$1") != /dev/null ]] || return 1
  # a package from before /lib became /usr/lib has the former name
  ! dpkg-query --search "$1" >/dev/null 2>&1 && ! dpkg-query --search "${1#/usr}" >/dev/null 2>&1
}
has_foreign_unit() {
  local file
  for file in "${units[@]}"; do
    ! is_foreign "$file" || return 0
  done
  return 1
}
# Drop-ins beside a unit that is ours are for ours.
foreign() {
  local file
  if has_foreign_unit && [[ -e $drop_ins ]]; then echo "$drop_ins"; fi
  for file in "${go_files[@]}"; do
    ! is_foreign "$file" || echo "$file"
  done
}

# --- what keeps from it

# Options that a unit's own lines give would be lost with it. Systemd says what they come to, in whichever file and however
# they are written there.
check_unit() {
  local lines
  has_foreign_unit || return 0
  systemctl daemon-reload
  lines=$(systemctl show wesher.service --property ExecStart,Environment,EnvironmentFiles | options_in | paste -sd ';')
  [[ -z $lines ]] || fail "${units[0]} gives options itself ($lines): write them into $defaults, as variables" \
    "(--join HOST is WESHER_JOIN=HOST), take them out of the unit, and run this again; nothing has been changed"
}
# A program without a word behind it, or with the one word that does nothing, gives none; a script may.
options_in() {
  local line
  while read -r line; do
    case $line in
      ExecStart=*) line=ExecStart=$(sed -E 's/^.* argv\[\]=(.*) ; ignore_errors=.*$/\1/' <<<"$line") ;;
      Environment=*WESHER_*) ;;
      EnvironmentFiles=*) line=EnvironmentFile=$(sed -E 's/^[^=]*=(.*) \(.*$/\1/' <<<"$line") ;;
      *) continue ;;
    esac
    [[ ! $line =~ ^ExecStart=[^\ ]*/wesher(\ agent)?$ && $line != "EnvironmentFile=$defaults" ]] || continue
    # a file that is not there gives nothing
    [[ $line != EnvironmentFile=* ]] || grep -qs WESHER_ "${line#*=}" || continue
    sed -E 's/(CLUSTER_KEY=|--cluster-key[= ])[^ ]+/\1.../g' <<<"$line"
  done
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

# What an earlier one has moved aside is somebody's only copy.
check_places() {
  local aside
  for aside in "${@/%/$suffix}"; do
    [[ ! -e $aside && ! -L $aside ]] ||
      fail "$aside is there from an earlier take-over: move it away, and run this again; nothing has been changed"
  done
}

check() {
  local found
  mapfile -t found < <(foreign)
  ((${#found[@]})) || return 0
  [[ -d /run/systemd/system ]] || fail "systemd does not run here, and the Go wesher is its service: start this where it does"
  check_unit
  check_not_running
  check_places "${found[@]}"
}

# --- there

# Whether a unit is on: enabled, active. Two words to be given to `turn`. One that crashes and is started anew is.
turned() {
  local enabled=no active=no
  [[ $(systemctl is-enabled "$1" 2>/dev/null || true) != enabled* ]] || enabled=yes
  [[ $(systemctl is-active "$1" || true) != @(active|activating|reloading) ]] || active=yes
  echo "$enabled $active"
}
take_note() {
  [[ ! -e $note ]] || return 0
  echo "$*" >"$note.new" && mv "$note.new" "$note"
}
# $1 is the unit; it and the end of the note.
turn() {
  local started=yes
  [[ $2 == no ]] || systemctl --quiet enable "$1"
  [[ $3 == no ]] || systemctl start "$1" || started=no
  rm "$note"
  [[ $started == yes ]] || fail "$1 does not start; see: journalctl -u $1"
}

# The files alone: what runs does not mind.
move_aside() {
  local file found
  check
  mapfile -t found < <(foreign)
  ! has_foreign_unit || take_note "$(turned wesher.service)"
  for file in "${found[@]}"; do
    mv -T "$file" "$file$suffix"
    say "moved $file to $file$suffix"
  done
}

# $1 is the unit of ours that goes on where the Go wesher's stops.
take_over() {
  local was
  [[ $(find {/run,/usr/local/lib,/usr/lib}/systemd/system/wesher-launcher.service 2>/dev/null) ]] ||
    fail "this wesher is not installed yet: sudo dist/install.sh --take-over does both; nothing has been changed"
  move_aside
  [[ -e $note ]] || return 0
  was=$(<"$note")
  systemctl --quiet stop wesher.service # which is no more what stands on the disk
  remove_stale_link "$was"
  systemctl daemon-reload
  systemctl --quiet disable wesher.service
  warn_of_key
  # shellcheck disable=SC2086 # two words
  turn "$1" $was
}

# The interface of one that crashed is there still, with a key and peers, and no helper takes such a link for its own. Who
# has stopped takes it away; what has our alias, or is no WireGuard, is none; and where the Go wesher was off, the name
# may be another tunnel's by now.
remove_stale_link() {
  local interface link
  [[ $1 == *yes* ]] || return 0
  # in quotes or not, the last one, as systemd takes it
  interface=$(sed -n 's/\r$//; s/^[[:space:]]*WESHER_INTERFACE=//p' "$defaults" 2>/dev/null | tail -n 1 |
    xargs -r printf %s 2>/dev/null || true)
  interface=${interface:-wgoverlay}
  [[ -e /var/lib/wesher/$interface.json || -e /var/lib/wesher/state.json ]] || return 0
  link=$(ip -details link show dev "$interface" type wireguard 2>/dev/null || true)
  [[ $link && $link != *' alias '* ]] || return 0
  ip link del dev "$interface"
  say "removed interface $interface, which the Go wesher had left"
}

warn_of_key() {
  if grep -qs '^WESHER_CLUSTER_KEY=' "$defaults" && [[ $(stat -c %a "$defaults") == *[4-7] ]]; then
    say "$defaults holds the cluster key and everybody on this host can read it: chmod 600 $defaults"
  fi
}

# --- and back

# What install.sh has put where a file has to come back to.
is_ours() {
  if [[ -L $1 ]]; then
    [[ $(readlink "$1") == */lib/wesher/current/* ]]
  else
    [[ $1 == /usr/*.service ]] && grep -qs -e --helper-socket "$1"
  fi
}

give_back() {
  local file found=() was
  for file in "$drop_ins" "${go_files[@]}"; do
    [[ ! -e $file$suffix && ! -L $file$suffix ]] || found+=("$file")
  done
  ((${#found[@]})) || [[ -e $note ]] || return 0
  for file in "${found[@]}"; do
    [[ ! -e $file ]] || is_ours "$file" ||
      fail "cannot give $file back, because it is there again: move it away and run this again"
  done
  # who was interrupted on the way there may have left the other's unit, which then still runs
  ((!${#found[@]})) || has_foreign_unit || end_ours
  for file in "${found[@]}"; do
    mv -fT "$file$suffix" "$file"
    say "moved $file$suffix back to $file"
  done
  systemctl daemon-reload
  if [[ -e $note ]] && has_foreign_unit; then
    was=$(<"$note")
    # shellcheck disable=SC2086 # two words
    turn wesher.service $was
  fi
  rm -f "$note"
}
end_ours() {
  local unit was=''
  for unit in wesher.service wesher-launcher.service; do
    [[ $was == *yes* ]] || was=$(turned "$unit")
  done
  take_note "$was"
  for unit in wesher.service wesher-launcher.service; do systemctl --quiet disable "$unit" 2>/dev/null || true; done
  systemctl stop wesher.service wesher-launcher.service wesher-privhelper.service wesher-privhelper.socket
}

list() {
  foreign
  [[ ! -e $note ]] || echo "$note"
}

main() {
  ((EUID == 0)) || fail "it changes units, so run it as root: sudo $0"
  case $* in
    '') take_over wesher.service ;;
    --launcher) take_over wesher-launcher.service ;;
    --back) give_back ;;
    --list) list ;;
    --check) check ;;
    --aside) move_aside ;;
    *) fail "usage: sudo $0 [--launcher | --back | --list]" ;;
  esac
}
main "$@"
