#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  start_replicated my-app
  database=$storage/my-app/production.sqlite3
  url=$replicas/my-app
  dokku litestream:sync my-app
}

@test "restore takes the predecessor's arguments, for a directory that is not there" {
  run dokku litestream:restore "$storage/copy" production.sqlite3 "$url"
  [ "$status" -eq 0 ]
  [[ $output == *"Replica restored to $storage/copy/production.sqlite3"* ]]
  [ "$(rows "$storage/copy/production.sqlite3")" = first ]
}

@test "restore into a directory with other files leaves them" {
  install -d -o 1000 "$storage/copy"
  touch "$storage/copy/other"
  dokku litestream:restore "$storage/copy" production.sqlite3 "$url"
  [ "$(rows "$storage/copy/production.sqlite3")" = first ]
  [ -e "$storage/copy/other" ]
}

@test "restore does not write over a database" {
  dokku litestream:restore "$storage/copy" production.sqlite3 "$url"
  insert "$database" second
  dokku litestream:sync my-app
  fails 1 "cannot restore, output path already exists: $storage/copy/production.sqlite3" \
    dokku litestream:restore "$storage/copy" production.sqlite3 "$url"
  [ "$(rows "$storage/copy/production.sqlite3")" = first ]
  rm "$storage/copy/production.sqlite3"
  touch "$storage/copy/production.sqlite3-wal"
  fails 1 "already exists: $storage/copy/production.sqlite3-wal" dokku litestream:restore "$storage/copy" production.sqlite3 "$url"
}

@test "restore without a database restores the whole directory, with owners" {
  as_app mkdir "$storage/my-app/uploads"
  as_app cp /bin/true "$storage/my-app/uploads/"
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$url"
  [ "$(rows "$storage/copy/production.sqlite3")" = first ]
  cmp "$storage/copy/uploads/true" /bin/true
  [ "$(stat -c %u "$storage/copy/uploads/true")" = 32767 ]
  fails 1 "cannot restore, output path already exists: $storage/copy" dokku litestream:restore "$storage/copy" "$url"
}

@test "restore --at restores an earlier moment" {
  position=$(dokku litestream:sync my-app)
  insert "$database" second
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$url" --at "$position"
  [ "$(rows "$storage/copy/production.sqlite3")" = first ]
  fails 1 "is neither a time nor a position" dokku litestream:restore "$storage/other" "$url" --at '$(id)'
  run dokku litestream:restore "$storage/other" "$url" --at 1999-01-01T00:00:00Z
  [ "$status" -ne 0 ]
  [ ! -e "$storage/other" ]
}

@test "restore --chown gives the files to another user" {
  dokku litestream:restore "$storage/copy" "$url" --chown heroku
  dokku litestream:restore "$storage/copy2" production.sqlite3 "$url" --chown 1234
  [ "$(stat -c %u:%g "$storage/copy/production.sqlite3")" = 1000:1000 ]
  [ "$(stat -c %u:%g "$storage/copy2/production.sqlite3")" = 1234:1234 ]
}

@test "restore refuses targets outside of the storage root, and names that are none" {
  fails 1 "is not beneath" dokku litestream:restore /tmp/copy "$url"
  fails 1 "is not beneath" dokku litestream:restore /root production.sqlite3 "$url"
  fails 1 "is not the name of a database" dokku litestream:restore "$storage/copy" ../../x.db "$url"
  fails 1 "is not the name of a database" dokku litestream:restore "$storage/copy" /etc/passwd "$url"
  fails 1 "is the storage of my-app; to restore it in place" dokku litestream:restore "$storage/my-app" "$url"
}

@test "restore does not follow the links that an app has made" {
  install -d -o 32767 "$storage/copy" "$SANDBOX/elsewhere"
  as_app ln -s "$SANDBOX/elsewhere" "$storage/copy/db"
  as_app ln -s "$SANDBOX/elsewhere/new" "$storage/copy/production.sqlite3"
  as_app mkdir "$storage/my-app/db"
  as_app cp "$database" "$storage/my-app/db/"
  dokku litestream:sync my-app
  for name in db/production.sqlite3 production.sqlite3; do
    fails 1 "symbolic link" dokku litestream:restore "$storage/copy" "$name" "$url"
  done
  [ -z "$(ls -A "$SANDBOX/elsewhere")" ]
}

@test "restore of what is not there says so, with exit code 3" {
  as_dokku mkdir /mnt/backup/empty
  fails 3 "" dokku litestream:restore "$storage/copy" "$replicas/nothing"
  fails 3 "no file in the replica matches" dokku litestream:restore "$storage/copy" other.sqlite3 "$url"
  not compgen -G "$storage/.walfs/restore*"
  [ ! -e "$storage/copy" ]
}

@test "restore reads what the predecessor's Litestream has written" {
  litestream=$PLUGIN/../build/litestream/package/litestream
  [ -x "$litestream" ] || litestream=$(find "$PLUGIN/../build/litestream/" -name litestream -type f -print -quit)
  sqlite3 "$SANDBOX/old.db" "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES('old');"
  timeout 5 "$litestream" replicate "$SANDBOX/old.db" file:///mnt/backup/old-app || true
  chown dokku /mnt/backup/old-app
  install -d -o 32767 -g 32767 "$storage/copy"
  dokku litestream:restore "$storage/copy" production.sqlite3 "$replicas/old-app"
  [ "$(rows "$storage/copy/production.sqlite3")" = old ]
  [ "$(stat -c %u "$storage/copy/production.sqlite3")" = 32767 ]
}

@test "restore --app puts an app back in place, keeps the old data, and goes on replicating" {
  dokku ps:start my-app
  position=$(dokku litestream:sync my-app)
  insert "$database" mistake
  dokku litestream:sync my-app
  run dokku litestream:restore --app my-app --at "$position"
  [ "$status" -eq 0 ]
  [[ $output == *"Stopping my-app"*"is kept in $storage/my-app.before-"*"Starting my-app"*"my-app is restored"* ]]
  [ "$(rows "$database")" = first ]
  [ "$(rows "$storage"/my-app.before-*/production.sqlite3)" = "first mistake" ]
  [ -e /run/containers/my-app.web.1 ]
  insert "$database" after
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$url"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first after" ]
}

@test "restore --app that fails leaves the app as it was, and running" {
  dokku ps:start my-app
  fails 1 "my-app is as it was" dokku litestream:restore --app my-app --at 1999-01-01T00:00:00Z
  is_mounted "$storage/my-app"
  [ -e /run/containers/my-app.web.1 ]
  insert "$database" second
  [ "$(rows "$database")" = "first second" ]
}

@test "on a new host restore --app fills the directory of an app that was created only" {
  insert "$database" second
  dokku litestream:sync my-app
  dokku litestream:destroy my-app --force
  rm -r "${storage:?}/my-app"
  install -d -o 32767 -g 32767 "$storage/my-app"
  dokku litestream:create my-app "$storage/my-app" "$url" --take-over
  dokku litestream:restore --app my-app
  is_mounted "$storage/my-app"
  [ "$(rows "$database")" = "first second" ]
}

@test "a swap that was killed at any step is completed by the next start" {
  for ((step = 1; step < 1000; step++)); do
    "$helper" unmount my-app
    "$helper" restore-beside my-app >/dev/null
    kill_at finish_swap "$step" swap my-app || break
    dokku litestream:start my-app >/dev/null
    [ "$(rows "$database")" = first ]
    [ "$(rows "$storage"/my-app.before-*/production.sqlite3)" = first ]
    rm -rf "$storage"/my-app.before-*
  done
  [ "$step" -gt 10 ] && [ "$step" -lt 1000 ]
}

@test "what is restored twice in a second is kept twice" {
  for _ in 1 2; do
    "$helper" unmount my-app
    "$helper" restore-beside my-app
    "$helper" swap my-app
  done
  kept=("$storage"/my-app.before-*)
  [ "${#kept[@]}" -eq 2 ]
}

@test "restore of an app without a replication says so" {
  dokku apps:create plain
  fails 1 "plain has no replication" dokku litestream:restore --app plain
  fails 1 "--chown is not for an app in place" dokku litestream:restore --app my-app --chown root
}
