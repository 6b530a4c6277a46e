#include "codec/frame_packer.h"

#include <cstring>
#include <utility>

namespace sucrose {

bool FramePacker::try_add(std::size_t index, std::shared_ptr<ChunkFrames> frames,
                          std::vector<Placed> &placed) {
    const std::lock_guard lock(mutex_);
    if (given_up_) {
        return false;
    }
    sizes_[index] = frames->nbytes();
    waiting_.emplace(index, std::move(frames));
    for (auto first = waiting_.begin(); first != waiting_.end() && first->first == next_;
         first = waiting_.erase(first)) {
        placed.push_back(place_locked(std::move(first->second)));
    }
    return true;
}

FramePacker::Placed FramePacker::place_locked(std::shared_ptr<ChunkFrames> frames) {
    Placed placed;
    placed.head_nbytes = static_cast<std::size_t>(end_ % block_nbytes);
    placed.offset = end_ - placed.head_nbytes;
    std::memcpy(placed.head.data(), tail_.data(), placed.head_nbytes);
    const std::size_t nbytes = frames->nbytes();
    end_ += nbytes;
    const auto tail_nbytes = static_cast<std::size_t>(end_ % block_nbytes);
    const std::size_t kept = nbytes < tail_nbytes ? tail_nbytes - nbytes : 0; // of the old tail
    frames->copy_tail({tail_.data() + kept, tail_nbytes - kept});
    placed.last = ++next_ == sizes_.size();
    placed.frames = std::move(frames);
    return placed;
}

std::vector<std::shared_ptr<ChunkFrames>> FramePacker::give_up() {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    std::vector<std::shared_ptr<ChunkFrames>> in_vain;
    for (auto &[index, frames] : waiting_) {
        in_vain.push_back(std::move(frames));
    }
    waiting_.clear();
    return in_vain;
}

} // namespace sucrose
