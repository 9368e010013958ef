// walfs: see fs/cli/cli.h for what users call; the hidden subcommands are the mount's own
// processes.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#include "fs/cli/cli.h"
#include "fs/mount/flusher.h"
#include "fs/mount/keeper.h"
#include "fs/mount/process.h"
#include "fs/mount/server.h"
#include "fs/tracking/volume.h"

int main(int argc, char** argv) {
  using namespace walfs;
  const std::string_view command = argc > 1 ? argv[1] : "";
  try {
    if (command == "serve-internal") return run_server(make_volume);
    if (command == "keep-internal" && argc == 3) return run_keeper_again(std::atoi(argv[2]));
    if (command == "flush-internal") return run_flusher();
    if (command == "unmount-internal" && argc == 4)
      return run_unmount_helper(argv[2], std::atoi(argv[3]));
    return run_cli(argc, argv);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "walfs: %s\n", fault.what());
    return 1;
  }
}
