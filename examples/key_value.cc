// A key-value store whose pages are an object of untorn: put, get, delete and an ordered scan.
//
//     key_value app.untorn put KEY VALUE     key_value app.untorn get KEY
//     key_value app.untorn delete KEY        key_value app.untorn scan [FROM]
//     key_value app.untorn load              (a line "KEY VALUE" of stdin each; acknowledges what is durable)
//
// A B+-tree of 4 KiB pages that are overwritten in place: no log, no recovery, no second copy of a page. Each change is one
// transaction over the pages that it changes, so after a crash all of them are new or all of them are old.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "untorn/store.h"

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr size_t kKeyBytesMax = 255, kValueBytesMax = 1000;  // so that a page has room for three entries
using Page = std::array<std::byte, kPageBytes>;

class KeyValueStore {
 public:
  static absl::StatusOr<KeyValueStore> Open(untorn::Store& store) {
    auto pages = store.OpenObject("pages");
    if (absl::IsNotFound(pages.status())) {
      // The object and its first two pages: all of them or, after a crash, none.
      untorn::Transaction t = store.Begin();
      pages = t.CreateObject("pages");
      if (!pages.ok()) return pages.status();
      KeyValueStore made(store, *pages, {.root = 1, .pages = 2});
      if (absl::Status s = made.WriteNode(t, 1, {.leaf = true, .entries = {}}); !s.ok()) return s;
      if (absl::Status s = made.WriteHeader(t); !s.ok()) return s;
      if (absl::Status s = t.Commit(); !s.ok()) return s;
      return made;
    }
    if (!pages.ok()) return pages.status();
    Header header;
    auto n = pages->Read(0, std::as_writable_bytes(std::span(&header, 1)));
    if (!n.ok()) return n.status();
    if (*n != sizeof(header)) return absl::DataLossError("the first page is missing");
    return KeyValueStore(store, *pages, header);
  }

  // Durable on return.
  absl::Status Put(const std::string& key, const std::string& value) {
    if (key.empty() || key.size() > kKeyBytesMax || value.size() > kValueBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("a key has 1 to ", kKeyBytesMax, " bytes, a value at most ", kValueBytesMax));
    }
    return Change([&](untorn::Transaction& t) -> absl::Status {
      auto sibling = PutBelow(t, header_.root, {key, value});
      if (!sibling.ok()) return sibling.status();
      if (!sibling->has_value()) return absl::OkStatus();
      // The root has been split: one more level.
      const uint64_t old_root = header_.root;
      header_.root = header_.pages++;
      return WriteNode(t, header_.root, {.leaf = false, .entries = {{"", Child(old_root)}, **sibling}});
    });
  }

  // kNotFound
  absl::Status Delete(const std::string& key) {
    return Change([&](untorn::Transaction& t) -> absl::Status {
      auto leaf = FindLeaf(key, t);
      if (!leaf.ok()) return leaf.status();
      auto& [page, node] = *leaf;
      auto at = Find(node, key);
      if (at == node.entries.end()) return absl::NotFoundError(absl::StrCat("no key '", key, "'"));
      node.entries.erase(at);  // a leaf may become empty, and stays for later keys
      return WriteNode(t, page, node);
    });
  }

  absl::StatusOr<std::string> Get(const std::string& key) const {
    auto leaf = FindLeaf(key, pages_);
    if (!leaf.ok()) return leaf.status();
    auto at = Find(leaf->second, key);
    if (at == leaf->second.entries.end()) return absl::NotFoundError(absl::StrCat("no key '", key, "'"));
    return at->value;
  }

  // All from `from` on, in order.
  absl::Status Scan(
      const std::string& from,
      const std::function<void(const std::string& key, const std::string& value)>& found) const {
    return ScanBelow(header_.root, from, found);
  }

 private:
  struct Header {
    uint64_t root = 0, pages = 0;
  };
  // Of an inner node, `value` is the number of the page with the keys from `key` on, up to the next entry's.
  struct Entry {
    std::string key, value;
    size_t bytes() const { return 3 + key.size() + value.size(); }
  };
  struct Node {
    bool leaf = true;
    std::vector<Entry> entries;  // by key
    size_t bytes() const {
      size_t n = 3;
      for (const Entry& e : entries) n += e.bytes();
      return n;
    }
  };

  KeyValueStore(untorn::Store& store, untorn::Object pages, Header header)
      : store_(store), pages_(std::move(pages)), header_(header) {}

  static std::string Child(uint64_t page) { return std::string(reinterpret_cast<const char*>(&page), 8); }
  static uint64_t PageOf(const Entry& entry) {
    uint64_t page;
    std::memcpy(&page, entry.value.data(), sizeof(page));
    return page;
  }
  // The first entry with a key greater than `key`.
  static std::vector<Entry>::iterator After(Node& node, const std::string& key) {
    return std::upper_bound(node.entries.begin(), node.entries.end(), key,
                            [](const std::string& key, const Entry& e) { return key < e.key; });
  }
  static std::vector<Entry>::iterator Find(Node& node, const std::string& key) {
    auto at = After(node, key);
    return at != node.entries.begin() && std::prev(at)->key == key ? std::prev(at) : node.entries.end();
  }

  // One transaction, which takes effect as a whole or, if anything fails, not at all.
  absl::Status Change(const std::function<absl::Status(untorn::Transaction&)>& change) {
    const Header before = header_;
    untorn::Transaction t = store_.Begin();
    absl::Status s = change(t);
    if (s.ok() && header_.pages != before.pages) s = WriteHeader(t);
    if (s.ok()) s = t.Commit();
    if (!s.ok()) header_ = before;
    return s;
  }

  absl::StatusOr<size_t> ReadPage(const untorn::Object& pages, uint64_t page, Page& out) const {
    return pages.Read(page * kPageBytes, out);
  }
  absl::StatusOr<size_t> ReadPage(const untorn::Transaction& t, uint64_t page, Page& out) const {
    return t.Read(pages_, page * kPageBytes, out);
  }
  // A node is a byte that tells leaves, the number of entries (2 bytes), and of each the lengths of key (1) and value (2) and
  // both of them. `from`: the object, or a transaction with changes of it.
  template <typename From>
  absl::StatusOr<Node> ReadNode(const From& from, uint64_t page) const {
    Page bytes;
    auto n = ReadPage(from, page, bytes);
    if (!n.ok()) return n.status();
    const absl::Status damaged = absl::DataLossError(absl::StrCat("page ", page, " is no node"));
    if (*n != kPageBytes) return damaged;
    const char* in = reinterpret_cast<const char*>(bytes.data());
    const char* const end = in + kPageBytes;
    Node node{.leaf = *in++ != 0, .entries = {}};
    uint16_t count, value_bytes;
    std::memcpy(&count, in, 2);
    in += 2;
    for (; count > 0; --count) {
      if (end - in < 3) return damaged;
      const uint8_t key_bytes = *in++;
      std::memcpy(&value_bytes, in, 2);
      in += 2;
      if (end - in < key_bytes + value_bytes || (!node.leaf && value_bytes != 8)) return damaged;
      node.entries.push_back({std::string(in, key_bytes), std::string(in + key_bytes, value_bytes)});
      in += key_bytes + value_bytes;
    }
    if (!node.leaf && (node.entries.empty() || !node.entries[0].key.empty())) return damaged;
    return node;
  }
  absl::Status WriteNode(untorn::Transaction& t, uint64_t page, const Node& node) {
    Page bytes{};
    char* out = reinterpret_cast<char*>(bytes.data());
    const auto put = [&out](const void* data, size_t n) {
      out = std::copy_n(static_cast<const char*>(data), n, out);
    };
    const uint16_t count = node.entries.size();
    put(&node.leaf, 1);
    put(&count, 2);
    for (const Entry& e : node.entries) {
      const uint8_t key_bytes = e.key.size();
      const uint16_t value_bytes = e.value.size();
      put(&key_bytes, 1);
      put(&value_bytes, 2);
      put(e.key.data(), key_bytes);
      put(e.value.data(), value_bytes);
    }
    return t.Write(pages_, page * kPageBytes, bytes);
  }
  absl::Status WriteHeader(untorn::Transaction& t) {
    Page bytes{};
    std::memcpy(bytes.data(), &header_, sizeof(header_));
    return t.Write(pages_, 0, bytes);
  }

  template <typename From>
  absl::StatusOr<std::pair<uint64_t, Node>> FindLeaf(const std::string& key, const From& from) const {
    for (uint64_t page = header_.root;;) {
      auto node = ReadNode(from, page);
      if (!node.ok()) return node.status();
      if (node->leaf) return std::pair(page, *std::move(node));
      page = PageOf(*std::prev(After(*node, key)));
    }
  }

  // The entry of the page that this one was split into, if it was.
  absl::StatusOr<std::optional<Entry>> PutBelow(untorn::Transaction& t, uint64_t page, const Entry& entry) {
    auto read = ReadNode(t, page);
    if (!read.ok()) return read.status();
    Node& node = *read;
    auto at = After(node, entry.key);
    if (!node.leaf) {
      auto sibling = PutBelow(t, PageOf(*std::prev(at)), entry);
      if (!sibling.ok() || !sibling->has_value()) return sibling;
      node.entries.insert(at, **sibling);
    } else if (at != node.entries.begin() && std::prev(at)->key == entry.key) {
      std::prev(at)->value = entry.value;
    } else {
      node.entries.insert(at, entry);
    }
    std::optional<Entry> sibling;
    if (const size_t all = node.bytes(); all > kPageBytes) {
      size_t half = 0;
      auto middle = node.entries.begin();
      while (half < all / 2) half += middle++->bytes();
      sibling = Entry{middle->key, Child(header_.pages)};
      Node right{node.leaf, std::vector<Entry>(middle, node.entries.end())};
      if (!node.leaf) right.entries[0].key.clear();
      node.entries.erase(middle, node.entries.end());
      if (absl::Status s = WriteNode(t, header_.pages++, right); !s.ok()) return s;
    }
    if (absl::Status s = WriteNode(t, page, node); !s.ok()) return s;
    return sibling;
  }

  absl::Status ScanBelow(uint64_t page, const std::string& from,
                         const std::function<void(const std::string&, const std::string&)>& found) const {
    auto node = ReadNode(pages_, page);
    if (!node.ok()) return node.status();
    auto at = std::lower_bound(node->entries.begin(), node->entries.end(), from,
                               [](const Entry& e, const std::string& from) { return e.key < from; });
    // The keys of an inner node's entry reach up to the next one's.
    if (!node->leaf) at = std::prev(After(*node, from));
    for (; at != node->entries.end(); ++at) {
      if (node->leaf) {
        found(at->key, at->value);
      } else if (absl::Status s = ScanBelow(PageOf(*at), from, found); !s.ok()) {
        return s;
      }
    }
    return absl::OkStatus();
  }

  untorn::Store& store_;
  untorn::Object pages_;
  Header header_;
};

absl::Status Run(const std::vector<std::string>& arguments) {
  const std::string &path = arguments[0], &command = arguments[1];
  auto store = untorn::Store::Open(path, {});
  if (absl::IsNotFound(store.status())) {
    if (absl::Status s = untorn::Store::Create(path, {.size_bytes = 256 << 20}); !s.ok()) return s;
    store = untorn::Store::Open(path, {});
  }
  if (!store.ok()) return store.status();
  auto opened = KeyValueStore::Open(**store);
  if (!opened.ok()) return opened.status();
  KeyValueStore& pairs = *opened;
  if (command == "put") return pairs.Put(arguments[2], arguments[3]);
  if (command == "delete") return pairs.Delete(arguments[2]);
  if (command == "get") {
    auto value = pairs.Get(arguments[2]);
    if (value.ok()) std::cout << *value << "\n";
    return value.status();
  }
  if (command == "scan") {
    return pairs.Scan(
        arguments.size() > 2 ? arguments[2] : "",
        [](const std::string& key, const std::string& value) { std::cout << key << " " << value << "\n"; });
  }
  for (std::string line; std::getline(std::cin, line);) {
    const size_t space = std::min(line.find(' '), line.size());
    absl::Status s = pairs.Put(line.substr(0, space), line.substr(std::min(space + 1, line.size())));
    if (!s.ok()) return s;
    std::cout << line.substr(0, space) << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const size_t n = arguments.size();
  const std::string command = n > 1 ? arguments[1] : "";
  const bool right = (command == "put" && n == 4) || ((command == "get" || command == "delete") && n == 3) ||
                     (command == "scan" && (n == 2 || n == 3)) || (command == "load" && n == 2);
  if (!right) {
    std::fputs("usage: key_value STORE put KEY VALUE | get KEY | delete KEY | scan [FROM] | load\n", stderr);
    return 2;
  }
  const absl::Status status = Run(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "key_value: %s\n", std::string(status.message()).c_str());
  return 1;
}
