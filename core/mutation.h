// Mistakes that tests plant in the core, each breaking one rule of
// docs/crash_consistency.md, to prove that the simulator would find it
// (test/sim/mutation_test.cc).
//
// Built with PCACHEFS_MUTATIONS, which core/BUILD.bazel defines except with -c
// opt alone: what users build holds nothing of this.

#ifndef PCACHEFS_CORE_MUTATION_H_
#define PCACHEFS_CORE_MUTATION_H_

#ifdef PCACHEFS_MUTATIONS
#include <atomic>
#endif

namespace pcachefs {

enum class Mutation {
  kNone,
  // C1: payload is there, or its checksum exposes it.
  kReplayTrustsPayload,  // of keys that no barrier covered
  kCommitClaimsEarly,    // what a barrier will cover
  kFlushWithoutBarrier,
  // C2: a segment is reused after its new generation is durable.
  kReuseBeforeBarrier,
  kReuseInSameLife,
  // C3: dirty_tail passes what is durable on the backing device.
  kDirtyTailBeforeFlush,
  kDirtyTailDespiteError,
  kMixedEpochs,
  kNextEpochBeforeDirtyTail,
  // C4: key_tail <= dirty_tail <= key_head.
  kKeyTailPassesDirtyTail,
  // C5: a log segment is freed after key_tail beyond it is durable.
  kFreeLogSegmentAtOnce,
  // C6: a store never touches the newest valid slot.
  kStoreOverNewestSlot,
  kStartTrustsPageCache,
  // C7: a key counts if its generation is its segment's.
  kReplayIgnoresGenerations,
  kReclaimIgnoresGenerations,
  kStaleKeyLeavesOlderKeys,
  // C8: index order is log order.
  kIndexKeepsOlder,
  kFillBeatsOverwrite,
  kOldestWinsInBatch,
  // C9: after a failed persist nothing is promised.
  kPersistErrorForgotten,
  kFlushIgnoresPersistError,
  // C10: log space is reserved before a write is accepted.
  kWriteWithoutLogSpace,
  // C11: a waiting writer makes reclaim run.
  kReclaimIgnoresWriters,
  // What the rules rest on, and orders that are easy to get wrong.
  kReclaimIgnoresReaders,
  kOldIncarnation,
  kChecksumsUnverified,
  kStartEndsNoEpoch,
  kLostMarksWithoutBarrier,
  kSegmentsBeforeRecord,
  kRecordBeforeLog,
  kSizeBeforeRecord,
  kSuperblockBeforeSegments,
  // Writes around the cache.
  kForgetWithoutBarrier,
  kProvisionalAtOnce,
  kProvisionalNeverVoid,
  kSwitchWithoutDrain,
  kCount,
};

#ifdef PCACHEFS_MUTATIONS

inline constexpr bool kMutationsBuilt = true;

namespace internal {
inline std::atomic<Mutation> g_planted{Mutation::kNone};
}  // namespace internal

inline bool Planted(Mutation mutation) {
  return internal::g_planted.load(std::memory_order_relaxed) == mutation;
}

// One at a time; kNone takes it away.
inline void Plant(Mutation mutation) { internal::g_planted = mutation; }

#else

inline constexpr bool kMutationsBuilt = false;
constexpr bool Planted(Mutation) { return false; }
inline void Plant(Mutation) {}

#endif

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_MUTATION_H_
