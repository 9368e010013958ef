// A minimal driver of the mount: walfs mount SOURCE [MOUNTPOINT] [--foreground] [--KEY=VALUE]...,
// walfs unmount MOUNTPOINT [--force], walfs status [MOUNTPOINT].
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fs/mount/backing.h"
#include "fs/mount/control.h"
#include "fs/mount/flusher.h"
#include "fs/mount/keeper.h"
#include "fs/mount/null_hooks.h"
#include "fs/mount/process.h"
#include "fs/mount/server.h"

using namespace walfs;

namespace {

constexpr int64_t kTimeoutMs = 30000;

int fail(const Error& error) {
  std::fprintf(stderr, "walfs: %s\n", error.message.c_str());
  return exit_code(error);
}

// --threads=4 and the like, by the names of the JSON form.
bool take_option(nlohmann::json& options, const std::string& word) {
  size_t equals = word.find('=');
  std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
  std::string value = equals == std::string::npos ? "true" : word.substr(equals + 1);
  for (char& letter : name) letter = letter == '-' ? '_' : letter;
  if (!options.contains(name)) return false;
  options[name] = options[name].is_string() ? nlohmann::json(value) : nlohmann::json::parse(value);
  return true;
}

int mount_main(const std::vector<std::string>& words) {
  nlohmann::json json = to_json(MountOptions{});
  std::vector<std::string> places;
  for (const std::string& word : words) {
    if (!word.starts_with("--")) {
      places.push_back(word);
    } else if (!take_option(json, word)) {
      return fail({Errc::kUsage, "unknown option " + word});
    }
  }
  if (places.empty() || places.size() > 2)
    return fail({Errc::kUsage, "walfs mount SOURCE [MOUNTPOINT]"});
  auto options = mount_options_from_json(json);
  if (!options) return fail(options.error());
  options->source = places[0];
  if (places.size() == 2) options->mountpoint = places[1];
  return run_mount_command(*options);
}

int status_main(const std::vector<std::string>& words) {
  if (words.empty()) {
    for (const std::string& path : control_sockets()) {
      auto answer = control_request_at(path, {{"command", "status"}}, kTimeoutMs);
      if (answer) std::printf("%s\n", answer->dump().c_str());
    }
    return 0;
  }
  auto path = real_directory_path(words[0]);
  if (!path) return fail(path.error());
  auto answer = control_request(*path, {{"command", "status"}}, kTimeoutMs);
  if (!answer) return fail(answer.error());
  std::printf("%s\n", answer->dump(2).c_str());
  return 0;
}

int run(const std::string& command, const std::vector<std::string>& words) {
  if (command == "serve-internal") return run_server(make_null_hooks);
  if (command == "flush-internal") return run_flusher();
  if (command == "unmount-internal" && words.size() == 2)
    return run_unmount_helper(words[0], std::atoi(words[1].c_str()));
  if (command == "mount") return mount_main(words);
  if (command == "status") return status_main(words);
  if (command == "unmount" && !words.empty()) {
    bool force = words.size() > 1 && words[1] == "--force";
    Status done = run_unmount_command(words[0], kTimeoutMs, force);
    return done ? 0 : fail(done.error());
  }
  return fail({Errc::kUsage, "walfs mount|unmount|status ..."});
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return fail({Errc::kUsage, "walfs mount|unmount|status ..."});
  std::string command = words[0];
  words.erase(words.begin());
  try {
    return run(command, words);
  } catch (const std::exception& fault) {
    return fail({Errc::kUsage, fault.what()});
  }
}
