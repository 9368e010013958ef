// The command line: what main() does once it knows that a person called it.
#pragma once

namespace walfs {

int run_cli(int argc, char** argv);

}  // namespace walfs
