#!/usr/bin/env bash
# sudo dist/demo.sh: a real three-node mesh in network namespaces, every node pinging every other by name. Installs what
# it needs, leaves behind only Debian packages and /var/cache/wesher/run.
set -euo pipefail
if ((EUID != 0)); then
  echo "demo.sh: it makes network namespaces, so run it as root: sudo dist/demo.sh" >&2
  exit 1
fi
# shellcheck source=dist/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install_packages
make_venv run
cd "$checkout"
export WESHER_BIN=$venv/bin/wesher PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -m tests.lab.demo
