# shellcheck shell=bash
# Sourced by install.sh and uninstall.sh, and part of the Debian package's scripts: what becomes of services that run when
# another version is there. An agent is restarted, which costs nothing. A helper holds the tunnels: it goes on as long as
# it is of the generation (privhelper.GENERATION) that the installed one is of. What runs says itself of which it is, in its
# status line, for the files that it was started from may be gone, and it may be older than the last version installed.

has_systemd() { [[ -d /run/systemd/system ]]; }

# One install.sh or uninstall.sh at a time on $1, as long as this shell is there. The lock is a file that root alone can
# open: on the directory itself any user of this host could hold one, and nothing would ever be installed again.
lock() {
  (umask 077 && : >>"$1/lock")
  exec 9>>"$1/lock"
  flock --nonblock 9 || fail "another install.sh or uninstall.sh is at work on $1; wait for it"
}

# Units by their patterns that are there in one of these states.
units_that_are() {
  local states=$1
  shift
  systemctl list-units --all --plain --no-legend --full --state="$states" "$@" | sed 's/ .*//'
}
active() { units_that_are active,activating,reloading,deactivating "$@"; }

generation_of() { systemctl show --property StatusText --value "$1" | sed -n 's/^generation \([0-9]*\):.*/\1/p'; }

# Restarts what must be; $1 the generation that is installed now. Fails where a service does not start again.
follow_installed() {
  local generation=$1 unit running agents helpers launchers status=0
  has_systemd || return 0
  systemctl daemon-reload
  mapfile -t agents < <(active wesher.service 'wesher@*.service')
  mapfile -t helpers < <(active wesher-privhelper.service 'wesher-privhelper@*.service')
  mapfile -t launchers < <(active wesher-launcher.service 'wesher-launcher@*.service')
  for unit in "${helpers[@]}"; do
    running=$(generation_of "$unit")
    if [[ $running == "$generation" ]]; then
      say "$unit goes on as it is: tunnels stay up"
    else
      say "$unit must be restarted, because it is of generation ${running:-unknown} and this version's is $generation:" \
        "tunnels are down for a moment"
      restart "$unit" || status=1 # and with it its agent
    fi
  done
  for unit in "${agents[@]}"; do
    ! is_not_ours "$unit" || continue
    running=$(generation_of "${unit/#wesher/wesher-privhelper}")
    if [[ ${running:-$generation} == "$generation" ]]; then
      restart "$unit" || status=1
    fi
  done
  for unit in "${launchers[@]}"; do
    say "$unit is restarted, and in it both halves: tunnels are down for a moment"
    restart "$unit" || status=1
  done
  return "$status"
}

restart() {
  systemctl restart "$1" && return
  say "the new version is installed, but $1 does not start; see: journalctl -u $1"
  return 1
}

# Everything of ours that runs or would at boot: no longer. Helpers first, while agents are there to say goodbye, with the
# sockets that would start them again.
end_services() {
  local unit helpers
  has_systemd || return 0
  mapfile -t helpers < <(active wesher-privhelper.{service,socket} 'wesher-privhelper@*'.{service,socket})
  ((!${#helpers[@]})) || systemctl stop "${helpers[@]}"
  for unit in $(active wesher.service 'wesher@*.service' wesher-launcher.service 'wesher-launcher@*.service') \
    $(active wesher-wireguard-go.service); do
    is_not_ours "$unit" || systemctl stop "$unit"
  done
  # what has failed before, or in ending, would be listed as failed after it is gone
  systemctl reset-failed 'wesher-*' 'wesher@*' 2>/dev/null || true
  is_not_ours wesher.service || systemctl reset-failed wesher.service 2>/dev/null || true
  for unit in $(enabled_units); do
    is_not_ours "$unit" || systemctl --quiet disable "$unit"
  done
}

# A Go wesher's: its unit counts, given back just now, or it runs still, with take-over.sh at work, which leaves a note.
is_not_ours() {
  local unit
  [[ $1 == wesher.service ]] || return 1
  [[ ! -e /etc/systemd/system/wesher.service.take-over ]] || return 0
  unit=$(systemctl show --property FragmentPath --value wesher.service)
  [[ -f $unit ]] && ! grep -qs -e --helper-socket "$unit"
}

# As the links in the administrator's directory say it, so also instances.
enabled_units() {
  find /etc/systemd/system -path '*.wants/*' \( -name 'wesher.service' -o -name 'wesher@*.service' \
    -o -name 'wesher-launcher*.service' -o -name 'wesher-privhelper*' -o -name 'wesher-wireguard-go.service' \) \
    -printf '%f\n' | sort -u
}

# The users that sysusers.d made, which have its words; one that somebody added by hand stays.
remove_users() {
  local row name words
  for row in 'wesher:wesher agent' 'wesher-priv:wesher privileged helper'; do
    name=${row%%:*} words=${row#*:}
    if [[ $(getent passwd "$name" | cut -d: -f5) == "$words" ]]; then userdel "$name"; fi
  done
}
