// How a job's chunks go through the hands of the caller: relay.h has the order.
#include <atomic>
#include <utility>

#include "error.h"
#include "pipeline.h"

namespace sucrose {

// What the caller has of a chunk. The slot lies in here, and not in the chunk, so that the chunk
// can end before the caller lets go of it. Whoever is the last to do that lets others have the
// slot.
struct Job::Freight {
    explicit Freight(Scheduler &of) : scheduler(of) {}
    ~Freight() {
        if (slot) {
            slot.reset();
            scheduler.pump();
        }
    }
    Freight(const Freight &) = delete;
    Freight &operator=(const Freight &) = delete;

    Scheduler &scheduler;
    SlotLease slot;
    std::shared_ptr<void> memory;
    std::function<void()> then;
    std::atomic<std::size_t> pieces_out;
    std::atomic<bool> in_vain = false;
};

void Job::hand_over(const ChunkPtr &chunk, std::span<const Piece> pieces,
                    std::shared_ptr<void> memory, std::function<void()> then) {
    const auto freight = std::make_shared<Freight>(scheduler_);
    freight->slot = std::move(chunk->slot);
    freight->memory = std::move(memory);
    freight->then = std::move(then);
    freight->pieces_out = pieces.size();
    const auto ended = [this, chunk, freight](int outcome) {
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
    for (const Piece &piece : pieces) {
        if (!relay_->try_offer({piece.data, piece.nbytes, piece.offset, freight, ended})) {
            ended(Relay::closed);
        }
    }
}

} // namespace sucrose
