#include "replicator/stores/s3_xml.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <pugixml.hpp>
#include <sstream>

#include "replicator/stores/uri.h"
#include "replicator/time.h"

namespace walfs {
namespace {

constexpr size_t kMaxTokenSize = 4096;
constexpr size_t kMaxMessageSize = 300;

// pugixml reads no external entities and expands none but the five of XML itself.
bool load(pugi::xml_document& document, ByteView xml) {
  if (xml.empty() || xml.size() > kMaxS3XmlSize) return false;
  return document.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8)
             .status == pugi::status_ok;
}

// Elements are found by their local name: some services add a namespace prefix, most do not.
bool is_named(const pugi::xml_node& node, const char* name) {
  const char* colon = std::strchr(node.name(), ':');
  return std::strcmp(colon != nullptr ? colon + 1 : node.name(), name) == 0;
}

pugi::xml_node child(const pugi::xml_node& parent, const char* name) {
  return parent.find_child([name](const pugi::xml_node& node) { return is_named(node, name); });
}

std::string text_of(const pugi::xml_node& parent, const char* name) {
  return child(parent, name).child_value();
}

std::string printable(std::string text, size_t size_max) {
  text.resize(std::min(text.size(), size_max));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c >= 0x7f; }, ' ');
  return text;
}

Error damaged_answer(const char* what) {
  return Error{Errc::kDamaged, what};
}

Result<S3ListEntry> parse_entry(const pugi::xml_node& node, bool encoded) {
  S3ListEntry entry{text_of(node, "Key"), 0, 0};
  if (encoded) {
    auto decoded = uri_decode(entry.key, Plus::kSpace);
    if (!decoded) return damaged_answer("the store's list holds a wrongly encoded key");
    entry.key = std::move(*decoded);
  }
  const auto size = parse_decimal(text_of(node, "Size"));
  if (entry.key.empty() || !size)
    return damaged_answer("the store's list holds an entry without key or size");
  entry.size = *size;
  entry.modified_ns = parse_time(text_of(node, "LastModified")).value_or(0);
  return entry;
}

}  // namespace

std::optional<uint64_t> parse_decimal(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<S3ListPage> parse_s3_list(ByteView xml) {
  pugi::xml_document document;
  if (!load(document, xml) || !is_named(document.document_element(), "ListBucketResult")) {
    return damaged_answer("the store's answer is not a list of objects");
  }
  const pugi::xml_node root = document.document_element();
  const bool encoded = text_of(root, "EncodingType") == "url";
  S3ListPage page;
  for (const pugi::xml_node& node : root.children()) {
    if (!is_named(node, "Contents")) continue;
    if (page.entries.size() == kMaxS3ListPage)
      return damaged_answer("the store's list is too long");
    WALFS_ASSIGN(S3ListEntry entry, parse_entry(node, encoded));
    page.entries.push_back(std::move(entry));
  }
  page.truncated = text_of(root, "IsTruncated") == "true";
  page.next_token = text_of(root, "NextContinuationToken");
  if (page.next_token.size() > kMaxTokenSize || (page.truncated && page.next_token.empty())) {
    return damaged_answer("the store's list does not say how it continues");
  }
  return page;
}

std::optional<S3ErrorBody> parse_s3_error(ByteView xml) {
  pugi::xml_document document;
  if (!load(document, xml) || !is_named(document.document_element(), "Error")) return std::nullopt;
  const pugi::xml_node root = document.document_element();
  S3ErrorBody body{printable(text_of(root, "Code"), 64),
                   printable(text_of(root, "Message"), kMaxMessageSize),
                   printable(text_of(root, "Region"), 64)};
  const auto is_odd = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.';
  };
  std::replace_if(body.code.begin(), body.code.end(), is_odd, '?');
  return body;
}

Result<std::string> parse_s3_upload_id(ByteView xml) {
  pugi::xml_document document;
  if (load(document, xml) &&
      is_named(document.document_element(), "InitiateMultipartUploadResult")) {
    std::string id = text_of(document.document_element(), "UploadId");
    if (!id.empty() && id.size() <= kMaxTokenSize) return id;
  }
  return damaged_answer("the store's answer names no multipart upload");
}

std::string s3_complete_request(const std::vector<std::string>& etags) {
  pugi::xml_document document;
  pugi::xml_node root = document.append_child("CompleteMultipartUpload");
  for (size_t i = 0; i < etags.size(); ++i) {
    pugi::xml_node part = root.append_child("Part");
    part.append_child("PartNumber").text().set(static_cast<unsigned>(i + 1));
    part.append_child("ETag").text().set(etags[i].c_str());
  }
  std::ostringstream out;
  document.save(out, "", pugi::format_raw | pugi::format_no_declaration);
  return out.str();
}

}  // namespace walfs
