# shellcheck shell=bash
# Questions about a volume, a replica, or what walfs said.

command_status() { # APP [json]
  local volume
  volume=$(volume_of "$1")
  [ "$(state_of "$volume")" = mounted ] || fail "the replication of $1 is not started; run: dokku litestream:start $1"
  walfs status "$(get "$volume" directory)" ${2:+--json}
}

command_sync() { # APP SECONDS
  local volume seconds
  seconds=$(check_seconds "$2")
  volume=$(volume_of "$1")
  [ "$(state_of "$volume")" = mounted ] || fail "the replication of $1 is not started; run: dokku litestream:start $1"
  walfs sync "$(get "$volume" directory)" --timeout "${seconds}s"
}

# find_replica APP_OR_URL [APP]: sets `url` and `credentials`; those of the second app if there is one.
find_replica() {
  local app=${2:-} volume
  [ -z "$app" ] || app=$(check_app "$app")
  if [[ $1 == *://* ]]; then
    url=$(check_replica "$1")
  else
    app=$(check_app "$1")
    volume=$(volume_of "$app")
    url=$(get "$volume" url)
  fi
  credentials=$(credentials_of "$app")
  require_credentials "$url" "$credentials"
  url=$(with_endpoint "$url" "$credentials")
}

command_history() { # APP_OR_URL [APP] [json]
  local url credentials
  find_replica "$1" "${2:-}"
  walfs_with "$credentials" history "$url" ${3:+--json}
}

command_verify() { # APP_OR_URL [APP] [json]
  local url credentials
  find_replica "$1" "${2:-}"
  walfs_with "$credentials" verify "$url" ${3:+--json}
}

command_logs() { # APP LINES [follow]
  local volume lines
  volume=$(volume_of "$1")
  lines=$(check_seconds "$2")
  if with_systemd; then
    exec journalctl --no-pager -o cat -n "$lines" -u "$(unit_of "$volume")" ${3:+-f}
  fi
  local log
  log=$(backing_of "$volume")/.walfs/walfs.log
  [ -e "$log" ] || fail "there is no log yet: the replication of $1 was not started"
  exec tail -n "$lines" ${3:+-F} "$log"
}
