#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  start_replicated my-app
  database=$storage/my-app/production.sqlite3
}

in_replica() {
  rm -rf "$storage/copy"
  walfs restore "$replicas/my-app" "$storage/copy" >/dev/null
  rows "$storage/copy/production.sqlite3"
}

@test "stop lets the app go on, and start sends what it wrote meanwhile" {
  dokku litestream:sync my-app
  run dokku litestream:stop my-app
  [[ $output == *"Replication stopped; the app goes on"* ]]
  [ "$(dokku litestream:info my-app --status)" = stopped ]
  insert "$database" second
  sleep 1.5
  [ "$(in_replica)" = first ]
  fails 1 "replication is paused" dokku litestream:sync my-app --timeout 1
  dokku litestream:start my-app
  dokku litestream:sync my-app
  [ "$(in_replica)" = "first second" ]
  [ "$(dokku litestream:info my-app --status)" = started ]
}

@test "what is stopped stays so when it is mounted again, until it is started" {
  dokku litestream:stop my-app
  insert "$database" second
  "$helper" unmount my-app
  "$helper" start-all
  [ "$(dokku litestream:info my-app --status)" = stopped ]
  insert "$database" third
  dokku litestream:start my-app
  dokku litestream:sync my-app
  [ "$(in_replica)" = "first second third" ]
}

@test "stop of what is not started says so" {
  dokku litestream:destroy my-app --force
  dokku litestream:create my-app "$storage/my-app" "$replicas/other"
  fails 1 "the replication of my-app is not started" dokku litestream:stop my-app
}

@test "restart takes other processes, and a transaction that is open goes on" {
  before=$(walfs status "$storage/my-app" --json | jq .server_pid)
  coproc as_app sqlite3 "$database"
  echo "BEGIN; INSERT INTO t VALUES('second'); SELECT 'open';" >&"${COPROC[1]}"
  read -r answer <&"${COPROC[0]}"
  [ "$answer" = open ]
  dokku litestream:restart my-app
  [ "$(walfs status "$storage/my-app" --json | jq .server_pid)" != "$before" ]
  echo "COMMIT; SELECT 'over';" >&"${COPROC[1]}"
  read -r answer <&"${COPROC[0]}"
  [ "$answer" = over ]
  kill "$COPROC_PID"
  [ "$(rows "$database")" = "first second" ]
}

@test "restart of what is stopped starts it" {
  dokku litestream:stop my-app
  dokku litestream:restart my-app
  [ "$(dokku litestream:info my-app --status)" = started ]
}
