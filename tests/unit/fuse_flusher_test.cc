#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "fs/mount/flusher.h"
#include "fs/mount/process.h"
#include "tests/support/child_process.h"

namespace walfs::test {
namespace {

FileDescriptor some_directory() {
  return FileDescriptor(open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

TEST(Flusher, TellsTheServerOfEachInstantWithTheBarriersItCompletes) {
  auto channel = make_channel();
  ASSERT_TRUE(channel);
  std::atomic<uint64_t> order = 7;
  Flusher flusher(some_directory(), order);
  EXPECT_TRUE(flusher.on_server_message({{"barrier", 42}, {"paths", nlohmann::json::array()}}));
  flusher.tick(channel->second.get());
  auto message = receive_message(channel->first.get(), 1000);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->at("tokens"), nlohmann::json::array({42}));
}

TEST(Flusher, DoesNotWaitForAServerThatIsBehind) {
  auto channel = make_channel();
  ASSERT_TRUE(channel);
  const int flusher_end = channel->second.get();
  ASSERT_EQ(fcntl(flusher_end, F_SETFL, O_NONBLOCK), 0);
  int sent = 0;
  while (send_message(flusher_end, {{"filler", "text"}})) ++sent;
  ASSERT_GT(sent, 0);
  ASSERT_EQ(fcntl(flusher_end, F_SETFL, 0), 0);
  EXPECT_EQ(run_in_child([&] {
              std::atomic<uint64_t> order = 7;
              Flusher flusher(some_directory(), order);
              flusher.on_server_message({{"barrier", 42}, {"paths", nlohmann::json::array()}});
              flusher.tick(flusher_end);
              // Once the server has caught up, it hears of the barrier.
              for (int i = 0; i < sent; ++i)
                if (!receive_message(channel->first.get(), 1000)) return 1;
              flusher.tick(flusher_end);
              auto message = receive_message(channel->first.get(), 1000);
              return message && message->value("tokens", nlohmann::json()).size() == 1 ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace walfs::test
