// The io_uring backend. Submitters fill the submission queue under a mutex; one thread reaps the
// completion queue. The two queues are independent, so that neither waits for the other.
#include <liburing.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "error.h"
#include "io/fault.h"
#include "io/file_io.h"
#include "io/system_calls.h"

namespace sucrose {

namespace {

class UringBackend final : public IoBackend {
public:
    // Throws std::system_error where there can be no thread; the ring is then the caller's still.
    explicit UringBackend(const io_uring &ring) : ring_(ring) {
        fault::throw_at(fault::Site::thread_start);
        reaper_ = std::thread([this] { reap(); });
        pthread_setname_np(reaper_.native_handle(), "sucrose-uring");
    }

    ~UringBackend() override {
        {
            std::unique_lock lock(mutex_);
            idle_.wait(lock, [this] { return in_flight_ == 0; });
            io_uring_sqe *entry = io_uring_get_sqe(&ring_);
            while (entry == nullptr) { // full of what was withdrawn
                io_uring_submit(&ring_);
                entry = io_uring_get_sqe(&ring_);
            }
            prepare_nop(entry, nullptr);
            io_uring_submit(&ring_);
        }
        reaper_.join();
        io_uring_queue_exit(&ring_);
    }

    void submit(std::unique_ptr<IoRequest> request) override {
        {
            const std::lock_guard lock(mutex_);
            ++in_flight_;
        }
        go_on(std::move(request));
    }

    std::string_view name() const noexcept override { return "io_uring"; }

private:
    struct Completion {
        void *data;
        int result;
    };
    using Completions = std::array<Completion, 16>;

    static void prepare_nop(io_uring_sqe *entry, void *data) noexcept {
        std::memset(entry, 0, sizeof *entry);
        io_uring_prep_nop(entry);
        io_uring_sqe_set_data(entry, data);
    }

    // Has what is left of a request carried out: by the kernel, or where that refuses all of a
    // sudden what it took when the ring was made, by this thread.
    void go_on(std::unique_ptr<IoRequest> request) noexcept {
        bool is_submitted = false;
        {
            const std::lock_guard lock(mutex_);
            is_submitted = try_submit_locked(request.get());
        }
        if (is_submitted) {
            static_cast<void>(request.release()); // the kernel's until its completion
        } else {
            end(*request, transfer(*request));
        }
    }

    void end(const IoRequest &request, int error_number) noexcept {
        request.done(error_number);
        const std::lock_guard lock(mutex_);
        if (--in_flight_ == 0) {
            idle_.notify_all();
        }
    }

    bool try_submit_locked(IoRequest *request) noexcept {
        io_uring_sqe *entry = io_uring_get_sqe(&ring_);
        if (entry == nullptr) { // full: the kernel takes what is there
            if (!try_enter_locked()) {
                return false;
            }
            entry = io_uring_get_sqe(&ring_);
            if (entry == nullptr) {
                return false;
            }
        }
        std::memset(entry, 0, sizeof *entry);
        prepare(entry, *request);
        handed_over_.fetch_add(1, std::memory_order_release);
        if (!try_enter_locked()) {
            prepare_nop(entry, &withdrawn_); // the kernel has not seen it yet
            return false;
        }
        return true;
    }

    void prepare(io_uring_sqe *entry, IoRequest &request) noexcept {
        const bool reads = request.kind == IoRequest::Kind::read;
        std::byte *data = request.data + request.transferred;
        const auto nbytes = static_cast<unsigned>(
            system_calls::nbytes_to_ask(request.fd, request.nbytes - request.transferred));
        const std::uint64_t offset = request.offset + request.transferred;
        request.error_on_purpose =
            fault::error_at(reads ? fault::Site::pread : fault::Site::pwrite);
        if (request.error_on_purpose != 0) {
            io_uring_prep_nop(entry);
        } else if (reads) {
            io_uring_prep_read(entry, request.fd, data, nbytes, offset);
        } else {
            io_uring_prep_write(entry, request.fd, data, nbytes, offset);
        }
        io_uring_sqe_set_data(entry, &request);
    }

    // Lets the kernel look at the queue; false where it keeps refusing.
    bool try_enter_locked() noexcept {
        for (int i = 0; i < max_attempts_in_vain; ++i) {
            int error = fault::error_at(fault::Site::submit);
            if (error == 0) {
                const int submitted = io_uring_submit(&ring_);
                if (submitted >= 0) {
                    return true;
                }
                error = -submitted;
            }
            if (error != EINTR && error != EAGAIN && error != EBUSY && error != ENOMEM) {
                return false;
            }
            std::this_thread::yield(); // interrupted, or short of memory for a moment
        }
        return false;
    }

    void reap() {
        for (;;) {
            Completions completions;
            const std::size_t count = take(completions);
            for (std::size_t i = 0; i < count; ++i) {
                if (completions[i].data == nullptr) { // the destructor's no-op
                    return;
                }
                if (completions[i].data != &withdrawn_) {
                    deal_with(static_cast<IoRequest *>(completions[i].data), completions[i].result);
                }
            }
        }
    }

    // Waits for completions, takes those that there are, and returns how many.
    std::size_t take(Completions &completions) noexcept {
        std::array<io_uring_cqe *, std::tuple_size_v<Completions>> entries{};
        if (io_uring_wait_cqe(&ring_, entries.data()) != 0) {
            return 0; // interrupted
        }
        const bool shuffles = fault::shuffles_completions();
        if (shuffles) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1)); // for more than one
        }
        const unsigned count = io_uring_peek_batch_cqe(&ring_, entries.data(), entries.size());
        static_cast<void>(handed_over_.load(std::memory_order_acquire));
        for (unsigned i = 0; i < count; ++i) {
            completions[i] = {io_uring_cqe_get_data(entries[i]), entries[i]->res};
        }
        io_uring_cq_advance(&ring_, count);
        for (unsigned i = count; shuffles && i > 1; --i) {
            std::swap(completions[i - 1], completions[fault::draw(i)]);
        }
        return count;
    }

    void deal_with(IoRequest *completed, int result) noexcept {
        std::unique_ptr<IoRequest> request(completed);
        if (request->error_on_purpose != 0) {
            result = -std::exchange(request->error_on_purpose, 0);
        } else if (request->kind == IoRequest::Kind::write) {
            system_calls::note_written(request->fd, request->data + request->transferred, result,
                                       request->offset + request->transferred);
        }
        if (const int error = fault::error_at(fault::Site::completion); error != 0) {
            result = -error;
        }
        int error_number = 0;
        if (advance(*request, result, error_number) == IoStep::again) {
            go_on(std::move(request));
        } else {
            end(*request, error_number);
        }
    }

    io_uring ring_;
    std::mutex mutex_; // guards the submission queue and the count
    std::condition_variable idle_;
    std::size_t in_flight_ = 0;
    // Makes what a submitter wrote visible to the reaper. The kernel in between does so as well,
    // but the rules of C++ know nothing of it.
    std::atomic<std::uint64_t> handed_over_ = 0;
    char withdrawn_ = 0; // its address marks requests that the kernel is to forget
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
    int error = -fault::error_at(fault::Site::allocate);
    if (error == 0) {
        error = io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0);
    }
    if (error < 0) {
        why_not = "io_uring_setup: " + std::generic_category().message(-error);
        return nullptr;
    }
    if (const int refused = probe(ring); refused != 0) {
        io_uring_queue_exit(&ring);
        why_not = "io_uring_enter: " + std::generic_category().message(refused);
        return nullptr;
    }
    try {
        return std::make_unique<UringBackend>(ring);
    } catch (const std::system_error &no_thread) {
        io_uring_queue_exit(&ring);
        why_not = std::string("no thread for io_uring: ") + no_thread.what();
        return nullptr;
    }
}

} // namespace sucrose
