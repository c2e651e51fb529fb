#!/usr/bin/env bash
# sudo dist/container/base.sh [SUITE]: a Debian base image, localhost/debian:SUITE, where no registry can be reached; give
# it to a build with --build-arg BASE=localhost/debian:SUITE. SUITE is this machine's own release, or another one of
# Debian's (bookworm, trixie). It is made by mmdebstrap from the mirrors that this machine's apt uses, and keeps them: a
# build goes on installing from there. So does it keep what apt was told of proxies; do not give the image away if that
# has a password. ENGINE=docker loads it there, ENGINE="podman --root DIR" elsewhere.
set -euo pipefail
umask 022

say() { echo "$(basename "$0"): $*" >&2; }
if ((EUID != 0)); then
  say "a root file system has many owners, so run it as root: sudo dist/container/base.sh"
  exit 1
fi
own=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
suite=${1:-$own}
read -ra engine <<<"${ENGINE:-podman}"
for program in mmdebstrap "${engine[0]}"; do
  command -v "$program" >/dev/null || { say "$program is missing; install it: apt install $program"; exit 1; }
done
# shellcheck source=dist/debian.sh
source "$(dirname "${BASH_SOURCE[0]}")/../debian.sh"

options=()
while read -r setting; do options+=(--aptopt="$setting"); done < <(apt_settings)
[[ $(debian_sources "$suite") ]] || apt-get -qq update
say "making a Debian $suite"
# shellcheck disable=SC2016 # $1 is mmdebstrap's
debian_sources "$suite" | mmdebstrap --quiet --mode=root --variant=apt --include=ca-certificates "${options[@]}" \
  --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
  "$suite" - - | "${engine[@]}" import --change 'CMD ["/bin/sh"]' - "localhost/debian:$suite" >/dev/null
say "made localhost/debian:$suite"
