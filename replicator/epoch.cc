#include "replicator/epoch.h"

#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "replicator/hash.h"
#include "replicator/keys.h"
#include "replicator/stores/list_objects.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;

constexpr uint64_t kJsonSizeMax = 2 << 20;
constexpr size_t kEarlierMax = 20'000;  // The newest ones, some 40 bytes each.
constexpr uint64_t kMissingEpochsMax = 1000;

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

struct Claim {
  Epoch epoch;
  std::vector<Epoch> earlier;  // Ascending; without what is for people.
};

// Each is [number, parent, fresh].
std::optional<std::vector<Epoch>> parse_earlier(const json& object, uint64_t before) {
  std::vector<Epoch> earlier;
  const auto field = object.find("earlier");
  if (field == object.end()) return earlier;
  if (!field->is_array()) return std::nullopt;
  for (const json& entry : *field) {
    if (!entry.is_array() || entry.size() != 3 || !entry[0].is_number_unsigned() ||
        !entry[1].is_string() || !entry[2].is_boolean())
      return std::nullopt;
    Epoch epoch;
    epoch.number = entry[0].get<uint64_t>();
    const auto parent = Position::parse(entry[1].get<std::string>());
    if (!parent || parent->epoch() >= epoch.number || epoch.number >= before ||
        (!earlier.empty() && epoch.number <= earlier.back().number))
      return std::nullopt;
    epoch.parent = *parent;
    epoch.fresh = entry[2].get<bool>();
    earlier.push_back(std::move(epoch));
  }
  return earlier;
}

Result<Claim> read_claim(Store& store, uint64_t number) {
  const std::string key = epoch_key(number);
  WALFS_ASSIGN(const json object, read_json(store, key));
  Claim claim;
  Epoch& epoch = claim.epoch;
  epoch.number = number;
  const auto parent = Position::parse(text_of(object, "parent"));
  if (!parent || parent->epoch() >= number) return damaged(key, "it names no valid parent");
  epoch.parent = *parent;
  const auto fresh = object.find("fresh");
  epoch.fresh = fresh != object.end() && fresh->is_boolean() && fresh->get<bool>();
  epoch.holder = text_of(object, "holder");
  epoch.token = text_of(object, "token");
  epoch.time_ns = parse_time(text_of(object, "time")).value_or(0);
  auto earlier = parse_earlier(object, number);
  if (!earlier) return damaged(key, "what it says of earlier epochs cannot be");
  claim.earlier = *std::move(earlier);
  return claim;
}

Result<std::vector<uint64_t>> list_epochs(Store& store) {
  std::vector<uint64_t> numbers;
  WALFS_TRY(for_each_object(store, std::string(kEpochPrefix), "", [&](const ObjectInfo& object) {
    if (const auto number = parse_epoch_key(object.key)) numbers.push_back(*number);
    return true;
  }));
  return numbers;
}

// `earlier` ascend, and are those before the epoch.
std::string claim_text(const Epoch& epoch, const std::vector<Epoch>& earlier) {
  json entries = json::array();
  const size_t first = earlier.size() - std::min(earlier.size(), kEarlierMax);
  for (size_t i = first; i < earlier.size(); ++i)
    entries.push_back({earlier[i].number, earlier[i].parent.to_string(), earlier[i].fresh});
  std::string text = to_text({{"epoch", epoch.number},
                              {"parent", epoch.parent.to_string()},
                              {"fresh", epoch.fresh},
                              {"holder", epoch.holder},
                              {"token", epoch.token},
                              {"time", format_time(epoch.time_ns)}});
  if (entries.empty()) return text;
  // In one line: it may be long.
  text.resize(text.rfind("\n}"));
  return text + ",\n  \"earlier\": " + entries.dump() + "\n}\n";
}

bool is_of(const Epoch& claim, const Epoch& writer) {
  return claim.token == writer.token ||
         (!writer.earlier_token.empty() && claim.token == writer.earlier_token);
}

// Returns the claim that the store has then: this one, or one of the same writer that came first.
Result<Epoch> put_claim(Store& store, const Epoch& epoch, const std::vector<Epoch>& earlier) {
  const std::string text = claim_text(epoch, earlier);
  Status put = store.put(epoch_key(epoch.number), ObjectBody::of(text), PutMode::kIfAbsent);
  if (put.ok()) return epoch;
  if (put.error().code != Errc::kConflict) return put.error();
  WALFS_ASSIGN(Claim holder, read_claim(store, epoch.number));
  if (is_of(holder.epoch, epoch)) return std::move(holder.epoch);
  return held_by(store, holder.epoch);
}

// No point will ever carry the number of such an epoch. What the epoch leaves of the history before
// it, they leave, too. They are added to the earlier ones.
Status claim_missing(Store& store, const Epoch& epoch, std::vector<Epoch>& earlier) {
  const uint64_t newest = earlier.empty() ? 0 : earlier.back().number;
  if (epoch.number - newest > kMissingEpochsMax) {
    return Error{Errc::kDamaged, "the replica at " + store.describe() +
                                     " is damaged: its newest epochs are missing"};
  }
  Epoch missing = epoch;
  missing.fresh = true;
  for (missing.number = newest + 1; missing.number < epoch.number; ++missing.number) {
    missing.parent = epoch.parent.epoch() < missing.number ? epoch.parent : Position{};
    WALFS_ASSIGN(Epoch claimed, put_claim(store, missing, earlier));
    earlier.push_back(std::move(claimed));
  }
  return {};
}

// Puts the claim again, which must fail. A store that takes it has the same claim as before.
Result<Fencing> find_fencing(Store& store, const Epoch& epoch, const std::vector<Epoch>& earlier) {
  if (!store.has_conditional_put()) return Fencing::kRefused;
  const std::string text = claim_text(epoch, earlier) + "\n";
  const Status again = store.put(epoch_key(epoch.number), ObjectBody::of(text), PutMode::kIfAbsent);
  if (again.ok()) return Fencing::kIgnored;
  if (again.error().code == Errc::kConflict) return Fencing::kConditionalPut;
  return again.error();
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

// What the newest claim does not tell of is of older versions, or has become too much.
Result<std::vector<Epoch>> read_epochs(Store& store) {
  WALFS_ASSIGN(const std::vector<uint64_t> numbers, list_epochs(store));
  if (numbers.empty()) return std::vector<Epoch>();
  WALFS_ASSIGN(Claim newest, read_claim(store, numbers.back()));
  std::map<uint64_t, Epoch> epochs;
  for (Epoch& epoch : newest.earlier) epochs.emplace(epoch.number, std::move(epoch));
  epochs.emplace(newest.epoch.number, std::move(newest.epoch));
  for (const uint64_t number : numbers) {
    if (epochs.contains(number)) continue;
    WALFS_ASSIGN(Claim claim, read_claim(store, number));
    epochs.emplace(number, std::move(claim.epoch));
  }
  std::vector<Epoch> all;
  all.reserve(epochs.size());
  for (auto& [number, epoch] : epochs) all.push_back(std::move(epoch));
  return all;
}

Result<std::optional<Epoch>> read_newest_epoch(Store& store) {
  WALFS_ASSIGN(const std::vector<uint64_t> numbers, list_epochs(store));
  if (numbers.empty()) return std::optional<Epoch>();
  WALFS_ASSIGN(Claim claim, read_claim(store, numbers.back()));
  return std::optional<Epoch>(std::move(claim.epoch));
}

std::string describe(Fencing fencing) {
  switch (fencing) {
    case Fencing::kUnclaimed:
      return "unknown: the store could not be reached yet";
    case Fencing::kConditionalPut:
      return "conditional-put";
    case Fencing::kIgnored:
      return "none: the store ignores the condition of a conditional PUT";
    case Fencing::kRefused:
      return "none: the store has no conditional PUT";
  }
  std::abort();
}

Error held_by(const Store& store, const Epoch& holder) {
  return Error{Errc::kConflict, "the replica at " + store.describe() + " is written by " +
                                    holder.holder + " since " + format_time(holder.time_ns) +
                                    "; if that one has ended for good, mount with --take-over"};
}

Result<Fencing> claim_epoch(Store& store, const Epoch& epoch) {
  WALFS_ASSIGN(std::vector<Epoch> epochs, read_epochs(store));
  if (!epochs.empty() && epochs.back().number >= epoch.number) {
    if (epochs.back().token != epoch.token) return held_by(store, epochs.back());
    epochs.pop_back();
  } else {
    // The number before was free when this one was chosen.
    if (!epoch.earlier_token.empty() && !epochs.empty() &&
        epochs.back().number + 1 == epoch.number && !is_of(epochs.back(), epoch))
      return held_by(store, epochs.back());
    WALFS_TRY(claim_missing(store, epoch, epochs));
    WALFS_TRY(put_claim(store, epoch, epochs));
  }
  WALFS_ASSIGN(const Fencing fencing, find_fencing(store, epoch, epochs));
  if (fencing != Fencing::kConditionalPut) {
    spdlog::warn(
        "the replica at {} is not protected from a second writer ({}): two that begin at the same "
        "time both write to it; make sure that only one does",
        store.describe(), describe(fencing));
  }
  return fencing;
}

}  // namespace walfs
