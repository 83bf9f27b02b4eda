#include "fuse/piecewise.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "meta/types.h"

namespace pcachefs {
namespace {

// Deletes itself after the last piece.
class Chain {
 public:
  Chain(ImageRange range, uint64_t piece_length, PieceOperation operation,
        absl::AnyInvocable<void(absl::Status)> done)
      : rest_(range),
        piece_length_(piece_length),
        operation_(std::move(operation)),
        done_(std::move(done)) {}

  // Goes on as long as pieces end within their call; the callback of one that
  // ends later goes on from there.
  void Run() {
    while (status_.ok() && !rest_.empty()) {
      const ImageRange piece = TakePiece();
      first_to_come_ = true;
      operation_(piece, [this](absl::Status status) {
        status_ = std::move(status);
        if (!first_to_come_.exchange(false)) Run();
      });
      // Whoever comes second, the return of the call or the callback, goes on.
      if (first_to_come_.exchange(false)) return;
    }
    done_(std::move(status_));
    delete this;
  }

 private:
  ImageRange TakePiece() {
    const uint64_t to_boundary =
        piece_length_ - rest_.offset.value() % piece_length_;
    const uint64_t length = std::min(to_boundary, rest_.length);
    const ImageRange piece = {rest_.offset, length};
    rest_ = {rest_.offset + length, rest_.length - length};
    return piece;
  }

  ImageRange rest_;
  const uint64_t piece_length_;
  PieceOperation operation_;
  absl::AnyInvocable<void(absl::Status)> done_;
  absl::Status status_;
  std::atomic<bool> first_to_come_ = true;
};

}  // namespace

void RunPiecewise(ImageRange range, uint64_t piece_length,
                  PieceOperation operation,
                  absl::AnyInvocable<void(absl::Status)> done) {
  (new Chain(range, piece_length, std::move(operation), std::move(done)))
      ->Run();
}

}  // namespace pcachefs
