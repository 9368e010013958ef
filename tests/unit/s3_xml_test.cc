#include "replicator/stores/s3_xml.h"

#include <gtest/gtest.h>

namespace walfs {
namespace {

std::string list(const std::string& inside) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
         "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" +
         inside + "</ListBucketResult>";
}

std::string entry(const std::string& key, const std::string& size) {
  return "<Contents><Key>" + key + "</Key><Size>" + size + "</Size></Contents>";
}

Result<S3ListPage> parse(const std::string& inside) {
  return parse_s3_list(as_bytes(list(inside)));
}

TEST(S3List, ReadsKeysAndSizesInTheirOrder) {
  const auto page = parse("<IsTruncated>false</IsTruncated>" + entry("b", "3") + entry("a", "0"));
  ASSERT_TRUE(page.ok()) << page.error().message;
  ASSERT_EQ(page.value().entries.size(), 2U);
  EXPECT_EQ(page.value().entries[0].key, "b");
  EXPECT_EQ(page.value().entries[0].size, 3U);
  EXPECT_EQ(page.value().entries[1].key, "a");
  EXPECT_FALSE(page.value().truncated);
}

TEST(S3List, TellsWhenObjectsWereWritten) {
  const auto at = [](const std::string& time) {
    const std::string key = "<Contents><Key>k</Key><Size>1</Size>";
    return parse(key + "<LastModified>" + time + "</LastModified></Contents>")
        .value()
        .entries[0]
        .modified_ns;
  };
  EXPECT_EQ(at("2026-03-01T12:30:05.250Z"), 1772368205250000000);
  EXPECT_EQ(at("2026-03-01T12:30:05Z"), 1772368205000000000);
  EXPECT_EQ(at("yesterday"), 0);
  EXPECT_EQ(parse(entry("k", "1")).value().entries[0].modified_ns, 0);
}

TEST(S3List, IsEmptyWithoutContents) {
  const auto page = parse("<KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>");
  ASSERT_TRUE(page.ok());
  EXPECT_TRUE(page.value().entries.empty());
}

TEST(S3List, DecodesKeysOnlyWhenTheAnswerSaysSo) {
  EXPECT_EQ(parse(entry("a%2Bb+c", "1")).value().entries[0].key, "a%2Bb+c");
  EXPECT_EQ(
      parse("<EncodingType>url</EncodingType>" + entry("a%2Bb+c", "1")).value().entries[0].key,
      "a+b c");
}

TEST(S3List, UnderstandsTheEntitiesOfXml) {
  EXPECT_EQ(parse(entry("a&amp;b&lt;&#x41;", "1")).value().entries[0].key, "a&b<A");
}

TEST(S3List, AcceptsANamespacePrefix) {
  const std::string text =
      "<s:ListBucketResult xmlns:s=\"x\"><s:Contents><s:Key>k</s:Key><s:Size>1</s:Size>"
      "</s:Contents></s:ListBucketResult>";
  EXPECT_EQ(parse_s3_list(as_bytes(text)).value().entries[0].key, "k");
}

TEST(S3List, TakesTheTokenOfATruncatedPage) {
  const auto page =
      parse("<IsTruncated>true</IsTruncated><NextContinuationToken>t/+=1</NextContinuationToken>");
  ASSERT_TRUE(page.ok());
  EXPECT_TRUE(page.value().truncated);
  EXPECT_EQ(page.value().next_token, "t/+=1");
}

TEST(S3List, RefusesATruncatedPageWithoutAToken) {
  EXPECT_EQ(parse("<IsTruncated>true</IsTruncated>").error().code, Errc::kDamaged);
}

TEST(S3List, RefusesEntriesThatAreNotWhole) {
  for (const std::string& inside :
       {entry("", "1"), entry("k", ""), entry("k", "-1"), entry("k", "1x"),
        entry("k", "99999999999999999999"), std::string("<Contents/>"),
        "<EncodingType>url</EncodingType>" + entry("%4", "1")}) {
    EXPECT_FALSE(parse(inside).ok()) << inside;
  }
}

TEST(S3List, RefusesMoreKeysThanAPageHolds) {
  std::string inside;
  for (size_t i = 0; i <= kMaxS3ListPage; ++i) inside += entry("k", "1");
  EXPECT_EQ(parse(inside).error().code, Errc::kDamaged);
}

TEST(S3List, RefusesOtherDocuments) {
  for (const char* text :
       {"", "x", "<a>", "<html></html>", "<Error><Code>X</Code></Error>", "{\"list\": []}"}) {
    EXPECT_EQ(parse_s3_list(as_bytes(text)).error().code, Errc::kDamaged) << text;
  }
}

TEST(S3List, RefusesADocumentOverTheLimit) {
  std::string text = list("");
  text.append(kMaxS3XmlSize, ' ');
  EXPECT_FALSE(parse_s3_list(as_bytes(text)).ok());
}

TEST(S3Error, ReadsCodeMessageAndRegion) {
  const auto error = parse_s3_error(
      as_bytes("<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code>"
               "<Message>wrong region</Message><Region>eu-west-1</Region></Error>"));
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, "AuthorizationHeaderMalformed");
  EXPECT_EQ(error->message, "wrong region");
  EXPECT_EQ(error->region, "eu-west-1");
}

TEST(S3Error, CannotCarryControlCharactersIntoALog) {
  const auto error = parse_s3_error(
      as_bytes("<Error><Code>A\x1b[31m</Code><Message>one\ntwo\x1b[0m</Message></Error>"));
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, "A??31m");
  EXPECT_EQ(error->message, "one two [0m");
}

TEST(S3Error, BoundsTheMessage) {
  const auto error =
      parse_s3_error(as_bytes("<Error><Message>" + std::string(10000, 'x') + "</Message></Error>"));
  ASSERT_TRUE(error.has_value());
  EXPECT_LE(error->message.size(), 300U);
}

TEST(S3Error, IsNothingForASuccess) {
  EXPECT_FALSE(parse_s3_error(as_bytes("<CompleteMultipartUploadResult/>")).has_value());
  EXPECT_FALSE(parse_s3_error({}).has_value());
}

TEST(S3Multipart, ReadsTheUploadId) {
  const auto id = parse_s3_upload_id(as_bytes(
      "<InitiateMultipartUploadResult><UploadId>2~abc</UploadId></InitiateMultipartUploadResult>"));
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(id.value(), "2~abc");
  EXPECT_FALSE(parse_s3_upload_id(as_bytes("<InitiateMultipartUploadResult/>")).ok());
}

TEST(S3Multipart, NumbersThePartsFromOne) {
  EXPECT_EQ(s3_complete_request({"\"a\"", "b&"}),
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part>"
            "<Part><PartNumber>2</PartNumber><ETag>b&amp;</ETag></Part></CompleteMultipartUpload>");
}

}  // namespace
}  // namespace walfs
