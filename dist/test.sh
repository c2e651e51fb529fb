#!/usr/bin/env bash
# sudo dist/test.sh [pytest arguments]: without arguments everything that CI checks, with them pytest alone. Installs what
# it needs. Not root: runs what needs no root, and says at the end what that left out.
set -euo pipefail
# shellcheck source=dist/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if ((EUID == 0)); then
  packages+=(qemu-system-x86 mmdebstrap e2fsprogs kmod cpio) # what makes and runs the guest of tests/vm
  packages+=(nftables iptables)                              # what tests/hostile compares, and tests/contract reads
  packages+=(golang-go)                                      # whether Go can read our state file, and the peers below
  packages+=(golang-github-hashicorp-memberlist-dev serf)    # live peers for tests/interop
  install_packages
  make_venv dev
else
  cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/wesher temporary=
  if ! mkdir -p "$cache" 2>/dev/null || [[ ! -w $cache ]]; then
    temporary=$(mktemp -d)
    cache=$temporary
  fi
  # shellcheck disable=SC2317 # called by the trap
  at_exit() {
    if [[ ! -e $cache/dev/complete ]]; then
      local missing
      missing=$(missing_packages | paste -sd ' ')
      say "FAILED to make an environment for the tests in $cache${missing:+; as root it would install $missing}"
    fi
    [[ -z $temporary ]] || rm -rf "$temporary"
  }
  trap at_exit EXIT
  make_venv dev
fi

cd "$checkout"
export WESHER_BIN=$venv/bin/wesher
# no tool leaves a cache in the checkout, which may not be root's
export PYTHONPYCACHEPREFIX=$cache/tools/pycache MYPY_CACHE_DIR=$cache/tools/mypy RUFF_CACHE_DIR=$cache/tools/ruff
export HYPOTHESIS_STORAGE_DIRECTORY=$cache/tools/hypothesis
run() { "$venv/bin/python" -m "$@"; }

if (($# == 0)); then
  run ruff check
  run ruff format --check
  run mypy
  run mypy tests/lab tests/vm/guest.py tests/vm/marker.py
  run mypy -p security.fuzz -p tests.mutants
  run mypy --follow-imports silent -p tests.deploy
  run mypy --follow-imports silent -p tests.soak
  run mypy --follow-imports silent -p security.privileges
fi
tests=("$venv/bin/python" -m pytest -o "cache_dir=$cache/tools/pytest" ${CI:+--durations=40})
status=0
if (($# == 0)); then
  # What runs live meshes mostly waits: all else runs beside it, and is shown when it is over. They take about as long.
  beside=(tests/architecture tests/fuzz tests/golden tests/mutants tests/sim tests/soak tests/unit)
  beside+=(tests/contract tests/hostile tests/vm)
  waiting=(tests/e2e tests/interop)
  elsewhere=(tests/deploy) # longer than CI has: dist/test-deploy.sh
  for directory in $(find tests -name 'test_*.py' | cut -d/ -f1-2 | sort -u); do
    if [[ " ${beside[*]} ${waiting[*]} ${elsewhere[*]} " != *" $directory "* ]]; then
      say "FAILED: $directory has tests, and dist/test.sh does not know of it"
      exit 1
    fi
  done
  said=$(mktemp)
  # a shell's background ignores SIGINT, and so would every program that a test interrupts
  env --default-signal=INT nice -n 5 "${tests[@]}" "${beside[@]}" >"$said" 2>&1 &
  other=$!
  "${tests[@]}" "${waiting[@]}" || status=$?
  wait "$other" || status=$?
  cat "$said"
  rm "$said"
  say "NOT RUN: ${elsewhere[*]} (installing and containers, on real systemds and engines). Run it: sudo dist/test-deploy.sh"
else
  "${tests[@]}" "$@" || status=$?
fi
if ((EUID != 0)); then
  say "NOT ROOT: every test marked 'root' or 'vm' was skipped (namespaces, real uids, /dev/net/tun, a guest)." \
    "Run them: sudo dist/test.sh"
fi
exit "$status"
