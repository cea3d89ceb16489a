// A scattered buffer behaves as a contiguous one.
#include "store/io_vector.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"

namespace untorn {
namespace {

// Memory of the application's, in pieces of these lengths.
class Scattered {
 public:
  explicit Scattered(const std::vector<size_t>& lengths) {
    for (size_t length : lengths) memory_.emplace_back(length, '.');
    for (std::string& piece : memory_) pieces_.push_back({piece.data(), piece.size()});
  }
  IoVector vector() const { return {pieces_, TotalBytes(pieces_)}; }
  std::string Text() const {
    std::string text;
    for (const std::string& piece : memory_) text += piece;
    return text;
  }

 private:
  std::vector<std::string> memory_;
  std::vector<iovec> pieces_;
};

std::byte* Bytes(std::string& text) { return reinterpret_cast<std::byte*>(text.data()); }

TEST(IoVectorTest, CopiesGoAcrossPiecesAndOverEmptyOnes) {
  const Scattered to({3, 0, 4, 1});
  std::string text = "abcd";
  to.vector().CopyIn(2, Bytes(text), 4);
  EXPECT_EQ(to.Text(), "..abcd..");
  std::string back(6, '?');
  to.vector().CopyOut(1, Bytes(back), 6);
  EXPECT_EQ(back, ".abcd.");
}

TEST(IoVectorTest, ZeroesNoMoreThanItIsAskedTo) {
  const Scattered to({2, 2, 2});
  to.vector().Zero({1, 4});
  EXPECT_EQ(to.Text(), std::string(".\0\0\0\0.", 6));
}

TEST(IoVectorTest, RandomCopiesAreAsThoseOfContiguousMemory) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<size_t> lengths;
    for (uint64_t n = 1 + random() % 6; n > 0; --n) lengths.push_back(random() % 20);
    const Scattered scattered(lengths);
    std::string flat = scattered.Text();
    for (int i = 0; i < 20 && !flat.empty(); ++i) {
      const uint64_t at = random() % flat.size(), n = random() % (flat.size() - at + 1);
      std::string text(n, static_cast<char>('a' + random() % 26));
      scattered.vector().CopyIn(at, Bytes(text), n);
      flat.replace(at, n, text);
      ASSERT_EQ(scattered.Text(), flat) << "seed " << seed;
      std::string back(n, '?');
      scattered.vector().CopyOut(at, Bytes(back), n);
      ASSERT_EQ(back, text) << "seed " << seed;
    }
  }
}

TEST(IoVectorTest, MemoryIsAlignedIfEveryPartOfItIs) {
  AlignedBuffer a(2 * kBlockBytes), b(kBlockBytes);
  const std::vector<iovec> pieces = {{a.data(), a.size()}, {b.data(), b.size()}};
  const IoVector vector = {pieces, 3 * kBlockBytes};
  absl::InlinedVector<iovec, 2> parts;
  EXPECT_TRUE(vector.Aligned({kBlockBytes, 2 * kBlockBytes}, &parts));
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].iov_base, a.data() + kBlockBytes);
  EXPECT_EQ(parts[0].iov_len, kBlockBytes);
  EXPECT_EQ(parts[1].iov_base, b.data());
  parts.clear();
  EXPECT_FALSE(vector.Aligned({8, kBlockBytes}, &parts)) << "it begins within a block";
  parts.clear();
  EXPECT_FALSE(vector.Aligned({0, kBlockBytes / 2}, &parts)) << "it ends within a block";
}

TEST(IoVectorTest, SumOfLengthsDoesNotOverflow) {
  const std::vector<iovec> pieces = {{nullptr, 3}, {nullptr, 4}};
  EXPECT_EQ(TotalBytes(pieces), 7u);
  const std::vector<iovec> huge = {{nullptr, SIZE_MAX - 1}, {nullptr, 3}};
  EXPECT_EQ(TotalBytes(huge), UINT64_MAX);
}

}  // namespace
}  // namespace untorn
