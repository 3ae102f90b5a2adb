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
portal_unit=service-connector-portal.service

must() {
  "$@" && return
  echo "FAILED: $*"
  cat /run/said
  systemctl show -p ExecMainStatus service-connector-reconcile.service
  systemctl status --no-pager "$watcher" "$portal_unit"
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
portal_is() { [ "$(of "$portal_unit" ActiveState)" = active ] && [ "$(of "$portal_unit" NRestarts)" = "$1" ]; }
json=(-s --max-time 60 -H 'Sec-Fetch-Site: same-origin' -H 'Content-Type: application/json')
# click CALL BODY: as a browser that is logged in to the dashboard.
click() { curl "${json[@]}" -H 'Cookie: session=x' -d "$2" "http://127.0.0.1:8080/api/service-connectors$1"; }
# status_for ACCOUNT NAME CALL [CURL-OPTION...]: what the portal answers an account that says to be NAME.
status_for() {
  local account=$1 email=$2@your-domain.com call=$3
  shift 3
  setpriv --reuid "$account" --regid "$account" --init-groups \
    curl "${json[@]}" -o /dev/null -w '%{http_code}' --unix-socket /run/service-connector-portal/portal.sock \
    -H "X-Remote-Email: $email" "$@" "http://portal/api/service-connectors$call"
}
# In the portal's own view of the system, as root, and as its user.
inside() { nsenter -t "$(of "$portal_unit" MainPID)" --mount --root "$@"; }
portal_inside() { inside setpriv --reuid sc-portal --regid sc-portal --init-groups "$@"; }

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

echo "== the portal"
config=/etc/service-connector/service-connector.yaml
must [ "$(of "$portal_unit" ActiveState)" = inactive ] # nothing says who asks
echo 'identity: { header: { name: X-Remote-Email, peers: [www-data] } }' >>"$config"
must "${install[@]}"
must portal_is 0 # it said that it is ready
must is /run/service-connector-portal/portal.sock '666 sc-portal'
must service-connector doctor
# The snippet as its comments say, with a dashboard that knows everybody to be john.
sed -e 's/^    # auth_request/    auth_request/' -e '/^# location/,$ s/^# \{0,1\}//' \
  -e 's/127.0.0.1:5000/127.0.0.1:8080/' /usr/share/service-connector/nginx.conf >/run/snippet.conf
cat >/run/nginx.conf <<'CONF'
user www-data;
daemon off;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  server {
    listen 127.0.0.1:8080;
    include /run/snippet.conf;
    location = /who {
      if ($http_cookie = "") { return 401; }
      add_header X-Remote-Email john@your-domain.com;
      return 200;
    }
  }
}
CONF
/usr/sbin/nginx -c /run/nginx.conf &
nginx=$!
dashboard() { curl -s -o /dev/null http://127.0.0.1:8080/; }
must within 20 dashboard
crm='{"service_id":"crm"}'
click '/connect?wait=30' "$crm" >/run/said
must grep -q '"ok":true' /run/said
must within 30 has_key # on a slow machine, later than it was waited for
must key_works
# Who comes with an account of their own is nobody, whatever they say; the proxy's user is believed.
must [ "$(status_for www-data john '')" = 200 ]
must [ "$(status_for john john '')" = 401 ]
must [ "$(status_for john john /disconnect -d "$crm")" = 401 ]
must [ "$(status_for root john /disconnect -d "$crm")" = 401 ]
must has_key
click '/disconnect?wait=30' "$crm" >/run/said
must grep -q '"ok":true' /run/said
must within 30 has_no_key

echo "== what the portal's process can reach"
for hidden in /etc/service-connector/secrets/SC_SECRET_CRM /var/lib/service-connector/state/sealing.key; do
  must [ -s "$hidden" ]
  if [ -n "$(portal_inside cat "$hidden" 2>/dev/null)" ]; then must false "it reads $hidden"; fi
  if [ -n "$(inside cat "$hidden" 2>/dev/null)" ]; then must false "only a mode keeps it from $hidden"; fi
done
must portal_inside cat /var/lib/service-connector/state/state.sqlite3 >/dev/null
if inside touch /var/lib/service-connector/state/new 2>/dev/null; then must false "it writes the state"; fi
if inside touch /etc/service-connector/new 2>/dev/null; then must false "it writes the configuration"; fi
pid=$(of "$portal_unit" MainPID)
must [ "$(ps -o user= -p "$pid")" = sc-portal ]
must [ "$(sed -n 's/^Cap[A-Z][a-z]*:\s*//p' "/proc/$pid/status" | sort -u)" = 0000000000000000 ]
must [ "$(nsenter -t "$pid" -n ip -o link | grep -vc ' lo: ')" = 0 ]

echo "== an admin approves in the portal"
useradd -m -s /bin/bash -G analysts eva
echo '  eva: { email: eva@your-domain.com }' >>/etc/service-connector/people.yaml
echo 'admins: [eva]' >>"$config"
echo 'guard: { at_least: 0, percent: 0, portal_may_approve: true }' >>"$config"
must systemctl restart "$watcher" "$portal_unit"
both_have() { grep -qs "$1" /home/john/.service_env && grep -qs "$1" /home/eva/.service_env; }
for user in john eva; do must portal service-connector connect "$user" crm; done
must within 20 both_have '^CRM_API_KEY='
must systemctl stop "$watcher"
for user in john eva; do must portal service-connector disconnect "$user" crm; done
must systemctl start "$watcher"
digest=$(service-connector plan --json | sed -n 's/.*"held_digest": *"\([0-9a-f]*\)".*/\1/p')
must [ -n "$digest" ]
approved() { [ "$(status_for www-data "$1" /approve -d "{\"digest\":\"$digest\"}")" = "$2" ]; }
must approved john 403
must within 20 approved eva 202
must within 20 both_have '^# end 0 variables'
must [ -z "$(ls -A /var/lib/service-connector/desired/approvals)" ]

echo "== the session of a Flask dashboard, behind the same proxy"
key=/etc/service-connector/flask.key
(umask 077 && openssl rand -hex 32 | tr -d '\n' >"$key")
chgrp sc-portal "$key" && chmod 640 "$key"
cp "$config" /run/with-header.yaml
sed -i "s|^identity:.*|identity: { proxies: [www-data], flask: { key_file: $key, email: [user, email] } }|" "$config"
must systemctl restart "$portal_unit"
cookie=$(/usr/bin/python3 - "$key" <<'PYTHON'
import base64, hashlib, hmac, json, sys, time
def text(data): return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
derived = hmac.new(open(sys.argv[1], "rb").read(), b"cookie-session", hashlib.sha1).digest()
session = text(json.dumps({"user": {"email": "john@your-domain.com"}}).encode())
signed = session + "." + text(int(time.time()).to_bytes(4, "big"))
print(signed + "." + text(hmac.new(derived, signed.encode(), hashlib.sha1).digest()))
PYTHON
)
must [ "$(status_for www-data nobody '' -H "Cookie: session=$cookie")" = 200 ]
must [ "$(status_for www-data nobody '' -H "Cookie: session=x$cookie")" = 401 ]
must [ "$(status_for www-data john '')" = 401 ] # the header is not believed any more
cp /run/with-header.yaml "$config"
must systemctl restart "$portal_unit"

echo "== the portal is killed, and ended"
kill -KILL "$(of "$portal_unit" MainPID)"
must within 30 portal_is 1
must [ "$(status_for www-data john '')" = 200 ]
must systemctl stop "$portal_unit"
must [ "$(of "$portal_unit" Result)" = success ]
must [ "$(of "$portal_unit" ExecMainCode) $(of "$portal_unit" ExecMainStatus)" = "1 0" ] # it exited, with 0
must [ ! -e /run/service-connector-portal ]
if service-connector doctor >/run/doctor; then must false "the portal does not run"; fi
must grep -q '^!!  portal: ' /run/doctor
kill "$nginx"

echo "== again"
must "${install[@]}"
must portal_is 0
must "$kit/deploy/server/install.sh" --uninstall
must [ ! -e /usr/bin/service-connector ]
must [ ! -e /usr/sbin/install-service-env ]
must [ ! -e "/usr/lib/systemd/system/$portal_unit" ]
must [ ! -e /usr/share/service-connector ]
must [ -d /var/lib/service-connector/state ]
kill "$crm"
echo "The story held."
