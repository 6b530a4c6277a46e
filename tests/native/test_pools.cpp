#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <latch>
#include <set>
#include <thread>
#include <vector>

#include "buffer_pool.h"
#include "worker_pool.h"

using sucrose::BufferPool;
using sucrose::SlotLease;
using sucrose::WorkerPool;

TEST_CASE("a pool lends every slot once, page-aligned and apart, and no more") {
    BufferPool pool(4);
    std::vector<SlotLease> leases;
    std::set<std::byte *> slots;
    for (int i = 0; i < 4; ++i) {
        leases.push_back(pool.try_lease());
        REQUIRE(leases.back());
        std::byte *data = leases.back().data();
        CHECK(reinterpret_cast<std::uintptr_t>(data) % sucrose::block_nbytes == 0);
        data[0] = data[sucrose::chunk_nbytes - 1] = std::byte{1};
        slots.insert(data);
    }
    CHECK(slots.size() == 4);
    for (auto a = slots.begin(), b = std::next(a); b != slots.end(); ++a, ++b) {
        CHECK(*b - *a >= static_cast<std::ptrdiff_t>(sucrose::chunk_nbytes));
    }
    CHECK_FALSE(pool.try_lease());
    std::byte *given_back = leases.back().data();
    leases.pop_back();
    CHECK(pool.try_lease().data() == given_back);
}

TEST_CASE("a lease that was moved from gives nothing back") {
    BufferPool pool(1);
    SlotLease first = pool.try_lease();
    SlotLease second = std::move(first);
    CHECK_FALSE(first);
    CHECK_FALSE(pool.try_lease());
    second = SlotLease();
    CHECK(pool.try_lease());
}

TEST_CASE("threads that lend and give back never share a slot") {
    BufferPool pool(3);
    std::vector<std::jthread> threads;
    std::atomic<int> shared = 0;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 2000; ++i) {
                if (const SlotLease lease = pool.try_lease()) {
                    auto *mark = reinterpret_cast<std::uint64_t *>(lease.data());
                    const auto mine = std::hash<std::thread::id>()(std::this_thread::get_id());
                    *mark = mine;
                    std::this_thread::yield();
                    shared += *mark != mine;
                }
            }
        });
    }
    threads.clear();
    CHECK(shared == 0);
}

TEST_CASE("a worker pool runs everything that was posted before it goes") {
    std::atomic<int> ran = 0;
    {
        WorkerPool pool("test", 3);
        for (int i = 0; i < 500; ++i) {
            pool.post([&] { ++ran; });
        }
    }
    CHECK(ran == 500);
}

TEST_CASE("work posted to the front passes what waits") {
    std::vector<int> order;
    {
        WorkerPool pool("test", 1);
        std::latch started(1);
        std::latch go(1);
        pool.post([&] {
            started.count_down();
            go.wait();
        });
        started.wait();
        pool.post([&] { order.push_back(2); });
        pool.post_front([&] { order.push_back(1); });
        go.count_down();
    }
    CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("a pool makes do with fewer slots where there are not enough addresses for all") {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
    rlimit lowered = before;
    lowered.rlim_cur = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + (1U << 30);
    REQUIRE(::setrlimit(RLIMIT_AS, &lowered) == 0);
    {
        BufferPool pool(5000); // 20 GB
        std::vector<SlotLease> leases;
        while (SlotLease lease = pool.try_lease()) {
            lease.data()[sucrose::chunk_nbytes - 1] = std::byte{1};
            leases.push_back(std::move(lease));
        }
        CHECK(leases.size() >= 2);
        CHECK(leases.size() < 300);
        CHECK(pool.available() == 0);
    }
    REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
}
