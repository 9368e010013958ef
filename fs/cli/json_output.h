// What commands print for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace walfs {

// Indented, and valid whatever bytes the names in it have.
void print_json(const nlohmann::json& answer);

}  // namespace walfs
