# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # who sources it reads these, and sets $work, a directory of its own
# Sourced by install.sh and build.sh: what is installed. A tree is a directory PREFIX/lib/wesher/VERSION that nothing else
# writes into: a virtual environment without pip, and in `outside` what has to stand elsewhere (units, manual pages …).
# The same sources, Python and prefix make the same bytes: modules are compiled with their content's hash, not with times;
# no path of the build is left in anything; every file has the time $SOURCE_DATE_EPOCH.
#
# Pip is this Python's own, and does as its environment says (PIP_INDEX_URL, PIP_NO_INDEX, PIP_FIND_LINKS …).
umask 022
unset CDPATH
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P) # git compares it with what it finds itself
python=/usr/bin/python3 # not the PATH's: that one may live under a directory only its owner can enter
build_packages=(
  python3 python3-venv ca-certificates # what makes the environment
  gcc libc6-dev libcap-dev python3-dev # python-prctl comes as source
)
run_packages=(python3 libseccomp2 libcap2 libc6) # pyseccomp and python-prctl load libraries

say() { echo "$(basename "$0"): $*" >&2; }
fail() {
  say "$*"
  exit 1
}

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) == installed ]] || echo "$package"
  done
}

version_of_sources() {
  "$python" -I -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["project"]["version"])' \
    "$checkout/pyproject.toml"
}

git_here() { git -c safe.directory="$checkout" -C "$checkout" "$@"; }
# A .git alone makes none: there may be no git, or, as with a worktree that was copied, nothing behind it.
is_clone() { [[ -e $checkout/.git ]] && git_here rev-parse --quiet --verify HEAD >/dev/null 2>&1; }

# When the sources are from: the last commit, or what a release's archive says.
epoch_of_sources() {
  if [[ -n ${SOURCE_DATE_EPOCH:-} ]]; then
    echo "$SOURCE_DATE_EPOCH"
  elif is_clone; then
    git_here log -1 --format=%ct
  else
    stat -c %Y "$checkout/pyproject.toml"
  fi
}

# What a tree follows from, in sixteen digits; $1 the prefix.
fingerprint() {
  {
    echo "$1"
    "$python" -I -VV
    cd "$checkout" && find wesher privhelper dist pyproject.toml README.md LICENSE -type f \
      -not -path '*/__pycache__/*' -not -path 'dist/out/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum | cut -c1-16
}

# Runs pip; where it fails, its own word for why is the reason in one line. $1 what is being done.
pip() {
  local what=$1 reason
  shift
  if ! "$work/tools/bin/python" -I -m pip -q --no-cache-dir --disable-pip-version-check --no-input "$@" \
    >"$work/pip.log" 2>&1; then
    reason=$(grep -v '^WARNING' "$work/pip.log" | grep -m 1 -E 'ERROR|rror:' | sed -E 's/^ *ERROR: *//' || true)
    fail "cannot $what: ${reason:-$(tail -n 1 "$work/pip.log")}; give pip another source" \
      "(PIP_INDEX_URL=…, or PIP_NO_INDEX=1 PIP_FIND_LINKS=DIRECTORY) and run this again"
  fi
}

# An environment with pip and what builds wheels, in $work/tools.
make_tools() {
  "$python" -I -m venv "$work/tools" >"$work/venv.log" 2>&1 ||
    fail "cannot make a virtual environment: $(tail -n 1 "$work/venv.log"); apt-get install python3-venv"
  pip "fetch what builds wesher" install --require-hashes --only-binary :all: -r "$checkout/dist/requirements-build.txt"
}

# wesher's own wheel, in $work/own. Built from a copy, so that nothing is left in the checkout; the .git stops the build
# from reading ignore files of directories above.
make_own_wheel() {
  mkdir -p "$work/source/.git"
  cp -r "$checkout"/{wesher,privhelper,pyproject.toml,README.md,LICENSE} "$work/source"
  pip "build wesher" wheel --no-index --no-deps --no-build-isolation --wheel-dir "$work/own" "$work/source"
}

# The wheels of what wesher runs with, in $work/wheels. What is compiled knows neither where nor when.
make_wheels() {
  local -x CFLAGS="${CFLAGS:-} -g0 -ffile-prefix-map=$work=." LDFLAGS="${LDFLAGS:-} -Wl,--strip-all"
  pip "fetch what wesher runs with" wheel --require-hashes --no-deps --only-binary :all: --no-binary python-prctl \
    --use-pep517 --no-build-isolation --wheel-dir "$work/wheels" -r "$checkout/dist/requirements.txt"
}

# make_tree TREE HOME PREFIX: a whole tree in the new directory TREE that works there and, moved, at HOME. Uses $work.
make_tree() {
  local tree=$1 home=$2 prefix=$3 interpreter site epoch
  epoch=$(epoch_of_sources)
  # root unpacks and runs what lies there, so it is not a directory of the caller's choice
  local -x SOURCE_DATE_EPOCH=$epoch PYTHONHASHSEED=0 LC_ALL=C.UTF-8 TMPDIR=$work/tmp
  mkdir -p "$TMPDIR"
  # The minor version's own name: when the system gets another Python, this fails clearly, rather than without packages.
  interpreter=$(readlink -f "$python")
  site=$tree/lib/$(basename "$interpreter")/site-packages
  make_tools
  make_own_wheel
  make_wheels
  mkdir -p "$tree/bin" "$site"
  ln -s "$interpreter" "$tree/bin/python"
  printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' \
    "$("$python" -I -c 'import platform; print(platform.python_version())')" >"$tree/pyvenv.cfg"
  pip "install what was fetched" --python "$tree/bin/python" install --no-index --no-deps --no-compile \
    --no-warn-script-location "$work"/wheels/*.whl "$work"/own/*.whl
  leave_no_trace "$site"
  find "$tree/bin" -mindepth 1 -not -name python -delete
  add_script "$tree" "$home" wesher wesher.cli
  add_script "$tree" "$home" wesher-privhelper privhelper.__main__
  "$python" -I -m compileall -q -j 1 --invalidation-mode unchecked-hash -s "$tree" -p "$home" "$site" ||
    fail "cannot compile what is installed; is there room in $(dirname "$tree")?"
  add_outside "$tree" "$prefix"
  "$tree/bin/python" -I -c 'import privhelper; print(privhelper.GENERATION)' >"$tree/generation"
  install -m 755 "$checkout/dist/uninstall.sh" "$checkout/dist/take-over.sh" "$tree"
  install -m 644 "$checkout/dist/services.sh" "$tree"
  fingerprint "$prefix" >"$tree/complete"
  chmod -R a+rX,u+w,go-w "$tree"
  find "$tree" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}

add_script() {
  printf '#!%s/bin/python -I\nfrom %s import main\n\nmain()\n' "$2" "$4" >"$1/bin/$3"
  chmod 755 "$1/bin/$3"
}

# What pip notes of where it installed from, and of scripts that are not there.
leave_no_trace() {
  find "$1" -path '*.dist-info/*' \( -name direct_url.json -o -name REQUESTED \) -delete
  find "$1" -path '*.dist-info/RECORD' -exec sed -i '/^\.\.\//d; /direct_url\.json,/d; /\/REQUESTED,/d' {} +
}

# outside/lib is for PREFIX/lib (units), outside/share for PREFIX/share, outside/default for /etc/default/wesher.
add_outside() {
  local tree=$1 prefix=$2 out=$1/outside unit executable=''
  # /usr and /opt are what the units let their programs be executed from
  [[ $prefix/ == /usr/* || $prefix/ == /opt/* ]] || executable=" $prefix"
  mkdir -p "$out"/lib/{systemd/system,sysusers.d,tmpfiles.d,modules-load.d} "$out"/share/man/man1
  for unit in "$checkout"/dist/systemd/*.{service,socket}; do
    sed "s#/usr/bin/wesher#$prefix/bin/wesher#g; s#^ExecPaths=.*#&$executable#" "$unit" >"$out/lib/systemd/system/$(basename "$unit")"
  done
  for unit in sysusers tmpfiles modules-load; do
    cp "$checkout/dist/systemd/$unit.conf" "$out/lib/$unit.d/wesher.conf"
  done
  cp "$checkout/dist/systemd/default" "$out/default"
  mkdir -p "$out/share/doc/wesher/examples"
  cp "$checkout"/dist/systemd/drop-ins/*.conf "$out/share/doc/wesher/examples"
  "$tree/bin/python" -I "$checkout/dist/manpages.py" "$out/share/man/man1"
  gzip -9n "$out"/share/man/man1/*
  completion "$tree" bash "$out/share/bash-completion/completions/wesher"
  completion "$tree" fish "$out/share/fish/vendor_completions.d/wesher.fish"
  if [[ $prefix == /usr ]]; then
    completion "$tree" zsh "$out/share/zsh/vendor-completions/_wesher"
  else
    completion "$tree" zsh "$out/share/zsh/site-functions/_wesher"
  fi
}

completion() {
  mkdir -p "$(dirname "$3")"
  _WESHER_COMPLETE=${2}_source "$1/bin/python" -I -c 'from wesher.cli import main; main()' >"$3"
}
