// What a volume says of itself, whether it replicates or is paused.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "fs/tracking/commit_gate.h"
#include "replicator/position.h"
#include "replicator/stores/store.h"
#include "replicator/uploader.h"
#include "replicator/writer.h"

namespace walfs {

// An epoch without a point yet has no position of its own.
std::string shown_position(const WriterStart& writer, Position position);
// Adds what `walfs status` shows of the way to the store.
void describe_uploads(nlohmann::json& answer, const Store& store, const WriterStart& writer,
                      const UploadStatus& upload);
// And of commits that wait for it; null if none ever do.
void describe_gate(nlohmann::json& answer, const CommitGate* gate);
// "3 segments (17 KiB) still wait for STORE".
std::string describe_backlog(const UploadStatus& upload, const Store& store);

}  // namespace walfs
