// The page of metrics keeps the rules of the text exposition format 0.0.4, and its numbers are those of Stats.
#include "untorn/metrics.h"

#include <gtest/gtest.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "untorn/options.h"

namespace untorn {
namespace {

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};
struct Family {
  std::string type;
  std::vector<Sample> samples;
};

// Reads a page as strictly as the format says. `error` names the first line that breaks a rule.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {
    if (text.empty() || text.back() != '\n') Fail("the page does not end with a newline");
    while (!rest_.empty() && error.empty()) ReadLine();
    if (error.empty()) EndFamily();
  }

  std::map<std::string, Family> families;
  std::string error;

 private:
  static bool IsName(std::string_view s) {
    if (s.empty() || (s[0] >= '0' && s[0] <= '9')) return false;
    for (const char c : s) {
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
    }
    return true;
  }
  void Fail(const std::string& why) {
    if (error.empty()) error = why + ": " + std::string(line_);
  }
  // Takes the text before `end` from the line.
  std::optional<std::string_view> TakeUntil(char end) {
    const size_t at = left_.find(end);
    if (at == left_.npos) return std::nullopt;
    const std::string_view taken = left_.substr(0, at);
    left_.remove_prefix(at + 1);
    return taken;
  }

  void ReadLine() {
    const size_t end = rest_.find('\n');
    line_ = left_ = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    if (line_.empty()) return Fail("an empty line");
    if (line_.starts_with("# HELP ")) {
      left_.remove_prefix(7);
      EndFamily();
      const auto name = TakeUntil(' ');
      if (!name || !IsName(*name) || left_.empty()) return Fail("no help");
      if (families.contains(std::string(*name))) return Fail("a metric comes twice");
      name_ = *name;
    } else if (line_.starts_with("# TYPE ")) {
      left_.remove_prefix(7);
      const auto name = TakeUntil(' ');
      if (!name || *name != name_ || families.contains(name_)) return Fail("a type does not follow its help");
      if (left_ != "counter" && left_ != "gauge" && left_ != "histogram") return Fail("not a type");
      if ((left_ == "counter") != name_.ends_with("_total")) return Fail("only counters end in _total");
      families[name_].type = left_;
    } else {
      ReadSample();
    }
  }

  void ReadSample() {
    Sample sample;
    const auto name = TakeUntil('{');
    if (!name || !IsName(*name)) return Fail("no name");
    sample.name = *name;
    if (!families.contains(name_)) return Fail("a sample has no type");
    const bool histogram = families[name_].type == "histogram";
    if (histogram ? sample.name != name_ + "_bucket" && sample.name != name_ + "_sum" &&
                        sample.name != name_ + "_count"
                  : sample.name != name_) {
      return Fail("a sample of another metric");
    }
    while (!left_.starts_with("}")) {
      const auto label = TakeUntil('=');
      if (!label || !IsName(*label) || !left_.starts_with('"')) return Fail("no label");
      left_.remove_prefix(1);
      std::string value;
      for (; !left_.starts_with('"'); left_.remove_prefix(1)) {
        if (left_.empty()) return Fail("a label does not end");
        if (left_[0] == '\\') {
          left_.remove_prefix(1);
          if (left_.empty() || std::string_view("n\\\"").find(left_[0]) == std::string_view::npos)
            return Fail("no escape");
          value += left_[0] == 'n' ? '\n' : left_[0];
        } else {
          value += left_[0];
        }
      }
      left_.remove_prefix(1);
      if (!sample.labels.emplace(*label, value).second) return Fail("a label comes twice");
      if (!left_.starts_with("}") && !TakeUntil(',')) return Fail("labels do not end");
    }
    left_.remove_prefix(1);
    if (!left_.starts_with(' ')) return Fail("no value");
    left_.remove_prefix(1);
    const auto [end, code] = std::from_chars(left_.data(), left_.data() + left_.size(), sample.value);
    if (code != std::errc() || end != left_.data() + left_.size()) return Fail("not a number");
    for (const Sample& other : families[name_].samples) {
      if (other.name == sample.name && other.labels == sample.labels) return Fail("a sample comes twice");
    }
    families[name_].samples.push_back(sample);
  }

  // Checks what counts for all samples of a metric.
  void EndFamily() {
    if (name_.empty()) return;
    const Family& family = families[name_];
    if (family.samples.empty()) return Fail("a metric has no sample");
    if (family.type != "histogram") return;
    double count = 0, bound = 0, total = -1;
    for (const Sample& s : family.samples) {
      if (s.name == name_ + "_count") total = s.value;
      if (!s.labels.contains("le")) continue;
      const std::string& le = s.labels.at("le");
      const double next = le == "+Inf" ? INFINITY : std::stod(le);
      if (next <= bound) return Fail("buckets are not in order");
      if (s.value < count) return Fail("buckets do not add up");
      bound = next;
      count = s.value;
    }
    if (!std::isinf(bound) || count != total) return Fail("the last bucket has not all");
  }

  std::string_view rest_, line_, left_;
  std::string name_;
};

StoreInfo Info(const std::string& path = "/var/lib/app.untorn") {
  StoreInfo info;
  info.path = path;
  info.uuid = "0123";
  info.engine = "io_uring";
  info.log_bytes = 1 << 20;
  return info;
}

double ValueOf(const Reader& page, const std::string& name,
               const std::map<std::string, std::string>& labels = {}) {
  for (const auto& [family_name, family] : page.families) {
    for (const Sample& s : family.samples) {
      if (s.name != name) continue;
      bool all = true;
      for (const auto& [label, value] : labels)
        all &= s.labels.contains(label) && s.labels.at(label) == value;
      if (all) return s.value;
    }
  }
  return NAN;
}

TEST(MetricsTest, PageKeepsTheRulesOfTheFormat) {
  Stats stats;
  for (uint64_t ns = 1; ns < uint64_t{1} << 40; ns *= 3) stats.commit_latency.Add(ns);
  const Reader page(PrometheusText(Info(), stats));
  EXPECT_EQ(page.error, "");
  EXPECT_GT(page.families.size(), 40u);
}

TEST(MetricsTest, DocumentListsEveryMetricWithItsType) {
  std::ifstream in("docs/watching.md");
  std::stringstream document;
  document << in.rdbuf();
  const Reader page(PrometheusText(Info(), Stats()));
  for (const auto& [name, family] : page.families) {
    EXPECT_NE(document.str().find("| `" + name + "` | " + family.type + " |"), std::string::npos) << name;
  }
}

TEST(MetricsTest, ReaderFindsWhatBreaksARule) {
  const std::string good = "# HELP a_total A.\n# TYPE a_total counter\na_total{s=\"x\"} 1\n";
  EXPECT_EQ(Reader(good).error, "");
  EXPECT_NE(Reader(good + good).error, "");
  EXPECT_NE(Reader(good + "a_total{s=\"x\"} 2\n").error, "");
  EXPECT_NE(Reader(good + "b_total{s=\"x\"} 2\n").error, "");
  EXPECT_NE(Reader("# HELP a A.\n# TYPE a counter\na{s=\"x\"} 1\n").error, "");
  EXPECT_NE(Reader("# HELP a A.\n# TYPE a gauge\na{s=\"\\x\"} 1\n").error, "");
  EXPECT_NE(Reader("# HELP a A.\n# TYPE a gauge\na{s=\"x} 1\n").error, "");
  EXPECT_NE(Reader("# HELP a A.\n# TYPE a gauge\na{s=\"x\"} 1x\n").error, "");
  EXPECT_NE(Reader("# HELP a A.\n# TYPE a gauge\na{s=\"x\"} 1").error, "");
  const std::string histogram = "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\n";
  EXPECT_NE(Reader(histogram).error, "");
  EXPECT_EQ(Reader(histogram + "h_bucket{le=\"+Inf\"} 2\nh_sum{} 1\nh_count{} 2\n").error, "");
  EXPECT_NE(Reader(histogram + "h_bucket{le=\"+Inf\"} 1\nh_sum{} 1\nh_count{} 1\n").error, "");
  EXPECT_NE(Reader(histogram + "h_bucket{le=\"+Inf\"} 3\nh_sum{} 1\nh_count{} 2\n").error, "");
}

TEST(MetricsTest, EverySampleNamesItsStoreWhateverThePathHas) {
  const struct {
    std::string path, label;
  } cases[] = {
      {"/a/b.untorn", "/a/b.untorn"},
      {"a \"b\"\\n\n,} 1", "a \"b\"\\n\n,} 1"},
      {"größe €\xf0\x9f\x8e\x88", "größe €\xf0\x9f\x8e\x88"},
      {"\xff|\xc3|\xe2\x82|\xed\xa0\x80|\xc0\x80", "\\xff|\\xc3|\\xe2\\x82|\\xed\\xa0\\x80|\\xc0\\x80"}};
  for (const auto& c : cases) {
    const Reader page(PrometheusText(Info(c.path), Stats()));
    ASSERT_EQ(page.error, "");
    for (const auto& [name, family] : page.families) {
      for (const Sample& s : family.samples) EXPECT_EQ(s.labels.at("store"), c.label) << name;
    }
  }
}

TEST(MetricsTest, NumbersAreThoseOfStats) {
  Stats stats;
  stats.writes = 12;
  stats.bytes_written = uint64_t{1} << 62;
  stats.cache_dirty = 4096;
  stats.open_ns = 1500000000;
  stats.change_sets_by_reason[static_cast<int>(PathReason::kUnmapped)] = 7;
  const std::string text = PrometheusText(Info(), stats);
  const Reader page(text);
  EXPECT_EQ(ValueOf(page, "untorn_writes_total"), 12);
  EXPECT_NE(text.find("} 4611686018427387904\n"), text.npos) << "no digit is lost";
  EXPECT_EQ(ValueOf(page, "untorn_dirty_bytes"), 4096);
  EXPECT_EQ(ValueOf(page, "untorn_open_seconds"), 1.5);
  EXPECT_EQ(ValueOf(page, "untorn_log_size_bytes"), 1 << 20);
  EXPECT_EQ(ValueOf(page, "untorn_change_sets_total", {{"reason", "unmapped"}}), 7);
  EXPECT_EQ(ValueOf(page, "untorn_change_sets_total", {{"reason", "in-place"}}), 0);
  EXPECT_EQ(page.families.at("untorn_change_sets_total").samples.size(), size_t{kPathReasonCount});
}

TEST(MetricsTest, BucketsHaveTheTimesThatAreNotLonger) {
  Stats stats;
  for (const uint64_t ns : {4096, 4097, 6144, 1000000, 2000000}) stats.durable_call_latency.Add(ns);
  stats.durable_call_latency.Add(uint64_t{100} * 1000000000);
  const Reader page(PrometheusText(Info(), stats));
  const auto at_most = [&](const char* le) {
    return ValueOf(page, "untorn_durable_call_seconds_bucket", {{"le", le}});
  };
  EXPECT_EQ(at_most("0.000004096"), 1);
  EXPECT_EQ(at_most("0.000006144"), 3);
  EXPECT_EQ(at_most("0.001048576"), 4);
  EXPECT_EQ(at_most("12.884901888"), 5);
  EXPECT_EQ(at_most("+Inf"), 6);
  EXPECT_EQ(ValueOf(page, "untorn_durable_call_seconds_count"), 6);
  EXPECT_DOUBLE_EQ(ValueOf(page, "untorn_durable_call_seconds_sum"), 100.003014337);
}

}  // namespace
}  // namespace untorn
