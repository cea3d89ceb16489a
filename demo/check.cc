#include "demo/check.h"

#include <xxhash.h>

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "demo/ranges.h"

namespace untorn::demo {
namespace {

constexpr size_t kNotesMax = 20;

const char* KindName(TrackKind kind) {
  switch (kind) {
    case TrackKind::kSync:
      return "sync";
    case TrackKind::kBuffered:
      return "buffered";
    case TrackKind::kGroup:
      return "transaction";
    case TrackKind::kBarrier:
      return "barrier";
    case TrackKind::kOverlap:
      return "overlap";
    case TrackKind::kPunch:
      return "punch";
    case TrackKind::kAppend:
      return "append";
  }
  return "";
}

// The highest odd version in [from, to], 0 if there is none.
uint64_t LastOdd(uint64_t from, uint64_t to) {
  const uint64_t odd = to % 2 == 1 ? to : to - 1;
  return to > 0 && odd >= from ? odd : 0;
}

}  // namespace

const Object& Objects::operator[](TargetObject target) const {
  return target == TargetObject::kFile ? file : target == TargetObject::kSecond ? second : appends;
}

void Verdict::Torn(std::string note) {
  ++torn;
  if (notes.size() < kNotesMax) notes.push_back("torn: " + std::move(note));
}

void Verdict::Lost(std::string note) {
  ++lost;
  if (notes.size() < kNotesMax) notes.push_back("lost: " + std::move(note));
}

std::string Checker::Name(size_t track, size_t piece) const {
  const Piece& p = tracks_[track].pieces[piece];
  return absl::StrCat(KindName(tracks_[track].kind), " track ", track, " piece ", piece, " (range ", p.range,
                      ", object ", static_cast<int>(p.object), ", [", p.offset, ", ", p.offset + p.length,
                      "))");
}

bool Checker::IsAllowed(size_t track, size_t piece, uint64_t version, const Bounds& bounds) const {
  const TrackState& state = shared_.tracks[track];
  if (version >= state.first) return version >= bounds.durable && version <= bounds.submitted;
  return version == state.base[piece] && bounds.durable == 0;
}

absl::Status Checker::Read(const Piece& piece, uint64_t length) {
  content_.resize(length);
  ASSIGN_OR_RETURN(const size_t count, objects_[piece.object].Read(piece.offset, content_));
  std::fill(content_.begin() + static_cast<ptrdiff_t>(count), content_.end(), std::byte{0xEE});
  return absl::OkStatus();
}

std::optional<uint64_t> Checker::PieceVersion(size_t track, size_t piece, const Bounds& bounds,
                                              Verdict* verdict) {
  const Piece& p = tracks_[track].pieces[piece];
  const TrackState& state = shared_.tracks[track];
  const auto bounds_text = [&] {
    return absl::StrCat("; versions from ", state.first, " submitted to ", bounds.submitted, ", durable ",
                        bounds.durable, ", before the round ", state.base[piece]);
  };
  if (tracks_[track].kind == TrackKind::kPunch && IsZero(content_)) {
    const bool base_is_hole = bounds.durable == 0 && state.base[piece] % 2 == 1;
    if (!base_is_hole && LastOdd(std::max(state.first, bounds.durable), bounds.submitted) == 0) {
      verdict->Lost(absl::StrCat(Name(track, piece), " is a hole", bounds_text()));
    }
    return std::nullopt;
  }
  const std::optional<Stamp> stamp = ReadStamp(content_);
  if (!stamp.has_value() || stamp->range != p.range) {
    verdict->Torn(absl::StrCat(
        Name(track, piece), ": ",
        DescribeTorn(content_, p.range, std::min(state.base[piece], state.first), bounds.submitted),
        bounds_text()));
    return state.base[piece];
  }
  if (tracks_[track].kind == TrackKind::kGroup && IsAbandoned(stamp->version)) {
    verdict->Torn(absl::StrCat(Name(track, piece), " has version ", stamp->version, ", which was abandoned"));
  } else if (!IsAllowed(track, piece, stamp->version, bounds)) {
    verdict->Lost(absl::StrCat(Name(track, piece), " has version ", stamp->version, bounds_text()));
  }
  return stamp->version;
}

std::optional<Checker::Overlap> Checker::OverlapVersions(size_t track, const Bounds& bounds,
                                                         Verdict* verdict) {
  const TrackState& state = shared_.tracks[track];
  const Piece& even = tracks_[track].pieces[0];
  const Piece& odd = tracks_[track].pieces[1];
  const uint64_t length = even.length;
  const uint64_t shift = odd.offset - even.offset;
  const std::span<const std::byte> content(content_);
  const auto before = [&](uint64_t version) {
    return version == state.base[0] ? state.base[1] : version == state.first ? state.base[0] : version - 1;
  };
  for (const bool last_is_odd : {false, true}) {
    const std::optional<Stamp> stamp = ReadStamp(content.subspan(last_is_odd ? shift : 0, length));
    if (!stamp.has_value() || stamp->range != (last_is_odd ? odd.range : even.range)) continue;
    const Overlap found{stamp->version, before(stamp->version)};
    if (!IsAllowed(track, 0, found.last, bounds)) {
      verdict->Lost(absl::StrCat(Name(track, 0), " has version ", found.last, "; versions from ", state.first,
                                 " submitted to ", bounds.submitted, ", durable ", bounds.durable,
                                 ", before the round ", state.base[0]));
    }
    // What the last write left of the one before it.
    std::vector<std::byte> other(length);
    FillStamped({last_is_odd ? even.range : odd.range, found.before}, other);
    const auto rest = last_is_odd ? content.first(shift) : content.subspan(length, shift);
    const auto expected = std::span<const std::byte>(other).subspan(last_is_odd ? 0 : length - shift, shift);
    if (!std::ranges::equal(rest, expected)) {
      verdict->Torn(absl::StrCat(Name(track, 0), " has version ", found.last, " without version ",
                                 found.before, " below it"));
    }
    return found;
  }
  verdict->Torn(absl::StrCat(
      Name(track, 0), ": no version is whole. Even window: ",
      DescribeTorn(content.first(length), even.range, state.base[1], bounds.submitted),
      ". Odd window: ", DescribeTorn(content.subspan(shift), odd.range, state.base[1], bounds.submitted)));
  return std::nullopt;
}

absl::StatusOr<uint64_t> Checker::AppendCount(size_t track, Verdict* verdict) {
  const TrackState& state = shared_.tracks[track];
  const Piece& piece = tracks_[track].pieces[0];
  ASSIGN_OR_RETURN(const uint64_t size, objects_.appends.Size());
  const uint64_t count = size / kAppendBytes;
  if (size % kAppendBytes != 0) {
    verdict->Torn(absl::StrCat("the object of appended records has ", size, " bytes: not whole records of ",
                               kAppendBytes));
  }
  if (count < std::max<uint64_t>(state.base[0], state.durable) || count > state.submitted) {
    verdict->Lost(absl::StrCat("appended records: ", count, ", submitted ", state.submitted.load(),
                               ", durable ", state.durable.load(), ", before the round ", state.base[0]));
  }
  for (uint64_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(Read({piece.object, i * kAppendBytes, kAppendBytes, piece.range}, kAppendBytes));
    if (ReadStamp(content_) != Stamp{piece.range, i}) verdict->Torn(absl::StrCat("appended record ", i));
  }
  return count;
}

absl::StatusOr<std::array<uint64_t, kPiecesMax>> Checker::CheckTrack(size_t track, Verdict* verdict) {
  const Track& t = tracks_[track];
  const TrackState& state = shared_.tracks[track];
  const Bounds bounds{state.durable, state.submitted};
  std::array<uint64_t, kPiecesMax> versions = state.base;
  if (t.kind == TrackKind::kAppend) {
    ASSIGN_OR_RETURN(versions[0], AppendCount(track, verdict));
    return versions;
  }
  if (t.kind == TrackKind::kOverlap) {
    const uint64_t length = t.pieces[1].offset + t.pieces[1].length - t.pieces[0].offset;
    RETURN_IF_ERROR(Read(t.pieces[0], length));
    if (const auto found = OverlapVersions(track, bounds, verdict)) {
      versions[0] = found->last;
      versions[1] = found->before;
    }
    return versions;
  }
  for (size_t i = 0; i < t.pieces.size(); ++i) {
    RETURN_IF_ERROR(Read(t.pieces[i], t.pieces[i].length));
    versions[i] = PieceVersion(track, i, bounds, verdict).value_or(1);
  }
  if (t.kind == TrackKind::kGroup && !std::all_of(versions.begin(), versions.begin() + t.pieces.size(),
                                                  [&](uint64_t v) { return v == versions[0]; })) {
    std::string text = absl::StrCat("transaction track ", track, " is there in part: versions");
    for (size_t i = 0; i < t.pieces.size(); ++i) absl::StrAppend(&text, " ", versions[i]);
    verdict->Torn(std::move(text));
  }
  if (t.kind == TrackKind::kBarrier && versions[1] > versions[0]) {
    verdict->Lost(absl::StrCat(Name(track, 0), " has version ", versions[0], ", but version ", versions[1],
                               " from after the barrier is there"));
  }
  return versions;
}

absl::Status Checker::CheckLive(size_t track, size_t piece, Verdict* verdict) {
  const Track& t = tracks_[track];
  const TrackState& state = shared_.tracks[track];
  if (t.kind == TrackKind::kAppend) return absl::OkStatus();
  const uint64_t durable_before = state.durable;
  if (t.kind == TrackKind::kOverlap) {
    const uint64_t length = t.pieces[1].offset + t.pieces[1].length - t.pieces[0].offset;
    RETURN_IF_ERROR(Read(t.pieces[0], length));
    OverlapVersions(track, {durable_before, state.submitted}, verdict);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Read(t.pieces[piece], t.pieces[piece].length));
  PieceVersion(track, piece, {durable_before, state.submitted}, verdict);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> HashRanges(const std::vector<std::pair<uint64_t, uint64_t>>& ranges,
                                    const ReadAt& read) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  std::vector<std::byte> piece(kPieceBytes);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const auto& [begin, end] : ranges) {
    for (uint64_t at = begin; at < end; at += kPieceBytes) {
      const auto part = std::span(piece).first(std::min(kPieceBytes, end - at));
      RETURN_IF_ERROR(read(at, part));
      XXH3_64bits_update(state.get(), part.data(), part.size());
    }
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace untorn::demo
