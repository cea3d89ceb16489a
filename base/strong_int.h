// Numbers of different meaning as types of their own, for which the compiler keeps them apart.
//
// A strong integer is a point or a count. `Distance` is what lies between two points, and what is added to a point:
//
//     struct MileTag;                             struct MileMarkTag;
//     using Miles = StrongInt<MileTag>;           a count: its distance is a count itself
//     using MileMark = StrongInt<MileMarkTag, Miles>;  a point: mark + miles = mark, mark - mark = miles
//
// A literal converts (`Miles m = 5`), and no variable does: `Miles(v)` and `m.value()` say it where it is meant.
#ifndef UNTORN_BASE_STRONG_INT_H_
#define UNTORN_BASE_STRONG_INT_H_

#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

namespace untorn {

struct OwnDistance;  // of counts

template <typename Tag, typename Distance = OwnDistance>
class StrongInt {
  static constexpr bool kIsCount = std::is_same_v<Distance, OwnDistance>;
  using Step = std::conditional_t<kIsCount, StrongInt, Distance>;
  static constexpr uint64_t Raw(uint64_t v) { return v; }
  template <typename T, typename D>
  static constexpr uint64_t Raw(StrongInt<T, D> v) {
    return v.value();
  }

 public:
  constexpr StrongInt() = default;
  // A literal. Nothing but an int has such a conversion, and only a constant can use it.
  template <std::same_as<int> Literal>
  consteval StrongInt(Literal v) : value_(static_cast<uint64_t>(v)) {
    if (v < 0) throw "a negative literal";  // no constant expression
  }
  explicit constexpr StrongInt(uint64_t v) : value_(v) {}
  constexpr uint64_t value() const { return value_; }
  static constexpr StrongInt Max() { return StrongInt(std::numeric_limits<uint64_t>::max()); }

  friend constexpr bool operator==(StrongInt, StrongInt) = default;
  friend constexpr std::strong_ordering operator<=>(StrongInt, StrongInt) = default;
  // With a literal behind a reference, as EXPECT_EQ(m, 5) has it.
  template <std::same_as<int> Literal>
  friend constexpr bool operator==(StrongInt a, Literal b) {
    return a.value_ == static_cast<uint64_t>(b);
  }
  template <std::same_as<int> Literal>
  friend constexpr std::strong_ordering operator<=>(StrongInt a, Literal b) {
    return a.value_ <=> static_cast<uint64_t>(b);
  }

  friend constexpr StrongInt operator+(StrongInt a, Step b) { return StrongInt(a.value_ + Raw(b)); }
  friend constexpr StrongInt operator-(StrongInt a, Step b) { return StrongInt(a.value_ - Raw(b)); }
  constexpr StrongInt& operator+=(Step b) { return *this = *this + b; }
  constexpr StrongInt& operator-=(Step b) { return *this = *this - b; }
  constexpr StrongInt& operator++() { return ++value_, *this; }
  constexpr StrongInt& operator--() { return --value_, *this; }
  // Points: how far apart. (A template, so that a literal is never taken for a point.)
  template <std::same_as<StrongInt> Point>
  requires(!kIsCount) friend constexpr Distance operator-(StrongInt a, Point b) {
    return Distance(a.value_ - b.value());
  }

  // In which of the pieces of that length, and where in that piece.
  friend constexpr uint64_t operator/(StrongInt a, Step b) { return a.value_ / Raw(b); }
  friend constexpr Step operator%(StrongInt a, Step b) { return Step(a.value_ % Raw(b)); }
  // The next multiple.
  constexpr StrongInt RoundUp(Step b) const { return StrongInt((value_ + Raw(b) - 1) / Raw(b) * Raw(b)); }
  constexpr StrongInt RoundDown(Step b) const { return StrongInt(value_ / Raw(b) * Raw(b)); }

  // Counts: so many of them, and an equal share.
  template <std::integral N>
  requires kIsCount friend constexpr StrongInt operator*(StrongInt a, N n) {
    return StrongInt(a.value_ * static_cast<uint64_t>(n));
  }
  template <std::integral N>
  requires kIsCount friend constexpr StrongInt operator*(N n, StrongInt a) { return a * n; }
  template <std::integral N>
  requires kIsCount friend constexpr StrongInt operator/(StrongInt a, N n) {
    return StrongInt(a.value_ / static_cast<uint64_t>(n));
  }

  template <typename H>
  friend H AbslHashValue(H h, StrongInt v) {
    return H::combine(std::move(h), v.value_);
  }
  template <typename Stream>
  requires requires { typename Stream::char_type; }
  friend Stream& operator<<(Stream& out, StrongInt v) {
    out << v.value_;
    return out;
  }

 private:
  uint64_t value_ = 0;
};

}  // namespace untorn

#endif  // UNTORN_BASE_STRONG_INT_H_
