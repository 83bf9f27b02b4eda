#include "iobackend/backing_device.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"

namespace pcachefs {

absl::Status SubmitAndWait(BackingDevice& device, BackingRequest request) {
  absl::Status result;
  absl::Notification done;
  request.done = [&](absl::Status status) {
    result = std::move(status);
    done.Notify();
  };

  std::vector<BackingRequest> requests;
  requests.push_back(std::move(request));
  device.Submit(std::move(requests), Submission::kDirect);
  done.WaitForNotification();
  return result;
}

}  // namespace pcachefs
