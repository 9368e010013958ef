// How the pure capture code reads a file: through a function of the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace walfs {

// Fills `into` from byte `offset` of the file and returns how many bytes it could fill; fewer than
// asked for means that the file ends there (a read fault is to be reported as an end, and told to
// the caller's caller by other means). It must not throw.
using ReadAt = std::function<size_t(uint64_t offset, std::span<uint8_t> into)>;

}  // namespace walfs
