#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  make_app my-app
}

create() { dokku litestream:create my-app "$@"; }

@test "create takes the predecessor's arguments and says how to go on" {
  run create "$storage/my-app" production.sqlite3 "$replicas/my-app"
  [ "$status" -eq 0 ]
  [[ $output == *"start it with: dokku litestream:start my-app"* ]]
  [ "$(dokku litestream:info my-app --status)" = created ]
  [ "$(dokku litestream:info my-app --database)" = production.sqlite3 ]
  [ "$(dokku litestream:info my-app --replica)" = "$replicas/my-app" ]
}

@test "create works without the name of a database, and leaves the data where it is" {
  create "$storage/my-app/" "$replicas/my-app"
  [ "$(rows "$storage/my-app/production.sqlite3")" = first ]
  [ ! -e "$storage/.walfs" ]
}

@test "create tells who has no storage mount how to make one, and --mount-to makes it" {
  fails 0 "Run: dokku storage:mount my-app $storage/my-app:/app/db/litestream" create "$storage/my-app" "$replicas/my-app"
  dokku litestream:destroy my-app --force
  create "$storage/my-app" "$replicas/my-app" --mount-to /app/db/litestream
  [ "$(cat /home/dokku/my-app/STORAGE)" = "$storage/my-app:/app/db/litestream" ]
  dokku litestream:destroy my-app --force
  fails 0 "is in the app's containers already" create "$storage/my-app" "$replicas/my-app" --mount-to /app/other
  [ "$(wc -l </home/dokku/my-app/STORAGE)" -eq 1 ]
}

@test "create refuses a path for --mount-to that is none" {
  fails 1 "is not an absolute path" create "$storage/my-app" "$replicas/my-app" --mount-to app/db
  fails 1 "is not an absolute path" create "$storage/my-app" "$replicas/my-app" --mount-to /app:ro
}

@test "create --must-exist fails while the database is not there" {
  fails 1 "there is no database new.sqlite3 in" create "$storage/my-app" new.sqlite3 "$replicas/my-app" --must-exist
  fails 1 "Please name the database" create "$storage/my-app" "$replicas/my-app" --must-exist
  create "$storage/my-app" production.sqlite3 "$replicas/my-app" --must-exist
}

@test "create refuses a directory that is not there" {
  fails 1 "there is no directory $storage/other; run: dokku storage:ensure-directory other" create "$storage/other" "$replicas/my-app"
}

@test "create refuses what is not beneath the storage root" {
  fails 1 "is not beneath" create /etc "$replicas/my-app"
  fails 1 "is not beneath" create "$storage" "$replicas/my-app"
  fails 1 "is not an absolute path" create my-app "$replicas/my-app"
  fails 1 "has '..' in it" create "$storage/../../../etc" "$replicas/my-app"
  fails 1 "where walfs keeps data" create "$storage/.walfs/x" "$replicas/my-app"
}

@test "create refuses a symbolic link, and what is behind one" {
  ln -s /etc "$storage/link"
  ln -s my-app "$storage/inner"
  fails 1 "symbolic link" create "$storage/link" "$replicas/my-app"
  fails 1 "symbolic link" create "$storage/link/ssl" "$replicas/my-app"
  fails 1 "symbolic link" create "$storage/inner" "$replicas/my-app"
}

@test "create refuses characters that could mean something to a program" {
  for name in $'two\nlines' 'a b' 'a;b' 'a:b' 'a"b' "a'b" 'a$b' 'a*' 'a\b'; do
    mkdir "$storage/$name"
    fails 1 "has a character that is not allowed" create "$storage/$name" "$replicas/my-app"
  done
}

@test "create refuses what is no replica" {
  for url in http://host/x s3:/bucket /mnt/backup/x 's3://b/"' 'file:///mnt/backup/$(id)' \
    $'file:///mnt/backup/x\nlog-file = "/etc/passwd"'; do
    fails 1 "is not a replica" create "$storage/my-app" "$url"
  done
  fails 1 "without '..' and links" create "$storage/my-app" file:///mnt/backup/../x
}

@test "create refuses a directory for the replica that dokku may not write to" {
  fails 1 "neither /etc/replica nor the directory that it is in belongs to dokku" create "$storage/my-app" file:///etc/replica
  ln -s /etc /mnt/backup/link
  fails 1 "without '..' and links" create "$storage/my-app" file:///mnt/backup/link/x
}

@test "create refuses a second replication of an app, of a directory, and to a replica" {
  create "$storage/my-app" "$replicas/my-app"
  fails 1 "my-app has a replication already" create "$storage/my-app" "$replicas/other"
  make_app other
  fails 1 "is part of a replication already, that of my-app" dokku litestream:create other "$storage/my-app" "$replicas/other"
  install -d "$storage/my-app/deeper"
  fails 1 "is part of a replication already, that of my-app" dokku litestream:create other "$storage/my-app/deeper" "$replicas/other"
  fails 1 "is the replica of my-app already" dokku litestream:create other "$storage/other" "$replicas/my-app"
}

@test "create refuses a replica that has something, unless it is to take over" {
  create "$storage/my-app" "$replicas/my-app"
  dokku litestream:start my-app
  dokku litestream:sync my-app
  dokku litestream:destroy my-app --force
  fails 1 "there is something in $replicas/my-app already" create "$storage/my-app" "$replicas/my-app"
  create "$storage/my-app" "$replicas/my-app" --take-over
  dokku litestream:start my-app
  insert "$storage/my-app/production.sqlite3" second
  dokku litestream:sync my-app
}

@test "create for S3 without credentials says to get some" {
  fails 1 "there are no credentials for s3://bucket/my-app; run: dokku litestream:auth" create "$storage/my-app" s3://bucket/my-app
}

@test "create --chown gives the files to the user of the containers, through the mount" {
  for owner in herokuish:32767 heroku:1000 paketo:2000 root:0 1234:1234 12:12; do
    create "$storage/my-app" "$replicas/${owner%%:*}" --chown "${owner%%:*}"
    dokku litestream:start my-app
    [ "$(stat -c %u:%g "$storage/my-app" "$storage/my-app/production.sqlite3" | uniq)" = "${owner#*:}:${owner#*:}" ]
    dokku litestream:sync my-app
    dokku litestream:destroy my-app --force
  done
  fails 1 "is no owner" create "$storage/my-app" "$replicas/my-app" --chown nobody
}
