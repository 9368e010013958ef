// Whether replication is paused, and why: kept in memory that outlives the server.
//
// A server that is to pause says so here and hands over; the next one sees it and captures nothing
// (paused_volume.h). When no reason is left, that one hands over in the same way. Between any two
// stores the server may die.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace walfs {

class Pause {
 public:
  // Several may hold at once.
  enum Reason : uint32_t {
    kAsked = 1,       // Until somebody says otherwise.
    kSpoolFull = 2,   // Until the store has taken half of it.
    kSpoolFault = 4,  // It cannot be written (the disk is full); until it can.
  };
  // Zero: not paused.
  struct State {
    std::atomic<uint32_t> reasons;
    std::atomic<uint32_t> in_a_row;  // How often for the spool before everything was compared.
    std::atomic<int64_t> since_ns;
    std::array<char, 256> fault;  // What was said then.
  };

  explicit Pause(State& state) : state_(state) {}

  bool paused() const { return state_.reasons != 0; }
  bool has(Reason reason) const { return (state_.reasons & reason) != 0; }
  // `fault` says what is wrong with the spool. Logs the pause's beginning and its end.
  void begin(Reason reason, const std::string& fault = {});
  void end(Reason reason);
  uint32_t in_a_row() const { return state_.in_a_row; }
  void caught_up() { state_.in_a_row = 0; }

  // One clause: "the spool is full".
  std::string why() const;
  std::string fault() const;
  std::string since() const;
  // {"why", "reasons", "since"}, or null.
  nlohmann::json status() const;

 private:
  State& state_;
};

}  // namespace walfs
