#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  start_replicated my-app
  database=$storage/my-app/production.sqlite3
}

@test "info has everything, or what a flag asks for" {
  run dokku litestream:info my-app
  [ "${lines[0]}" = "=====> my-app litestream information" ]
  [[ $output == *"Litestream status:              started"* ]]
  [[ $output == *"Litestream replica:             $replicas/my-app"* ]]
  [ "$(dokku litestream:info my-app --directory)" = "$storage/my-app" ]
  [ "$(dokku litestream:info my-app --credentials)" = none ]
  fails 1 "Invalid flag passed, valid flags: --credentials, --database" dokku litestream:info my-app --nothing
}

@test "report has one app or all, as text or JSON" {
  start_replicated second
  run dokku litestream:report
  [[ $output == *"=====> my-app litestream information"*"=====> second litestream information"* ]]
  [ "$(dokku litestream:report my-app --format json | jq -r .directory)" = "$storage/my-app" ]
  [ "$(dokku litestream:report second --status)" = started ]
  fails 1 "There is no format xml" dokku litestream:report my-app --format xml
  fails 1 "Please specify an app for --status" dokku litestream:report --status
}

@test "sync prints a position that has what was written, which info and history know" {
  insert "$database" second
  position=$(dokku litestream:sync my-app)
  [[ $position =~ ^[0-9a-f]{16}$ ]]
  [ "$(dokku litestream:info my-app --position)" = "$position" ]
  run dokku litestream:history my-app
  [[ $output == *"$position"* ]]
  [ "$(dokku litestream:history "$replicas/my-app" --format json | jq -r '.points[-1].position')" = "$position" ]
  fails 1 "is not a number of seconds" dokku litestream:sync my-app --timeout soon
}

@test "status shows what walfs does for an app, or for all" {
  position=$(dokku litestream:sync my-app)
  run dokku litestream:status my-app
  [[ $output == *"replica     $replicas/my-app"*"position    $position, in the store $position"* ]]
  start_replicated second
  dokku litestream:status --format json | jq -es 'length == 2 and .[0].app == "my-app" and .[1].app == "second"'
}

@test "status, sync and logs of what was not started say so" {
  make_app second
  dokku litestream:create second "$storage/second" "$replicas/second"
  for command in status sync; do
    fails 1 "the replication of second is not started; run: dokku litestream:start second" dokku "litestream:$command" second
  done
  fails 1 "there is no log yet" dokku litestream:logs second
  fails 0 "The replication of second is not started" dokku litestream:status
}

@test "status has the error of a store that fails" {
  dokku litestream:sync my-app
  chattr -R +i /mnt/backup/my-app
  insert "$database" second
  for ((tries = 0; tries < 100; tries++)); do
    [ -z "$(dokku litestream:info my-app --last-error)" ] || break
    sleep 0.1
  done
  [[ $(dokku litestream:info my-app --last-error) == *"Operation not permitted"* ]]
  fails 1 "Operation not permitted" dokku litestream:sync my-app --timeout 2
}

@test "verify proves a replica, and names what is damaged" {
  dokku litestream:sync my-app
  fails 0 "can be restored" dokku litestream:verify my-app
  chunk=$(find /mnt/backup/my-app -path '*chunks*' -type f -print -quit)
  printf X | dd of="$chunk" bs=1 seek=20 conv=notrunc status=none
  run dokku litestream:verify my-app
  [ "$status" -eq 1 ]
}

@test "logs prints the end of the log, so many lines of it, and waits for more with --tail" {
  run dokku litestream:logs my-app
  [[ $output == *"serving $storage/.walfs/my-app/data at $storage/my-app"* ]]
  run dokku litestream:logs my-app 1
  [ "${#lines[@]}" -eq 1 ]
  fails 1 "is not a number" dokku litestream:logs my-app many
  for tail in -t --tail; do
    run timeout 2 dokku litestream:logs my-app "$tail" 5
    [ "$status" -eq 124 ]
    [ "${#lines[@]}" -ge 2 ]
  done
}

@test "list, report and status do not need the lock that a long command has" {
  exec 8>/var/lib/walfs/dokku/lock
  flock 8
  for command in list report status "sync my-app"; do
    # shellcheck disable=SC2086 # A command and its arguments.
    timeout 10 dokku litestream:$command 8>&-
  done
  exec 8>&-
}
