#!/usr/bin/env bats
# The unit with a real systemd, which runs in the sandbox.
load ../support

boot() {
  unshare --mount --pid --fork --kill-child --mount-proc --uts --ipc --cgroup "$BATS_TEST_DIRNAME/boot" \
    </dev/null &>"$SANDBOX/boot.log" 3>&- &
  for ((tries = 0; tries < 200; tries++)); do
    machine=$(pgrep -P "$!" || true)
    if [ -n "$machine" ] && [ "$(inside systemctl is-system-running 2>/dev/null)" = running ]; then return; fi
    sleep 0.1
  done
  cat "$SANDBOX/boot.log" >&2
  inside systemctl list-jobs >&2
  inside systemctl --failed >&2
  return 1
}

inside() { nsenter -t "$machine" --mount --pid --uts --ipc --cgroup "$@"; }

# Without the power: nothing is unmounted, and nobody is told.
lose_power() {
  kill -9 "$machine"
  while [ -e "/proc/$machine" ]; do sleep 0.1; done
}

setup() {
  [ -x "$helper" ] || dokku plugin:install
  boot
  make_app my-app
  database=$storage/my-app/production.sqlite3
  inside dokku litestream:create my-app "$storage/my-app" "$replicas/my-app"
}

teardown() {
  inside dokku litestream:destroy my-app --force || true
  lose_power
  clean_up
}

unit=walfs-dokku@my-app.service

@test "start runs the unit, whose mount everybody sees, and logs come from the journal" {
  inside dokku litestream:start my-app
  [ "$(inside systemctl is-active "$unit")" = active ]
  [ "$(inside systemctl is-enabled "$unit")" = enabled ]
  inside grep -q " $storage/my-app .*fuse\.walfs" /proc/self/mountinfo
  inside setpriv --reuid 32767 --regid 32767 --clear-groups sqlite3 "$database" "INSERT INTO t VALUES('second')"
  inside dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$replicas/my-app"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
  run inside dokku litestream:logs my-app
  [[ $output == *"serving $storage/.walfs/my-app/data at $storage/my-app"* ]]
}

@test "a start that fails says why, from the journal" {
  inside mkdir -p /mnt/backup/my-app
  echo broken >/mnt/backup/my-app/volume.json
  run inside dokku litestream:start my-app
  echo "$output"
  [ "$status" -eq 1 ]
  [[ $output == *"$storage/my-app cannot be mounted: "*volume.json* ]]
  rm -r /mnt/backup/my-app
}

@test "after a loss of power the storage is mounted before Docker starts" {
  inside dokku litestream:start my-app
  inside sqlite3 "$database" "INSERT INTO t VALUES('second')"
  inside dokku litestream:sync my-app
  lose_power
  boot
  inside grep -q " $storage/my-app .*fuse\.walfs" /run/mounted-before-docker
  [ "$(inside sqlite3 "$database" 'SELECT count(*) FROM t')" = 2 ]
  [ "$(inside dokku litestream:info my-app --status)" = started ]
}

@test "a stopped replication is stopped after a restart of the machine, too" {
  inside dokku litestream:start my-app
  inside dokku litestream:stop my-app
  lose_power
  boot
  inside grep -q " $storage/my-app .*fuse\.walfs" /run/mounted-before-docker
  [ "$(inside dokku litestream:info my-app --status)" = stopped ]
}

@test "when the unit is stopped everything is sent and the mount is gone; a start brings it back" {
  inside dokku litestream:start my-app
  inside sqlite3 "$database" "INSERT INTO t VALUES('second')"
  inside systemctl stop "$unit"
  not inside grep -q "fuse\.walfs" /proc/self/mountinfo
  dokku litestream:restore "$storage/copy" "$replicas/my-app"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
  inside dokku litestream:start my-app
  [ "$(inside sqlite3 "$database" 'SELECT count(*) FROM t')" = 2 ]
}

@test "when all processes are killed the unit mounts again by itself" {
  inside dokku litestream:start my-app
  inside sh -c "walfs status $storage/my-app --json | jq '.keeper_pid, .server_pid, .flusher_pid' | xargs kill -9" || true
  for ((tries = 0; tries < 100; tries++)); do
    sleep 0.2
    if inside walfs status "$storage/my-app" &>/dev/null; then break; fi
  done
  inside walfs status "$storage/my-app"
  [ "$(inside sqlite3 "$database" 'SELECT x FROM t')" = first ]
}

@test "when the keeper alone is killed, an open database goes on, and the unit waits for its turn" {
  inside dokku litestream:start my-app
  coproc inside sqlite3 "$database"
  echo "SELECT x FROM t;" >&"${COPROC[1]}"
  read -r answer <&"${COPROC[0]}"
  [ "$answer" = first ]
  inside sh -c "kill -9 \$(walfs status $storage/my-app --json | jq .keeper_pid)"
  sleep 4
  echo "INSERT INTO t VALUES('second'); SELECT count(*) FROM t;" >&"${COPROC[1]}"
  read -r answer <&"${COPROC[0]}"
  [ "$answer" = 2 ]
  [ "$(inside systemctl is-active "$unit")" = active ]
  kill "$COPROC_PID"
  inside dokku litestream:sync my-app
}

@test "destroy takes the unit away and puts the directory back" {
  inside dokku litestream:start my-app
  inside dokku litestream:destroy my-app --force
  [ "$(inside systemctl is-active "$unit" || true)" = inactive ]
  [ "$(inside systemctl is-enabled "$unit" || true)" = disabled ]
  [ "$(rows "$database")" = first ]
}

@test "update lets other processes go on, and the unit does not notice" {
  inside dokku litestream:start my-app
  before=$(inside walfs status "$storage/my-app" --json | jq .server_pid)
  inside dokku plugin:update litestream
  [ "$(inside walfs status "$storage/my-app" --json | jq .server_pid)" != "$before" ]
  [ "$(inside systemctl is-active "$unit")" = active ]
  [ "$(inside systemctl show -p NRestarts --value "$unit")" = 0 ]
}
