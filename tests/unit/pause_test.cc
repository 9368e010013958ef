#include "fs/tracking/pause.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

namespace walfs {
namespace {

TEST(Pause, OutlivesTheServerThatBeganIt) {
  const auto state = std::make_unique<Pause::State>();
  EXPECT_FALSE(Pause(*state).paused());
  EXPECT_TRUE(Pause(*state).status().is_null());
  Pause(*state).begin(Pause::kAsked);
  Pause next(*state);
  EXPECT_TRUE(next.paused());
  EXPECT_TRUE(next.has(Pause::kAsked));
  EXPECT_EQ(next.status()["reasons"], nlohmann::json({"asked"}));
  next.end(Pause::kAsked);
  EXPECT_FALSE(Pause(*state).paused());
}

TEST(Pause, LastsUntilTheLastReasonIsGone) {
  const auto state = std::make_unique<Pause::State>();
  Pause pause(*state);
  pause.begin(Pause::kSpoolFull);
  const std::string since = pause.since();
  pause.begin(Pause::kAsked);
  pause.end(Pause::kSpoolFull);
  EXPECT_TRUE(pause.paused());
  EXPECT_EQ(pause.since(), since);
  pause.end(Pause::kSpoolFull);
  EXPECT_TRUE(pause.paused());
  pause.end(Pause::kAsked);
  EXPECT_FALSE(pause.paused());
}

TEST(Pause, SaysWhatIsWrongWithTheSpoolAndHowOftenInARow) {
  const auto state = std::make_unique<Pause::State>();
  Pause pause(*state);
  for (uint32_t time = 1; time <= 3; ++time) {
    pause.begin(Pause::kSpoolFault,
                "cannot write: No space left on device" + std::string(500, '.'));
    EXPECT_EQ(pause.in_a_row(), time);
    EXPECT_TRUE(pause.fault().starts_with("cannot write: No space left on device."));
    EXPECT_NE(pause.why().find("No space left"), std::string::npos);
    pause.end(Pause::kSpoolFault);
    EXPECT_EQ(pause.fault(), "");
  }
  pause.caught_up();
  EXPECT_EQ(pause.in_a_row(), 0U);
}

}  // namespace
}  // namespace walfs
