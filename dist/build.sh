#!/usr/bin/env bash
# dist/build.sh [--output DIR]: a wheel, a source archive from which install.sh runs, and a Debian package for this
# machine's Debian and architecture, in DIR (dist/out). Needs no root, but what install.sh needs of Debian's packages.
#
# The same sources make the same bytes, wherever and whenever: files have the time of the last commit ($SOURCE_DATE_EPOCH
# counts for more), or of the archive that this is run from. The package has the same tree as install.sh makes.
set -euo pipefail
# shellcheck source=dist/tree.sh
source "$(dirname "${BASH_SOURCE[0]}")/tree.sh"
export LC_ALL=C.UTF-8

output=$checkout/dist/out
maintainer="wesher's authors <wesher@wesher.invalid>"

read_arguments() {
  local missing
  case ${1-} in
    '') ;;
    --output=*) output=${1#*=} ;;
    --output) output=${2-} ;;
    *) fail "usage: $0 [--output DIR]" ;;
  esac
  mkdir -p "$output" 2>/dev/null || fail "cannot make '$output'; give another --output"
  output=$(cd "$output" && pwd)
  missing=$(missing_packages "${build_packages[@]}" "${run_packages[@]}" | paste -sd ' ')
  [[ -z $missing ]] || fail "these Debian packages are missing: sudo apt-get install $missing"
}

# The files that are versioned, or, where this is no clone, all.
copy_sources() {
  mkdir -p "$work/sources/.git" # stops the build from reading ignore files of directories above
  (
    cd "$checkout"
    if is_clone; then
      git_here ls-files -z
    else
      find . -type f -not -path './.git' -not -path './.git/*' -not -path '*/__pycache__/*' -not -path './dist/out/*' \
        -not -name PKG-INFO -printf '%P\0'
    fi | tar -c --null --files-from -
  ) | tar -x -C "$work/sources"
}

make_archives() {
  (cd "$work/sources" && "$work/tools/bin/python" -I -m hatchling build -t wheel -t sdist -d "$work/archives") \
    >"$work/hatchling.log" 2>&1 || fail "cannot build wesher: $(tail -n 1 "$work/hatchling.log")"
  cp "$work"/archives/*.{whl,tar.gz} "$output"
}

make_deb() {
  local version home root=$work/root debian suffix package
  version=$(version_of_sources)
  home=/usr/lib/wesher/$version
  debian=$root/DEBIAN
  suffix=$(. /etc/os-release && echo "${ID}${VERSION_ID:-}" | sed 's/^debian/deb/')
  mkdir -p "$root/usr/lib/wesher" "$root/usr/bin" "$root/etc/default" "$root/usr/share/doc/wesher" "$debian"
  make_tree "$work/tree" "$home" /usr
  mv "$work/tree" "$root$home"
  rm "$root$home"/{complete,uninstall.sh,services.sh}
  cp -rp "$root$home"/outside/{lib,share} "$root/usr"
  mv "$root$home/outside/default" "$root/etc/default/wesher"
  rm -r "$root$home/outside"
  ln -s "$version" "$root/usr/lib/wesher/current"
  ln -s ../lib/wesher/current/bin/wesher ../lib/wesher/current/bin/wesher-privhelper "$root/usr/bin"
  cp "$checkout/dist/deb/copyright" "$root/usr/share/doc/wesher"
  gzip -9nc "$checkout/CHANGELOG.md" >"$root/usr/share/doc/wesher/CHANGELOG.md.gz"
  changelog "$version+$suffix" | gzip -9n >"$root/usr/share/doc/wesher/changelog.gz"
  install -D -m 644 "$checkout/dist/deb/lintian-overrides" "$root/usr/share/lintian/overrides/wesher"
  echo /etc/default/wesher >"$debian/conffiles"
  control "$version+$suffix" "$root" >"$debian/control"
  for package in preinst postinst prerm postrm; do script "$package" >"$debian/$package"; done
  chmod 755 "$debian"/p*
  (cd "$root" && find usr etc -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$debian/md5sums"
  find "$root" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
  package=wesher_$version+${suffix}_$(dpkg --print-architecture).deb
  # one thread: with more, what comes out depends on how many there are
  dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$work/$package" >/dev/null
  cp "$work/$package" "$output"
}

changelog() {
  cat <<TEXT
wesher ($1) stable; urgency=medium

  * What has changed is in CHANGELOG.md.gz.

 -- $maintainer  $(date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")
TEXT
}

# Modules are this minor version's of Python; what is compiled here is for this C library or a newer one.
control() {
  local interpreter libc
  interpreter=$(basename "$(readlink -f "$python")")
  libc=$(dpkg-query -W -f='${source:Upstream-Version}' libc6)
  cat <<TEXT
Package: wesher
Version: $1
Architecture: $(dpkg --print-architecture)
Maintainer: $maintainer
Installed-Size: $(find "$2" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
Depends: $interpreter, libc6 (>= $libc), libcap2, libseccomp2, passwd, systemd
Suggests: wireguard-go, wireguard-tools
Section: net
Priority: optional
Description: encrypted full-mesh overlay: WireGuard on every node, membership by gossip
 wesher joins machines into a mesh. One command starts it, one more joins it,
 and nobody maintains anything after: it looks after keys, addresses, peers and
 names.
 .
 The process that faces the network has no privilege; what needs CAP_NET_ADMIN
 is done by a small helper that accepts eight checked requests.
TEXT
}

# A maintainer script is what it does after what install.sh and uninstall.sh share.
script() {
  echo '#!/bin/bash'
  grep -v '^#' "$checkout/dist/deb/$1" | grep -q . || return 0
  echo 'set -e'
  grep -q '[a-z]_[a-z]' "$checkout/dist/deb/$1" && sed '1{/shellcheck/d}' "$checkout/dist/services.sh"
  sed '1,/^set -e/d' "$checkout/dist/deb/$1"
}

main() {
  read_arguments "$@"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  SOURCE_DATE_EPOCH=$(epoch_of_sources)
  export SOURCE_DATE_EPOCH
  copy_sources
  make_deb
  make_archives
  ls "$output"
}
main "$@"
