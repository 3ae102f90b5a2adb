#!/bin/sh
# Brings the keys and skills of Service Connector from the server into this project: the keys into
# `.env`, between two markers, and the skills into `.claude/rules/`. Run it in the project's
# directory, on its own or from sync_data.sh. It needs ssh, awk and one of sha256sum, shasum, openssl.
#
#   sync_service_env.sh              bring what is new
#   sync_service_env.sh --check      say what would change: exit 0 nothing, 2 something, 1 an error
#   sync_service_env.sh --scan DIR   look for our keys in files that would be committed or uploaded
#   --host HOST                      else `ssh_alias=` of ./.sync_connection, else data-analyst
#   --quiet                          say errors only, for cron and hooks
#   SC_SYNC_SECONDS                  how long the server may take, in the environment; else 60
#
# What cannot be fetched whole changes nothing. No key is ever printed or put on a command line, and
# nothing is written outside of the project but a note of what was synced, in ~/.config.

if [ -n "${ZSH_VERSION-}" ]; then emulate sh; fi
set +e # each failure is looked at where it happens, also under `sh -e`
set -u
umask 077
unset CDPATH
blank=$IFS
LC_ALL=C # bytes, not letters: what is not ours is kept byte for byte
export LC_ALL

say() { [ -n "$quiet" ] || printf '%s\n' "$*"; }
warn() { [ -n "$quiet" ] || printf 'service connector: %s\n' "$*" >&2; }
complain() { printf 'service connector: %s\n' "$*" >&2; }
die() {
  complain "$*"
  leave 1
}
leave() {
  if [ -n "$child" ]; then kill "$child" 2>/dev/null; fi
  release
  exit "$1"
}

usage() {
  printf '%s\n' 'usage: sync_service_env.sh [--host HOST] [--check] [--quiet]' \
    '       sync_service_env.sh --scan DIR'
}

read_options() {
  quiet='' check='' scan='' host='' lock='' child='' asked=0
  while [ $# -gt 0 ]; do
    case $1 in
      --host | --scan)
        if [ $# -lt 2 ] || [ -z "$2" ]; then usage >&2 && exit 1; fi
        if [ "$1" = --host ]; then host=$2; else scan=$2; fi
        shift
        ;;
      --host=?*) host=${1#*=} ;;
      --scan=?*) scan=${1#*=} ;;
      --check) check=1 ;;
      --quiet | -q) quiet=1 ;;
      --help | -h)
        usage
        exit 0
        ;;
      *)
        usage >&2
        exit 1
        ;;
    esac
    shift
  done
}

find_tools() {
  if command -v sha256sum >/dev/null 2>&1; then
    hasher=sha256sum
  elif command -v shasum >/dev/null 2>&1; then
    hasher='shasum -a 256'
  elif command -v openssl >/dev/null 2>&1; then
    hasher='openssl dgst -sha256'
  else
    die 'sha256sum, shasum or openssl is needed, and none of them is there'
  fi
  command -v awk >/dev/null 2>&1 || die 'awk is needed, and is not there'
}

# The digests of these files, a line each, in order: `digest` takes them out. All at once, since each
# process that is started costs the user time.
make_digests() { $hasher "$@" >"$lock/hashes" || die "$hasher failed"; }
digest() {
  IFS= read -r digest <&3 || return 1
  digest=${digest##*= } # openssl writes the name first, the others last
  digest=${digest#\\}   # it stands before names with odd characters
  digest=${digest%% *}
}

# How long these files in the lock are, all that there are: `lengths`.
measure() {
  lengths=''
  while read -r length _; do lengths="$lengths $length"; done <<END
$(cd "$lock" && wc -c "$@")
END
  lengths=${lengths% *} # without the total
}

is_number() {
  case $1 in
    '' | *[!0-9]* | 0[0-9]* | ???????????????????*) return 1 ;;
  esac
}

find_host() {
  if [ -z "$host" ] && [ -r .sync_connection ]; then
    # A carriage return at the end of a line, blanks, and quotes are not part of it.
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in
        ssh_alias=*)
          host=${line#ssh_alias=}
          while :; do
            case $host in *[[:space:]]) host=${host%?} ;; *) break ;; esac
          done
          host=${host#[\"\']}
          host=${host%[\"\']}
          ;;
      esac
    done <.sync_connection
    [ -n "$host" ] || warn '.sync_connection has no ssh_alias=: data-analyst is asked'
  fi
  [ -n "$host" ] || host=data-analyst
  case $host in
    -* | *[!A-Za-z0-9._@:%-]*) die "'$host' is no name of a host" ;;
  esac
}

# `.env` may be a link: what it leads to is what changes.
find_target() {
  target=./.env hops=0
  while [ -h "$target" ]; do
    hops=$((hops + 1))
    [ "$hops" -le 40 ] || die '.env is a link that leads nowhere'
    next=$(readlink "$target" && echo .) || die 'the link .env cannot be read'
    next=${next%??}
    case $next in
      /*) target=$next ;;
      *) target=${target%/*}/$next ;;
    esac
  done
  if [ -e "$target" ]; then
    [ -f "$target" ] || die '.env is not a file'
    [ -r "$target" ] || die '.env cannot be read'
  fi
  target_dir=${target%/*}
  [ -n "$target_dir" ] || target_dir=/
  [ -d "$target_dir" ] || die "the directory of what .env leads to is not there: $target_dir"
}

# --- One run at a time. The lock is a directory beside what changes: it holds the temporary files,
# for nobody else to read, and what a killed run left in it goes with it.

lock_owner() {
  pid=''
  # Nobody has written it yet, or the lock is gone.
  { IFS= read -r pid <"$lock_dir/pid"; } 2>/dev/null
  [ -n "$pid" ]
}

take_lock() {
  lock_dir=${target%/*}/.service_env.lock tries=0 unnamed=0 missing=0
  until mkdir "$lock_dir" 2>/dev/null; do
    if ! [ -d "$lock_dir" ]; then
      # Its owner has just let it go, or it cannot be made.
      missing=$((missing + 1))
      [ "$missing" -lt 20 ] || die "a lock cannot be made beside .env: $lock_dir"
      continue
    fi
    missing=0
    if lock_owner; then
      unnamed=0 owner=$pid
      # Read again: an owner that ended well has let it go before.
      if { ! is_alive "$owner" || is_old; } && lock_owner && [ "$pid" = "$owner" ]; then
        break_lock "$owner"
        continue
      fi
    else
      # Killed between two steps that are next to each other, or just beginning.
      unnamed=$((unnamed + 1))
      if [ "$unnamed" -gt 5 ]; then
        break_lock ''
        continue
      fi
    fi
    tries=$((tries + 1))
    [ "$tries" -le 60 ] || die "another sync is running here (process ${pid:-unknown}); if not, remove $lock_dir"
    sleep 1
  done
  # A directory of one's own in it: should it be taken for a dead one's, nothing is mixed up.
  lock=$lock_dir/$$
  if ! { echo "$$" >"$lock_dir/pid" && echo '*' >"$lock_dir/.gitignore" && mkdir "$lock"; } 2>/dev/null; then
    die "$lock_dir cannot be written"
  fi
  full="$lock cannot be written: is the disk full?"
  # What somebody that was killed had put away, see break_lock.
  for away in "$lock_dir".*; do
    pid=${away##*.}
    if [ -d "$away" ] && is_number "$pid" && ! is_alive "$pid"; then rm -rf "$away"; fi
  done
}

# kill also fails where the process is somebody else's.
is_alive() { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ] || ps -p "$1" >/dev/null 2>&1; }

# No sync takes so long: the number has become another process's.
is_old() { [ -n "$(find "$lock_dir" -prune -mmin +15 2>/dev/null)" ]; }

# Away with a lock whose owner is dead. Only one of those that see it takes it away: it is renamed
# first, and whoever got another one than it saw puts it back.
break_lock() {
  away=$lock_dir.$$
  mv "$lock_dir" "$away" 2>/dev/null || return 0
  found=''
  { IFS= read -r found <"$away/pid"; } 2>/dev/null
  if [ "$found" = "$1" ]; then
    rm -rf "$away"
  else
    mv "$away" "$lock_dir" 2>/dev/null
  fi
  unnamed=0
}

# Somebody may have taken ours for a dead one's; then nothing more may be changed.
still_ours() {
  lock_owner && [ "$pid" = "$$" ]
}

release() {
  [ -n "$lock" ] || return 0
  if still_ours; then rm -rf "$lock_dir"; fi
  lock=''
}

# --- What is here.

# Reads `.env` as pieces: lines, but what is glued to a marker is a piece of its own. Told by `mode`:
#   look: what the block holds, before anything is fetched; each document of ours that is found goes
#         to the file span.N, for its digest to be checked
#   plan: which bytes stay, and the new block
#   keys: the keys between the markers and in documents, to look for
# A line is ours if it stands in a document of ours whose digest is right; if it is a comment of our
# making after our marker; or if it sets a variable that is known as ours (by what came, by the block's
# list, or by what was remembered), there. Nothing else is taken.
# shellcheck disable=SC2016 # a program of awk
reader='
function bare(s) { sub(/[ \t\r]+$/, "", s); return s }
function ends_with(s, e) { return length(s) > length(e) && substr(s, length(s) - length(e) + 1) == e }
function before(s, e) { return substr(s, 1, length(s) - length(e)) }
function has_digest(s) { sub(/^.* /, "", s); return length(s) == 64 }
function ends_document(s) { return s ~ /^# end [0-9]+ variables sha256 [0-9a-f]+$/ && has_digest(s) }
function is_comment(s) {
  if (s == HEADER || s == NEWLINE || s == MADE || index(s, NAMES) == 1) return 1
  if (s ~ /^# generation [0-9]+$/ || ends_document(s)) return 1
  return s ~ /^# skill sc_[a-z0-9_]+\.md [0-9a-f]+$/ && has_digest(s)
}
function name_of(s) { return match(s, /^[A-Z][A-Z0-9_]*=/) ? substr(s, 1, RLENGTH - 1) : "" }
function is_strict(s) { return s ~ /^[A-Z][A-Z0-9_]*=[A-Za-z0-9_.+\/:@%,=-]+$/ }
function is_known(s) { s = name_of(s); return s != "" && (s in known) }
function any_name(s) {
  sub(/^[ \t]*(export[ \t]+)?/, "", s)
  if (!match(s, /^[A-Za-z_][A-Za-z0-9_]*[ \t]*=/)) return ""
  s = substr(s, 1, RLENGTH - 1)
  sub(/[ \t]+$/, "", s)
  return s
}
function piece(text, at, size, kind, line) {
  P++
  T[P] = text; B[P] = bare(text); at_[P] = at; size_[P] = size; K[P] = kind; line_[P] = line
}
# Whether there is nothing but variables up to an END.
function follows(i,    b) {
  for (i++; i <= N; i++) {
    b = bare(L[i])
    if (b == END_ || (ends_with(b, END_) && is_strict(before(b, END_)))) return 1
    if (!is_strict(b)) return 0
  }
  return 0
}
function cut(i,    s, b, next_, tail) {
  s = L[i]; b = bare(s); next_ = i < N ? bare(L[i + 1]) : ""
  if (b == START) { piece(s, off[i], wide[i], "S", i); open = 1; return }
  if (b == END_) { piece(s, off[i], wide[i], "E", i); open = 0; return }
  if (ends_with(b, START) && (is_comment(next_) || is_known(next_) || follows(i))) {
    tail = before(b, START)
    piece(tail, off[i], length(tail), "", i)
    piece(START, off[i] + length(tail), wide[i] - length(tail), "S", i)
    glued = open = 1
    return
  }
  tail = substr(s, length(END_) + 1)
  if (index(s, END_) == 1 && (any_name(tail) != "" || substr(tail, 1, 1) == "#")) {
    piece(END_, off[i], length(END_), "E", i)
    piece(tail, off[i] + length(END_), wide[i] - length(END_), "", i)
    glued = 1; open = 0
    return
  }
  if (open && ends_with(b, END_)) {
    tail = before(b, END_)
    if (is_strict(tail) || is_comment(tail)) {
      piece(tail, off[i], length(tail), "", i)
      piece(END_, off[i] + length(tail), wide[i] - length(tail), "E", i)
      glued = 1; open = 0
      return
    }
  }
  piece(s, off[i], wide[i], "", i)
}
# The documents: from a header to an end line, with nothing else in between.
function find_spans(    k, j) {
  for (k = 1; k <= P; k++) if (K[k] == "" && B[k] == HEADER) {
    for (j = k + 1; j <= P && K[j] == "" && (is_comment(B[j]) || is_strict(B[j])); j++)
      if (ends_document(B[j])) break
    if (j > P || K[j] != "" || !ends_document(B[j])) continue
    spans++
    first_of[spans] = k; last_of[spans] = j; span_at[k] = spans
    if (mode == "look") tell_span(spans)
    k = j
  }
}
function tell_span(r,    k, s, file) {
  file = dir "/span." r
  for (k = first_of[r]; k < last_of[r]; k++) {
    s = T[k]; sub(/\r$/, "", s)
    print s > file
  }
  close(file)
  s = B[last_of[r]]; sub(/^.* /, "", s)
  print "span", r, s
}
# The block as this script leaves it: one, with nothing in it but ours.
function is_clean(    k, starts, ends, s, e) {
  for (k = 1; k <= P; k++) {
    if (K[k] == "S") { starts++; s = k }
    if (K[k] == "E") { ends++; e = k }
  }
  if (starts != 1 || ends != 1 || glued || e < s) return 0
  for (k = s + 1; k < e && B[k] != HEADER; k++)
    if (B[k] != NEWLINE && B[k] != MADE && index(B[k], NAMES) != 1) return 0
  if (!(k in span_at) || last_of[span_at[k]] != e - 1) return 0
  clean = span_at[k]; clean_from = s; clean_to = e
  return 1
}
function look(    k, state, inside, s, generation) {
  state = "none"
  for (k = 1; k <= P; k++) if (K[k] != "") state = "messy"
  if (is_clean()) {
    state = "clean"
    print "clean", clean
    for (k = clean_from; k <= clean_to; k++) {
      if (T[k] != B[k]) state = "messy"
    }
  }
  for (k = 1; k <= P; k++) {
    if (K[k] != "") inside = (K[k] == "S")
    else if (inside && B[k] ~ /^# generation [0-9]+$/ && substr(B[k], 14) + 0 >= generation + 0)
      generation = substr(B[k], 14)
  }
  if (generation != "") print "generation", generation
  print "state", state
  inside = 0
  for (k = 1; k <= P; k++) {
    if (K[k] == "S") inside = 1
    else if (K[k] == "E") inside = 0
    else if (!inside && (s = any_name(T[k])) != "") print "outside", s, line_[k]
  }
}
# Addresses are no secret, and short values are everywhere.
function tell_keys(    k, inside, last, s, name, key_size, value_size) {
  for (k = 1; k <= P; k++) {
    if (K[k] != "") inside = (K[k] == "S")
    if (k in span_at) last = last_of[span_at[k]]
    name = name_of(B[k])
    if ((!inside && k > last) || name == "") continue
    s = substr(B[k], length(name) + 2)
    if (length(s) < 12 || s ~ /^[a-z]+:\/\//) continue
    print name, s > (dir "/keys")
    print s > (dir "/values")
    key_size += length(name) + length(s) + 2
    value_size += length(s) + 1
  }
  print "keys", key_size + 0, value_size + 0, at + 0
}
function claim(k,    s) {
  if (own[k]) return
  own[k] = 1
  s = T[k]
  sub(/\r$/, "", s)
  if (name_of(s) != "") print s > (dir "/was")
}
function claim_flag(k) {
  claim(k)
  if (B[k] == NEWLINE && first_block) had_newline = 1
  if (B[k] == MADE) had_made = 1
}
function is_flag(s) { return s == NEWLINE || s == MADE || index(s, NAMES) == 1 }
# What follows a START marker, up to the next marker.
function claim_block(s,    e, k, i, n, d, w, listed, claimed, is_whole, stopped) {
  own[s] = 1
  for (e = s + 1; e <= P && K[e] == ""; e++) {
    if (ends_document(B[e]) && !d) d = e
    if (index(B[e], NAMES) != 1) continue
    n = split(substr(B[e], length(NAMES) + 1), w, " ")
    for (i = 1; i <= n; i++) listed[w[i]] = 1
  }
  # Between both markers a name of ours is ours wherever it stands: a dead key that stays would win
  # over nothing, or over ours. A name that nobody knows is never taken.
  is_whole = (e <= P && K[e] == "E")
  for (k = s + 1; k < e; k++) {
    if ((k in span_at) && verified[span_at[k]]) {
      i = last_of[span_at[k]]
      while (k < i) claim(k++)
      claim(k)
    } else if (!is_whole && (d ? k > d : stopped)) leave_line(k)
    else if (is_flag(B[k])) claim_flag(k)
    else if (is_comment(B[k])) claim(k)
    else {
      n = name_of(B[k])
      # Without END each variable once: the next of that name is not ours.
      if (((n in known) || (n in listed)) && (is_whole || !(n in claimed))) { claimed[n] = 1; claim(k) }
      else { stopped = 1; leave_line(k) }
    }
  }
}
function leave_line(k,    name) {
  foreign++
  name = any_name(T[k])
  if (name != "") foreign_names = foreign_names " " name
}
# The START marker is lost: a document of ours stands right before an END.
function claim_headless(    r, k) {
  for (r = 1; r <= spans; r++) {
    if (!verified[r] || own[first_of[r]] || K[last_of[r] + 1] != "E") continue
    for (k = first_of[r]; k <= last_of[r]; k++) claim(k)
    for (k = first_of[r] - 1; k > 0 && K[k] == "" && !own[k] && is_flag(B[k]); k--) claim_flag(k)
  }
}
function ends_line(k) {
  if (k < P && line_[k + 1] == line_[k]) return 0
  return line_[k] < N || ended
}
function plan(    k) {
  first_block = 1
  for (k = 1; k <= P; k++) {
    if (K[k] == "S") {
      if (first_block && T[k] ~ /\r$/) turned = 1
      claim_block(k); first_block = 0
    }
    if (K[k] == "E") own[k] = 1
  }
  claim_headless()
  for (k = 1; k <= P; k++) {
    if (!own[k]) keep(k)
    else if (!placed) place()
  }
  if (!placed) place()
  # The newline goes with the block, unless something follows that it keeps apart.
  # An empty line above it is not the one that the block came after. Where an editor turned all the
  # ends of lines, there are two bytes of it; elsewhere a carriage return is not ours.
  if (!put && had_newline && before_block && last_kept == before_block && ends_line(last_kept) &&
      T[last_kept] != "" && !(turned && T[last_kept] == "\r")) {
    run--
    if (turned && T[last_kept] ~ /\r$/) run--
  }
  flush()
  if (!put && had_made && !kept) print "unlink"
  if (foreign) print "foreign", foreign foreign_names
  print "total", at
}
function keep(k) {
  if (unended) { flush(); print "newline" }
  if (!run || from + run != at_[k]) { flush(); from = at_[k] }
  run += size_[k]
  last_kept = k
  unended = !ends_line(k)
}
function flush() {
  if (run > 0) { print "keep", from + 0, run; kept += run }
  run = 0
}
function place(    k, names) {
  placed = 1
  before_block = last_kept
  if (!put) return
  flush()
  if (unended) { print "newline"; had_newline = 1; unended = 0 }
  else if (!last_kept) had_newline = 0
  for (k = 1; k <= V; k++) names = names " " vars[k]
  block_line(START)
  block_line(NAMES substr(names, 2))
  if (had_newline) block_line(NEWLINE)
  if (made || had_made) block_line(MADE)
  for (k = 1; k <= D; k++) block_line(doc[k])
  block_line(END_)
  close(dir "/block")
  print "block", block_size
}
function block_line(s) {
  print s > (dir "/block")
  block_size += length(s) + 1
}
BEGIN {
  START = "# --- SERVICE CONNECTOR START ---"
  END_ = "# --- SERVICE CONNECTOR END ---"
  HEADER = "# Managed by service-connector. Changes are overwritten."
  NAMES = "# Kept by sync_service_env.sh: "
  NEWLINE = "# The newline before this block came with it."
  MADE = "# This file came with this block."
}
stage == "known" { known[$1] = 1; next }
stage == "sums" { verified[$1] = ($2 "" == $3 ""); next }
stage == "new" {
  doc[++D] = $0
  if (name_of($0) != "") { vars[++V] = name_of($0); known[name_of($0)] = 1 }
  next
}
{ L[++N] = $0; off[N] = at + 0; wide[N] = length($0) + 1; at += wide[N] }
END {
  # The last line is the one that was added, or ends with it.
  if (L[N] !~ /x$/) exit
  # What is written beside it could not be read as the same.
  if (index(L[1], "\377\376") == 1 || index(L[1], "\376\377") == 1) { print "state utf-16"; exit }
  ended = (L[N] == "x")
  at -= 2
  if (ended) N--
  else { L[N] = substr(L[N], 1, length(L[N]) - 1); wide[N] -= 2 }
  for (i = 1; i <= N; i++) cut(i)
  find_spans()
  if (mode == "look") look()
  else if (mode == "keys") tell_keys()
  else plan()
}
'

# `.env` as it is now. All that is found out is found out of this one copy, and holds only as long as
# `.env` is the same: see is_as_seen.
take_copy() {
  made=1
  : >"$lock/here" || die "$full"
  if [ -e "$target" ]; then
    made=''
    cat "$target" >"$lock/here" || die '.env cannot be copied'
  fi
}

is_as_seen() {
  if ! [ -e "$target" ]; then
    [ -n "$made" ]
    return
  fi
  [ -z "$made" ] || return 1
  make_digests "$target"
  digest 3<"$lock/hashes" || die "$hasher failed"
  [ "$digest" = "$seen" ]
}

# Runs the reader over that copy. read_env NAME=VALUE|FILE...
read_env() {
  # Some awks end a line at a zero byte. The x tells whether the last line has an end.
  { tr '\000' '\001' <"$lock/here" && echo x; } | awk -v BINMODE=3 "$reader" dir="$lock" "$@" -
}

# What the block holds: `state` (none, clean, messy), `held` (the generation, if it is whole). And what
# this project is called.
look_here() {
  state='' generation_here='' clean='' held='' digest_here='' id=''
  : >"$lock/digests"
  take_copy
  read_env mode=look stage=here >"$lock/facts" || die '.env cannot be read'
  set --
  while read -r word one two; do
    case $word in
      state) state=$one ;;
      clean) clean=$one ;;
      generation) if is_number "$one"; then generation_here=$one; fi ;;
      span)
        set -- "$@" "$lock/span.$one"
        printf '%s %s\n' "$one" "$two" >>"$lock/digests" || die "$full"
        ;;
    esac
  done <"$lock/facts"
  [ -n "$state" ] || die '.env cannot be read'
  [ "$state" != utf-16 ] || die '.env is UTF-16, which nothing reads it as: save it as UTF-8'
  : >"$lock/sums"
  if [ -n "$salt" ]; then
    # Not the same for two projects: each holds keys of its own, and each must have a new one before
    # an old one goes.
    printf '%s %s\n' "$salt" "$(pwd -P)" >"$lock/place" || die "$full"
    set -- "$lock/place" "$@"
  fi
  make_digests "$lock/here" "$@"
  {
    digest || die "$hasher failed"
    seen=$digest
    if [ -n "$salt" ]; then
      digest || die "$hasher failed"
      id=${digest%"${digest#????????????????}"}
      case $id in *[!0-9a-f]* | '') die "$hasher failed" ;; esac
    fi
    while read -r one two; do
      digest || die "$hasher failed"
      printf '%s %s %s\n' "$one" "$two" "$digest" >>"$lock/sums" || die "$full"
      if [ "$one" = "$clean" ] && [ "$two" = "$digest" ]; then
        held=$generation_here digest_here=$two
      fi
    done <"$lock/digests"
  } 3<"$lock/hashes"
}

# --- What this laptop is called, and what it remembers of this project. Not in the project: it is no
# business of whoever gets a copy of it.

find_notes() {
  salt=''
  notes=${XDG_CONFIG_HOME:-${HOME:-}/.config}/service-connector
  [ -d "$notes" ] || [ -z "${XDG_CONFIG_HOME:-${HOME:-}}" ] || mkdir -p "$notes" 2>/dev/null
  if ! [ -w "$notes" ]; then
    warn "$notes cannot be written: the server is not told what this laptop holds"
    return 0
  fi
  if ! [ -s "$notes/laptop" ]; then
    # Written beside and linked: of two that begin at once, one wins.
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$notes/laptop.$$"
    ln "$notes/laptop.$$" "$notes/laptop" 2>/dev/null || [ -s "$notes/laptop" ] ||
      cp "$notes/laptop.$$" "$notes/laptop"
    rm -f "$notes/laptop.$$"
  fi
  # It has no newline at its end.
  IFS= read -r salt <"$notes/laptop" || :
}

recall() {
  memory='' floor=0 synced='' none_left='' names_before='' same_host='' host_then=''
  [ -n "$id" ] || return 0
  memory=$notes/$id
  [ -r "$memory" ] || return 0
  generation_then=''
  while read -r word rest; do
    case $word in
      host) host_then=$rest ;;
      generation) is_number "$rest" && generation_then=$rest ;;
      variables) [ "$rest" = 0 ] && none_left=1 ;;
      names) names_before=$rest ;;
      synced) is_number "$rest" && synced=$rest ;;
    esac
  done <"$memory"
  [ "$host_then" = "$host" ] || return 0
  same_host=1
  [ -z "$generation_then" ] || floor=$generation_then
  # No key is left here, and none is needed: that is held, too.
  if [ "$state" = none ] && [ -n "$none_left" ]; then held=$generation_then; fi
}

remember() {
  [ -n "$memory" ] || return 0
  {
    printf 'host %s\ngeneration %s\nvariables %s\n' "$host" "$generation" "$variables"
    printf 'synced %s\nnames %s\n' "$now" "$names"
  } >"$memory.$$"
  # Half of it would be worse than what is there.
  line=''
  while read -r word rest; do line="$word $rest"; done <"$memory.$$"
  if [ "$line" = "names $names" ]; then
    mv -f "$memory.$$" "$memory"
  else
    rm -f "$memory.$$"
    warn "$memory cannot be written"
  fi
}

# --- What the server has.

# Runs a script there: one line, without ', ! and \, so that each login shell (sh, fish, csh, ...)
# hands it on as it is. Standard input is not used: what a login reads from it is not missing here.
# shellcheck disable=SC3045 # where ulimit has no -S, there is no limit
there() {
  set -f
  IFS='
'
  # shellcheck disable=SC2086 # at its ends of lines
  set -- $1
  IFS=' '
  script=$*
  IFS=$blank
  set +f
  # A limit on what it writes: a server that never ends must not fill the disk. It is of 512 bytes each.
  most=$(ulimit -S -f 2>/dev/null)
  ulimit -S -f 80000 2>/dev/null || :
  ssh -T -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3 \
    -o ClearAllForwardings=yes -o LogLevel=ERROR -- "$host" "sh -c '$script'" </dev/null &
  child=$!
  ulimit -S -f "$most" 2>/dev/null || :
  asked=$((asked + 1))
  : >"$lock/asking.$asked"
  sh -c "$watch" sh "$lock/asking.$asked" "$lock/late" "$seconds" "$child" >/dev/null 2>&1 &
  wait "$child"
  code=$?
  child=''
  rm -f "$lock/asking.$asked"
  return "$code"
}

# Ends ssh when the time is over. It looks each second whether that is still needed, since a signal to
# a process that is just beginning may get lost. A program of its own, since a part of this one would
# hold what this one writes to open, and let whoever reads it wait.
# shellcheck disable=SC2016 # for that shell
watch='n=0
while [ -e "$1" ]; do
  if [ "$n" -ge "$3" ]; then : >"$2"; kill "$4"; exit; fi
  sleep 1
  n=$((n + 1))
done'

# Says there which generation is held here (DESIGN, `~/.service_env_seen`).
# shellcheck disable=SC2016 # for the server's shell
tell_held='if [ "$G" -gt 0 ]; then d=.service_env_seen; { [ -d $d ] || mkdir $d; } && echo "generation $G" > $d/$I.new && mv -f $d/$I.new $d/$I; fi 2>/dev/null;'

# One generation in one document: its files are read before a byte is sent, and again while a put
# is under way.
# shellcheck disable=SC2016 # for the server's shell
send_files='umask 077; LC_ALL=C; export LC_ALL;
head_() { echo; echo "service-connector $N begin"; };
foot_() { echo "service-connector $N end"; exit 0; };
trouble() { head_; echo "trouble $1"; foot_; };
cd 2>/dev/null || trouble "the home cannot be entered";
{ [ -r . ] && [ -x . ]; } || trouble "the home cannot be read";
TELL
L=$(echo; echo .); L=${L%.}; set -f; v=0; t=0; IFS=$L;
command -v sha256sum >/dev/null 2>&1 && v=1;
while :; do
[ -e .service_env ] || [ -h .service_env ] || { head_; echo none; foot_; };
e=$(cat .service_env 2>/dev/null && echo .) || trouble ".service_env cannot be read";
e=${e%.}; h="env ${#e}"; p=$e; ok=1;
for l in $e; do case $l in "# skill "*)
l=${l#"# skill "}; f=${l% *}; s=${l##* };
case $f in */*) ok=0; break;; esac;
if c=$(cat ".claude_rules/$f" 2>/dev/null && echo .); then c=${c%.}; else ok=0; break; fi;
if [ $v = 1 ] && [ "$(printf %s "$c" | sha256sum)" = "$s  -" ] || [ $v = 0 ]; then :; else ok=0; break; fi;
h="$h${L}skill $f ${#c}"; p="$p$L$c";; esac; done;
if [ $ok = 1 ]; then break; fi;
t=$((t+1)); if [ $t -ge 25 ]; then trouble "the files are being changed, or do not belong together"; fi;
sleep 0.2 2>/dev/null || sleep 1;
done;
head_; printf "%s" "$h$L"; echo data; printf "%s" "$p$L"; foot_'

# Takes the document out of what came, and its files out of it. Says what they are.
# shellcheck disable=SC2016 # a program of awk
opener='
# What is written is counted: not every awk says that it could not write.
function put_line(s, name) { print s > (dir "/" name); size[name] += length(s) + 1 }
function bad(why) { if (!wrong) wrong = why; step = 9 }
function is_number(s) { return s ~ /^(0|[1-9][0-9]*)$/ && length(s) <= 18 }
function is_digest(s) { return length(s) == 64 && s !~ /[^0-9a-f]/ }
# Names that steer the shell, the loader, an interpreter or an agent.
function is_denied(s) {
  return s ~ /^(PATH|HOME|IFS|ENV|SHELL)$/ || s ~ /_PROXY$/ || \
    s ~ /^(LD_|DYLD_|BASH_|PYTHON|NODE_|GIT_|SSH_|ANTHROPIC_|CLAUDE_)/
}
function is_value(s) {
  if (sub(/[=][=]?$/, "", s) && s ~ /:$/) return 0
  return length(s) <= 4096 && s ~ /^[A-Za-z0-9_.+\/:@%,-]+$/
}
function begin_part() { part++; got = 0; filled = (want[part] == 0); if (part > parts) step = 3 }
function env_line(s,    name, w) {
  lines++
  if (ended) return bad("lines after its end line")
  if (lines == 1) { if (s != "# Managed by service-connector. Changes are overwritten.") bad("not a file of ours") }
  else if (lines == 2) {
    generation = substr(s, 14)
    if (index(s, "# generation ") != 1 || !is_number(generation)) bad("no generation")
  } else if (index(s, "# skill ") == 1 && !variables) {
    split(s, w, " ")
    if (s != "# skill " w[3] " " w[4] || !is_digest(w[4])) bad("a skill line that is wrong")
    manifest[++skills] = w[3]; digest[skills] = w[4]
  } else if (index(s, "# end ") == 1) {
    split(s, w, " ")
    if (s != "# end " variables + 0 " variables sha256 " w[6] || !is_digest(w[6])) bad("an end line that is wrong")
    ended = w[6]
  } else if (s ~ /^[A-Z][A-Z0-9_]*=/) {
    name = substr(s, 1, index(s, "=") - 1)
    if (length(name) > 64) bad("a name that is too long")
    if (is_denied(name)) bad("it would set " name)
    if (!is_value(substr(s, length(name) + 2))) bad("a value that is read in more than one way")
    if (name in names) bad("a variable twice")
    names[name] = ++variables; all = all " " name
    put_line(name, "known")
  } else bad("a line that is no variable")
  if (!ended) put_line(s, "body")
}
BEGIN { split("known body env expected", w, " "); for (i in w) printf "" > (dir "/" w[i]) }
stage == "facts" { if ($1 == "outside") outside[$2] = outside[$2] " " $3; next }
step == 0 { if ($0 == mark " begin") step = 1; next }
step == 1 {
  if ($0 == mark " end") step = answer == "" ? 9 : 4
  else if ($0 == "none") answer = "none"
  else if (index($0, "trouble ") == 1) answer = $0
  else if ($0 == "data" && parts) { step = 2; begin_part() }
  else if ($1 == "env" && NF == 2 && !parts && is_number($2) && $2 <= 1048576) want[++parts] = $2
  else if ($1 == "skill" && NF == 3 && parts && is_number($3) && $3 <= 1048576 && \
    $2 ~ /^sc_[a-z0-9_]+\.md$/ && length($2) <= 66 && !($2 in seen)) {
    want[++parts] = $3; file[parts] = $2; seen[$2] = 1
    printf "" > (dir "/" $2)
  } else bad("it cannot be read")
  next
}
step == 2 {
  if (filled) {
    if ($0 != "") bad("it is not as long as it says")
    else { if (part > 1) close(dir "/" file[part]); begin_part() }
    next
  }
  got += length($0) + 1
  if (part == 1) { env_line($0); put_line($0, "env") }
  else if (got == want[part] + 1) printf "%s", $0 > (dir "/" file[part])
  else print > (dir "/" file[part])
  if (got == want[part]) filled = 1
  else if (got == want[part] + 1 && part > 1) begin_part()
  else if (got > want[part]) bad("it is not as long as it says")
  next
}
step == 3 { if ($0 == mark " end") step = 4; else bad("it does not end where it says") }
END {
  if (step == 0) print "nothing"
  else if (wrong) print "bad", wrong
  else if (step != 4) print "bad it is cut off"
  else if (answer != "") print answer
  else if (!ended) print "bad .service_env is cut off"
  else {
    if (skills != parts - 1) bad("the skills are not those of the keys")
    put_line(ended " body", "expected")
    for (i = 1; i <= skills; i++) {
      if (manifest[i] != file[i + 1]) bad("the skills are not those of the keys")
      put_line(digest[i] " " manifest[i], "expected")
    }
    if (wrong) print "bad", wrong
    else {
      print "whole", generation, variables + 0
      print "names" all
      for (name in names) if (name in outside) print "outside", name outside[name]
      print "sizes", size["known"] + 0, size["body"] + 0, size["env"] + 0, size["expected"] + 0
    }
  }
}
'

fetch() {
  now=$(date +%s)
  mark="service-connector $now-$$"
  told=${held:-0}
  # What is held is said to the server that it is of.
  if [ -n "$check" ] || [ -z "$id" ] || [ -z "$same_host" ]; then told=0; fi
  script="N=$now-$$; I=${id:-0}; G=$told; ${send_files%%TELL*}$tell_held${send_files#*TELL}"
  there "$script" >"$lock/came" 2>"$lock/said"
  ended=$?
  [ ! -e "$lock/late" ] || refuse "$host has not answered in full within $seconds seconds"
  [ "$ended" = 0 ] || refuse "$host could not be reached, or the connection broke (ssh ended with $ended)"
  awk -v BINMODE=3 -v dir="$lock" -v mark="$mark" "$opener" stage=facts "$lock/facts" \
    stage=came "$lock/came" >"$lock/answer" || die 'what the server sent cannot be read'
  answer='' generation='' variables='' names='' sizes=''
  : >"$lock/twice"
  while read -r word rest; do
    case $word in
      names) names=$rest ;;
      outside) printf '%s\n' "$rest" >>"$lock/twice" || die "$full" ;;
      sizes) sizes=$rest ;;
      *) answer=$word why=$rest ;;
    esac
  done <"$lock/answer"
  case $answer in
    whole) generation=${why% *} variables=${why#* } ;;
    none) no_files ;;
    trouble) refuse "on $host: $why" ;;
    bad) refuse "what $host sent is not whole: $why" ;;
    *) refuse "$host sent nothing that the sync knows" ;;
  esac
  measure known body env expected
  [ "$lengths" = " $sizes" ] || die "$full"
  compare_skills
}

# An older one brings keys back that are revoked. What is remembered counts, and what stands in the
# block: one of them may have come out of a backup.
check_generation() {
  read -r env_digest _ <"$lock/expected"
  if [ "$state" != none ] && [ "${generation_here:-0}" -gt "$floor" ]; then floor=$generation_here; fi
  way_out="if that is right, remove the block from .env${memory:+, and $memory}"
  [ "$generation" -ge "$floor" ] || refuse \
    "$host has generation $generation, which is older than $floor, the one that was here ($way_out)"
  # That of another server may have the same number.
  if [ -n "$host_then" ] && [ -z "$same_host" ]; then return 0; fi
  if [ "$generation" = "$held" ] && [ -n "$digest_here" ] && [ "$digest_here" != "$env_digest" ]; then
    refuse "$host has another generation $generation than the one that is here ($way_out)"
  fi
}

# What another program said, without what a terminal would obey.
relay() {
  tr -cd '\n -~' <"$1" | while IFS= read -r line; do complain "  $line"; done
}

# Nothing can be had: everything stays as it is.
refuse() {
  complain "$(printf '%s' "$1" | tr -cd ' -~'). Nothing was changed."
  relay "$lock/said"
  tell_age
  leave 1
}

no_files() {
  if [ "$state" != none ]; then
    refuse "there is no .service_env on $host, though there was one: that is not how a disconnect looks"
  fi
  say "Nothing to sync: there is no .service_env on $host yet."
  leave 0
}

# How old what is here is, and what ends when.
tell_age() {
  [ "$state" != none ] || return 0
  line="What is here stays in use: generation ${generation_here:-unknown}"
  [ -z "$synced" ] || line="$line, synced $(ago $((now - synced)))"
  complain "$line."
  for skill in .claude/rules/sc_*.md; do
    [ -f "$skill" ] || continue
    awk -v name="${skill##*/}" 'match($0, /active until [0-9][0-9-]*/) {
        print "service connector:   " name ": " substr($0, RSTART, RLENGTH); exit }' "$skill" >&2
  done
}

ago() {
  if [ "$1" -lt 120 ]; then
    echo 'just now'
  elif [ "$1" -lt 7200 ]; then
    echo "$(($1 / 60)) minutes ago"
  elif [ "$1" -lt 172800 ]; then
    echo "$(($1 / 3600)) hours ago"
  else
    echo "$(($1 / 86400)) days ago"
  fi
}

# --- From what is here to what the server has.

# Whether a skill of ours can have this name. Any other is somebody else's, and is not touched.
is_skill_name() {
  stem=${1#sc_}
  stem=${stem%.md}
  [ "$1" = "sc_$stem.md" ] || return 1
  [ "${#stem}" -le 60 ] || return 1
  case $stem in '' | *[!a-z0-9_]*) return 1 ;; esac
}

# Whether what came is what it says, and which skills come, change and go.
compare_skills() {
  wanted=' ' here=' ' come=' ' gone=' '
  set --
  while read -r one two; do set -- "$@" "$lock/$two"; done <"$lock/expected"
  parts=$#
  while read -r one two; do
    [ "$two" != body ] || continue
    wanted="$wanted$two "
    file=.claude/rules/$two
    if [ -d "$file" ]; then die "$file is a directory"; fi
    if [ -f "$file" ] && [ -r "$file" ] && ! [ -h "$file" ]; then
      here="$here$two "
      set -- "$@" "$file"
    fi
  done <"$lock/expected"
  make_digests "$@"
  {
    while read -r one two; do
      digest || die "$hasher failed"
      [ "$one" = "$digest" ] || refuse "what $host sent is not whole: the digest of $two"
      parts=$((parts - 1))
    done <"$lock/expected"
    while read -r one two; do
      [ "$two" != body ] || continue
      case $here in *" $two "*) digest || die "$hasher failed" ;; *) digest='' ;; esac
      [ "$one" = "$digest" ] || come="$come$two "
    done <"$lock/expected"
  } 3<"$lock/hashes"
  [ "$parts" = 0 ] || die "$hasher failed"
  for file in .claude/rules/sc_*.md; do
    { [ -f "$file" ] || [ -h "$file" ]; } || continue
    is_skill_name "${file##*/}" || continue
    case $wanted in *" ${file##*/} "*) ;; *) gone="$gone${file##*/} " ;; esac
  done
}

# Whether the block changes.
compare_env() {
  env_changes=1
  if [ "$state" = clean ] && [ "$digest_here" = "$env_digest" ] && [ "$variables" != 0 ]; then env_changes=''; fi
  if [ "$state" = none ] && [ "$variables" = 0 ]; then env_changes=''; fi
}

# What is to become of `.env`: its new bytes in the file `new`.
make_env() {
  put=1
  [ "$variables" != 0 ] || put=''
  for name in $names_before; do printf '%s\n' "$name" || die "$full"; done >>"$lock/known"
  : >"$lock/was"
  read_env mode=plan put="$put" made="$made" stage=known "$lock/known" stage=sums "$lock/sums" \
    stage=new "$lock/env" stage=here >"$lock/ops" || die '.env cannot be read'
  kept=0 unlink='' foreign=0 foreign_names='' total=''
  [ -n "$put" ] || : >"$lock/block"
  build >"$lock/new" || die "$full"
  { read -r block _ && read -r built _ && read -r size _; } <<END
$(wc -c "$lock/block" "$lock/new" "$lock/here")
END
  meant=0
  while read -r word one two; do
    case $word in
      keep) kept=$((kept + two)) ;;
      newline) kept=$((kept + 1)) ;;
      block) meant=$one ;;
      unlink) unlink=1 ;;
      foreign) foreign=$one foreign_names=$two ;;
      total) total=$one ;;
    esac
  done <"$lock/ops"
  [ "$total" = "$size" ] || die 'this awk does not read .env as it is'
  # Not every awk says that it could not write.
  [ "$meant $((kept + block))" = "$block $built" ] || die "$full"
  [ -z "$put" ] || grep -qxF "# end $variables variables sha256 $env_digest" "$lock/new" || die "$full"
}

build() {
  while read -r word one two; do
    case $word in
      keep)
        if [ "$one" = 0 ]; then
          head -c "$two" <"$lock/here" || return 1
        else
          tail -c "+$((one + 1))" <"$lock/here" | head -c "$two" || return 1
        fi
        ;;
      newline) echo ;;
      block) cat "$lock/block" || return 1 ;;
    esac
  done <"$lock/ops"
}

# Names and signs; never a value.
changes() {
  [ -z "$quiet" ] || return 0
  if [ -n "$env_changes" ]; then
    awk 'function name(s) { return substr(s, 1, index(s, "=") - 1) }
      stage == "was" { was[name($0)] = $0; next }
      /^#/ { next }
      { n = name($0); now_[n] = 1
        if (!(n in was)) print "  + " n
        else if (was[n] != $0) print "  ~ " n }
      END { for (n in was) if (!(n in now_)) print "  - " n }' \
      stage=was "$lock/was" stage=now "$lock/env" >"$lock/lines"
    if [ -s "$lock/lines" ]; then
      say .env
      sort -k 2 "$lock/lines"
    else
      say '.env' && say '  ~ the block between the markers'
    fi
  fi
  if [ "$come$gone" != '  ' ]; then
    say .claude/rules
    for file in $come; do
      if [ -e ".claude/rules/$file" ]; then
        say "  ~ $file"
      else
        say "  + $file (new, $(($(wc -l <"$lock/$file"))) lines)"
      fi
    done
    for file in $gone; do say "  - $file"; done
  fi
}

# Everything is written beside its place first: what fails, fails before anything changed.
stage_skills() {
  for file in .claude/rules/.sc_*.md.sync; do
    name=${file##*/.}
    if [ -f "$file" ] && is_skill_name "${name%.sync}"; then rm -f "$file"; fi
  done
  [ "$come" != ' ' ] || return 0
  mkdir -p .claude/rules 2>/dev/null || die '.claude/rules cannot be made'
  for file in $come; do
    cp "$lock/$file" ".claude/rules/.$file.sync" || die ".claude/rules cannot be written"
  done
}

# Keys before the skills that speak of them; skills before the keys that they spoke of.
change() {
  stage_skills
  still_ours || die 'another sync took over'
  if [ -n "$env_changes" ]; then
    is_as_seen || die '.env was changed by somebody else just now; run the sync again'
  fi
  for file in $gone; do rm -f ".claude/rules/$file" || die ".claude/rules/$file cannot be removed"; done
  if [ -n "$env_changes" ]; then change_env; fi
  for file in $come; do
    mv -f ".claude/rules/.$file.sync" ".claude/rules/$file" || die ".claude/rules/$file cannot be replaced"
  done
}

change_env() {
  if [ -n "$unlink" ]; then
    rm -f "$target" || die '.env cannot be removed'
  else
    mv -f "$lock/new" "$target" || die '.env cannot be replaced'
  fi
}

# A file that was there before may have been for others to read.
close_to_others() {
  if [ -z "$env_changes" ] && [ "$state" != none ]; then
    case $(ls -ld "$target") in
      -rw-------*) ;;
      *) chmod 600 "$target" 2>/dev/null || warn '.env is for others to read' ;;
    esac
  fi
}

acknowledge() {
  if [ -z "$id" ] || [ "$told" = "$generation" ]; then return 0; fi
  tidy="find .service_env_seen -type f -mtime +60 -exec rm -f {} +"
  # If it fails, the next fetch says it.
  there "umask 077; I=$id; G=$generation; cd && $tell_held $tidy" >/dev/null 2>&1 || :
}

warn_of_others() {
  while read -r name rest; do
    warn "$name is also set outside of the block, in line $rest of .env, which was left as it is: one of them hides the other"
  done <"$lock/twice"
  [ "$variables" != 0 ] || return 0
  if command -v git >/dev/null 2>&1; then
    git check-ignore -q .env 2>/dev/null
    [ $? != 1 ] || warn 'git does not ignore .env, which holds keys: add a line ".env" to .gitignore'
    if [ -h .env ]; then
      git -C "$target_dir" check-ignore -q -- "${target##*/}" 2>/dev/null
      [ $? != 1 ] || warn "git does not ignore $target, which .env leads to, and which holds keys"
    fi
  elif [ -f .gitignore ] && ! grep -q '^/*[*]*\.env[*]*[[:space:]]*$' .gitignore; then
    warn '.gitignore has no line ".env": it holds keys'
  fi
}

sync_() {
  seconds=${SC_SYNC_SECONDS-60}
  if ! is_number "$seconds" || [ "$seconds" = 0 ]; then die 'SC_SYNC_SECONDS is no number of seconds'; fi
  find_host
  find_target
  take_lock
  now=''
  find_notes
  look_here
  recall
  fetch
  check_generation
  compare_env
  if [ -n "$env_changes" ] && ! is_as_seen; then
    # Somebody wrote it while the server answered.
    look_here
    recall
    check_generation
    compare_env
  fi
  if [ -z "$env_changes" ] && [ "$come$gone" = '  ' ]; then
    if [ -z "$check" ]; then
      stage_skills
      close_to_others
      remember
      acknowledge
    fi
    say "Nothing to do: generation $generation is here."
    [ -n "$quiet" ] || warn_of_others
    leave 0
  fi
  if [ -n "$env_changes" ]; then make_env; fi
  changes
  if [ -n "$check" ]; then
    say "Plan: generation $generation would come."
    leave 2
  fi
  change
  close_to_others
  remember
  say "Done: generation $generation is here."
  [ -z "$env_changes" ] || [ "$foreign" = 0 ] ||
    warn "$foreign lines between the markers are not known as ours and stay in .env, outside of them${foreign_names:+: $foreign_names}"
  [ -n "$quiet" ] || warn_of_others
  acknowledge
  leave 0
}

# --- Where keys should not be.

scan_for_keys() {
  find_target
  case $scan in -*) scan=./$scan ;; esac
  [ -d "$scan" ] || die "$scan is not a directory"
  take_lock
  collect_keys
  if ! [ -s "$lock/keys" ]; then
    say 'There are no keys of ours in .env to look for.'
    leave 0
  fi
  values=$(cd "$lock" && pwd -P)/values
  own_place=$(cd "$target_dir" && pwd -P)/${target##*/}
  git_there=''
  if [ "$(git -C "$scan" rev-parse --is-inside-work-tree 2>/dev/null)" = true ]; then git_there=1; fi
  count=0
  : >"$lock/staged"
  find_hits 2>"$lock/errors"
  tell_hits
  # What was listed and is not there, and what is listed apart, is no trouble.
  grep -v -e 'No such file or directory' -e 'Is a directory' "$lock/errors" >"$lock/trouble"
  [ $? -le 1 ] || die "$full"
  # On a full disk there is no room for this either.
  { echo end >>"$lock/hits" && echo end >>"$lock/errors"; } 2>/dev/null || die "$full"
  if [ -s "$lock/trouble" ]; then
    complain "not all of $scan could be looked through:"
    relay "$lock/trouble"
  fi
  if [ "$count" != 0 ]; then
    complain "keys stand in files that would be committed or uploaded; if one already was, disconnect and connect its service again"
    leave 2
  fi
  [ ! -s "$lock/trouble" ] || leave 1
  say "No key of .env is in a file that would be committed or uploaded from $scan."
  leave 0
}

# The keys in `.env`, found as the merge finds them.
collect_keys() {
  take_copy
  { : >"$lock/keys" && : >"$lock/values"; } || die "$full"
  sizes=''
  read_env mode=keys stage=here >"$lock/facts" || die '.env cannot be read'
  while read -r word rest; do
    if [ "$word" = keys ]; then sizes=$rest; fi
  done <"$lock/facts"
  [ -n "$sizes" ] || die '.env cannot be read'
  measure keys values here
  [ "$lengths" = " $sizes" ] || die "$full"
}

# Files with a key in them: `hits`, a line each, and `staged`, the place of the repository and the name
# there in a line each, of what would be committed though it is not in the file any more.
find_hits() {
  if [ -z "$git_there" ]; then
    (cd "$scan" && find . -type f ! -path '*/.git/*' ! -path '*/.service_env.lock*/*' -print0 | with_keys) \
      >"$lock/hits"
    return
  fi
  : >"$lock/hits"
  # Git looks into no other repository that is inside.
  (cd "$scan" && echo ./.git && find . -name .git ! -path ./.git -prune -print) >"$lock/places"
  while IFS= read -r place; do
    place=${place%/.git}
    (
      cd "$scan/$place" || { echo "$place cannot be entered" >&2 && exit; }
      git ls-files -z --cached --others --exclude-standard | with_keys |
        while IFS= read -r file; do printf '%s/%s\n' "$place" "$file"; done
    ) >>"$lock/hits"
    (
      cd "$scan/$place" 2>/dev/null || exit
      git grep --cached -lzF -f "$values" | tr '\000' '\n' |
        while IFS= read -r file; do printf '%s\n%s\n' "$place" "$file"; done
    ) >>"$lock/staged"
  done <"$lock/places"
}

with_keys() { xargs -0 grep -lF -f "$values" --; }

tell_hits() {
  while IFS= read -r file; do
    [ -n "$git_there" ] || [ "$(cd "$scan/${file%/*}" && pwd -P)/${file##*/}" != "$own_place" ] || continue
    { cat "$scan/$file" 2>/dev/null; } | tell_lines "${file#./}"
    count_lines || echo "$file has an odd name, or was just changed" >>"$lock/errors"
  done <"$lock/hits"
  while IFS= read -r place && IFS= read -r file; do
    if grep -qxF -e "$place/$file" "$lock/hits"; then continue; fi
    file=$place/$file
    (cd "$scan/$place" && git show ":./${file#"$place"/}" 2>/dev/null) | tell_lines "${file#./} (staged)"
    count_lines || echo "$file has an odd name, or was just changed" >>"$lock/errors"
  done <"$lock/staged"
}

# Where which key is in this text; never the key.
tell_lines() {
  tr '\000' '\001' | awk 'stage == "keys" { value[$1] = substr($0, length($1) + 2); next }
    { for (name in value) if (index($0, value[name])) print FNR, name }' \
    stage=keys "$lock/keys" stage=file - | sort -n -k 1,1 >"$lock/found"
  while read -r line name; do printf '%s:%s: %s\n' "$1" "$line" "$name"; done <"$lock/found"
}

count_lines() {
  [ -s "$lock/found" ] || return 1
  count=$((count + 1))
}

main() {
  read_options "$@"
  find_tools
  # Whatever ends it, no key stays behind in a temporary file.
  trap 'release' EXIT
  trap 'leave 129' HUP
  trap 'leave 130' INT
  trap 'leave 131' QUIT
  trap 'leave 141' PIPE
  trap 'leave 143' TERM
  if [ -n "$scan" ]; then scan_for_keys; else sync_; fi
}

# The tests of the merge run it ten thousand times in a few processes.
[ -n "${SC_SYNC_FUNCTIONS_ONLY-}" ] || main "$@"
