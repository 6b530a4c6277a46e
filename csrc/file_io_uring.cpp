// The io_uring backend. Submitters fill the submission queue under a mutex; one thread reaps the
// completion queue. The two queues are independent, so that neither waits for the other.
#include <liburing.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "error.h"
#include "file_io.h"

namespace sucrose {

namespace {

class UringBackend final : public IoBackend {
public:
    explicit UringBackend(const io_uring &ring) : ring_(ring) {
        reaper_ = std::thread([this] { reap(); });
        pthread_setname_np(reaper_.native_handle(), "sucrose-uring");
    }

    ~UringBackend() override {
        {
            std::unique_lock lock(mutex_);
            idle_.wait(lock, [this] { return in_flight_ == 0; });
            io_uring_prep_nop(next_entry_locked());
            io_uring_submit(&ring_);
        }
        reaper_.join();
        io_uring_queue_exit(&ring_);
    }

    void submit(std::unique_ptr<IoRequest> request) override {
        const std::lock_guard lock(mutex_);
        ++in_flight_;
        submit_locked(request.release());
    }

    std::string_view name() const noexcept override { return "io_uring"; }

private:
    io_uring_sqe *next_entry_locked() noexcept {
        io_uring_sqe *entry = io_uring_get_sqe(&ring_);
        while (entry == nullptr) { // full: the kernel takes what is there
            io_uring_submit(&ring_);
            entry = io_uring_get_sqe(&ring_);
        }
        std::memset(entry, 0, sizeof *entry);
        return entry;
    }

    // The kernel owns `request` until its completion.
    void submit_locked(IoRequest *request) noexcept {
        io_uring_sqe *entry = next_entry_locked();
        std::byte *data = request->data + request->transferred;
        const auto nbytes = static_cast<unsigned>(request->nbytes - request->transferred);
        const std::uint64_t offset = request->offset + request->transferred;
        if (request->kind == IoRequest::Kind::read) {
            io_uring_prep_read(entry, request->fd, data, nbytes, offset);
        } else {
            io_uring_prep_write(entry, request->fd, data, nbytes, offset);
        }
        io_uring_sqe_set_data(entry, request);
        handed_over_.fetch_add(1, std::memory_order_release);
        while (io_uring_submit(&ring_) < 0) { // interrupted, or short of memory for a moment
            std::this_thread::yield();
        }
    }

    void reap() {
        for (;;) {
            io_uring_cqe *completion = nullptr;
            if (io_uring_wait_cqe(&ring_, &completion) != 0) {
                continue; // interrupted
            }
            static_cast<void>(handed_over_.load(std::memory_order_acquire));
            auto *request = static_cast<IoRequest *>(io_uring_cqe_get_data(completion));
            const int result = completion->res;
            io_uring_cqe_seen(&ring_, completion);
            if (request == nullptr) { // the destructor's no-op
                return;
            }
            int error_number = 0;
            if (advance(*request, result, error_number) == IoStep::again) {
                const std::lock_guard lock(mutex_);
                submit_locked(request);
                continue;
            }
            std::unique_ptr<IoRequest>(request)->done(error_number);
            const std::lock_guard lock(mutex_);
            if (--in_flight_ == 0) {
                idle_.notify_all();
            }
        }
    }

    io_uring ring_;
    std::mutex mutex_; // guards the submission queue and the count
    std::condition_variable idle_;
    std::size_t in_flight_ = 0;
    // Makes what a submitter wrote visible to the reaper. The kernel in between does so as well,
    // but the rules of C++ know nothing of it.
    std::atomic<std::uint64_t> handed_over_ = 0;
    std::thread reaper_;
};

// Whether a request really comes back: sandboxes let the set-up through and refuse the use.
int probe(io_uring &ring) noexcept {
    io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_nop(entry);
    if (const int submitted = io_uring_submit(&ring); submitted < 0) {
        return -submitted;
    }
    io_uring_cqe *completion = nullptr;
    if (const int waited = io_uring_wait_cqe(&ring, &completion); waited < 0) {
        return -waited;
    }
    const int result = completion->res;
    io_uring_cqe_seen(&ring, completion);
    return result < 0 ? -result : 0;
}

} // namespace

std::unique_ptr<IoBackend> try_make_uring_backend(std::size_t depth, std::string &why_not) {
    io_uring ring{};
    if (const int error = io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0); error < 0) {
        why_not = "io_uring_setup: " + std::generic_category().message(-error);
        return nullptr;
    }
    if (const int error = probe(ring); error != 0) {
        io_uring_queue_exit(&ring);
        why_not = "io_uring_enter: " + std::generic_category().message(error);
        return nullptr;
    }
    return std::make_unique<UringBackend>(ring);
}

} // namespace sucrose
