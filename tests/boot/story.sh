#!/usr/bin/env bash
# On the booted system: the kit is installed, a key comes and goes, the kit is removed. Says
# "The story held." at its end, or what did not hold.
set -uo pipefail
way=$1
kit=/run/scratch/kit
bin=/run/scratch/bin
install=("$kit/deploy/server/install.sh" --binaries "$bin")
[ "$way" = socket ] || install+=(--sudo)

must() {
  "$@" && return
  echo "FAILED: $*"
  systemctl show -p ExecMainStatus service-connector-reconcile.service
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
systemctl stop service-connector-reconcile.timer # passes are run here, one at a time
sleep 1

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
must setpriv --reuid sc-portal --regid sc-portal --init-groups service-connector disconnect john crm
pass 0
must grep -q '^# end 0 variables' /home/john/.service_env
must [ ! -e /home/john/.claude_rules/sc_crm.md ]
cp /run/old_env /home/john/.service_env
if key_works; then must false "the key is revoked"; fi

echo "== doctor"
systemctl start service-connector-reconcile.timer
pass 0
must service-connector doctor

echo "== again"
must "${install[@]}"
must "$kit/deploy/server/install.sh" --uninstall
must [ ! -e /usr/bin/service-connector ]
must [ ! -e /usr/sbin/install-service-env ]
must [ -d /var/lib/service-connector/state ]
kill "$crm"
echo "The story held."
