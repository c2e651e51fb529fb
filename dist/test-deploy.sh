#!/usr/bin/env bash
# sudo dist/test-deploy.sh [pytest arguments]: tests/deploy, the ways to run wesher as an operator has them. Installing by
# script and by package, on a real systemd of Debian 12 and of 13 (systemd-nspawn, a network of its own, wireguard-go),
# without anything from the network; and containers. Installs what it needs; roots and wheels are kept under
# /var/cache/wesher/deploy. Too long for CI: the nightly target runs it.
set -euo pipefail
# shellcheck source=dist/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if ((EUID != 0)); then
  say "it makes machines of its own, so run it as root: sudo dist/test-deploy.sh"
  exit 1
fi

packages+=(systemd-container mmdebstrap debian-archive-keyring) # machines, and what is in them
packages+=(podman runc crun catatonit netavark)                 # containers
install_packages
(($#)) || set -- tests/deploy
exec "$checkout/dist/test.sh" "$@"
