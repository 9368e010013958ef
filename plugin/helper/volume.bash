# shellcheck shell=bash
# Volumes: an app's storage directory, and where its data is. What is known of one is in $STATE/volumes/VOLUME, a file for each
# property. A volume is named after its app at first, and keeps the name when the app gets another: a mount has a path.
#
# The data moves by a rename into the backing directory, $STORAGE_ROOT/.walfs/VOLUME/data: on the same filesystem, so that the
# rename is one step, and behind a directory of root's that no container has. What lies on the disk tells where a volume is,
# so that a command that was killed anywhere is completed, or undone, by the next one:
#
#   raw       the storage directory has the data; there is no backing directory
#   moving    the backing directory has the data; there is no storage directory (one that was empty may lack its protection)
#   prepared  the backing directory has the data; the storage directory is empty, and nobody can write to it
#   mounted   as prepared, and walfs serves it at the storage directory
#   dead      as mounted, but all processes of walfs were killed
#   foreign   somebody has mounted something else of walfs there, by hand
#   absent    neither is there
#   mixed     both have data: somebody wrote to the storage directory while it was not protected

volumes() { (cd "$STATE/volumes" && ls); }

volume_of() { # APP
  local volume
  check_app "$1" >/dev/null
  for volume in $(volumes); do
    if [ "$(get "$volume" app)" = "$1" ]; then
      echo "$volume"
      return
    fi
  done
  fail "$1 has no replication; create it with: dokku litestream:create $1"
}

get() { cat "$STATE/volumes/$1/$2" 2>/dev/null || true; } # VOLUME PROPERTY
set_property() { put "$STATE/volumes/$1/$2" <<<"$3"; }     # VOLUME PROPERTY VALUE
has() { [ -e "$STATE/volumes/$1/$2" ]; }                   # VOLUME PROPERTY
backing_of() { echo "$(realpath -e "$STORAGE_ROOT")/.walfs/$1/data"; }

is_mounted() { awk -v path="$1" '$5 == path && / - fuse\.walfs / { found = 1 } END { exit !found }' /proc/self/mountinfo; }
is_empty() { [ -z "$(ls -A "$1")" ]; }

state_of() { # VOLUME
  local directory backing source
  directory=$(get "$1" directory)
  backing=$(backing_of "$1")
  if is_mounted "$directory"; then
    source=$(walfs status "$directory" --json 2>/dev/null | jq -r .source || true)
    if [ -z "$source" ]; then echo dead; elif [ "$source" = "$backing" ]; then echo mounted; else echo foreign; fi
  elif [ ! -d "$backing" ]; then
    if [ -d "$directory" ]; then echo raw; else echo absent; fi
  elif [ ! -d "$directory" ]; then
    echo moving
  elif is_empty "$directory"; then
    echo prepared
  else
    echo mixed
  fi
}

# mv would copy where a rename cannot be; perl-base is on every system of Debian's.
rename_directory() { # FROM TO
  [ ! -e "$2" ] || fail "$2 is there already; move it away"
  # shellcheck disable=SC2016 # The variables are perl's.
  perl -e 'rename($ARGV[0], $ARGV[1]) or die "$!\n"' "$1" "$2" || fail "$1 cannot be moved to $2"
  sync "$(dirname "$1")" "$(dirname "$2")"
}

# Prints the directory NAME in the one for backing directories. That lies in one of dokku's, which could have put a link there.
make_place() { # NAME
  local place
  place=$(realpath -e "$STORAGE_ROOT")
  for place in "$place/.walfs" "$place/.walfs/$1"; do
    [ -e "$place" ] || mkdir -m 0700 "$place"
    [[ ! -L $place && -d $place && $(stat -c %u "$place") == 0 ]] || fail "$place is not a directory of root's; move it away"
  done
  echo "$place"
}

# Without the attribute, which some filesystems lack, the mode keeps out all but root.
protect() {
  [ -d "$1" ] || mkdir -m 0000 "$1"
  chattr +i "$1" 2>/dev/null || chmod 0000 "$1"
}
unprotect() { chattr -i "$1" 2>/dev/null || true; }

fail_mixed() { # VOLUME
  fail "the data of $1 is in $(backing_of "$1"), and files were written to $(get "$1" directory) beside it;" \
    "move those away, then run this again"
}

# Moves the data out of the way of the mount. The first step decides: killed before it, nothing has happened; after it the next run
# goes on with the second.
prepare() { # VOLUME
  local directory backing
  directory=$(get "$1" directory)
  backing=$(backing_of "$1")
  finish_swap "$1"
  case $(state_of "$1") in
    mounted | dead) return ;;
    foreign) fail "$directory is mounted by walfs already, but not for this; run: walfs unmount $directory" ;;
    absent) fail "there is no directory $directory; run: dokku storage:ensure-directory $(basename "$directory")" ;;
    mixed) fail_mixed "$1" ;;
    raw)
      ! mountpoint -q "$directory" || fail "$directory is a mount point of something else; replicate a directory in it"
      check_unused "$directory"
      make_place "$1" >/dev/null
      rename_directory "$directory" "$backing"
      ;;
  esac
  protect "$directory"
}

# Undoes prepare; nothing may be mounted. The last step decides.
put_back() { # VOLUME
  local directory backing
  directory=$(get "$1" directory)
  backing=$(backing_of "$1")
  finish_swap "$1"
  case $(state_of "$1") in
    raw | absent) return ;;
    mounted | dead | foreign) fail "$directory is still mounted" ;;
    mixed) fail_mixed "$1" ;;
    prepared)
      unprotect "$directory"
      rmdir "$directory"
      ;;
  esac
  rename_directory "$backing" "$directory"
  rm -rf "$directory/.walfs"
}

# Processes outside of containers; those in them are found by who may ask Docker.
check_unused() { # DIRECTORY
  local user
  user=$(find /proc/[0-9]*/fd /proc/[0-9]*/cwd -maxdepth 1 \( -lname "$1" -o -lname "$1/*" \) -print -quit 2>/dev/null || true)
  [ -z "$user" ] && return
  user=${user#/proc/}
  user=${user%%/*}
  fail "process $user ($(cat "/proc/$user/comm" 2>/dev/null || echo gone)) uses $1; end it, then run this again"
}
