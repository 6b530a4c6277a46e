#include "io/fault.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

namespace sucrose::fault {

namespace {

struct ActiveRule {
    std::uint64_t id;
    Rule rule;
    std::uint64_t seen = 0;
    std::uint64_t failed = 0;
};

// Constant-initialised and never destroyed: threads may still be at a site when the process ends.
struct State {
    std::mutex mutex; // of everything below
    std::vector<ActiveRule> *rules = nullptr;
    std::uint64_t next_id = 1;
    bool counts_calls = false;
    std::array<std::uint64_t, site_count> counts{};
    std::uint64_t random = 0; // 0: completions come as they come
};
constinit State state;
constinit std::atomic<std::size_t> transfer_limit = 0;
constinit std::atomic<bool> shuffles = false;

void arm(bool on) noexcept {
    if (on) {
        detail::armed.fetch_add(1, std::memory_order_relaxed);
    } else {
        detail::armed.fetch_sub(1, std::memory_order_relaxed);
    }
}

[[noreturn]] void die() noexcept {
    ::kill(::getpid(), SIGKILL);
    for (;;) { // the signal may reach another thread first
        ::pause();
    }
}

std::uint64_t next_random_locked() noexcept { // xorshift64*
    state.random ^= state.random >> 12;
    state.random ^= state.random << 25;
    state.random ^= state.random >> 27;
    return state.random * 0x2545F4914F6CDD1DULL;
}

} // namespace

std::uint64_t add(const Rule &rule) {
    const std::lock_guard lock(state.mutex);
    if (state.rules == nullptr) {
        state.rules = new std::vector<ActiveRule>();
    }
    state.rules->push_back({state.next_id, rule});
    arm(true);
    return state.next_id++;
}

std::uint64_t remove(std::uint64_t id) noexcept {
    const std::lock_guard lock(state.mutex);
    if (state.rules != nullptr) {
        const auto found = std::find_if(state.rules->begin(), state.rules->end(),
                                        [id](const ActiveRule &active) { return active.id == id; });
        if (found != state.rules->end()) {
            const std::uint64_t failed = found->failed;
            state.rules->erase(found);
            arm(false);
            return failed;
        }
    }
    return 0;
}

void limit_transfers(std::size_t nbytes) noexcept {
    const std::size_t before = transfer_limit.exchange(nbytes);
    if ((before != 0) != (nbytes != 0)) {
        arm(nbytes != 0);
    }
}

void shuffle_completions(std::uint64_t seed) noexcept {
    const std::lock_guard lock(state.mutex);
    if ((state.random != 0) != (seed != 0)) {
        arm(seed != 0);
    }
    state.random = seed;
    shuffles = seed != 0;
}

void count_calls(bool on) noexcept {
    const std::lock_guard lock(state.mutex);
    if (on != state.counts_calls) {
        arm(on);
    }
    state.counts_calls = on;
    if (on) {
        state.counts.fill(0);
    }
}

std::vector<std::uint64_t> counts() {
    const std::lock_guard lock(state.mutex);
    return {state.counts.begin(), state.counts.end()};
}

void listen(bool on) noexcept {
    arm(on);
}

int detail::decide(Site site) noexcept {
    const std::lock_guard lock(state.mutex);
    if (state.counts_calls) {
        ++state.counts[static_cast<std::size_t>(site)];
    }
    int error = 0;
    if (state.rules != nullptr) {
        for (ActiveRule &active : *state.rules) {
            const Rule &rule = active.rule;
            if (rule.site != site || ++active.seen < rule.nth ||
                active.seen - rule.nth >= rule.times || error != 0) {
                continue;
            }
            ++active.failed;
            if (rule.error_number == 0) {
                die();
            }
            error = rule.error_number;
        }
    }
    return error;
}

std::size_t allowed_nbytes(std::size_t nbytes, std::size_t block_nbytes) noexcept {
    const std::size_t limit = is_armed() ? transfer_limit.load(std::memory_order_relaxed) : 0;
    if (limit == 0) {
        return nbytes;
    }
    const std::size_t most = limit == half_of_each ? nbytes / 2 : limit;
    const std::size_t whole = most - most % block_nbytes;
    return std::min(nbytes, std::max(whole, block_nbytes));
}

bool shuffles_completions() noexcept {
    return is_armed() && shuffles.load(std::memory_order_relaxed);
}

std::size_t draw(std::size_t bound) noexcept {
    const std::lock_guard lock(state.mutex);
    return bound == 0 ? 0 : static_cast<std::size_t>(next_random_locked() % bound);
}

} // namespace sucrose::fault
