#!/usr/bin/env bash
# sudo dist/test-nightly.sh [--seeds N [--first-seed S]]: what takes longer than CI has; the rest is dist/test.sh.
# The guest's longer tests on kernel WireGuard (the whole batch of hostile cases, containers, units); installing, upgrading
# and taking away on real systemds, and containers here (dist/test-deploy.sh); with --seeds also so many seeds of each of
# the simulator's scenarios, from S on. Installs what it needs. One that fails does not keep the others from running.
set -euo pipefail
# shellcheck source=dist/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if [[ ! $* =~ ^(--seeds [0-9]+( --first-seed [0-9]+)?)?$ ]]; then
  say "usage: sudo dist/test-nightly.sh [--seeds N [--first-seed S]]"
  exit 2
fi
if ((EUID != 0)); then
  say "it makes a guest, so run it as root: sudo dist/test-nightly.sh"
  exit 1
fi

status=0
"$checkout/dist/test.sh" tests/vm/test_kernel_hostile.py tests/vm/test_kernel_containers.py tests/vm/test_units.py \
  --nightly || status=$?
"$checkout/dist/test-deploy.sh" || status=$?
(($# == 0)) || "$checkout/dist/test.sh" tests/sim "$@" || status=$?
exit "$status"
