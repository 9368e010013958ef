#include "tests/fuzz/s3_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  walfs::fuzz::check_s3_documents({data, size});
  walfs::fuzz::check_s3_texts(walfs::as_text({data, size}));
  return 0;
}
