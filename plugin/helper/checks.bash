# shellcheck shell=bash
# What dokku passes on is checked here. Each check prints what may be used, or fails with a sentence that says why not.

check_app() {
  [[ $1 =~ ^[a-z0-9][a-z0-9._-]{0,99}$ ]] || fail "${1@Q} is not the name of an app"
  echo "$1"
}

# A directory beneath the storage root, whether it is there or not. A link on the way could lead out of it, now or later.
check_directory() {
  local root path
  root=$(realpath -e "$STORAGE_ROOT") || fail "there is no storage root $STORAGE_ROOT"
  [[ $1 == /* ]] || fail "${1@Q} is not an absolute path; give one like $STORAGE_ROOT/my-app"
  [[ $1 =~ ^[A-Za-z0-9._/@+-]+$ ]] ||
    fail "${1@Q} has a character that is not allowed there; letters, digits and . _ @ + - are"
  [[ /$1/ != */../* ]] || fail "$1 has '..' in it; give the path without"
  path=$(realpath -ms "$1")
  path=${path/#"$STORAGE_ROOT"\//"$root/"}
  [[ $path == "$root"/* ]] || fail "$1 is not beneath $STORAGE_ROOT, where the directories of apps are"
  [[ $path != "$root"/.walfs && $path != "$root"/.walfs/* ]] || fail "$1 is where walfs keeps data; give another directory"
  [ "$(realpath -m "$path")" = "$path" ] || fail "$1 is, or is behind, a symbolic link; give the directory that it leads to"
  echo "$path"
}

# Root writes to a replica in a directory, so it has to be where dokku could write, too.
check_replica() {
  local path place
  [[ $1 =~ ^(s3|file)://[A-Za-z0-9._~:/?\&=%+@-]+$ ]] ||
    fail "${1@Q} is not a replica; give s3://bucket/prefix or file:///directory"
  if [[ $1 == file://* ]]; then
    path=${1#file://}
    [[ $path == /* && /$path/ != */../* && $(realpath -m "$path") == "$(realpath -ms "$path")" ]] ||
      fail "$path is not an absolute path without '..' and links; give one like file:///backup/my-app"
    place=$path
    [[ -d $path && $(stat -c %U "$path") == "$DOKKU_USER" ]] || place=$(dirname "$path")
    [[ -d $place && $(stat -c %U "$place") == "$DOKKU_USER" ]] ||
      fail "neither $path nor the directory that it is in belongs to $DOKKU_USER; run: sudo install -d -o $DOKKU_USER $path"
  fi
  echo "$1"
}

# The path of a database in a storage directory.
check_database() {
  [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9._@+-]*(/[A-Za-z0-9_][A-Za-z0-9._@+-]*)*$ ]] ||
    fail "${1@Q} is not the name of a database in the storage directory; give one like production.sqlite3"
  echo "$1"
}

check_time() {
  [[ $1 =~ ^[A-Za-z0-9\ :.+-]+$ ]] || fail "${1@Q} is neither a time nor a position"
  echo "$1"
}

# The names that storage:ensure-directory knows, and numbers.
check_owner() {
  case $1 in
    herokuish) echo 32767:32767 ;;
    heroku) echo 1000:1000 ;;
    paketo | packeto) echo 2000:2000 ;;
    root) echo 0:0 ;;
    *)
      [[ $1 =~ ^([0-9]{1,9})(:[0-9]{1,9})?$ ]] ||
        fail "${1@Q} is no owner; give herokuish, heroku, paketo, root, or a number such as 1000 or 1000:1000"
      [[ $1 == *:* ]] && echo "$1" || echo "$1:$1"
      ;;
  esac
}

check_seconds() {
  [[ $1 =~ ^[0-9]{1,5}$ ]] || fail "${1@Q} is not a number of seconds"
  echo "$1"
}
