// Where a test keeps its replica: a directory, or the S3 service of scripts/s3-server.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>

namespace walfs::test {

enum class Place { kDirectory, kS3 };

// The service's address. Sets the environment by which programs find its credentials. Fails the
// test where there is no service: a skipped test would look like a passed one.
inline std::string s3_endpoint() {
  const char* endpoint = std::getenv("WALFS_TEST_S3_ENDPOINT");
  EXPECT_NE(endpoint, nullptr) << "WALFS_TEST_S3_ENDPOINT is not set; start scripts/s3-server";
  setenv("AWS_ACCESS_KEY_ID", "testak", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "testsk", 1);
  return endpoint != nullptr ? endpoint : "http://unset.invalid";
}

// A place of its own in the tests' bucket, which the tests of the store make.
inline std::string s3_url(const std::string& endpoint) {
  std::random_device random;
  return "s3://walfs-test/e2e-" + std::to_string(random()) + "-" + std::to_string(random()) +
         "?region=us-east-1&endpoint=" + endpoint;
}

// "" names a directory beside the one that is mounted (ReplicatedDirectory).
inline std::string replica_url(Place place) {
  return place == Place::kS3 ? s3_url(s3_endpoint()) : "";
}

}  // namespace walfs::test
