# shellcheck shell=bash
# The keys of stores: $STATE/credentials/global, and apps/APP for an app that has its own. They come by standard input and
# stay in files that only root can read; walfs is given the name of such a file.

credentials_file() { # [APP]
  if [ "${1:-}" ]; then echo "$STATE/credentials/apps/$1"; else echo "$STATE/credentials/global"; fi
}

# The file that counts for an app; nothing if there are no credentials.
credentials_of() {
  local file
  for file in "$(credentials_file "$1")" "$(credentials_file)"; do
    if [ -n "$1" ] || [ "$file" = "$(credentials_file)" ]; then
      if [ -s "$file" ]; then
        echo "$file"
        return
      fi
    fi
  done
}

# The copy in a volume is what its walfs reads, so that it stays where it is when an app gets keys of its own.
copy_credentials() { # VOLUME
  local file
  file=$(credentials_of "$(get "$1" app)")
  if [ "$file" ]; then put "$STATE/volumes/$1/credentials" <"$file"; else rm -f "$STATE/volumes/$1/credentials"; fi
}

# walfs_with CREDENTIALS COMMAND...: runs walfs with them, if there are any.
walfs_with() {
  local credentials=$1
  shift
  walfs "$@" ${credentials:+--credentials-file "$credentials"}
}

# The URL of a replica, with the endpoint of the credentials if it names none.
with_endpoint() { # URL CREDENTIALS
  local endpoint=
  if [[ $1 == s3://* && $1 != *[?\&]endpoint=* && -n $2 ]]; then endpoint=$(sed -n 's/^LITESTREAM_ENDPOINT=//p' "$2"); fi
  if [ -z "$endpoint" ]; then echo "$1"; elif [[ $1 == *\?* ]]; then echo "$1&endpoint=$endpoint"; else echo "$1?endpoint=$endpoint"; fi
}

require_credentials() { # URL CREDENTIALS
  [[ $1 != s3://* || -n $2 ]] || fail "there are no credentials for $1; run: dokku litestream:auth"
}

command_auth() { # [APP], the settings by standard input
  local app='' line settings=()
  [ -z "${1:-}" ] || app=$(check_app "$1")
  while IFS= read -r line; do
    [[ $line =~ ^(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|REGION)|LITESTREAM_ENDPOINT)=[[:graph:]]+$ ]] ||
      fail "a key, an endpoint or a region is empty or has a character that is not allowed" # It is not shown: it may be secret.
    settings+=("$line")
  done
  [ ${#settings[@]} -ge 2 ] || fail "an access key and a secret are needed"
  printf '%s\n' "${settings[@]}" | put "$(credentials_file "$app")"
  renew_credentials
}

command_deauth() { # [APP]
  local app='' file
  [ -z "${1:-}" ] || app=$(check_app "$1")
  file=$(credentials_file "$app")
  [ -e "$file" ] || fail "there are no credentials${app:+ of $app} to remove"
  rm -f "$file"
  renew_credentials
}

# Servers read the keys when they begin; who is mounted gets new ones, which nobody notices.
renew_credentials() {
  local volume before
  for volume in $(volumes); do
    before=$(cat "$STATE/volumes/$volume/credentials" 2>/dev/null || true)
    copy_credentials "$volume"
    [ "$before" != "$(cat "$STATE/volumes/$volume/credentials" 2>/dev/null || true)" ] || continue
    write_config "$volume"
    if [ "$(state_of "$volume")" != mounted ]; then continue; fi
    if [ -e "$STATE/volumes/$volume/credentials" ]; then
      renew_servers "$volume"
    else
      warn "$(get "$volume" app) goes on with the old credentials until it is restarted"
    fi
  done
}
