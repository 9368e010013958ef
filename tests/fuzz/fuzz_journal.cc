#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  walfs::fuzz::check_journal({data, size});
  return 0;
}
