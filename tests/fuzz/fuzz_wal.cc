#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  walfs::fuzz::check_wal({data, size});
  return 0;
}
