#!/usr/bin/env bash
# Sets up Service Connector on a Debian server, from a checkout. It says each thing that it does; a
# second run finds nothing to do, and finishes a first one that was cut off.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
live_count=unknown
# shellcheck source=live-tokens.sh
. "$here/live-tokens.sh"

usage() {
  cat <<'END'
Usage: deploy/server/install.sh [OPTION]...

  --dry-run               say what would be done, and change nothing
  --binaries DIR          where service-connector and install-service-env are, built already
                          (otherwise they are built with cargo)
  --analysts-group NAME   the group whose members' homes get files [default: analysts]
  --sudo, --socket        how passes reach the helper; sudo loosens their unit
                          [default: as it is, or else its socket]
  --watch, --timer        what runs passes: a loop that acts upon a change as it comes, or a timer
                          [default: as it is, or else the loop]
  --portal                enable the portal, whatever service-connector.yaml says of who asks
                          [default: as it is, or else where it has an `identity:`]
  --root DIR              set up the system below DIR, and leave the running one alone
  --uninstall             remove programs, units and rules; say how many live tokens remain
  --purge                 with --uninstall: configuration, shared secrets and state, too
  --lose-keys             with --purge: even while tokens live, which nobody can revoke then
END
}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

dry='' root='' group='' binaries='' way='' runs='' portal='' uninstall='' purge='' lose_keys=''
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry=1 ;;
    --sudo | --socket) way=${1#--} ;;
    --watch | --timer) runs=${1#--} ;;
    --portal) portal=1 ;;
    --uninstall) uninstall=1 ;;
    --purge) purge=1 ;;
    --lose-keys) lose_keys=1 ;;
    --root | --analysts-group | --binaries)
      [ -n "${2:-}" ] || fail "$1 needs a value"
      case "$1" in
        --root) root=$(realpath -e -- "$2") ;;
        --analysts-group) group=$2 ;;
        --binaries) binaries=$(realpath -e -- "$2") ;;
      esac
      shift
      ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && fail "there is no option $1" ;;
  esac
  shift
done
[ "$root" != / ] || root=
[ -z "$purge" ] || [ -n "$uninstall" ] || fail "--purge goes with --uninstall"
[ -z "$lose_keys" ] || [ -n "$purge" ] || fail "--lose-keys goes with --purge"
[ "$(id -u)" = 0 ] || fail "only root can set up a server: sudo deploy/server/install.sh"

etc=$root/etc/service-connector
share=$root/usr/share/service-connector
# The configuration as it was last put: what differs from it was edited.
shipped=$share/shipped
unit_dir=$root/usr/lib/systemd/system
dropins=$root/etc/systemd/system
sudoers=$root/etc/sudoers.d/service-connector
pass=service-connector-reconcile.service
timer=service-connector-reconcile.timer
watcher=service-connector-watch.service
portal_unit=service-connector-portal.service
socket=service-connector-install.socket
if [ -z "$way" ]; then
  if [ -e "$sudoers" ]; then way=sudo; else way=socket; fi
fi
did=''
# Directories that are there, or were said to be made.
declare -A there=()

# Says one thing that is done now, or would be; true if it is to be done.
doing() {
  did=1
  echo "$*"
  [ -z "$dry" ]
}

# Whether a running systemd is this system's.
systemd_runs() {
  [ -z "$root" ] && [ -d /run/systemd/system ]
}

# make_dir PATH: root's, 0755, with those above it.
make_dir() {
  [ -z "${there[$1]:-}" ] && [ ! -d "$1" ] || return 0
  local above=$1
  while [ -n "$above" ]; do
    there[$above]=1
    above=${above%/*}
  done
  if doing "make ${1#"$root"}/"; then install -d -o 0 -g 0 -m 755 -- "$1"; fi
}

# is_so FILE DEST MODE: whether DEST is FILE's copy, root's, with that mode.
is_so() {
  [ -f "$2" ] && [ ! -L "$2" ] && [ "$(stat -c '%u:%g %a' -- "$2")" = "0:0 $3" ] && cmp -s -- "$1" "$2"
}

# put FILE DEST MODE [CHECK...]: whole or not at all, once CHECK has found no fault with it.
put() {
  local from=$1 to=$2 mode=$3 new
  shift 3
  if is_so "$from" "$to" "$mode"; then return; fi
  make_dir "$(dirname "$to")"
  doing "install ${to#"$root"} (root, 0$mode)" || return 0
  # Hidden, and with an ending that systemd and sudo pass over.
  new=$(dirname "$to")/.$(basename "$to").new~
  install -o 0 -g 0 -m "$mode" -- "$from" "$new"
  local why
  if [ $# -gt 0 ] && ! why=$("$@" "$new" 2>&1); then
    rm -f -- "$new"
    fail "${to#"$root"} was not put in place: $1 refuses it: $why"
  fi
  sync -- "$new"
  mv -fT -- "$new" "$to"
}

# configure FILE DEST [EARLIER]: one that was edited stays, with ours beside it if ours is another than
# the last time. EARLIER is ours, too.
configure() {
  local from=$1 to=$2 earlier=${3:-} last
  last=$shipped${to#"$etc"}
  if [ ! -e "$to" ] || cmp -s -- "$last" "$to" || { [ -n "$earlier" ] && cmp -s -- "$earlier" "$to"; }; then
    put "$from" "$to" 644
  elif ! cmp -s -- "$from" "$to" && ! cmp -s -- "$from" "$last"; then
    echo "${to#"$root"} was edited, and stays; the new one goes beside it"
    put "$from" "$to.new" 644
  fi
  put "$from" "$last" 644
}

# offer FILE DEST: the same, and what was removed stays so.
offer() {
  if [ -e "$2" ] || [ ! -e "$shipped${2#"$etc"}" ]; then configure "$1" "$2"; fi
}

# drop PATH: removes a file of ours, if it is there.
drop() {
  if [ -e "$1" ] || [ -L "$1" ]; then
    if doing "remove ${1#"$root"}"; then rm -f -- "$1"; fi
  fi
}

# drop_dir DIR: and its directory, if nothing else is in it.
drop_dir() {
  if [ -z "$dry" ] && [ -d "$1" ]; then rmdir --ignore-fail-on-non-empty -- "$1"; fi
}

# entry passwd|group NAME: its line, of the system that is set up.
entry() {
  if [ -n "$root" ]; then
    grep -s "^$2:" "$root/etc/$1"
  else
    getent "$1" "$2"
  fi
}

# id_of passwd|group NAME
id_of() {
  if [ "$2" = root ]; then echo 0; else entry "$1" "$2" | cut -d: -f3; fi
}

make_users() {
  local conf=$root/usr/lib/sysusers.d/service-connector.conf missing='' name
  put "$stage/sysusers.conf" "$conf" 644
  for name in service-connector sc-portal; do
    entry passwd "$name" >/dev/null || missing+=" user $name"
  done
  for name in service-connector sc-portal "$group"; do
    entry group "$name" >/dev/null || missing+=" group $name"
  done
  entry group service-connector | cut -d: -f4 | tr ',' '\n' | grep -qx sc-portal ||
    missing+=" sc-portal in service-connector"
  [ -n "$missing" ] || return 0
  make_dir "$root/etc"
  if doing "make users and groups:$missing"; then
    systemd-sysusers ${root:+--root="$root"} "$(basename "$conf")"
  fi
}

# is_place PATH MODE USER GROUP: as in tmpfiles.d; what has a colon counts for new ones alone.
is_place() {
  local found
  found=$(stat -c '%a %u %g' -- "$root$1" 2>/dev/null) || return 1
  [ "${2#:}" = "$2" ] || return 0
  [ "$found" = "${2#0} $(id_of passwd "$3") $(id_of group "$4")" ]
}

make_places() {
  local conf=$root/usr/lib/tmpfiles.d/service-connector.conf missing='' type path mode user of
  put "$here/tmpfiles.d/service-connector.conf" "$conf" 644
  while read -r type path mode user of _; do
    [[ $type == [df] ]] || continue
    is_place "$path" "$mode" "$user" "$of" && continue
    missing=1 there[$root$path]=1
    doing "make or mend $path (${user#:}:${of#:} ${mode#:})" || true
  done <"$here/tmpfiles.d/service-connector.conf"
  [ -z "$missing" ] || [ -n "$dry" ] ||
    systemd-tmpfiles --create ${root:+--root="$root"} "$(basename "$conf")"
}

make_configuration() {
  local other=sudo
  [ "$way" = socket ] || other=socket
  configure "$stage/$way.yaml" "$etc/service-connector.yaml" "$stage/$other.yaml"
  configure "$here/config/people.yaml" "$etc/people.yaml"
  configure "$stage/helper.conf" "$etc/helper.conf"
  local file
  for file in "$here"/../../registry/*.{yaml,svg}; do
    [ ! -e "$file" ] || offer "$file" "$etc/registry/$(basename "$file")"
  done
  for file in "$here"/../../skills/sc_*.md; do
    [ ! -e "$file" ] || offer "$file" "$etc/skills/$(basename "$file")"
  done
}

build() {
  local checkout=$here/../..
  binaries=$stage/bin
  mkdir "$binaries"
  if [ -z "$dry" ]; then
    command -v cargo >/dev/null || fail "cargo is not installed: build elsewhere, and use --binaries"
    echo "building" >&2
    (
      cd "$checkout"
      cargo build --release --locked
      cargo build --release --locked --no-default-features --bin install-service-env \
        --target-dir target/helper
    ) >&2
  fi
  ln -s "$checkout/target/release/service-connector" "$binaries"
  ln -s "$checkout/target/helper/release/install-service-env" "$binaries"
}

put_programs() {
  put "$binaries/service-connector" "$root/usr/bin/service-connector" 755
  put "$binaries/install-service-env" "$root/usr/sbin/install-service-env" 755
  put "$here/put-secret" "$root/usr/lib/service-connector/put-secret" 755
  # For a dashboard that is there already: to be included, or copied and edited.
  put "$here/nginx/service-connector.conf" "$share/nginx.conf" 644
  put "$here/examples/flask_card.py" "$share/flask_card.py" 644
}

put_units() {
  local unit
  for unit in "$pass" "$timer" "$watcher" "$portal_unit"; do
    put "$here/systemd/$unit" "$unit_dir/$unit" 644
  done
  if [ "$way" = socket ]; then
    drop_dropins
    drop "$sudoers"
    put "$here/systemd/service-connector-install@.service" "$unit_dir/service-connector-install@.service" 644
    # One that listens already would go on as it was told to before.
    is_so "$here/systemd/$socket" "$unit_dir/$socket" 644 || stop "$socket"
    put "$here/systemd/$socket" "$unit_dir/$socket" 644
  else
    drop_socket
    put "$here/sudoers.d/service-connector" "$sudoers" 440 visudo -cf
    for unit in "$pass" "$watcher"; do
      put "$here/systemd/sudo.conf" "$dropins/$unit.d/sudo.conf" 644
    done
  fi
}

drop_dropins() {
  local unit
  for unit in "$pass" "$watcher"; do
    drop "$dropins/$unit.d/sudo.conf"
    drop_dir "$dropins/$unit.d"
  done
}

drop_socket() {
  stop "$socket"
  drop "$unit_dir/$socket"
  drop "$unit_dir/service-connector-install@.service"
}

# Stops a unit, and starts it at no boot any more.
stop() {
  systemd_runs || return 0
  if systemctl -q is-enabled "$1" 2>/dev/null || systemctl -q is-active "$1"; then
    if doing "stop $1"; then systemctl -q disable --now "$1"; fi
  fi
}

start_units() {
  local unit runner=$watcher other=$timer
  if ! systemd_runs; then
    [ -n "$root" ] || [ -z "$did" ] || echo "systemd does not run here: no unit was started"
    return 0
  fi
  for unit in $units; do
    if [ "$(systemctl show -p NeedDaemonReload --value "$unit")" = yes ]; then
      if doing "have systemd read the units again"; then systemctl daemon-reload; fi
      break
    fi
  done
  # Two that run passes do no harm, but one is enough; the one that was chosen before stays.
  if [ "${runs:-$(chosen_runner)}" = timer ]; then runner=$timer other=$watcher; fi
  [ -z "$runs" ] || stop "$other"
  for unit in $([ "$way" = sudo ] || echo "$socket") "$runner" $(! wants_portal || echo "$portal_unit"); do
    if ! systemctl -q is-enabled "$unit" 2>/dev/null || ! systemctl -q is-active "$unit"; then
      if doing "start $unit, now and at each boot"; then systemctl -q enable --now "$unit"; fi
    elif [[ $unit == "$watcher" || $unit == "$portal_unit" ]] && [ -n "$did" ]; then
      # It runs with the program and the configuration that it was started with.
      if doing "restart $unit"; then systemctl -q restart "$unit"; fi
    fi
  done
}

# Whether the portal is to run. Who masked its unit has said that it is not.
wants_portal() {
  [ "$(readlink -- "$dropins/$portal_unit")" != /dev/null ] || return 1
  [ -n "$portal" ] || systemctl -q is-enabled "$portal_unit" 2>/dev/null ||
    grep -qs '^identity:' "$etc/service-connector.yaml"
}

# What runs passes now: watch or timer; nothing, if nothing does.
chosen_runner() {
  if systemctl -q is-enabled "$watcher" 2>/dev/null; then
    echo watch
  elif systemctl -q is-enabled "$timer" 2>/dev/null; then
    echo timer
  fi
}

set_up() {
  if [ -z "$root" ] && [ "$(dpkg-query -Wf '${db:Status-Status}' service-connector 2>/dev/null)" = installed ]; then
    fail "the package service-connector is installed: use apt, or remove it first"
  fi
  # The group that was chosen before stays, if none is named.
  [ -n "$group" ] || group=$(sed -n 's/^group *= *\([^ ]*\) *$/\1/p' "$etc/helper.conf" 2>/dev/null || true)
  group=${group:-analysts}
  [[ $group =~ ^[a-z_][a-z0-9_-]{0,30}$ ]] || fail "$group is not the name of a group"
  [ "$way" = socket ] || command -v visudo >/dev/null || fail "--sudo needs the package sudo"
  stage=$(mktemp -d)
  trap 'rm -rf -- "$stage"' EXIT
  sed "s/^g analysts /g $group /" "$here/sysusers.d/service-connector.conf" >"$stage/sysusers.conf"
  sed "s/^group = .*/group = $group/" "$here/config/helper.conf" >"$stage/helper.conf"
  cp -- "$here/config/service-connector.yaml" "$stage/socket.yaml"
  sed 's|^homes: .*|homes: { sudo: /usr/sbin/install-service-env }   # accounts'"'"' homes, through the helper|' \
    "$stage/socket.yaml" >"$stage/sudo.yaml"
  [ -n "$binaries" ] || build
  for name in service-connector install-service-env; do
    [ -n "$dry" ] || [ -x "$binaries/$name" ] || fail "there is no program $binaries/$name"
  done

  make_users
  make_places
  make_configuration
  put_programs
  put_units
  start_units
  [ -n "$did" ] || echo "nothing to do"
}

take_down() {
  live_tokens "$root"
  if [ -n "$purge" ] && [ -z "$lose_keys" ] && [ "$live_count" != 0 ]; then
    fail "nothing was removed: --purge would leave keys that nobody can revoke; --lose-keys if so be it"
  fi
  local unit
  for unit in "$portal_unit" "$timer" "$watcher" "$pass"; do stop "$unit"; done
  drop_socket
  drop "$sudoers"
  drop_dropins
  for unit in "$portal_unit" "$timer" "$watcher" "$pass"; do drop "$unit_dir/$unit"; done
  drop "$root/usr/lib/tmpfiles.d/service-connector.conf"
  drop "$root/usr/lib/sysusers.d/service-connector.conf"
  drop "$root/usr/lib/service-connector/put-secret"
  drop_dir "$root/usr/lib/service-connector"
  drop "$root/usr/bin/service-connector"
  drop "$root/usr/sbin/install-service-env"
  if systemd_runs && [ -n "$did" ] && [ -z "$dry" ]; then systemctl daemon-reload; fi
  local dir
  if [ -d "$shipped" ] && doing "remove ${shipped#"$root"}/"; then rm -rf -- "$shipped"; fi
  drop "$share/nginx.conf"
  drop "$share/flask_card.py"
  drop_dir "$share"
  for dir in "$root/run/service-connector" "$root/var/lib/service-connector" "$etc"; do
    [ -d "$dir" ] || continue
    if [ -z "$purge" ]; then
      echo "kept: ${dir#"$root"}/"
    elif doing "remove ${dir#"$root"}/ and all in it"; then
      rm -rf -- "$dir"
    fi
  done
  # Their numbers must not become somebody else's while files of theirs may be left.
  [ -z "$did" ] || echo "kept: the users service-connector and sc-portal, and the groups"
  [ -n "$did" ] || echo "nothing to do"
}

units="$pass $timer $watcher $portal_unit"
[ "$way" = sudo ] || units+=" $socket"
if [ -n "$uninstall" ]; then take_down; else set_up; fi
[ -z "$dry" ] || echo "dry run: nothing was changed"
