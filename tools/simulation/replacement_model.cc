#include "tools/simulation/replacement_model.h"

#include "meta/units.h"

namespace pcachefs {

bool ReplacementModel::Access(uint64_t block) {
  const auto found = where_.find(block);
  if (found != where_.end()) {
    if (replacement_ == Replacement::kLru) {
      blocks_.splice(blocks_.begin(), blocks_, found->second);
    }
    return true;
  }
  if (capacity_ == 0) return false;
  if (blocks_.size() == capacity_) {
    where_.erase(blocks_.back());
    blocks_.pop_back();
  }
  blocks_.push_front(block);
  where_[block] = blocks_.begin();
  return false;
}

double HitRatio(Replacement replacement, uint64_t cache_bytes,
                const Trace& trace) {
  ReplacementModel model(replacement, cache_bytes / kBlockSize);
  uint64_t reads = 0;
  uint64_t hits = 0;
  for (const TraceRequest& request : trace) {
    const uint64_t end = DivideRoundingUp(request.end(), kBlockSize);
    for (uint64_t block = request.offset / kBlockSize; block < end; ++block) {
      const bool hit = model.Access(block);
      if (request.is_write) continue;
      ++reads;
      hits += hit;
    }
  }
  return reads == 0 ? 0 : static_cast<double>(hits) / reads;
}

}  // namespace pcachefs
