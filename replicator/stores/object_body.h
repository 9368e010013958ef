// Reading an ObjectBody in pieces, wherever it is.
#pragma once

#include <span>
#include <string>

#include "replicator/base/result.h"
#include "replicator/stores/store.h"

namespace walfs {

// Fills `into` with the body's bytes from `offset`, which lie within the body. kIo when the file is
// shorter than the body claims.
Status read_body(const ObjectBody& body, uint64_t offset, std::span<uint8_t> into);

// A part of a body as a body.
ObjectBody body_part(const ObjectBody& body, uint64_t offset, uint64_t size);

// SHA-256 in hex, in bounded memory.
Result<std::string> body_sha256(const ObjectBody& body);

}  // namespace walfs
