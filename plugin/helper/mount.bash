# shellcheck shell=bash
# Serving volumes: by a unit of systemd where that runs; elsewhere walfs supervises itself.

unit_of() { echo "walfs-dokku@$1.service"; }
with_systemd() { [ -d /run/systemd/system ]; }

write_config() { # VOLUME
  {
    echo "replica = \"$(get "$1" url)\""
    if has "$1" credentials; then echo "credentials-file = \"$STATE/volumes/$1/credentials\""; fi
  } | put "$STATE/volumes/$1/walfs.toml"
}

# Fills `mount` with the command.
compose_mount() { # VOLUME
  mount=(walfs mount "$(backing_of "$1")" "$(get "$1" directory)" --config "$STATE/volumes/$1/walfs.toml")
  if has "$1" take-over; then mount+=(--take-over); fi
}

launch() { # VOLUME
  local mount said
  if with_systemd; then
    systemctl reset-failed "$(unit_of "$1")" 2>/dev/null || true
    if ! systemctl enable --quiet --now "$(unit_of "$1")" 9>&-; then
      said=$(journalctl -q -o cat -n 2 "_SYSTEMD_UNIT=$(unit_of "$1")" 2>/dev/null | tr '\n' ' ')
      fail "$(get "$1" directory) cannot be mounted: $said"
    fi
  else
    compose_mount "$1"
    said=$("${mount[@]}" 2>&1 9>&-) || fail "$(get "$1" directory) cannot be mounted: ${said#walfs: }"
    settle "$1"
  fi
}

# What is wanted of a mount once it serves.
settle() { # VOLUME
  local directory
  directory=$(get "$1" directory)
  rm -f "$STATE/volumes/$1/take-over"
  if has "$1" paused; then walfs pause "$directory" >/dev/null; fi
  if has "$1" owner; then
    chown -hR "$(get "$1" owner)" "$directory"
    rm -f "$STATE/volumes/$1/owner"
  fi
}

# Ships what is left first. HOW: `all` fails if that cannot be done, `try` goes on then, `force` does not even wait. Nothing is lost by
# that: all of it is in the directory.
unmount() { # VOLUME HOW
  local directory said
  directory=$(get "$1" directory)
  if has "$1" paused; then set -- "$1" force; fi
  case $(state_of "$1") in
    dead) umount -l "$directory" ;;
    mounted)
      if [ "$2" = force ] || ! said=$(walfs unmount "$directory" --timeout 30s 2>&1); then
        [ "$2" != all ] || fail "$directory is not unmounted: ${said#walfs: }"
        unmount_at_once "$directory"
      fi
      ;;
  esac
  if with_systemd; then systemctl stop "$(unit_of "$1")" 9>&- || true; fi
}

# Processes that still wait for the store are ended, because they have the data open.
unmount_at_once() { # DIRECTORY
  local pid processes
  processes=$(walfs status "$1" --json | jq '.keeper_pid, .server_pid, .flusher_pid')
  walfs unmount "$1" --force --timeout 5s &>/dev/null || true
  if is_mounted "$1"; then umount -l "$1"; fi
  for pid in $processes; do
    if [[ $(readlink "/proc/$pid/exe") == */walfs* ]]; then kill -9 "$pid" 2>/dev/null || true; fi
  done
}

forget_unit() { # VOLUME
  if with_systemd; then systemctl disable --quiet "$(unit_of "$1")" || true; fi
}

# Other servers go on, with the keys and the version that are there now.
renew_servers() { # VOLUME
  local said
  said=$(walfs upgrade "$(get "$1" directory)" 2>&1 9>&-) ||
    warn "the servers of $(get "$1" app) could not be renewed: ${said#walfs: }"
}

command_prepare() { # APP
  local volume
  volume=$(volume_of "$1")
  prepare "$volume"
}

# For a start that did not come to its mount.
command_unprepare() { # APP
  local volume
  volume=$(volume_of "$1")
  has "$volume" started || put_back "$volume"
}

command_start() { # APP
  local volume
  volume=$(volume_of "$1")
  copy_credentials "$volume"
  require_credentials "$(get "$volume" url)" "$(credentials_of "$1")"
  has "$volume" started || trap 'undo_start "$volume"' EXIT
  prepare "$volume"
  write_config "$volume"
  if [ "$(state_of "$volume")" != mounted ]; then
    rm -f "$STATE/volumes/$volume/paused"
    launch "$volume"
  elif has "$volume" paused; then
    walfs resume "$(get "$volume" directory)" >/dev/null
    rm -f "$STATE/volumes/$volume/paused"
  fi
  touch "$STATE/volumes/$volume/started"
  trap - EXIT
}

# A first start that fails leaves the data where it was, so that the app can go on without a replica.
undo_start() { # VOLUME
  if with_systemd; then systemctl disable --quiet --now "$(unit_of "$1")" 9>&- || true; fi
  if ! is_mounted "$(get "$1" directory)"; then put_back "$1"; fi
}

command_pause() { # APP
  local volume
  volume=$(volume_of "$1")
  [ "$(state_of "$volume")" = mounted ] || fail "the replication of $1 is not started"
  touch "$STATE/volumes/$volume/paused"
  walfs pause "$(get "$volume" directory)" >/dev/null
}

command_renew() { # [APP]
  local volume
  for volume in $(volumes); do
    [[ -z ${1:-} || $(get "$volume" app) == "$1" ]] || continue
    if [ "$(state_of "$volume")" = mounted ]; then renew_servers "$volume"; fi
  done
}

# Takes the mount away for a while; the data stays where it is.
command_unmount() { # APP
  local volume
  volume=$(volume_of "$1")
  unmount "$volume" try
}

# After a start of the machine without systemd: mounts all that was mounted.
command_start-all() {
  local volume
  for volume in $(volumes); do
    if ! has "$volume" started || [ "$(state_of "$volume")" = mounted ]; then continue; fi
    (prepare "$volume" && write_config "$volume" && launch "$volume") || warn "the storage of $(get "$volume" app) is not mounted"
  done
}

# ---- For the unit: serves a volume until it is told to stop.

command_serve() { # VOLUME
  local mount
  # Servers whose keeper was killed go on, with all that is open; another keeper is for when they have ended, too.
  while [ "$(state_of "$1")" = mounted ]; do sleep 2; done
  prepare "$1"
  compose_mount "$1"
  exec "${mount[@]}" --foreground
}

command_ready() { # VOLUME; systemd sets MAINPID
  local directory tries
  directory=$(get "$1" directory)
  for ((tries = 0; tries < 600; tries++)); do
    if walfs status "$directory" &>/dev/null; then
      settle "$1"
      return
    fi
    kill -0 "${MAINPID:-1}" 2>/dev/null || fail "walfs ended before it served $directory"
    sleep 0.1
  done
  fail "walfs does not serve $directory within a minute"
}

command_end() { # VOLUME
  local directory
  directory=$(get "$1" directory)
  is_mounted "$directory" || return 0
  walfs unmount "$directory" --timeout 45s || walfs unmount "$directory" --force --timeout 5s
}
