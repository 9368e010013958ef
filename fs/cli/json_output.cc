#include "fs/cli/json_output.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace walfs {

void print_json(const nlohmann::json& answer) {
  constexpr int kIndent = 2;
  const auto replace = nlohmann::json::error_handler_t::replace;
  std::printf("%s\n", answer.dump(kIndent, ' ', false, replace).c_str());
}

}  // namespace walfs
