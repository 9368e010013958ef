# shellcheck shell=bash
# What the tests of the plugin share. They run in the sandbox.
# shellcheck disable=SC2034 # For the tests.
storage=/var/lib/dokku/data/storage
replicas=file:///mnt/backup
helper=/usr/libexec/walfs/dokku-litestream-helper

setup() {
  [ -n "${SANDBOX:-}" ] || { echo "run these by tests/plugin/sandbox" >&2; return 1; }
  [ -x "$helper" ] || dokku plugin:install
}

teardown() { clean_up; }

# Whatever a test has left.
clean_up() {
  local app
  rm -f /run/containers/*
  chattr -Rf -i /mnt/backup || true
  for app in $("$helper" apps); do
    dokku litestream:destroy "$app" --force </dev/null || true
  done
  rm -rf "/home/dokku/"* "${storage:?}/"* "$storage/.walfs" /mnt/backup/* /var/lib/walfs/dokku/credentials/{global,apps/*}
}

# make_app NAME: an app with a storage directory and a database in it.
make_app() {
  dokku apps:create "$1"
  install -d -m 0755 -o 32767 -g 32767 "$storage/$1"
  as_app sqlite3 "$storage/$1/production.sqlite3" "CREATE TABLE t(x); INSERT INTO t VALUES('first');"
}

as_app() { setpriv --reuid 32767 --regid 32767 --clear-groups "$@"; }
as_dokku() { setpriv --reuid dokku --regid dokku --init-groups "$@"; }

# start_replicated NAME: makes the app, too.
start_replicated() {
  make_app "$1"
  dokku storage:mount "$1" "$storage/$1:/app/db/litestream"
  dokku litestream:create "$1" "$storage/$1" "$replicas/$1"
  dokku litestream:start "$1"
}

rows() { sqlite3 "$1" "SELECT group_concat(x, ' ') FROM (SELECT x FROM t ORDER BY rowid)"; }
insert() { as_app sqlite3 "$1" "INSERT INTO t VALUES('$2')"; }
is_mounted() { grep -q " $1 .* fuse\.walfs " /proc/self/mountinfo; }

# not COMMAND...: it has to fail. A test does not end at a command with an exclamation mark.
not() {
  if "$@"; then
    echo "this should have failed: $*" >&2
    return 1
  fi
}

# fails STATUS TEXT COMMAND...: it ends like that, and says so.
fails() {
  local status_expected=$1 text=$2
  shift 2
  run "$@"
  if [ "$status" -ne "$status_expected" ] || [[ $output != *"$text"* ]]; then
    echo "status $status instead of $status_expected, or no \"$text\" in: $output" >&2
    return 1
  fi
}

# kill_at FUNCTION N COMMAND...: the program that works as root, killed before the Nth step in one of its functions. Fails if there
# are fewer.
kill_at() {
  ! bash -c 'n=0 function=$1 last=$2; shift 2; set -T
    trap "[[ \" \${FUNCNAME[*]} \" == *\" \$function \"* && \$BASHPID == $$ ]] && ((++n == last)) && kill -9 $$ || :" DEBUG
    . "$0"' "$helper" "$@" &>/dev/null
} 2>/dev/null # The shell would tell of the kill.
