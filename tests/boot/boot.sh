#!/usr/bin/env bash
# Boots systemd as the first process of namespaces of its own, on an overlay of this machine, with
# the kit installed. Called by enclose.sh.
#   boot.sh SCRATCH WAY     WAY: socket or sudo
# SCRATCH has bin/ and kit/; what the story says comes into SCRATCH/out.
set -euo pipefail
scratch=$1
way=$2

mount --make-rprivate /
mkdir -p "$scratch/layers"
mount -t tmpfs tmpfs "$scratch/layers"
mkdir "$scratch"/layers/{upper,work,root}
root=$scratch/layers/root
mount -t overlay overlay \
  -o "lowerdir=/,upperdir=$scratch/layers/upper,workdir=$scratch/layers/work" "$root"

for dir in run tmp home dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$dir"; done
chmod 1777 "$root/tmp"
mkdir -p "$root/run/scratch"
mount --bind "$scratch" "$root/run/scratch"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
touch "$root/dev/console"
mount --bind "$root/dev/null" "$root/dev/console"

# Nothing of this machine's own starts there, and accounts are those of the files.
printf '%s: files\n' passwd group shadow hosts >"$root/etc/nsswitch.conf"
[ -s "$root/etc/machine-id" ] || echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/service-connector" \
  "$root/var/lib/service-connector"
for unit in systemd-udevd systemd-udev-trigger systemd-remount-fs systemd-timesyncd systemd-logind \
  getty@tty1 systemd-hwdb-update systemd-networkd systemd-resolved e2scrub_reap; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
cat >"$root/etc/systemd/system/story.target" <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
Wants=story.service
AllowIsolate=yes
UNIT
cat >"$root/etc/systemd/system/story.service" <<UNIT
[Unit]
DefaultDependencies=no
After=sockets.target systemd-journald.service
[Service]
Type=oneshot
StandardOutput=file:/run/scratch/out
StandardError=inherit
ExecStart=/bin/bash /run/scratch/kit/tests/boot/story.sh $way
ExecStopPost=/bin/systemctl --no-block exit
UNIT

exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot "$root" /lib/systemd/systemd --system --unit=story.target \
  --log-level=warning --log-target=console
