#include "tests/fuzz/litestream_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  walfs::fuzz::check_litestream({data, size});
  return 0;
}
