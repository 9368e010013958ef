#include "replicator/stores/store_url.h"

#include <algorithm>
#include <cctype>

#include "replicator/stores/object_key.h"
#include "replicator/stores/uri.h"

namespace walfs {
namespace {

constexpr std::string_view kFileForm = "file:///absolute/directory";
constexpr std::string_view kS3Form = "s3://bucket/prefix?endpoint=https://host&region=name";

Error usage(const std::string& what, std::string_view form) {
  return Error{Errc::kUsage, what + "; write it like " + std::string(form)};
}

bool all_of(std::string_view text, std::string_view extra) {
  return std::all_of(text.begin(), text.end(), [extra](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           extra.find(c) != std::string_view::npos;
  });
}

// A part of a URL in a message.
std::string in_quotes(std::string_view text) {
  std::string out(text.substr(0, 200));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c == 0x7f; }, '?');
  return "\"" + out + "\"";
}

Result<StoreUrl> parse_file(std::string_view path) {
  if (path.empty() || path.front() != '/') {
    return usage("a file replica needs an absolute path, and " + in_quotes(path) + " is not one",
                 kFileForm);
  }
  if (path.find('?') != std::string_view::npos || path.find('\0') != std::string_view::npos) {
    return usage("a file replica takes no options, and its path cannot hold a '?'", kFileForm);
  }
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  if (path.empty()) return usage("a replica cannot be the root directory", kFileForm);
  return StoreUrl{FileUrl{std::string(path)}};
}

bool is_valid_bucket(std::string_view bucket) {
  return !bucket.empty() && bucket.size() <= 255 && all_of(bucket, "-._") && bucket[0] != '.';
}

// http[s]://host[:port][/path], without a slash at its end.
Status check_endpoint(std::string_view endpoint) {
  std::string_view rest = endpoint;
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return usage("the endpoint needs to begin with https:// or http://", kS3Form);
  }
  // Not in_quotes in the message: it may hold a password.
  if (rest.find('@') != std::string_view::npos) {
    return usage(
        "credentials do not belong into the endpoint; set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY instead",
        kS3Form);
  }
  const std::string_view host = rest.substr(0, rest.find('/'));
  if (host.empty() || !all_of(host, "-._:[]") || !all_of(rest.substr(host.size()), "-._~/")) {
    return usage("the endpoint " + in_quotes(endpoint) + " is not a URL of a host", kS3Form);
  }
  return {};
}

Status apply_option(S3Url& url, std::string_view name, const std::string& value, bool& has_style) {
  if (name == "endpoint") {
    url.endpoint = value;
    while (!url.endpoint.empty() && url.endpoint.back() == '/') url.endpoint.pop_back();
    return check_endpoint(url.endpoint);
  }
  if (name == "region") {
    if (value.empty() || value.size() > 64 || !all_of(value, "-_")) {
      return usage("the region " + in_quotes(value) + " is not a region's name", kS3Form);
    }
    url.region = value;
    return {};
  }
  if (name == "style") {
    if (value != "path" && value != "virtual") {
      return usage("style is path or virtual, not " + in_quotes(value), kS3Form);
    }
    url.path_style = value == "path";
    has_style = true;
    return {};
  }
  return usage("the option " + in_quotes(name) + " is not known (endpoint, region and style are)",
               kS3Form);
}

Status parse_options(S3Url& url, std::string_view query) {
  bool has_style = false;
  while (!query.empty()) {
    const std::string_view option = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), option.size() + 1));
    if (option.empty()) continue;
    const size_t equals = option.find('=');
    if (equals == std::string_view::npos) {
      return usage("the option " + in_quotes(option) + " has no value", kS3Form);
    }
    const auto value = uri_decode(option.substr(equals + 1), Plus::kPlus);
    if (!value) return usage("the option " + in_quotes(option) + " is wrongly encoded", kS3Form);
    WALFS_TRY(apply_option(url, option.substr(0, equals), *value, has_style));
  }
  // AWS prefers virtual hosts, but its certificate does not cover a bucket with a dot in its name.
  if (!has_style) {
    url.path_style = !url.endpoint.empty() || url.bucket.find('.') != std::string::npos;
  }
  return {};
}

Result<StoreUrl> parse_s3(std::string_view rest) {
  S3Url url;
  const std::string_view place = rest.substr(0, rest.find('?'));
  if (place.find('@') != std::string_view::npos) {
    return usage(
        "credentials do not belong into the URL; set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY instead",
        kS3Form);
  }
  url.bucket = place.substr(0, place.find('/'));
  if (url.bucket.empty()) return usage("the URL names no bucket", kS3Form);
  if (!is_valid_bucket(url.bucket)) {
    return usage(in_quotes(url.bucket) + " is not a bucket's name", kS3Form);
  }
  std::string_view prefix = place.substr(url.bucket.size());
  while (!prefix.empty() && prefix.front() == '/') prefix.remove_prefix(1);
  while (!prefix.empty() && prefix.back() == '/') prefix.remove_suffix(1);
  if (!prefix.empty() && !is_valid_key(prefix)) {
    return usage(in_quotes(prefix) + " is not a usable prefix", kS3Form);
  }
  url.prefix = prefix;
  WALFS_TRY(parse_options(url, rest.substr(std::min(rest.size(), place.size() + 1))));
  return StoreUrl{std::move(url)};
}

}  // namespace

Result<StoreUrl> parse_store_url(std::string_view url) {
  if (url.starts_with("file://")) return parse_file(url.substr(7));
  if (url.starts_with("s3://")) return parse_s3(url.substr(5));
  // Only the scheme is shown: the rest may hold credentials.
  const std::string_view scheme = url.substr(0, url.find(':'));
  if (scheme == "file") return usage("file: needs to be followed by three slashes", kFileForm);
  if (scheme == "s3") return usage("s3: needs to be followed by two slashes", kS3Form);
  if (scheme.size() == url.size()) {
    return usage("the replica needs to be a URL",
                 std::string(kFileForm) + " or " + std::string(kS3Form));
  }
  return usage(in_quotes(scheme.substr(0, 20)) + " replicas are not known, only file and s3",
               std::string(kFileForm) + " or " + std::string(kS3Form));
}

S3Target s3_target(const S3Url& url) {
  std::string endpoint =
      url.endpoint.empty() ? "https://s3." + url.region + ".amazonaws.com" : url.endpoint;
  S3Target target;
  target.scheme = endpoint.substr(0, endpoint.find(':'));
  const std::string rest = endpoint.substr(target.scheme.size() + 3);
  target.host = rest.substr(0, rest.find('/'));
  target.base_path = rest.substr(target.host.size());
  const std::string own_port = target.scheme == "https" ? ":443" : ":80";
  if (target.host.ends_with(own_port)) target.host.resize(target.host.size() - own_port.size());
  if (url.path_style) {
    target.base_path += "/" + url.bucket;
  } else {
    target.host = url.bucket + "." + target.host;
  }
  return target;
}

std::string to_string(const S3Url& url) {
  std::string out = "s3://" + url.bucket;
  if (!url.prefix.empty()) out += "/" + url.prefix;
  char separator = '?';
  const auto add = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    out += separator;
    out += std::string(name) + "=" + value;
    separator = '&';
  };
  add("endpoint", url.endpoint);
  add("region", url.region);
  const bool path_by_default = !url.endpoint.empty() || url.bucket.find('.') != std::string::npos;
  if (url.path_style != path_by_default) add("style", url.path_style ? "path" : "virtual");
  return out;
}

}  // namespace walfs
