#!/usr/bin/env bash
# Runs boot.sh in namespaces of its own, and in a cgroup of its own: two systemds in one would take
# each other's processes away. Called by tests/boot.rs in a mount namespace.
#   enclose.sh SCRATCH WAY
set -euo pipefail
scratch=$1
mount --make-rprivate /
mkdir "$scratch/cgroup"
mount -t cgroup2 cgroup2 "$scratch/cgroup"
own=$scratch/cgroup/story-$(basename "$scratch")
mkdir "$own"
(
  echo "$BASHPID" >"$own/cgroup.procs"
  exec unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child \
    bash "$scratch/kit/tests/boot/boot.sh" "$@"
) || true # how it ended is in SCRATCH/out
# What ran there is ending.
for _ in $(seq 50); do
  if find "$own" -depth -type d -exec rmdir {} + 2>/dev/null; then break; fi
  sleep 0.1
done
