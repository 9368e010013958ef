# shellcheck shell=bash
# A directory that walfs serves and replicates, for scripts that try other programs in it. They source this after they have set
# `walfs`, the program, and `work`, a directory of their own, and have defined fail MESSAGE.

mounted=
connection=
pids=

# Mounts $work/app over itself and leaves its path in `mounted`. The replica is $work/replica.
mount_replicated() {
  "$walfs" mount "$work/app" --replica "file://$work/replica"
  mounted=$work/app
  connection=$(mountpoint -d "$mounted")
  connection=${connection#*:}
  pids=$("$walfs" status "$mounted" --json | tr -d ' ",' | sed -nE 's/^(keeper|server|flusher)_pid:([0-9]+)$/\2/p')
}

# Kills the process that serves the mount, and each that takes its place, once a second; stop_killing says how many, and fails if none.
killer=
kill_servers() {
  local keeper
  keeper=$("$walfs" status "$mounted" --json | tr -d ' ",' | sed -n 's/^keeper_pid://p')
  (
    count=0
    trap 'echo "killed $count servers"; [ "$count" -gt 0 ]; exit' TERM
    while sleep 1; do
      if pkill -9 -P "$keeper" -f serve-internal; then count=$((count + 1)); fi
    done
  ) &
  killer=$!
}
stop_killing() {
  [ -n "$killer" ] || return 0
  kill "$killer" 2>/dev/null || true
  local ended=0
  wait "$killer" 2>/dev/null || ended=$?
  killer=
  return "$ended"
}

# Restores all that was written until now to $work/restored; fails if it differs, but for the paths in `differing`, which have to.
differing=()
restore_and_compare() {
  timeout 300 "$walfs" sync "$mounted" --timeout 290s >/dev/null || fail "what was written does not reach the replica"
  timeout 600 "$walfs" restore "file://$work/replica" "$work/restored" || fail "the replica cannot be restored"
  mkdir -p "$work/scratch"
  scripts/compare-restored "$mounted" "$work/restored" "$work/scratch" "${differing[@]}"
}

unmount_replicated() {
  timeout 60 "$walfs" unmount "$mounted" --timeout 50s || fail "the directory cannot be unmounted"
  mounted=
}

# Ends the mount by whatever it takes, for traps.
end_mount() {
  local pid
  stop_killing || true
  if [ -z "$mounted" ] || ! mountpoint -q "$mounted"; then return; fi
  if timeout 20 "$walfs" unmount "$mounted" --timeout 10s >/dev/null 2>&1; then return; fi
  if [ -n "$connection" ] && [ -e "/sys/fs/fuse/connections/$connection/abort" ]; then
    echo 1 >"/sys/fs/fuse/connections/$connection/abort" || true
  fi
  for pid in $pids; do kill -9 "$pid" 2>/dev/null || true; done
  umount -l "$mounted" 2>/dev/null || true
}
