#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"

namespace {

using namespace engine_fixture;
using namespace std::chrono_literals;
using sucrose::chunk_nbytes;
using sucrose::Engine;
using sucrose::Staged;
using sucrose::Staging;
using sucrose::WriteJob;

constexpr std::uint64_t plenty = std::uint64_t{1} << 30;

WriteJob::Options staged(std::uint64_t budget_nbytes) {
    return {.durable = false, .staging = Staging::automatic, .staging_nbytes = budget_nbytes};
}

void wait_safe(WriteJob &job) {
    while (!job.wait_safe(100ms)) {
    }
}

} // namespace

TEST_CASE("what is changed after a write is safe does not get into the file") {
    const Folder folder;
    Engine engine({.slot_count = 2, .worker_count = 2});
    for (const std::uint64_t budget : {plenty, 2 * std::uint64_t{chunk_nbytes}, std::uint64_t{0}}) {
        std::vector<std::byte> source = random_bytes(9 * chunk_nbytes + 321);
        const std::vector<std::byte> before = source;
        const std::string path = folder.file(std::to_string(budget));
        auto job = engine.write(path, in_pieces(source, 777777), {}, staged(budget));
        wait_safe(*job);
        CHECK(job->wait_staged(0ms));
        std::fill(source.begin(), source.end(), std::byte{0xEE});
        wait(*job);
        CHECK(contents(path) == before);
        CHECK(job->digests()[1] == sucrose::digest({before.data() + chunk_nbytes, chunk_nbytes}));
        CHECK(job->staged() == (budget == plenty ? Staged::on_host : Staged::blocking));
    }
}

TEST_CASE("staging never takes more host memory than it may, whoever else is staging") {
    const Folder folder;
    Engine engine({.slot_count = 1, .worker_count = 2});
    const std::vector<std::byte> source = random_bytes(6 * chunk_nbytes);
    std::vector<std::shared_ptr<WriteJob>> jobs;
    for (int i = 0; i < 3; ++i) {
        jobs.push_back(engine.write(folder.file(std::to_string(i)),
                                    in_pieces(source, source.size()), {},
                                    staged(8 * chunk_nbytes)));
    }
    CHECK(jobs[0]->staged() == Staged::on_host);
    for (const auto &job : jobs) {
        wait(*job);
    }
    for (int i = 0; i < 3; ++i) {
        CHECK(contents(folder.file(std::to_string(i))) == source);
    }
}

TEST_CASE("without staging a write is safe when it has ended") {
    const Folder folder;
    Engine engine({.slot_count = 2});
    const std::vector<std::byte> source = random_bytes(3 * chunk_nbytes);
    auto job =
        engine.write(folder.file("file"), in_pieces(source, source.size()), {}, {.durable = false});
    wait_safe(*job);
    CHECK(job->wait_for(0ms));
    CHECK(job->staged() == Staged::not_asked);
}

TEST_CASE("a write that is cancelled while it stages throws instead of becoming safe") {
    const Folder folder;
    Engine engine({.slot_count = 1, .worker_count = 1});
    const std::vector<std::byte> source = random_bytes(20 * chunk_nbytes);
    auto job = engine.write(folder.file("file"), in_pieces(source, source.size()), {},
                            staged(chunk_nbytes));
    job->cancel();
    try {
        wait(*job);
        CHECK(contents(folder.file("file")) == source); // it was faster
    } catch (const sucrose::Cancelled &) {
        CHECK_THROWS_AS(job->wait_safe(0ms), sucrose::Cancelled);
    }
}

TEST_CASE("an empty file is safe at once") {
    const Folder folder;
    Engine engine({.slot_count = 1});
    auto job = engine.write(folder.file("file"), {}, {}, staged(plenty));
    wait_safe(*job);
    wait(*job);
    CHECK(contents(folder.file("file")).empty());
}
