#include "tests/fuzz/format_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  walfs::fuzz::check_snapshot({data, size});
  return 0;
}
