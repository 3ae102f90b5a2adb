# For sh: what install.sh and the package say about keys that outlive them.
# shellcheck shell=sh

# live_tokens ROOT: says how many tokens the state below ROOT knows to be live, or may be, and
# what to do about them. It changes nothing, and reads as the state's owner: whoever that is
# chooses what lies there. Leaves the number in live_count; `unknown` if it could not be counted.
live_tokens() {
  live_count=0
  live_dir=$1/var/lib/service-connector/state
  live_db=$live_dir/state.sqlite3
  if [ ! -e "$live_db" ]; then
    echo "No live tokens: there is no state in $live_dir."
    return
  fi
  if ! live_rows=$(live_query "$live_db" 2>&1); then
    live_count=unknown
    echo "How many live tokens remain could not be counted ($live_rows)."
    echo "Keep $live_dir: it alone knows them."
    return
  fi
  live_services=
  while IFS='|' read -r live_service live_of; do
    [ -n "$live_service" ] || continue
    live_count=$((live_count + live_of))
    live_services="$live_services $live_service $live_of,"
  done <<END
$live_rows
END
  if [ "$live_count" = 0 ]; then
    echo "No live tokens remain."
    return
  fi
  echo "$live_count live tokens remain:${live_services%,}."
  echo "They work until they expire. $live_dir alone knows them. To revoke them: install again,"
  echo "make desired.yaml 'version: 1' and 'users: {}', run 'service-connector reconcile', then"
  echo "'approve' what the guard holds, until 'service-connector status' shows nothing; then uninstall."
}

# How many tokens each service may still honour.
live_query() {
  live_uri=$(printf %s "$1" | sed 's/%/%25/g; s/?/%3f/g; s/#/%23/g')
  # To read only: another way of opening it would end its write-ahead log, which readers need.
  live_uri="file:$live_uri?mode=ro"
  [ -e "$1-wal" ] || live_uri="$live_uri&immutable=1"
  live_sql="SELECT service, count(*) FROM token
    WHERE phase IN ('issuing', 'active', 'retiring', 'revoking', 'lost')
    AND coalesce(expires_at, asked_at + ttl_days * 86400000000) > strftime('%s', 'now') * 1000000
    GROUP BY service ORDER BY service"
  set -- timeout 30
  if [ "$(id -u)" = 0 ]; then
    live_owner=$(stat -c '--reuid=%u --regid=%g' "$live_dir") || return
    # shellcheck disable=SC2086 # two arguments
    set -- "$@" setpriv $live_owner --clear-groups --no-new-privs --
  fi
  if command -v sqlite3 >/dev/null; then
    "$@" sqlite3 -batch -init /dev/null -separator '|' "$live_uri" "$live_sql"
  elif command -v python3 >/dev/null; then
    "$@" python3 -I -c '
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1], uri=True).execute(sys.argv[2]):
    print(*row, sep="|")' "$live_uri" "$live_sql"
  else
    echo "neither sqlite3 nor python3 is installed"
    return 1
  fi
}
