#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  start_replicated my-app
  database=$storage/my-app/production.sqlite3
}

@test "destroy asks, and does nothing without the name of the app" {
  fails 1 'To proceed, type "my-app"' dokku litestream:destroy my-app <<<"other-app"
  [[ $output == *"WARNING: Potentially Destructive Action"*"Confirmation did not match my-app. Aborted."* ]]
  fails 1 "Aborted" dokku litestream:destroy my-app </dev/null
  is_mounted "$storage/my-app"
}

@test "destroy puts the directory back as it was, and keeps the replica" {
  "$helper" unmount my-app
  inodes=$(stat -c '%i %a %u' "$storage/.walfs/my-app/data" "$storage/.walfs/my-app/data/production.sqlite3")
  dokku litestream:start my-app
  insert "$database" second
  dokku litestream:destroy my-app <<<my-app
  not is_mounted "$storage/my-app"
  [ "$(stat -c '%i %a %u' "$storage/my-app" "$database")" = "$inodes" ]
  [ "$(ls -A "$storage/my-app")" = production.sqlite3 ]
  [ ! -e "$storage/.walfs/my-app" ]
  touch "$storage/my-app/file"
  [ "$(dokku litestream:list 2>&1)" = " !     There are no apps with a replication" ]
  walfs restore "$replicas/my-app" "$storage/copy"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
}

@test "destroy --force, -f and dokku --force do not ask" {
  dokku litestream:destroy my-app --force </dev/null
  for force in -f "--force"; do
    dokku litestream:create my-app "$storage/my-app" "$replicas/my-app" --take-over
    dokku litestream:destroy my-app "$force" </dev/null
  done
  dokku litestream:create my-app "$storage/my-app" "$replicas/my-app" --take-over
  dokku --force litestream:destroy my-app </dev/null
}

@test "destroy refuses while a container has the directory; --restart stops and starts the app" {
  dokku ps:start my-app
  fails 1 "The container my-app.web.1 of my-app has $storage/my-app" dokku litestream:destroy my-app --force
  is_mounted "$storage/my-app"
  run dokku litestream:destroy my-app --force --restart
  [ "$status" -eq 0 ]
  [ -e /run/containers/my-app.web.1 ]
  [ "$(rows "$database")" = first ]
}

@test "destroy of what was created only takes nothing away" {
  make_app second
  dokku litestream:create second "$storage/second" "$replicas/second"
  docker run -d --name second.web.1 --label com.dokku.app-name=second -v "$storage/second:/data" image
  dokku litestream:destroy second --force
  [ "$(rows "$storage/second/production.sqlite3")" = first ]
}

@test "destroy of what is stopped keeps what was written meanwhile in the directory" {
  dokku litestream:stop my-app
  insert "$database" second
  dokku litestream:destroy my-app --force
  [ "$(rows "$database")" = "first second" ]
}

@test "destroy does not end with something unsent, unless it is forced" {
  dokku litestream:sync my-app
  chattr -R +i /mnt/backup/my-app
  insert "$database" second
  sleep 0.5
  run dokku litestream:destroy my-app <<<my-app
  [ "$status" -eq 1 ]
  [[ $output == *"is not unmounted"* ]]
  is_mounted "$storage/my-app"
  run dokku litestream:destroy my-app --force
  chattr -R -i /mnt/backup/my-app
  [ "$status" -eq 0 ]
  [ "$(rows "$database")" = "first second" ]
  not pgrep -f serve-internal
}
