#!/usr/bin/env bats
# Credentials, with a real S3 server.
load support

secret=testsk
endpoint=http://127.0.0.1:9320

setup_file() {
  export SERVER=$SANDBOX/s3
  "$PLUGIN/../scripts/s3-server" start "$SERVER" 9320 bucket
}

teardown_file() {
  "$PLUGIN/../scripts/s3-server" stop "$SERVER"
}

setup() {
  [ -x "$helper" ] || dokku plugin:install
  make_app my-app
}

authorize() { dokku litestream:auth --access-key-id testak --endpoint "$endpoint" <<<"${1:-$secret}"; }

@test "auth asks for both keys and does not show the secret" {
  # The questions are on the terminal; what is typed there is echoed by it, unless it was told not to.
  typed() { sleep 1; echo testak; sleep 1; echo hidden-secret; sleep 1; }
  typed | script -qec "dokku litestream:auth" "$SANDBOX/terminal" >/dev/null
  grep -q "Enter your ACCESS_KEY_ID: testak" "$SANDBOX/terminal"
  grep -q "Enter your SECRET_ACCESS_KEY: " "$SANDBOX/terminal"
  grep -q "Credentials saved" "$SANDBOX/terminal"
  not grep -q hidden-secret "$SANDBOX/terminal"
  grep -q hidden-secret /var/lib/walfs/dokku/credentials/global
}

@test "auth takes both keys from a pipe, or the secret from the environment" {
  run dokku litestream:auth <<<$'testak\nfrom-pipe'
  [ "$status" -eq 0 ]
  [[ $output == *"=====> Authorizing litestream for replica location"*"Saving credentials"*"Credentials saved"* ]]
  [ "$(cat /var/lib/walfs/dokku/credentials/global)" = $'AWS_ACCESS_KEY_ID=testak\nAWS_SECRET_ACCESS_KEY=from-pipe' ]
  AWS_SECRET_ACCESS_KEY=from-environment dokku litestream:auth --access-key-id testak --region eu-central-1 </dev/null
  grep -q '^AWS_SECRET_ACCESS_KEY=from-environment$' /var/lib/walfs/dokku/credentials/global
  grep -q '^AWS_REGION=eu-central-1$' /var/lib/walfs/dokku/credentials/global
}

@test "auth without a key, or with one that is none, changes nothing" {
  authorize
  before=$(cat /var/lib/walfs/dokku/credentials/global)
  fails 1 "The access key is missing" dokku litestream:auth </dev/null
  fails 1 "The secret is missing" dokku litestream:auth --access-key-id id </dev/null
  fails 1 "has a character that is not allowed" dokku litestream:auth --access-key-id $'id\nAWS_REGION=x' <<<secret
  fails 1 "has a character that is not allowed" dokku litestream:auth --access-key-id "two words" <<<secret
  [ "$(cat /var/lib/walfs/dokku/credentials/global)" = "$before" ]
}

@test "an app's own credentials count for it, and deauth takes them away" {
  authorize
  dokku litestream:create my-app "$storage/my-app" s3://bucket/own
  [ "$(dokku litestream:info my-app --credentials)" = global ]
  dokku litestream:auth --app my-app --access-key-id other <<<other
  [ "$(dokku litestream:info my-app --credentials)" = app ]
  dokku litestream:deauth --app my-app
  [ "$(dokku litestream:info my-app --credentials)" = global ]
  dokku litestream:deauth
  [ "$(dokku litestream:info my-app --credentials)" = none ]
  fails 1 "there are no credentials to remove" dokku litestream:deauth
  fails 1 "there are no credentials of my-app to remove" dokku litestream:deauth --app my-app
  fails 1 "there are no credentials for s3://bucket/own" dokku litestream:start my-app
}

@test "the README of the predecessor works line by line" {
  dokku storage:mount my-app "$storage/my-app:/app/db/litestream"
  dokku litestream:auth --endpoint "$endpoint" <<<$'testak\ntestsk'
  run dokku litestream:create my-app "$storage/my-app" production.sqlite3 s3://bucket/readme
  [[ $output == *"litestream:start my-app"* ]]
  dokku litestream:start my-app
  dokku litestream:logs my-app
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy-my-app" production.sqlite3 s3://bucket/readme
  [ "$(rows "$storage/copy-my-app/production.sqlite3")" = first ]
  fails 1 "cannot restore, output path already exists: $storage/copy-my-app/production.sqlite3" \
    dokku litestream:restore "$storage/copy-my-app" production.sqlite3 s3://bucket/readme
  dokku litestream:verify s3://bucket/readme
  dokku litestream:history s3://bucket/readme
}

@test "create tells of a bucket that is not there" {
  authorize
  fails 1 "bucket" dokku litestream:create my-app "$storage/my-app" s3://no-such-bucket/x
  [[ $output == *"cannot be used: "*"no-such-bucket"* ]]
  fails 1 "has no replication" dokku litestream:info my-app
}

@test "create tells of a wrong key" {
  authorize wrong-secret
  fails 1 "cannot be used: " dokku litestream:create my-app "$storage/my-app" s3://bucket/wrong
  [[ $output != *wrong-secret* ]]
  dokku litestream:auth --access-key-id nobody --endpoint "$endpoint" <<<testsk
  fails 1 "cannot be used: " dokku litestream:create my-app "$storage/my-app" s3://bucket/wrong
}

@test "new credentials reach what is mounted, and the app does not notice" {
  authorize
  dokku litestream:create my-app "$storage/my-app" s3://bucket/rotated
  dokku litestream:start my-app
  dokku litestream:sync my-app
  authorize wrong-secret
  insert "$storage/my-app/production.sqlite3" second
  not dokku litestream:sync my-app --timeout 3
  [ -n "$(dokku litestream:info my-app --last-error)" ]
  authorize
  dokku litestream:sync my-app
  dokku litestream:restore "$storage/copy" s3://bucket/rotated
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
}

# traced COMMAND...: every program that it executes, with arguments and environment, is added to a file. strace would wait for the
# processes that serve the mount.
traced() {
  strace -f -qq -v -s 65536 -e trace=execve -A -o "$SANDBOX/executed" bash -c '"$@"; echo $? >"$SANDBOX/status"' traced "$@" \
    >>"$SANDBOX/said" 2>&1 &
  rm -f "$SANDBOX/status"
  while [ ! -s "$SANDBOX/status" ]; do sleep 0.1; done
  kill "$!" 2>/dev/null || true
  return "$(cat "$SANDBOX/status")"
}

@test "the secret is in files of root's, and nowhere else" {
  secret=$(printf 'S3cr3t%.0s' 1 2 3)
  printf '%s\n' "$secret" >"$SANDBOX/secret"
  give_secret() { dokku litestream:auth "$@" --access-key-id testak --endpoint "$endpoint" <"$SANDBOX/secret"; }
  export -f give_secret
  export endpoint
  traced give_secret
  not traced dokku litestream:create my-app "$storage/my-app" s3://bucket/secrets
  traced dokku litestream:create my-app "$storage/my-app" s3://bucket/secrets --take-over
  traced dokku storage:mount my-app "$storage/my-app:/data"
  not traced dokku litestream:start my-app
  "$helper" auth <<<$'AWS_ACCESS_KEY_ID=testak\nAWS_SECRET_ACCESS_KEY=testsk'
  traced dokku litestream:start my-app
  traced give_secret
  traced dokku ps:start my-app
  insert "$storage/my-app/production.sqlite3" second
  not traced dokku litestream:sync my-app --timeout 2
  for command in status logs info report; do traced dokku "litestream:$command" my-app; done
  for command in verify history; do not traced dokku "litestream:$command" my-app; done
  DOKKU_TRACE=1 traced give_secret --app my-app

  [ "$(grep -c dokku-litestream-helper "$SANDBOX/executed")" -gt 10 ]
  not grep -q "$secret" "$SANDBOX/executed"
  cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >"$SANDBOX/processes" 2>/dev/null || true
  grep -qa serve-internal "$SANDBOX/processes"
  not grep -qa "$secret" "$SANDBOX/processes"
  not grep -rq "$secret" /run/containers
  grep -q "does not accept the secret key" "$SANDBOX/said"
  not grep -q "$secret" "$SANDBOX/said"
  found=$(grep -rl "$secret" /var/lib/walfs /var/lib/dokku /var/log /etc /usr/libexec /home /run 2>/dev/null | sort | tr '\n' ' ')
  directory=/var/lib/walfs/dokku
  [ "$found" = "$directory/credentials/apps/my-app $directory/credentials/global $directory/volumes/my-app/credentials " ]
  # shellcheck disable=SC2086 # Several files.
  [ "$(stat -c '%a %U' $found | sort -u)" = "600 root" ]
}
