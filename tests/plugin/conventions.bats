#!/usr/bin/env bats
load support

app_commands="start stop restart logs destroy info status sync history verify report"

# The plugin finds --all in the command line of the process that called it.
help_all() {
  PLUGIN_CORE_AVAILABLE_PATH=/var/lib/dokku/plugins/available bash -c '"$1" help; exit' --all "$PLUGIN/commands"
}

@test "dokku litestream alone, litestream:help and litestream:default list every command" {
  for command in litestream litestream:help litestream:default; do
    run dokku "$command"
    [ "$status" -eq 0 ]
    for subcommand in "$PLUGIN"/subcommands/*; do [[ $output == *"litestream:${subcommand##*/} "* ]]; done
  done
}

@test "dokku help has one line for the plugin, and dokku help --all one for each command" {
  run dokku help
  [ "$output" = "    litestream, Replicate SQLite databases and files of apps to S3 and restore them" ]
  run help_all
  [ "$status" -eq 0 ]
  [ "${#lines[@]}" -eq "$(find "$PLUGIN/subcommands" -type f | wc -l)" ]
}

@test "the lines of the help have one comma, as Dokku's columns need" {
  run help_all
  for line in "${lines[@]}"; do
    commas=${line//[^,]/}
    [ "${#commas}" -eq 1 ]
  done
}

@test "litestream:help of a command has its arguments, flags and examples" {
  run dokku litestream:help create
  [ "$status" -eq 0 ]
  [[ $output == *"usage: dokku litestream:create <app> <storage-dir> [db-name] <replica-url> [flags]"* ]]
  [[ $output == *"--take-over"* ]]
  [[ $output == *"    dokku litestream:create my-app /var/lib/dokku/data/storage/my-app s3://my-bucket/my-app"* ]]
}

@test "litestream:help of what is no command says so" {
  fails 1 "There is no command litestream:nothing" dokku litestream:help nothing
  fails 1 "There is no command" dokku litestream:help ../config
}

@test "what is no command is left to other plugins with exit code 10" {
  fails 10 "" env DOKKU_NOT_IMPLEMENTED_EXIT=10 "$PLUGIN/commands" litestream:nothing
}

@test "an app that does not exist ends every command with exit code 20" {
  for command in $app_commands; do
    fails 20 "App nobody does not exist" dokku "litestream:$command" nobody
  done
  fails 20 "App nobody does not exist" dokku litestream:create nobody "$storage/nobody" "$replicas/nobody"
  fails 20 "App nobody does not exist" dokku litestream:restore --app nobody
  fails 20 "App nobody does not exist" dokku litestream:auth --app nobody
  fails 20 "App nobody does not exist" dokku litestream:deauth --app nobody
}

@test "an app without a replication is told how to get one" {
  dokku apps:create plain
  for command in $app_commands; do
    fails 1 "plain has no replication; create it with: dokku litestream:create" dokku "litestream:$command" plain
  done
}

@test "a command without its arguments says what is missing" {
  for command in start stop restart logs destroy info sync history verify create; do
    fails 1 "Something is missing: dokku litestream:$command" dokku "litestream:$command"
  done
  fails 1 "Something is missing: dokku litestream:create <app>" dokku litestream:create one two
  fails 1 "Something is missing: dokku litestream:restore" dokku litestream:restore
  fails 1 "Something is missing: dokku litestream:restore" dokku litestream:restore "$storage/x"
}

@test "a command with too many arguments says so" {
  fails 1 "There is too much: dokku litestream:start <app>" dokku litestream:start one two
  fails 1 "There is too much: dokku litestream:create" dokku litestream:create 1 2 3 4 5
}

@test "a flag that does not exist is answered with those that do" {
  fails 1 "Invalid flag passed, valid flags: --restart: --nothing" dokku litestream:start x --nothing
  fails 1 "Invalid flag passed, valid flags: --at, --app, --chown" dokku litestream:restore --nothing
  fails 1 "The flag --at needs a value" dokku litestream:restore --at
}

@test "litestream:list of nothing is no error" {
  fails 0 "There are no apps with a replication" dokku litestream:list
}

@test "litestream:list has the replicated apps" {
  make_app one
  dokku litestream:create one "$storage/one" "$replicas/one"
  run dokku litestream:list
  [ "${lines[0]}" = "=====> Apps with a replication" ]
  [ "${lines[1]}" = one ]
}

@test "without the program that works as root the commands say what to do" {
  rm "$helper"
  fails 1 "run: sudo dokku plugin:install" dokku litestream:list
  dokku plugin:install
}
