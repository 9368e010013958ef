#!/usr/bin/env bats
load support

setup() {
  [ -x "$helper" ] || dokku plugin:install
  make_app my-app
  dokku storage:mount my-app "$storage/my-app:/app/db/litestream"
  dokku litestream:create my-app "$storage/my-app" "$replicas/my-app"
  database=$storage/my-app/production.sqlite3
}

@test "start mounts the directory, with the same data and owners, and the replica has it" {
  run dokku litestream:start my-app
  [ "$status" -eq 0 ]
  [[ $output == *"Replication started: $storage/my-app to $replicas/my-app"* ]]
  is_mounted "$storage/my-app"
  [ "$(stat -c %u:%a "$storage/my-app" "$database" | tr '\n' ' ')" = "32767:755 32767:644 " ]
  insert "$database" second
  dokku litestream:sync my-app
  walfs restore "$replicas/my-app" "$storage/copy"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
}

@test "nobody but root comes to the data beside the mount" {
  dokku litestream:start my-app
  run as_app ls "$storage/.walfs/my-app/data"
  [ "$status" -ne 0 ]
  run as_dokku ls "$storage/.walfs"
  [ "$status" -ne 0 ]
}

@test "while nothing is mounted nobody can write to the directory, not even root" {
  dokku litestream:start my-app
  "$helper" unmount my-app
  not as_app touch "$storage/my-app/file"
  not touch "$storage/my-app/file"
  not as_app sqlite3 "$database" "CREATE TABLE u(y)"
  not rmdir "$storage/my-app"
  [ -z "$(ls -A "$storage/my-app")" ]
  dokku litestream:start my-app
  [ "$(rows "$database")" = first ]
}

@test "start of what is started says so" {
  dokku litestream:start my-app
  fails 0 "is started already" dokku litestream:start my-app
}

@test "start refuses while a container of the app has the directory, and says which" {
  dokku ps:start my-app
  fails 1 "The container my-app.web.1 of my-app has $storage/my-app. Stop it, so that nobody writes to the directory beside walfs" \
    dokku litestream:start my-app
  not is_mounted "$storage/my-app"
  [ "$(rows "$database")" = first ]
}

@test "start --restart stops the app, mounts, and starts the app" {
  dokku ps:start my-app
  run dokku litestream:start my-app --restart
  [ "$status" -eq 0 ]
  [[ $output == *"-----> Stopping my-app"*"-----> Starting my-app"* ]]
  is_mounted "$storage/my-app"
  [ -e /run/containers/my-app.web.1 ]
}

@test "start refuses while any container has a directory around it, or one in it" {
  for path in "$storage" /var/lib / "$storage/my-app/deeper" "$storage/.walfs/my-app"; do
    docker run -d --name backup -v "$path:/data" image
    fails 1 "The container backup, which is not one of Dokku's apps, has $path" dokku litestream:start my-app --restart
    docker rm -f backup
  done
  docker run -d --name neighbour -v "$storage/my-app-2:/data" image
  dokku litestream:start my-app
}

@test "start refuses while a process on the host uses the directory" {
  tail -f "$database" >/dev/null &
  fails 1 "process $! (tail) uses $storage/my-app" dokku litestream:start my-app
  kill "$!"
}

@test "start refuses what Docker does not tell about" {
  mv /usr/local/bin/docker /usr/local/bin/docker.away
  printf '#!/bin/sh\nexit 1\n' >/usr/local/bin/docker
  chmod +x /usr/local/bin/docker
  run dokku litestream:start my-app
  mv /usr/local/bin/docker.away /usr/local/bin/docker
  [ "$status" -eq 1 ]
  [[ $output == *"Docker does not tell which containers run"* ]]
  not is_mounted "$storage/my-app"
}

@test "start refuses a directory that something else is mounted at" {
  mount -t tmpfs tmpfs "$storage/my-app"
  fails 1 "is a mount point of something else" dokku litestream:start my-app
  umount "$storage/my-app"
}

@test "start refuses a directory that walfs has mounted already, for somebody else" {
  walfs mount "$storage/my-app" --replica "$replicas/by-hand"
  insert "$database" second
  fails 1 "$storage/my-app is mounted by walfs already, but not for this; run: walfs unmount $storage/my-app" dokku litestream:start my-app
  [ "$(dokku litestream:info my-app --status)" = created ]
  [ "$(rows "$database")" = "first second" ]
  walfs unmount "$storage/my-app"
  dokku litestream:start my-app
  [ "$(rows "$database")" = "first second" ]
}

@test "a first start that fails leaves the app as it was, and running" {
  as_dokku mkdir /mnt/backup/my-app
  echo broken >/mnt/backup/my-app/volume.json
  dokku ps:start my-app
  fails 1 "$storage/my-app cannot be mounted: " dokku litestream:start my-app --restart
  [[ $output == *"volume.json"*"-----> Starting my-app"* ]]
  [ -e /run/containers/my-app.web.1 ]
  [ "$(rows "$database")" = first ]
  insert "$database" second
  rm /mnt/backup/my-app/volume.json
  dokku litestream:start my-app --restart
  [ "$(rows "$database")" = "first second" ]
}

@test "when all processes of walfs were killed start mounts again, and the app has to be restarted" {
  dokku litestream:start my-app
  dokku ps:start my-app
  walfs status "$storage/my-app" --json | jq '.keeper_pid, .server_pid, .flusher_pid' | xargs kill -9 || true
  for ((tries = 0; tries < 50; tries++)); do
    [ "$(dokku litestream:report my-app --status)" = started ] || break
    sleep 0.1
  done
  [[ $(dokku litestream:report my-app --status) =~ ^(dead|not mounted)$ ]]
  fails 1 "The container my-app.web.1 of my-app has $storage/my-app" dokku litestream:start my-app
  dokku litestream:start my-app --restart
  [ "$(rows "$database")" = first ]
  [ "$(dokku litestream:report my-app --status)" = started ]
}

@test "a start that was killed at any step is completed by the next" {
  inode=$(stat -c %i "$database")
  for ((step = 1; step < 1000; step++)); do
    kill_at prepare "$step" prepare my-app || break
    [ "$("$helper" show my-app | sed -n 's/^state=//p')" != mixed ]
    "$helper" prepare my-app
    [ "$(stat -c %i "$storage/.walfs/my-app/data/production.sqlite3")" = "$inode" ]
    not touch "$storage/my-app/file"
    "$helper" unprepare my-app
  done
  [ "$step" -gt 20 ] && [ "$step" -lt 1000 ]
}

@test "what was moved away is put back by the next run wherever the one before was killed" {
  inode=$(stat -c %i "$database")
  for ((step = 1; step < 1000; step++)); do
    "$helper" prepare my-app
    kill_at put_back "$step" unprepare my-app || break
    "$helper" unprepare my-app
    [ "$(stat -c %i "$database")" = "$inode" ]
    touch "$storage/my-app/file"
  done
  [ "$step" -gt 20 ] && [ "$step" -lt 1000 ]
  "$helper" unprepare my-app
}

@test "files that somebody wrote to the directory while it was not protected are not mixed with the data" {
  "$helper" prepare my-app
  chattr -i "$storage/my-app"
  touch "$storage/my-app/stray"
  fails 1 "files were written to $storage/my-app beside it" dokku litestream:start my-app
  fails 1 "files were written to $storage/my-app beside it" dokku litestream:destroy my-app --force
  rm "$storage/my-app/stray"
  dokku litestream:start my-app
  [ "$(rows "$database")" = first ]
}

@test "a place for the data that dokku has put there is not used" {
  as_dokku mkdir -p "$storage/.walfs/my-app"
  fails 1 "is not a directory of root's" dokku litestream:start my-app
  rm -r "$storage/.walfs"
  as_dokku ln -s /etc "$storage/.walfs"
  fails 1 "is not a directory of root's" dokku litestream:start my-app
  rm "$storage/.walfs"
  [ "$(rows "$database")" = first ]
}
