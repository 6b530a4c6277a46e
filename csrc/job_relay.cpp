// How a job's chunks go through the hands of the caller: relay.h has the order.
#include <atomic>
#include <utility>

#include "error.h"
#include "pipeline.h"

namespace sucrose {

// What the caller has of a chunk. The slot lies in here, and not in the chunk, so that the chunk
// can end before the caller lets go of it.
struct Job::Freight {
    SlotLease slot;
    std::shared_ptr<void> memory;
    std::function<void()> then;
    std::atomic<std::size_t> pieces_out;
    std::atomic<bool> in_vain = false;
};

void Job::hand_over(const ChunkPtr &chunk, std::span<const Piece> pieces,
                    std::shared_ptr<void> memory, std::function<void()> then) {
    auto freight = std::make_shared<Freight>();
    freight->slot = std::move(chunk->slot);
    freight->memory = std::move(memory);
    freight->then = std::move(then);
    freight->pieces_out = pieces.size();
    std::function<void(int)> ended = [this, chunk, freight](int outcome) {
        if (outcome != Relay::carried_out) {
            freight->in_vain = true;
        }
        if (outcome == Relay::lost) {
            cancel();
        } else if (outcome > 0) {
            fail(std::make_exception_ptr(SystemError(outcome, "relay", relay_->name())));
        }
        if (--freight->pieces_out != 0) {
            return;
        }
        if (freight->in_vain) { // the caller may have the slot still
            chunk_done(chunk, 0, nullptr);
            return;
        }
        chunk->slot = std::move(freight->slot);
        freight->then();
    };
    bool refused = false;
    for (const Piece &piece : pieces) {
        if (!relay_->try_offer({piece.data, piece.nbytes, piece.offset, freight, ended})) {
            ended(Relay::closed);
            refused = true;
        }
    }
    if (refused) {
        ended = nullptr;
        freight.reset(); // the slot with it, unless the caller has a part of it
        scheduler_.pump();
    }
}

} // namespace sucrose
