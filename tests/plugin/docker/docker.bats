#!/usr/bin/env bats
# The plugin with a real Docker engine, which runs in the sandbox and ends with it: REAL_DOCKER=1 tests/plugin/sandbox bats ...
load ../support

setup_file() {
  [ -n "${REAL_DOCKER:-}" ]
  mkdir "$SANDBOX/docker"
  dockerd --iptables=false --ip6tables=false --bridge=none --group dokku --data-root "$SANDBOX/docker" --exec-root /run/docker \
    --host unix:///run/docker.sock --pidfile /run/docker.pid </dev/null >"$SANDBOX/dockerd.log" 2>&1 3>&- &
  echo $! >"$SANDBOX/dockerd.pid"
  for ((tries = 0; tries < 300; tries++)); do
    if docker info &>/dev/null; then break; fi
    sleep 0.1
  done
  docker info >/dev/null || { tail -n 20 "$SANDBOX/dockerd.log" >&2; return 1; }
  make_image
  dokku plugin:install
}

teardown_file() {
  docker ps -aq | xargs -r docker rm -f >/dev/null
  kill "$(cat "$SANDBOX/dockerd.pid")"
  for ((tries = 0; tries < 100; tries++)); do
    [ -e "/proc/$(cat "$SANDBOX/dockerd.pid")" ] || break
    sleep 0.1
  done
}

# The smallest system that has SQLite; app.sh is its app.
make_image() {
  local root=$SANDBOX/image library
  mkdir -p "$root"/{bin,tmp,app/db/litestream}
  cp /bin/busybox "$root/bin"
  for library in sh sleep hostname touch ls id cat; do ln -s busybox "$root/bin/$library"; done
  cp "$(command -v sqlite3)" "$root/bin"
  ldd "$(command -v sqlite3)" | grep -oE '/[^ ]+' | while read -r library; do install -D "$library" "$root$library"; done
  cp "$BATS_TEST_DIRNAME/app.sh" "$root/app.sh"
  tar -C "$root" -c . | docker import --change 'CMD ["/bin/sh", "/app.sh"]' - app >/dev/null
}

setup() {
  make_app my-app
  database=$storage/my-app/production.sqlite3
}

teardown() {
  docker ps -aq | xargs -r docker rm -f >/dev/null
  clean_up
}

start_app_replicated() { # [URL]
  dokku litestream:create my-app "$storage/my-app" "${1:-$replicas/my-app}" --mount-to /app/db/litestream
  dokku litestream:start my-app
  dokku ps:start my-app
  wait_for_writes my-app.web.1
}

# As a deployment without downtime does: another container of the app, while the first one goes on.
run_second() {
  docker run -d --name my-app.web.2 --label com.dokku.app-name=my-app --network none -u 32767 \
    -v "$storage/my-app:/app/db/litestream" app >/dev/null
  wait_for_writes my-app.web.2
}

written() { docker logs "$1" 2>&1 | sed -n 's/^wrote //p'; }
wait_for_writes() { # CONTAINER: ten more than now.
  local before
  before=$(written "$1" | wc -l)
  for ((tries = 0; tries < 300; tries++)); do
    if [ "$(written "$1" | wc -l)" -ge $((before + 10)) ]; then return; fi
    sleep 0.1
  done
  docker logs "$1" >&2
  return 1
}

# What a container was told to be committed is in a database, and the container saw no error.
check_written() { # DATABASE CONTAINER...
  local container
  [ "$(sqlite3 "$1" 'PRAGMA integrity_check')" = ok ]
  for container in "${@:2}"; do
    not grep . <(docker logs "$container" 2>&1 | grep -v '^wrote ')
    written "$container" | sort >"$SANDBOX/written"
    sqlite3 "$1" 'SELECT x FROM t' | sort >"$SANDBOX/rows"
    [ -s "$SANDBOX/written" ]
    not grep . <(comm -23 "$SANDBOX/written" "$SANDBOX/rows")
  done
}

dump() { sqlite3 "$1" .dump; }

@test "two containers write at once; the host loses everything; the app is restored with each commit" {
  start_app_replicated
  run_second
  docker stop -t 0 my-app.web.1 my-app.web.2
  check_written "$database" my-app.web.1 my-app.web.2
  [ "$(stat -c %u "$database")" = 32767 ]
  dokku litestream:sync my-app
  dump "$database" >"$SANDBOX/before"

  walfs status "$storage/my-app" --json | jq '.keeper_pid, .server_pid, .flusher_pid' | xargs kill -9 || true
  while is_mounted "$storage/my-app"; do umount -l "$storage/my-app"; done
  chattr -i "$storage/my-app"
  rm -rf "${storage:?}/my-app" "$storage/.walfs" /var/lib/walfs/dokku/volumes/my-app

  install -d -o 32767 -g 32767 "$storage/my-app"
  dokku litestream:create my-app "$storage/my-app" "$replicas/my-app" --take-over
  dokku litestream:restore --app my-app
  dump "$database" | cmp - "$SANDBOX/before"
  dokku ps:start my-app
  wait_for_writes my-app.web.1
  docker stop -t 0 my-app.web.1
  check_written "$database" my-app.web.1
}

@test "a container does not notice that the server is killed, nor that other processes take over" {
  start_app_replicated
  for ((round = 0; round < 5; round++)); do
    kill -9 "$(walfs status "$storage/my-app" --json | jq .server_pid)"
    wait_for_writes my-app.web.1
  done
  dokku litestream:restart my-app
  wait_for_writes my-app.web.1
  docker stop -t 0 my-app.web.1
  check_written "$database" my-app.web.1
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$replicas/my-app"
  check_written "$storage/copy/production.sqlite3" my-app.web.1
}

@test "while the replication is stopped the container goes on, and what it wrote is sent after the start" {
  start_app_replicated
  dokku litestream:sync my-app
  dokku litestream:stop my-app
  wait_for_writes my-app.web.1
  dokku litestream:start my-app
  wait_for_writes my-app.web.1
  docker stop -t 0 my-app.web.1
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$replicas/my-app"
  check_written "$storage/copy/production.sqlite3" my-app.web.1
}

@test "a container that is started with nothing mounted cannot write, whoever it runs as" {
  start_app_replicated
  dokku ps:stop my-app
  "$helper" unmount my-app
  for user in 32767 1000 0; do
    fails 1 "" docker run --rm --network none -u "$user" -v "$storage/my-app:/app/db/litestream" app /bin/sh -c \
      'touch /app/db/litestream/file || exit 1'
    fails 1 "unable to open database" docker run --rm --network none -u "$user" -v "$storage/my-app:/app/db/litestream" app \
      sqlite3 /app/db/litestream/production.sqlite3 'CREATE TABLE u(y)'
  done
  fails 1 "is not mounted" dokku ps:start my-app
  dokku litestream:start my-app
  check_written "$database"
}

@test "start finds the container that has the raw directory, and --restart takes it along" {
  dokku storage:mount my-app "$storage/my-app:/app/db/litestream"
  dokku litestream:create my-app "$storage/my-app" "$replicas/my-app"
  dokku ps:start my-app
  wait_for_writes my-app.web.1
  fails 1 "The container my-app.web.1 of my-app has $storage/my-app" dokku litestream:start my-app
  wait_for_writes my-app.web.1
  dokku litestream:start my-app --restart
  wait_for_writes my-app.web.1
  docker stop -t 0 my-app.web.1
  check_written "$database" my-app.web.1
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" "$replicas/my-app"
  [ "$(dump "$storage/copy/production.sqlite3")" = "$(dump "$database")" ]
}

@test "restore --app of an app that runs puts it back to a point, and destroy puts the directory back" {
  start_app_replicated
  dokku litestream:sync my-app
  position=$(dokku litestream:sync my-app)
  dokku litestream:restore "$storage/copy" "$replicas/my-app" --at "$position"
  wait_for_writes my-app.web.1
  dokku ps:stop my-app
  dokku litestream:restore --app my-app --at "$position"
  [ "$(dump "$storage/copy/production.sqlite3")" = "$(dump "$database")" ]
  dokku ps:start my-app
  fails 1 "The container my-app.web.1 of my-app has" dokku litestream:destroy my-app --force
  dokku litestream:destroy my-app --force --restart
  wait_for_writes my-app.web.1
  docker stop -t 0 my-app.web.1
  check_written "$database" my-app.web.1
}

@test "with S3: the same from auth to a restored copy, and docker inspect does not have the secret" {
  server=$SANDBOX/s3
  "$PLUGIN/../scripts/s3-server" start "$server" 9320 bucket
  dokku litestream:auth --access-key-id testak --endpoint http://127.0.0.1:9320 <<<testsk
  start_app_replicated s3://bucket/my-app
  docker ps -aq | xargs docker inspect >"$SANDBOX/inspected"
  grep -q my-app.web.1 "$SANDBOX/inspected"
  not grep -qE 'testsk|testak' "$SANDBOX/inspected"
  docker stop -t 0 my-app.web.1
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" production.sqlite3 s3://bucket/my-app
  check_written "$storage/copy/production.sqlite3" my-app.web.1
  dokku litestream:verify my-app
  dokku ps:stop my-app
  dokku litestream:destroy my-app --force
  "$PLUGIN/../scripts/s3-server" stop "$server"
}
