#!/usr/bin/env bash
# dist/pin.sh: writes dist/requirements.txt and dist/requirements-build.txt anew: the newest versions that pyproject.toml
# allows, with the hash of each file that Debian 12 and 13 take on amd64 and arm64, and of no other. Needs no root.
#
# One version for all four: what the oldest Python takes. python-prctl has no wheels, so it is pinned as source, and is
# compiled with the packages of requirements-build.txt, in an environment that has nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
pythons=(3.11 3.13)
machines=(x86_64 aarch64)
mapfile -t glibc < <(seq 36 -1 17) # Debian 12 has 2.36: manylinux' names for what runs there, as pip prefers them
compiled='python-prctl'
building=(hatchling setuptools wheel)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -I -m venv "$work/venv"
pip=("$work/venv/bin/python" -I -m pip -qq --disable-pip-version-check)

wanted() {
  /usr/bin/python3 -I -c 'import tomllib; print(*tomllib.load(open("../pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' |
    grep -v "^$compiled"
}

# $1 directory, then what to download for every target, as pip takes it; what the first target resolved to, the others take.
download() {
  local directory=$1 python machine version platforms constraints=()
  shift
  for python in "${pythons[@]}"; do
    for machine in "${machines[@]}"; do
      platforms=()
      for version in "${glibc[@]}"; do platforms+=(--platform "manylinux_2_${version}_$machine"); done
      platforms+=(--platform "manylinux2014_$machine" --platform "linux_$machine")
      "${pip[@]}" download --only-binary=:all: "${platforms[@]}" --python-version "$python" --implementation cp \
        --dest "$directory" "${constraints[@]}" "$@"
      if [[ ! ${constraints[*]} ]]; then
        pins "$directory" | sed 's/ .*//' >"$work/constraints"
        constraints=(--constraint "$work/constraints")
      fi
    done
  done
}

# A line a package and version: `name==version` and its files' hashes, as pip takes them.
pins() {
  /usr/bin/python3 -I - "$1" <<'PYTHON'
import hashlib, pathlib, re, sys

found = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    name, version = re.fullmatch(r"(.+?)-([^-]+)(?:-.*\.whl|\.tar\.gz)", path.name).groups()
    name = re.sub(r"[-_.]+", "-", name).lower()
    found.setdefault((name, version), []).append(hashlib.sha256(path.read_bytes()).hexdigest())
if len({name for name, _ in found}) != len(found):
    sys.exit(f"pin.sh: two versions of one package: {sorted(found)}; loosen what keeps the targets apart")
for (name, version), hashes in sorted(found.items()):
    print(f"{name}=={version}", *(f"--hash=sha256:{value}" for value in sorted(set(hashes))), sep=" \\\n    ")
PYTHON
}

write() {
  {
    echo "# $2 Pinned and hashed for CPython ${pythons[*]} on ${machines[*]}."
    echo "# Made by: dist/pin.sh"
    pins "$1"
  } >"$work/new"
  mv "$work/new" "$3"
}

mapfile -t runtime < <(wanted)
download "$work/run" "${runtime[@]}"
"${pip[@]}" download --no-deps --no-binary "$compiled" --dest "$work/run" "$compiled"
download "$work/build" "${building[@]}"
write "$work/run" "What wesher runs with." requirements.txt
write "$work/build" "What makes wesher's wheel, and $compiled's." requirements-build.txt
