// What the fuzzer of the S3 protocol's texts checks, usable without libFuzzer.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/stores/retry_policy.h"
#include "replicator/stores/s3_xml.h"
#include "replicator/stores/store_url.h"
#include "replicator/stores/uri.h"

namespace walfs::fuzz {

inline void require_s3(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

inline void check_s3_documents(ByteView xml) {
  if (const auto page = parse_s3_list(xml); page.ok()) {
    require_s3(page.value().entries.size() <= kMaxS3ListPage, "a page is bounded");
    require_s3(!page.value().truncated || !page.value().next_token.empty(), "it can be continued");
    for (const S3ListEntry& entry : page.value().entries) {
      require_s3(!entry.key.empty() && entry.key.size() <= xml.size(), "keys come from the text");
    }
  } else {
    require_s3(page.error().code == Errc::kDamaged, "damage is called so");
  }
  if (const auto error = parse_s3_error(xml)) {
    require_s3(error->code.size() <= 64 && error->message.size() <= 300, "texts are bounded");
    for (const char c : error->code + error->message + error->region) {
      require_s3(c >= ' ' && c < 0x7f, "texts are printable");
    }
  }
  if (const auto id = parse_s3_upload_id(xml); id.ok()) {
    require_s3(!id.value().empty(), "an upload has a name");
  }
}

// The same bytes as the other small texts that come from a server or a user.
inline void check_s3_texts(std::string_view text) {
  if (const auto decoded = uri_decode(text, Plus::kPlus)) {
    require_s3(uri_decode(uri_encode(*decoded, Slashes::kEncode), Plus::kSpace) == decoded,
               "encoding is undone by decoding");
  }
  const std::string copy(text);
  require_s3(parse_retry_after_ms(copy) <= 3600U * 1000, "a wait is bounded");
  static_cast<void>(parse_http_date(copy));
  const auto url = parse_store_url(text);
  if (!url.ok()) {
    require_s3(url.error().code == Errc::kUsage, "a wrong URL is a usage error");
  } else if (const auto* s3 = std::get_if<S3Url>(&url.value())) {
    const auto again = parse_store_url(to_string(*s3));
    require_s3(again.ok() && to_string(std::get<S3Url>(again.value())) == to_string(*s3),
               "a URL reads its own text");
  }
}

}  // namespace walfs::fuzz
