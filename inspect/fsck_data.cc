#include "inspect/fsck_data.h"

#include <algorithm>

#include "extent/log_reader.h"
#include "extent/rules.h"
#include "inspect/findings.h"

namespace untorn::internal {
namespace {

constexpr BlockCount kPartBlocks{256};

}  // namespace

void DataCheck::Check(ObjectId object, const Mapping& mapping) {
  if (mapping.state != MappingState::kWritten || !superblock_.geometry.InDataArea(mapping.extent())) return;
  for (ObjectBlock at = mapping.logical.start; status_.ok() && at < mapping.logical.end();
       at += kPartBlocks) {
    CheckPart(object, mapping.Part({at, std::min(kPartBlocks, mapping.logical.end() - at)}));
  }
}

void DataCheck::CheckPart(ObjectId object, const Mapping& part) {
  const BlockCount count = part.logical.count;
  if (buffer_.size() < Bytes(count)) buffer_ = AlignedBuffer(Bytes(kPartBlocks));
  const absl::Status read = ReadOrMissing(device_, part.extent(), buffer_.data());
  if (absl::IsDataLoss(read) && count > 1) {
    // One block may hide the others.
    for (ObjectBlock b = part.logical.start; status_.ok() && b < part.logical.end(); ++b) {
      CheckPart(object, part.Part({b, 1}));
    }
    return;
  }
  result_.data_blocks_checked += count.value();
  progress_.Add(count);
  if (absl::IsDataLoss(read)) return Add(object, part, /*unreadable=*/true);
  if (!read.ok()) {
    status_ = read;
    return;
  }
  const iovec piece{buffer_.data(), Bytes(count)};
  ForEachWrongBlock({&piece, 1}, part.checksums, superblock_.data_key, [&](BlockCount block) {
    // The owner of the store may have crashed between an overwrite and the record of its checksum.
    if (MayExcuseMismatch(part.opened, session_)) {
      ++result_.data_blocks_excused;
    } else {
      Add(object, part.Part({part.logical.start + block, 1}), /*unreadable=*/false);
    }
  });
}

void DataCheck::Add(ObjectId object, const Mapping& block, bool unreadable) {
  const bool goes_on = damages_total_ > 0 && last_.object == object && last_.unreadable == unreadable &&
                       last_.blocks.end() == block.logical.start &&
                       last_.physical + last_.blocks.count == block.physical;
  if (goes_on) {
    ++last_.blocks.count;
    if (damages_total_ == damages_.size()) damages_.back() = last_;
    return;
  }
  last_ = {object, block.logical, block.physical, unreadable};
  ++damages_total_;
  if (damages_.size() < kFindingsInFull) damages_.push_back(last_);
}

}  // namespace untorn::internal
