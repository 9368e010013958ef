#!/usr/bin/env bats
load support

left() { # All that is on the system, but the data.
  find /etc /usr/libexec /usr/local/bin /var/lib/walfs /var/lib/dokku/data -not -path '/var/lib/dokku/data/storage/*' \
    -printf '%p %M %u %s\n' 2>/dev/null | grep -v ' d' | sort
}

@test "install puts what belongs to root where dokku cannot write" {
  dokku plugin:install
  [ "$(stat -c '%a %U' /etc/sudoers.d/dokku-litestream)" = "440 root" ]
  [ "$(stat -c '%a %U' "$helper")" = "755 root" ]
  [ -z "$(find /usr/libexec/walfs /etc/systemd/system/walfs-dokku* \( -not -user root -o -perm /022 \) -print)" ]
  [ -z "$(find /var/lib/walfs/dokku -perm /077 -print)" ]
  visudo -cq
}

@test "install can be run again, and keeps what there is" {
  start_replicated my-app
  dokku plugin:install
  [ "$(dokku litestream:info my-app --status)" = started ]
}

@test "install without walfs says where to get it, and uses a package that comes with the plugin" {
  mv /usr/local/bin/walfs "$SANDBOX/walfs"
  run env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin dokku plugin:install
  [ "$status" -eq 1 ]
  [[ $output == *"walfs is not installed. Install its package"* ]]

  package=/var/lib/dokku/plugins/available/litestream/walfs_1.0_all.deb
  mkdir -p "$SANDBOX"/package/{DEBIAN,usr/local/bin}
  chmod 755 "$SANDBOX/package/DEBIAN"
  printf '%s\n' "Package: walfs" "Version: 1.0" "Architecture: all" "Maintainer: walfs <walfs@localhost>" "Description: walfs" \
    >"$SANDBOX/package/DEBIAN/control"
  cp "$SANDBOX/walfs" "$SANDBOX/package/usr/local/bin"
  dpkg-deb --build --root-owner-group "$SANDBOX/package" "$package"
  run dokku plugin:install
  rm "$package"
  [ "$status" -eq 0 ]
  [[ $output == *"Installing walfs_1.0_all.deb"* ]]
  cmp "$SANDBOX/walfs" /usr/local/bin/walfs
}

@test "install builds walfs when the plugin is part of its sources" {
  sources=$SANDBOX/sources
  mkdir -p "$sources/scripts"
  cp -r "$PLUGIN" "$sources/plugin"
  mv /usr/local/bin/walfs "$sources/built"
  printf '#!/bin/sh\n[ "$1" = build ]\n' >"$sources/scripts/setup"
  chmod +x "$sources/scripts/setup"
  cat >"$sources/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.20)
project(walfs LANGUAGES NONE)
add_custom_target(walfs)
install(PROGRAMS built DESTINATION bin RENAME walfs)
END
  ln -s "$sources/plugin" /var/lib/dokku/plugins/available/linked
  run env PLUGIN_CORE_AVAILABLE_PATH=/var/lib/dokku/plugins/available /var/lib/dokku/plugins/available/linked/install
  [ "$status" -eq 0 ]
  [[ $output == *"Building walfs"* ]]
  cmp "$sources/built" /usr/local/bin/walfs
}

@test "dokku may run this one program as root, and nothing else" {
  as_dokku sudo -n "$helper" apps
  not as_dokku sudo -n id
  not as_dokku sudo -n bash "$helper" apps
  not as_dokku "$helper" apps
}

@test "the program that works as root runs its own commands only" {
  for command in '' nothing fail warn put '../x' 'apps;id' '$(id)' $'apps\nid' --help; do
    fails 2 "there is no command" as_dokku sudo -n "$helper" "$command"
  done
}

@test "the program that works as root takes nothing from the environment" {
  mkdir "$SANDBOX/bin"
  printf '#!/bin/sh\ntouch %s/ran\n' "$SANDBOX" >"$SANDBOX/bin/ls"
  cp "$SANDBOX/bin/ls" "$SANDBOX/bin/flock"
  chmod 755 "$SANDBOX/bin"/*
  ls() { touch "$SANDBOX/ran"; }
  export -f ls
  PATH=$SANDBOX/bin:$PATH BASH_ENV=$SANDBOX/bin/ls "$helper" apps
  [ ! -e "$SANDBOX/ran" ]
}

@test "names of apps that are none are refused, whoever asks" {
  for name in '' .. ../x a/b 'a b' $'a\nb' -x 'a;b' '$(id)' "$(printf 'a%.0s' {1..200})"; do
    for command in start prepare pause destroy show status; do
      fails 1 "is not the name of an app" as_dokku sudo -n "$helper" "$command" "$name"
    done
  done
}

@test "update takes the new files and lets the mounts go on with the new walfs" {
  start_replicated my-app
  before=$(walfs status "$storage/my-app" --json | jq .server_pid)
  echo "# new" >>/var/lib/dokku/plugins/available/litestream/helper/look.bash
  dokku plugin:update litestream
  grep -q '^# new' /usr/libexec/walfs/dokku-litestream/look.bash
  [ "$(walfs status "$storage/my-app" --json | jq .server_pid)" != "$before" ]
  [ "$(dokku litestream:info my-app --status)" = started ]
}

@test "uninstall of another plugin changes nothing" {
  start_replicated my-app
  dokku plugin:uninstall postgres
  [ "$(dokku litestream:info my-app --status)" = started ]
}

@test "uninstall leaves the system as it was, and data and replica stay" {
  dokku plugin:uninstall litestream
  before=$(left)
  dokku plugin:install
  start_replicated my-app
  dokku ps:start my-app
  dokku litestream:auth --access-key-id id <<<secret
  insert "$storage/my-app/production.sqlite3" second
  run dokku plugin:uninstall litestream
  [ "$status" -eq 0 ]
  [ "$(left)" = "$before" ]
  [ -e /run/containers/my-app.web.1 ]
  [ "$(rows "$storage/my-app/production.sqlite3")" = "first second" ]
  [ ! -e "$storage/.walfs" ]
  walfs restore "$replicas/my-app" "$storage/copy"
  [ "$(rows "$storage/copy/production.sqlite3")" = "first second" ]
  rm /run/containers/*
  dokku plugin:install
}

@test "the units are right, as far as systemd can tell without running them" {
  units=$(mktemp -d "$SANDBOX/units.XXXXXX")
  cp /etc/systemd/system/walfs-dokku@.service "$units/walfs-dokku@app.service"
  cp /etc/systemd/system/walfs-dokku.target "$units"
  printf '[Service]\nExecStart=/bin/true\n' >"$units/docker.service"
  mkdir "$units/docker.service.d"
  cp /etc/systemd/system/docker.service.d/walfs-dokku.conf "$units/docker.service.d"
  run systemd-analyze verify --man=no "$units/walfs-dokku@app.service" "$units/docker.service"
  [ "$status" -eq 0 ]
  [ -z "$output" ]
  systemd-analyze security --offline=true --no-pager --threshold=60 "$units/walfs-dokku@app.service"
}
