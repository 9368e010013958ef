# shellcheck shell=bash
# Restoring: into any directory beneath the storage root, or in the place of a volume's data.

# A walfs that is interrupted here leaves what it has, and the same command goes on with it.
command_restore() { # URL DIRECTORY [DATABASE] [TIME] [APP] [OWNER]
  local url credentials directory database='' at='' owner='' volume
  find_replica "$1" "${5:-}"
  directory=$(check_directory "$2")
  [ -z "${3:-}" ] || database=$(check_database "$3")
  [ -z "${4:-}" ] || at=$(check_time "$4")
  [ -z "${6:-}" ] || owner=$(check_owner "$6")
  for volume in $(volumes); do
    [ "$(get "$volume" directory)" != "$directory" ] ||
      fail "$directory is the storage of $(get "$volume" app); to restore it in place: dokku litestream:restore --app $(get "$volume" app)"
  done
  if [ "$database" ]; then restore_database; else restore_whole; fi
  [ -z "$owner" ] || chown -hR "$owner" "$directory/$database"
}

restore_whole() {
  if [ -d "$directory" ] && ! is_empty "$directory"; then
    fail "cannot restore, output path already exists: $directory; give a new directory, or move that away"
  fi
  walfs_with "$credentials" restore "$url" "$directory" ${at:+--at "$at"}
}

# Into a directory that may have other files, but not this one. A replica of Litestream has one database, under a name of its own.
restore_database() {
  local place only=("--only=$database") found
  for found in "$directory/$database"{,-wal,-journal}; do
    [ ! -e "$found" ] || fail "cannot restore, output path already exists: $found; move it away, or give another directory"
  done
  if walfs_with "$credentials" history "$url" 2>/dev/null | grep -q 'a replica of Litestream$'; then only=(); fi
  place=$(make_place "restore-$(cksum <<<"$url $directory $database $at" | cut -d ' ' -f 1)")
  walfs_with "$credentials" restore "$url" "$place/data" --force "${only[@]}" ${at:+--at "$at"} || {
    found=$?
    rmdir "$place" 2>/dev/null || true # What was fetched stays for the next run.
    exit "$found"
  }
  found=$place/data/$database
  [ ${#only[@]} -gt 0 ] || found=$(find "$place/data" -type f -print -quit)
  [ -f "$found" ] || fail "there is no database $database in $url; dokku litestream:restore without its name restores everything"
  # What an app can write to may have links to anywhere.
  [ "$(realpath -m "$directory/$database")" = "$directory/$database" ] ||
    fail "$directory/$database is, or is behind, a symbolic link; give another directory"
  [ -d "$directory" ] || install -d -m 0755 "$directory"
  mkdir -p "$(dirname "$directory/$database")"
  if [ ${#only[@]} -eq 0 ]; then chown --reference="$directory" "$found"; fi
  mv -n "$found" "$directory/$database"
  rm -rf "$place"
}

# ---- In the place of a volume's data: restore-beside while nothing is mounted, then swap.

restored_of() { echo "$(dirname "$(backing_of "$1")")/restored"; } # VOLUME

command_restore-beside() { # APP [TIME]
  local volume credentials at=''
  volume=$(volume_of "$1")
  [ -z "${2:-}" ] || at=$(check_time "$2")
  credentials=$(credentials_of "$1")
  require_credentials "$(get "$volume" url)" "$credentials"
  make_place "$volume" >/dev/null
  walfs_with "$credentials" restore "$(get "$volume" url)" "$(restored_of "$volume")" --force ${at:+--at "$at"}
}

# Prints where the old data is kept.
command_swap() { # APP
  local volume old
  volume=$(volume_of "$1")
  ! is_mounted "$(get "$volume" directory)" || fail "$(get "$volume" directory) is still mounted"
  [ -d "$(restored_of "$volume")" ] || fail "nothing was restored for $1"
  old=$(get "$volume" directory).before-$(date -u +%Y%m%dT%H%M%SZ)
  while [ -e "$old" ]; do old+=+; done
  set_property "$volume" swap "$old"
  echo "$old"
  finish_swap "$volume"
}

# The property is there until all is done; whatever part was done before is not done again.
finish_swap() { # VOLUME
  local old directory backing restored
  old=$(get "$1" swap)
  [ "$old" ] || return 0
  directory=$(get "$1" directory)
  backing=$(backing_of "$1")
  restored=$(restored_of "$1")
  if [ -d "$restored" ]; then
    if [ ! -e "$old" ]; then
      if [ -d "$backing" ]; then
        rename_directory "$backing" "$old"
      elif [ -d "$directory" ]; then
        rename_directory "$directory" "$old"
      fi
    fi
    rename_directory "$restored" "$backing"
  fi
  protect "$directory"
  touch "$STATE/volumes/$1/take-over"
  rm -f "$STATE/volumes/$1/swap"
}
