#!/usr/bin/env bash
# build.sh DIRECTORY: a guest in DIRECTORY, as three files: vmlinuz, initrd.img and root.img, a Debian of this host's own
# release from this host's own sources, with systemd and kernel WireGuard. DIRECTORY/site-packages, if there, becomes part
# of it. Packages are kept in DIRECTORY/../archives. Root, bookworm, amd64.
#
# Debian's "cloud" kernel boots fastest here, needs no firmware, and has what a mesh needs; its virtio disk driver is a
# module, hence the initrd. It is unpacked, not installed: nothing of its maintainer scripts is of use in a guest.
set -euo pipefail
export LC_ALL=C
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=dist/debian.sh
source "$here/../../../dist/debian.sh"
directory=$(cd "$1" && pwd)
archives=$directory/../archives
root=$directory/root
suite=bookworm
packages=(
  systemd systemd-sysv kmod busybox-static         # what boots
  udev                                             # without which systemd-networkd manages no link
  iproute2 iputils-ping procps wireguard-tools     # what tests look with
  wireguard-go python3                             # what wesher runs on
  libcap2 libseccomp2                              # what python-prctl and pyseccomp load
  podman crun                                      # a container engine, for containers of the guest's own root
)

# The package of that name is empty and depends on the newest.
download_kernel="apt-get -qq download \$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')"

add_kernel() {
  local unpacked=$directory/kernel
  dpkg-deb -x "$directory"/linux-image-*.deb "$unpacked"
  version=$(basename "$unpacked"/lib/modules/*)
  cp "$unpacked/boot/vmlinuz-$version" "$directory/vmlinuz"
  mkdir -p "$root/usr/lib/modules"
  mv "$unpacked/lib/modules/$version" "$root/usr/lib/modules/"
  depmod -b "$root" "$version"
  rm -rf "$unpacked" "$directory"/linux-image-*.deb
}

# Nothing that tests do not need runs in the guest: under emulation each unit costs.
configure() {
  local unit
  echo guest >"$root/etc/hostname"
  printf '127.0.0.1 localhost guest\n::1 localhost\n' >"$root/etc/hosts"
  : >"$root/etc/fstab"
  : >"$root/etc/resolv.conf"
  printf '%032d\n' 1 >"$root/etc/machine-id" # else systemd takes it for a first boot
  for unit in getty.target systemd-{update-utmp,random-seed,pstore,remount-fs,journal-flush,binfmt,firstboot}.service \
    systemd-{hwdb-update,update-done,machine-id-commit,modules-load,sysusers,tmpfiles-setup-dev}.service \
    {apt-daily,apt-daily-upgrade,dpkg-db-backup,fstrim,e2scrub_all,systemd-tmpfiles-clean}.timer \
    systemd-udev{d,-trigger,-settle}.service systemd-udevd-{control,kernel}.socket \
    {e2scrub_reap,ldconfig,kmod-static-nodes,modprobe@}.service {dev-hugepages,dev-mqueue}.mount \
    sys-kernel-{debug,tracing}.mount proc-sys-fs-binfmt_misc.automount systemd-ask-password-{console,wall}.path; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  mkdir -p "$root/etc/systemd/journald.conf.d"
  printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n' >"$root/etc/systemd/journald.conf.d/guest.conf"
  install -m 644 "$here/job.service" "$root/etc/systemd/system/job.service"
  install -m 755 "$here/job" "$root/usr/local/sbin/job"
}

# The checkout comes with each job; a .pth makes it importable also for `python -I`, which is how wesher starts itself.
add_python() {
  local site
  site=$(echo "$root"/usr/local/lib/python3.*)/dist-packages
  mkdir -p "$site"
  [[ ! -d $directory/site-packages ]] || cp -a "$directory/site-packages/." "$site"
  rm -rf "$directory/site-packages"
  echo /srv/job/checkout >"$site/checkout.pth"
  printf '#!/usr/bin/python3 -I\nfrom wesher.cli import main\nmain()\n' >"$root/usr/local/bin/wesher"
  printf '#!/usr/bin/python3 -I\nfrom privhelper.__main__ import main\nmain()\n' \
    >"$root/usr/local/bin/wesher-privhelper"
  chmod 755 "$root"/usr/local/bin/wesher*
}

make_images() {
  local modules=$root/usr/lib/modules/$version/kernel/drivers initrd=$directory/initrd size
  mkdir -p "$initrd"/{bin,dev,modules,root}
  cp "$root/bin/busybox" "$initrd/bin/"
  cp "$modules"/virtio/virtio{,_ring,_pci_legacy_dev,_pci_modern_dev,_pci}.ko "$modules/block/virtio_blk.ko" \
    "$initrd/modules/"
  install -m 755 "$here/init" "$initrd/init"
  (cd "$initrd" && find . | cpio -o -H newc -R 0:0 --quiet) >"$directory/initrd.img"
  size=$(($(du -sm "$root" | cut -f1) * 12 / 10 + 200))
  truncate -s "${size}M" "$directory/root.img"
  mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -E lazy_itable_init=1 -m 0 -d "$root" "$directory/root.img"
  rm -rf "$initrd" "$root"
}

make_debian "$suite" "$root" "$archives" "$(IFS=, && echo "${packages[*]}")" \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --customize-hook="cd '$directory' && export APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG && $download_kernel"
add_kernel
configure
add_python
make_images
