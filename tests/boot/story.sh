#!/usr/bin/env bash
# On the booted system: the kit is installed, a key comes and goes, the kit is removed. Says
# "The story held." at its end, or what did not hold.
set -uo pipefail
way=$1
kit=/run/scratch/kit
bin=/run/scratch/bin
install=("$kit/deploy/server/install.sh" --binaries "$bin")
[ "$way" = socket ] || install+=(--sudo)

watcher=service-connector-watch.service

must() {
  "$@" && return
  echo "FAILED: $*"
  systemctl show -p ExecMainStatus service-connector-reconcile.service
  systemctl status --no-pager "$watcher"
  journalctl --sync
  journalctl -q -b --no-pager -o cat | tail -40
  exit 1
}
pass() {
  systemctl start service-connector-reconcile.service
  must [ "$(systemctl show -p Result --value service-connector-reconcile.service)" = success ]
  # The exit code of the pass itself.
  must [ "$(systemctl show -p ExecMainStatus --value service-connector-reconcile.service)" = "$1" ]
}
key_works() {
  local key
  key=$(sed -n 's/^CRM_API_KEY=//p' /home/john/.service_env)
  # The key is in no command line: curl reads its configuration from here.
  printf 'header = "Authorization: Bearer %s"\n' "$key" |
    curl -sf -K - -o /dev/null http://127.0.0.1:7103/api/v1/deals
}
# within SECONDS COMMAND...: whether it comes true in that time.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}
# of UNIT PROPERTY
of() { systemctl show -p "$2" --value "$1"; }
watcher_is() { [ "$(of "$watcher" ActiveState)" = active ] && [ "$(of "$watcher" NRestarts)" = "$1" ]; }
has_no_key() { grep -qs '^# end 0 variables' /home/john/.service_env; }
has_key() { grep -qs '^CRM_API_KEY=' /home/john/.service_env; }
passes_of_watcher() { journalctl --sync && journalctl -q -b -u "$watcher" -o cat | grep -c 'a pass begins'; }
more_passes_than() { [ "$(passes_of_watcher)" -gt "$1" ]; }
portal() { setpriv --reuid sc-portal --regid sc-portal --init-groups "$@"; }
is() { [ "$(stat -c '%a %U' "$1")" = "$2" ]; }

ip link set lo up
must "${install[@]}"
useradd -m -s /bin/bash -G analysts john
cat >/etc/service-connector/people.yaml <<'YAML'
version: 1
people:
  john: { email: john@your-domain.com }
YAML
# This server has one service.
rm /etc/service-connector/{registry/{invoicing,purchase_orders}.*,skills/sc_{invoicing,purchase_orders}.md}
sed -i 's|^base_url: .*|base_url: http://127.0.0.1:7103|' /etc/service-connector/registry/crm.yaml
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' | must "$kit/deploy/server/put-secret" SC_SECRET_CRM
mkdir -p /run/crm
(
  cd /run/crm || exit 1
  SC_SECRET_CRM=$(cat /etc/service-connector/secrets/SC_SECRET_CRM) exec "$bin/crm"
) >/dev/null 2>&1 &
crm=$!
must watcher_is 0 # the kit started it, and it said that it is ready
must [ "$(of "$watcher" Type) $(of "$watcher" WatchdogUSec)" = 'notify 1min' ]
must systemctl stop "$watcher" # passes are run here first, one at a time
must [ "$(of "$watcher" Result)" = success ]
must [ "$(of "$watcher" ExecMainCode) $(of "$watcher" ExecMainStatus)" = "1 0" ] # it exited, with 0

echo "== connect"
must service-connector connect john crm
pass 0
must is /home/john/.service_env '600 john'
must is /home/john/.claude_rules '700 john'
must is /home/john/.claude_rules/sc_crm.md '600 john'
must key_works
cp /home/john/.service_env /run/old_env
pass 0
must cmp /home/john/.service_env /run/old_env

echo "== the portal disconnects"
must portal service-connector disconnect john crm
pass 0
must grep -q '^# end 0 variables' /home/john/.service_env
must [ ! -e /home/john/.claude_rules/sc_crm.md ]
cp /run/old_env /home/john/.service_env
if key_works; then must false "the key is revoked"; fi

echo "== doctor"
if service-connector doctor >/run/doctor; then must false "nothing runs passes"; fi
must grep -q '^!!  timer: ' /run/doctor
must systemctl start "$watcher"
pass 0 # beside the loop
must service-connector doctor

echo "== the loop"
# What its log tells, and how soon it is found to hang: the shipped minute is long for a test.
mkdir -p "/run/systemd/system/$watcher.d"
printf '[Service]\nEnvironment=SC_LOG=info\nWatchdogSec=3s\nRestartSec=100ms\n' \
  >"/run/systemd/system/$watcher.d/story.conf"
must systemctl daemon-reload
must systemctl restart "$watcher"
must is /var/lib/service-connector/state/nudge.sock '660 service-connector'
portal service-connector connect john crm >/run/said
must grep -q 'The watcher acts on it now' /run/said
must within 20 has_key
must key_works
count=$(passes_of_watcher)
must systemctl reload "$watcher"
must within 20 more_passes_than "$count"
must portal service-connector disconnect john crm
must within 20 has_no_key

echo "== it is killed, and hangs"
must watcher_is 0
kill -KILL "$(of "$watcher" MainPID)"
must within 30 watcher_is 1
must portal service-connector connect john crm
must within 20 has_key
kill -STOP "$(of "$watcher" MainPID)"
must portal service-connector disconnect john crm
must within 60 watcher_is 2 # by the watchdog: nothing else ends what stands still
must within 20 has_no_key
# It lives through many such times while it does what it should.
sleep 10
must watcher_is 2
must systemctl stop "$watcher"
must [ "$(of "$watcher" Result)" = success ]
must [ ! -e /var/lib/service-connector/state/nudge.sock ]

echo "== the timer instead, and back"
must "${install[@]}" --timer
must [ "$(of service-connector-reconcile.timer ActiveState)" = active ]
if systemctl -q is-enabled "$watcher"; then must false "the loop is off"; fi
must service-connector doctor
must "${install[@]}" --watch
must within 20 watcher_is 0
if systemctl -q is-active service-connector-reconcile.timer; then must false "the timer is off"; fi
must service-connector doctor

echo "== again"
must "${install[@]}"
must "$kit/deploy/server/install.sh" --uninstall
must [ ! -e /usr/bin/service-connector ]
must [ ! -e /usr/sbin/install-service-env ]
must [ -d /var/lib/service-connector/state ]
kill "$crm"
echo "The story held."
