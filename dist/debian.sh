# shellcheck shell=bash
# Sourced by what makes a Debian of its own to test in. Callers say `set -euo pipefail`.
#
# make_debian SUITE ROOT ARCHIVES PACKAGES [OPTION of mmdebstrap]...: that Debian in ROOT, with PACKAGES (a list with
# commas), without documentation and translations, and with nothing left of apt's. Packages are kept in ARCHIVES.

# As this host's apt reaches Debian: its mirrors, with its own release's name exchanged for $1, and what it was told of
# proxies and dates. Without lists it does not know which mirrors are Debian's.
debian_sources() {
  local codename
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
  # shellcheck disable=SC2016 # apt-get's
  apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
    sort -u | grep " $codename" | sed -E "s/^(deb [^ ]+ )$codename/\1$1/"
}
apt_settings() {
  apt-config dump Acquire | grep -E '^Acquire::(http|https|Check-[A-Za-z-]*)(::Proxy|::CaInfo)? ".+";' || true
}

make_debian() {
  local suite=$1 root=$2 archives=$3 packages=$4 options=() setting
  shift 4
  while read -r setting; do options+=(--aptopt="$setting"); done < <(apt_settings)
  mkdir -p "$archives"
  [[ $(debian_sources "$suite") ]] || apt-get -qq update
  # shellcheck disable=SC2016 # $1 is mmdebstrap's
  debian_sources "$suite" | mmdebstrap --quiet --mode=root --variant=essential --include="$packages" "${options[@]}" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --skip=download/empty --skip=essential/unlink \
    --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
    --setup-hook="sync-in '$archives' /var/cache/apt/archives" \
    --customize-hook="sync-out /var/cache/apt/archives '$archives'" \
    "$@" \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list* "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
    "$suite" "$root" -
}
