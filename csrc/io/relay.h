// Transfers that the caller carries out: of a file that is no file of this machine.
//
//   1. offer       the pipeline: here is memory whose bytes are to be sent, or that is to be filled
//   2. take        the caller: what comes next, from any of its threads
//   3. give back   the caller: carried out, or the errno of what went wrong
//   4. close       the pipeline, when it has failed: nothing is wanted any more. For the pipeline
//                  every transfer ends there; but the memory of those that the caller has stays
//                  theirs until it gives them back, however long that takes.
//
// So no thread of the engine ever waits for the caller, and a caller that has lost a transfer
// cannot hold up anything but the slot that it lies in.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "lifecycle.h"

namespace sucrose {

// Thread-safe. Loads and threads that take must be gone before the engine is.
class Relay : public std::enable_shared_from_this<Relay> {
public:
    enum class Order {
        of_the_file, // from its first byte on, without gaps: for bytes to be sent
        lowest_first // of what has been offered
    };
    // How a transfer ended, where it is not an errno.
    static constexpr int carried_out = 0;
    static constexpr int lost = -1;   // the caller let go of it and did not say what came of it
    static constexpr int closed = -2; // the relay was closed first

    struct Transfer {
        std::byte *data;
        std::size_t nbytes;
        std::uint64_t offset; // in the file
        // What `data` lies in: kept for as long as the caller has the transfer.
        std::shared_ptr<void> memory;
        // Called once, on any thread. Must not block and not throw.
        std::function<void(int outcome)> ended;
    };

    // A transfer that the caller has. Given back when destroyed; in a forked child it is left
    // alone, as it belongs to the parent.
    class Load {
    public:
        Load(std::shared_ptr<Relay> relay, std::shared_ptr<Transfer> transfer);
        Load(Load &&) noexcept = default;
        Load &operator=(Load &&) = delete;
        ~Load();

        std::uint64_t offset() const noexcept { return held_->transfer->offset; }
        std::span<std::byte> bytes() const noexcept;
        // What came of it, `carried_out` or an errno; without this it is `lost`.
        void settle(int outcome) noexcept { held_->outcome = outcome; }

    private:
        struct Held {
            std::shared_ptr<Relay> relay;
            std::shared_ptr<Transfer> transfer;
            int outcome = lost;
        };
        std::unique_ptr<Held> held_;
    };

    enum class Taken { load, nothing_yet, end, closed };

    // `name` says what the file is, in errors.
    Relay(std::string name, Order order);

    const std::string &name() const noexcept { return name_; }
    // False where the relay is closed: the transfer goes nowhere then.
    bool try_offer(Transfer transfer);
    // All transfers together have so many bytes: after them comes the end.
    void end_after(std::uint64_t nbytes);
    // Puts what comes next into `load`; waits for it, for a while. Throws ForkedProcess.
    Taken take(std::chrono::milliseconds timeout, std::optional<Load> &load);
    // Nothing is there to be taken from now on: `close` follows. Calls nobody.
    void stop() noexcept;
    void close() noexcept;

private:
    bool next_is_there_locked() const noexcept;
    void give_back(std::shared_ptr<Transfer> transfer, int outcome) noexcept;

    const std::string name_;
    const Order order_;
    const ProcessGuard process_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::uint64_t, std::shared_ptr<Transfer>> offered_; // by offset
    std::set<std::shared_ptr<Transfer>> taken_;                  // and not given back
    std::uint64_t taken_nbytes_ = 0; // in the order of the file: where the next one begins
    std::optional<std::uint64_t> end_;
    bool stopped_ = false; // or closed
    bool closed_ = false;
};

} // namespace sucrose
