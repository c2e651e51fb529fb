# shellcheck shell=bash
# Sourced by the scripts beside it: Debian packages that are missing, and a virtual environment that holds this checkout's
# wheel. The environment is root's and world-readable, because a checkout may lie where a dropped uid cannot read.
# Callers say `set -euo pipefail`, then `install_packages` and `make_venv run` or `make_venv dev`, which sets $venv.
umask 022
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=/var/cache/wesher
python=/usr/bin/python3 # not the PATH's: that one may live under a directory only its owner can enter
packages=(
  wireguard-go wireguard-tools iproute2 iputils-ping procps util-linux # what wesher and its lab run
  python3 python3-venv ca-certificates                                 # what makes the environment
  libseccomp2                                                          # pyseccomp loads it
  gcc libc6-dev libcap-dev python3-dev                                 # python-prctl comes as source
)

say() { echo "$(basename "$0"): $*" >&2; }

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) == installed ]] || echo "$package"
  done
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null </dev/null
}

# Two words: what the installed dependencies follow from, and what the installed wheel follows from.
fingerprint() {
  local dependencies='import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(sys.version, project["dependencies"], project["optional-dependencies"])'
  (
    cd "$checkout" || exit
    "$python" -I -c "$dependencies" | sha256sum | cut -c1-16
    find wesher privhelper pyproject.toml -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z |
      xargs -0 sha256sum | sha256sum | cut -c1-16
  ) | paste -sd ' '
}

# $venv/complete holds the fingerprint; it is removed first and written last, so what an interrupted run leaves is
# rebuilt. Descriptor 9 keeps a shared lock for as long as the caller runs: nobody reinstalls what is in use.
make_venv() {
  local variant=$1 wanted
  venv=$cache/$variant
  mkdir -p "$cache"
  exec 9>>"$cache/$variant.lock"
  while :; do
    wanted=$(fingerprint)
    flock --shared 9
    if [[ $(cat "$venv/complete" 2>/dev/null || true) == "$wanted" ]]; then
      return 0
    fi
    if ! flock --exclusive --nonblock 9; then
      say "waiting for another run that uses $venv"
      flock --exclusive 9
    fi
    if [[ $(cat "$venv/complete" 2>/dev/null || true) != "$wanted" ]]; then
      build_venv "$variant" "$wanted"
    fi
  done
}

build_venv() {
  local variant=$1 wanted=$2 work=$cache/$1.build installed kept=
  installed=$(cat "$venv/complete" 2>/dev/null || true)
  [[ ${installed% *} != "${wanted% *}" ]] || kept=yes
  rm -rf "$venv/complete" "$work"
  mkdir -p "$work/source/.git" "$work/tmp" # the .git stops the build from reading ignore files of directories above
  local -x TMPDIR=$work/tmp
  local pip=("$venv/bin/python" -I -m pip -qq --no-cache-dir --disable-pip-version-check) wheel
  if [[ $kept ]]; then
    say "updating $venv"
  else
    say "making $venv"
    rm -rf "$venv"
    "$python" -I -m venv "$venv"
    "${pip[@]}" install wheel # python-prctl is built with it
  fi
  # built from a copy, so that nothing is left in the checkout
  cp -r "$checkout"/{wesher,privhelper,pyproject.toml,README.md} "$work/source"
  "${pip[@]}" wheel --no-deps --wheel-dir "$work" "$work/source"
  wheel=$(echo "$work"/wesher-*.whl)
  [[ $variant != dev ]] || wheel+='[dev]'
  "${pip[@]}" install ${kept:+--no-deps --force-reinstall} "$wheel"
  chmod -R a+rX,go-w "$venv"
  rm -rf "$work"
  echo "$wanted" >"$venv/complete.new"
  mv "$venv/complete.new" "$venv/complete"
}
