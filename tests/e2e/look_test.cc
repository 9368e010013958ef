// ls and cat: looking into a replica without restoring it.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/crowd.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Look : public ::testing::Test {
 protected:
  Look() {
    fs::create_directory(directory_.source() + "/uploads");
    fs::create_directory(directory_.beside("tmp"));
    write("small", "of the first upload");
    write("uploads/large", std::string(300000, 'l') + "end");
    directory_.mount({"--sync-interval", "50ms"});
    before_ = directory_.sync();
    CrowdDatabase database(directory_.path("x.db"), {"wal", "NORMAL"});
    EXPECT_TRUE(database.run("CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(50000))"));
    write("small", "written later");
    fs::create_symlink("uploads/large", directory_.path("link"));
    directory_.sync();
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_.source() + "/" + name) << text;
  }

  Output run(const std::string& command, std::vector<std::string> words = {}) {
    words.insert(words.begin(), {"env", "TMPDIR=" + directory_.beside("tmp"), walfs_binary(),
                                 command, directory_.url()});
    return run_program(words, Seconds(60));
  }
  json files(std::vector<std::string> words = {}) {
    words.emplace_back("--json");
    const Output listed = run("ls", words);
    EXPECT_EQ(listed.status, 0) << listed.text;
    return json::parse(listed.text, nullptr, false).value("files", json::array());
  }
  static std::vector<std::string> paths(const json& files) {
    std::vector<std::string> found;
    for (const json& file : files) found.push_back(file.value("path", ""));
    return found;
  }
  void expect_nothing_left() const { EXPECT_TRUE(fs::is_empty(directory_.beside("tmp"))); }

  ReplicatedDirectory directory_{{}, ReplicatedDirectory::Where::kOverItself};
  std::string before_;
};

using Paths = std::vector<std::string>;

TEST_F(Look, ListsWhatTheDirectoryHas) {
  const json all = files();
  EXPECT_EQ(paths(all), (Paths{"link", "small", "uploads", "uploads/large", "x.db"}));
  for (const json& file : all) {
    const std::string path = directory_.path(file.value("path", ""));
    if (file.value("type", "") == "file") {
      EXPECT_EQ(file.value("size", 0U), fs::file_size(path)) << path;
    }
    EXPECT_EQ(file.value("database", false), file.value("path", "") == "x.db");
  }
  EXPECT_EQ(all[0].value("target", ""), "uploads/large");
  EXPECT_EQ(paths(files({"uploads"})), (Paths{"uploads", "uploads/large"}));
  EXPECT_EQ(paths(files({"/uploads/large/"})), Paths{"uploads/large"});
  const Output text = run("ls", {"link"});
  EXPECT_TRUE(text.text.starts_with("lrwxrwxrwx ")) << text.text;
  EXPECT_NE(text.text.find("  link -> uploads/large\n"), std::string::npos) << text.text;
}

TEST_F(Look, ListsAndPrintsWhatWasThereBefore) {
  EXPECT_EQ(paths(files({"--at", before_})), (Paths{"small", "uploads", "uploads/large"}));
  EXPECT_EQ(run("cat", {"small", "--at", before_}).text, "of the first upload");
  EXPECT_EQ(run("cat", {"small"}).text, "written later");
  EXPECT_EQ(run("cat", {"small", "--at", "0 seconds ago"}).text, "written later");
  const Output too_old = run("ls", {"--at", "1 week ago"});
  EXPECT_EQ(too_old.status, 3) << too_old.text;
  expect_nothing_left();
}

TEST_F(Look, PrintsFilesByteForByte) {
  EXPECT_EQ(run("cat", {"uploads/large"}).text, std::string(300000, 'l') + "end");
  const std::string copy = directory_.beside("copy.db");
  const Output printed = run_program(
      {"sh", "-c", walfs_binary() + " cat '" + directory_.url() + "' x.db > '" + copy + "'"});
  EXPECT_EQ(printed.status, 0) << printed.text;
  CrowdDatabase database(copy, {"delete", "FULL"});
  EXPECT_EQ(database.text("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(database.ask("SELECT sum(length(a)) FROM t"), 50000);
  expect_nothing_left();
}

TEST_F(Look, SaysWhatIsNotThereOrHasNoContent) {
  for (const char* command : {"ls", "cat"}) {
    const Output missing = run(command, {"uploads/other"});
    EXPECT_EQ(missing.status, 3) << missing.text;
    EXPECT_NE(missing.text.find("there is no uploads/other in the replica"), std::string::npos);
  }
  const Output directory = run("cat", {"uploads"});
  EXPECT_EQ(directory.status, 2) << directory.text;
  EXPECT_NE(directory.text.find("uploads is a directory"), std::string::npos) << directory.text;
  EXPECT_EQ(run("cat").status, 2);
  EXPECT_EQ(run("ls", {"--at", "yesterday"}).status, 2);
}

TEST_F(Look, PrintsNothingOfADamagedFile) {
  for (const auto& entry : fs::recursive_directory_iterator(directory_.beside("replica/chunks"))) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('?');
  }
  const Output printed =
      run_program({"sh", "-c",
                   "TMPDIR='" + directory_.beside("tmp") + "' " + walfs_binary() + " cat '" +
                       directory_.url() + "' uploads/large 2>/dev/null"});
  EXPECT_EQ(printed.status, 1);
  EXPECT_EQ(printed.text, "");
  expect_nothing_left();
}

}  // namespace
}  // namespace walfs::test
