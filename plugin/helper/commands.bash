# shellcheck shell=bash
# What becomes of a volume: create, destroy, rename; and what is known of it.

command_create() { # APP DIRECTORY URL [DATABASE] [must-exist] [take-over] [OWNER]
  local app directory url database='' owner='' volume number=1 other credentials
  app=$(check_app "$1")
  directory=$(check_directory "$2")
  url=$(check_replica "$3")
  [ -z "${4:-}" ] || database=$(check_database "$4")
  [ -z "${7:-}" ] || owner=$(check_owner "$7")
  for other in $(volumes); do
    [ "$(get "$other" app)" != "$app" ] ||
      fail "$app has a replication already, of $(get "$other" directory); dokku litestream:destroy $app ends it"
    [[ $directory/ != "$(get "$other" directory)"/* && $(get "$other" directory)/ != "$directory"/* ]] ||
      fail "$directory is part of a replication already, that of $(get "$other" app)"
  done
  [ -d "$directory" ] || fail "there is no directory $directory; run: dokku storage:ensure-directory $(basename "$directory")"
  [[ ${5:-} != must-exist || -f $directory/$database ]] || fail "there is no database $database in $directory yet"
  credentials=$(credentials_of "$app")
  require_credentials "$url" "$credentials"
  url=$(with_endpoint "$url" "$credentials")
  for other in $(volumes); do
    [ "$(get "$other" url)" != "$url" ] || fail "$url is the replica of $(get "$other" app) already; give each app its own"
  done
  [ "${6:-}" = take-over ] || check_fresh "$app" "$url" "$credentials"

  volume=$app
  while [ -e "$STATE/volumes/$volume" ] || [ -e "$(dirname "$(backing_of "$volume")")" ]; do
    number=$((number + 1)) volume=$app-$number
  done
  # Made beside and renamed, so that there is all of it or nothing.
  rm -rf "$STATE/new"
  mkdir "$STATE/new"
  echo "$app" >"$STATE/new/app"
  echo "$directory" >"$STATE/new/directory"
  echo "$url" >"$STATE/new/url"
  [ -z "$database" ] || echo "$database" >"$STATE/new/database"
  [ -z "$owner" ] || echo "$owner" >"$STATE/new/owner"
  [ "${6:-}" != take-over ] || touch "$STATE/new/take-over"
  mv -T "$STATE/new" "$STATE/volumes/$volume"
}

# Asks the store, so that a wrong key or bucket is told now, and another app's replica is not written to.
check_fresh() { # APP URL CREDENTIALS
  local said status=0
  said=$(walfs_with "$3" history "$2" 2>&1) || status=$?
  case $status in
    0) fail "there is something in $2 already: restore it first (dokku litestream:restore), or go on with it (--take-over)" ;;
    3) [[ $said != *"bucket "*" does not exist"* ]] || fail "$2 cannot be used: ${said#walfs: }" ;;
    *) fail "$2 cannot be used: ${said#walfs: }" ;;
  esac
}

command_destroy() { # APP [force]
  local volume
  volume=$(volume_of "$1")
  unmount "$volume" "${2:-all}"
  put_back "$volume"
  forget_unit "$volume"
  rmdir "$(dirname "$(backing_of "$volume")")" 2>/dev/null || true
  rm -rf "$STATE/volumes/$volume"
}

command_rename() { # OLD NEW
  local old new volume
  old=$(check_app "$1")
  new=$(check_app "$2")
  if [ -e "$(credentials_file "$old")" ]; then mv -T "$(credentials_file "$old")" "$(credentials_file "$new")"; fi
  for volume in $(volumes); do
    if [ "$(get "$volume" app)" = "$old" ]; then set_property "$volume" app "$new"; fi
  done
}

# An app's volume by lines of NAME=VALUE, for dokku to show; nothing if it has none.
command_show() { # APP
  local app volume property
  app=$(check_app "$1")
  for volume in $(volumes); do
    [ "$(get "$volume" app)" = "$app" ] || continue
    for property in app directory url database; do echo "$property=$(get "$volume" "$property")"; done
    echo "volume=$volume"
    echo "backing=$(backing_of "$volume")"
    echo "state=$(state_of "$volume")"
    if has "$volume" paused; then echo "paused=true"; else echo "paused=false"; fi
    if has "$volume" started; then echo "started=true"; else echo "started=false"; fi
  done
  if [ -s "$(credentials_file "$app")" ]; then
    echo "credentials=app"
  elif [ -s "$(credentials_file)" ]; then
    echo "credentials=global"
  else
    echo "credentials=none"
  fi
}

command_apps() {
  local volume
  for volume in $(volumes); do get "$volume" app; done | sort
}
