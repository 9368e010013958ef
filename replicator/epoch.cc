#include "replicator/epoch.h"

#include <sys/random.h>

#include <array>
#include <nlohmann/json.hpp>

#include "replicator/hash.h"
#include "replicator/keys.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;

constexpr uint64_t kJsonSizeMax = 64 << 10;
constexpr size_t kListLimit = 1000;

Result<json> read_json(Store& store, const std::string& key) {
  WALFS_ASSIGN(const Bytes object, store.get(key, kJsonSizeMax));
  json value = json::parse(object.begin(), object.end(), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object())
    return Error{Errc::kDamaged, key + " is damaged: it is not a JSON object"};
  return value;
}

// Names of directories need not be UTF-8, which JSON demands.
std::string to_text(const json& object) {
  return object.dump(2, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace) + "\n";
}

std::string text_of(const json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

Result<Epoch> read_epoch(Store& store, uint64_t number) {
  const std::string key = epoch_key(number);
  WALFS_ASSIGN(const json object, read_json(store, key));
  Epoch epoch;
  epoch.number = number;
  const auto parent = Position::parse(text_of(object, "parent"));
  if (!parent || parent->epoch() >= number) {
    return Error{Errc::kDamaged, key + " is damaged: it names no valid parent"};
  }
  epoch.parent = *parent;
  const auto fresh = object.find("fresh");
  epoch.fresh = fresh != object.end() && fresh->is_boolean() && fresh->get<bool>();
  epoch.holder = text_of(object, "holder");
  epoch.token = text_of(object, "token");
  epoch.time_ns = parse_time(text_of(object, "time")).value_or(0);
  return epoch;
}

Result<std::vector<uint64_t>> list_epochs(Store& store) {
  std::vector<uint64_t> numbers;
  std::string after;
  while (true) {
    WALFS_ASSIGN(const auto objects, store.list(std::string(kEpochPrefix), after, kListLimit));
    for (const ObjectInfo& object : objects) {
      if (const auto number = parse_epoch_key(object.key)) numbers.push_back(*number);
    }
    if (objects.size() < kListLimit) return numbers;
    after = objects.back().key;
  }
}

}  // namespace

std::string random_token() {
  std::array<uint8_t, 16> raw{};
  if (getrandom(raw.data(), raw.size(), 0) != static_cast<ssize_t>(raw.size())) std::abort();
  return to_hex(raw);
}

Result<std::string> read_volume(Store& store) {
  auto object = read_json(store, std::string(kVolumeKey));
  if (!object.ok()) {
    if (object.error().code != Errc::kNothingThere) return object.error();
    return Error{Errc::kNothingThere, "there is no walfs replica at " + store.describe()};
  }
  const auto version = object->find("format");
  if (version == object->end() || !version->is_number_integer() || *version != kFormatVersion) {
    return Error{Errc::kUnsupported,
                 "the replica at " + store.describe() +
                     " has a format that this walfs does not know; use a newer walfs"};
  }
  std::string id = text_of(*object, "volume");
  if (id.empty()) return Error{Errc::kDamaged, "volume.json is damaged: it names no volume"};
  return id;
}

Result<std::string> create_volume(Store& store, const std::string& id) {
  const json object = {
      {"format", kFormatVersion}, {"volume", id}, {"created", format_time(now_ns())}};
  const std::string text = to_text(object);
  const Status put = store.put(std::string(kVolumeKey), ObjectBody::of(text), PutMode::kIfAbsent);
  if (!put.ok() && put.error().code != Errc::kConflict) return put.error();
  return read_volume(store);
}

Result<std::vector<Epoch>> read_epochs(Store& store) {
  WALFS_ASSIGN(const std::vector<uint64_t> numbers, list_epochs(store));
  std::vector<Epoch> epochs;
  for (const uint64_t number : numbers) {
    WALFS_ASSIGN(Epoch epoch, read_epoch(store, number));
    epochs.push_back(std::move(epoch));
  }
  return epochs;
}

Result<std::optional<Epoch>> read_newest_epoch(Store& store) {
  WALFS_ASSIGN(const std::vector<uint64_t> numbers, list_epochs(store));
  if (numbers.empty()) return std::optional<Epoch>();
  WALFS_ASSIGN(Epoch epoch, read_epoch(store, numbers.back()));
  return std::optional<Epoch>(std::move(epoch));
}

Status claim_epoch(Store& store, const Epoch& epoch) {
  const json object = {{"epoch", epoch.number}, {"parent", epoch.parent.to_string()},
                       {"fresh", epoch.fresh},  {"holder", epoch.holder},
                       {"token", epoch.token},  {"time", format_time(epoch.time_ns)}};
  const std::string text = to_text(object);
  Status put = store.put(epoch_key(epoch.number), ObjectBody::of(text), PutMode::kIfAbsent);
  if (put.ok() || put.error().code != Errc::kConflict) return put;
  WALFS_ASSIGN(const Epoch holder, read_epoch(store, epoch.number));
  if (holder.token == epoch.token) return {};  // Our own claim, whose answer was lost.
  return Error{Errc::kConflict, "the replica at " + store.describe() + " was claimed by " +
                                    holder.holder + " at " + format_time(holder.time_ns) +
                                    "; two writers must not share a replica"};
}

}  // namespace walfs
