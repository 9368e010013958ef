#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  start_replicated my-app
  database=$storage/my-app/production.sqlite3
}

trigger() { # NAME ARGUMENT...: as Dokku calls it.
  local name=$1
  shift
  as_dokku env DOKKU_ROOT=/home/dokku PLUGIN_CORE_AVAILABLE_PATH=/var/lib/dokku/plugins/available \
    "/var/lib/dokku/plugins/available/litestream/$name" "$@"
}

@test "the guards pass the options on while the storage is mounted" {
  for guard in docker-args-deploy docker-args-run; do
    [ "$(printf -- ' -v /a:/b  --label x' | trigger "$guard" my-app latest)" = " -v /a:/b  --label x" ]
  done
}

@test "the guards end a deploy while the storage is not mounted, with what to do" {
  "$helper" unmount my-app
  for guard in docker-args-deploy docker-args-run; do
    fails 1 "The storage of my-app, $storage/my-app, is not mounted; nothing can be written there. Run: dokku litestream:start my-app" \
      trigger "$guard" my-app latest </dev/null
  done
  fails 1 "is not mounted" dokku ps:start my-app
  [ ! -e /run/containers/my-app.web.1 ]
}

@test "the guards do not mind apps without a replication, or with one that was not started yet" {
  dokku apps:create plain
  [ "$(trigger docker-args-deploy plain latest <<<"-v x")" = "-v x" ]
  make_app second
  dokku litestream:create second "$storage/second" "$replicas/second"
  [ "$(trigger docker-args-deploy second latest <<<"-v x")" = "-v x" ]
}

@test "a renamed app keeps its mount, its replica and its credentials, and the old name has nothing" {
  dokku litestream:auth --app my-app --access-key-id id <<<secret
  inode=$(stat -c %i "$storage/my-app")
  dokku apps:rename my-app new-name
  [ "$(stat -c %i "$storage/my-app")" = "$inode" ]
  [ "$(dokku litestream:info new-name --status)" = started ]
  [ "$(dokku litestream:info new-name --replica)" = "$replicas/my-app" ]
  [ "$(dokku litestream:info new-name --credentials)" = app ]
  insert "$database" second
  dokku litestream:sync new-name
  dokku apps:create my-app
  fails 1 "my-app has no replication" dokku litestream:info my-app
  [ "$(dokku litestream:list | tail -n 1)" = new-name ]
}

@test "an app that gets the old name of another has a volume of its own" {
  dokku apps:rename my-app new-name
  dokku apps:create my-app
  install -d -o 32767 "$storage/other"
  dokku litestream:create my-app "$storage/other" "$replicas/other"
  dokku litestream:start my-app
  is_mounted "$storage/other"
  is_mounted "$storage/my-app"
  rm -f /run/containers/*
  dokku litestream:destroy new-name --force
  [ "$(dokku litestream:info my-app --status)" = started ]
}

@test "a clone is told that it writes to the original's directory, and is not replicated by itself" {
  run dokku apps:clone my-app copy
  [[ $output == *"copy is not replicated. It has the storage of my-app, $storage/my-app, where both write now."* ]]
  fails 1 "copy has no replication" dokku litestream:info copy
}

@test "when an app is destroyed everything is sent, the data is put back, and the replica stays" {
  dokku ps:start my-app
  dokku litestream:auth --app my-app --access-key-id id <<<secret
  insert "$database" second
  run dokku apps:destroy my-app
  [ "$status" -eq 0 ]
  [[ $output == *"The data is in $storage/my-app, the replica stays in $replicas/my-app"* ]]
  not is_mounted "$storage/my-app"
  [ "$(rows "$database")" = "first second" ]
  walfs restore "$replicas/my-app" "$storage/copy"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
  fails 0 "There are no apps" dokku litestream:list
  [ ! -e /var/lib/walfs/dokku/credentials/apps/my-app ]
}

@test "when an app is destroyed whose directory another one uses, that goes on" {
  docker run -d --name other.web.1 --label com.dokku.app-name=other -v "$storage/my-app:/data" image
  run dokku apps:destroy my-app
  [[ $output == *"The container other.web.1 has $storage/my-app still, which stays mounted"* ]]
  is_mounted "$storage/my-app"
  docker rm -f other.web.1
  dokku litestream:destroy my-app <<<my-app
  [ "$(rows "$database")" = first ]
}

@test "after a start of the machine ps:restore mounts before the apps are started" {
  insert "$database" second
  make_app second
  dokku litestream:create second "$storage/second" "$replicas/second"
  "$helper" unmount my-app
  dokku ps:restore
  is_mounted "$storage/my-app"
  not is_mounted "$storage/second"
  [ "$(rows "$database")" = "first second" ]
}

@test "one storage that cannot be mounted does not keep the others from it" {
  start_replicated second
  "$helper" unmount my-app
  "$helper" unmount second
  chattr -i "$storage/my-app"
  touch "$storage/my-app/stray"
  run dokku ps:restore
  [ "$status" -eq 0 ]
  [[ $output == *"the storage of my-app is not mounted"* ]]
  is_mounted "$storage/second"
  rm "$storage/my-app/stray"
}
